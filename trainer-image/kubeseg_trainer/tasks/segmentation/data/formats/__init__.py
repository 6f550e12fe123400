"""How annotations are written: masks in folders, or COCO, Pascal VOC, CVAT and YOLO files."""
