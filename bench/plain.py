"""The twin: what one writes without us, forty lines of smp and albumentations.

fp32, NCHW, eager, each image decoded and resized anew in each epoch. Prints one JSON object an
epoch: `epoch`, `seconds` of its training pass, `images`, and `iou` on the validation part (mean
over classes, from summed counts, void left out, as ours).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import albumentations as A  # noqa: N812 - everyone's name for it
import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from albumentations.pytorch import ToTensorV2
from torch.utils.data import DataLoader, Dataset


class Folder(Dataset[Any]):
    """images/ and masks/ of a folder."""

    def __init__(self, folder: Path, transform: Any) -> None:
        self.images = sorted((folder / "images").iterdir())
        self.masks = [folder / "masks" / f"{path.stem}.png" for path in self.images]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        pixels: Any = cv2.imread(str(self.images[index]))
        image = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(self.masks[index]), cv2.IMREAD_UNCHANGED)
        made = self.transform(image=image, mask=mask)
        return made["image"], made["mask"].long()


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--classes", type=int, default=12)
    parser.add_argument("--void", type=int, default=255)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    np.random.seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tail = [A.Normalize(), ToTensorV2()]
    augment = [A.Resize(options.side, options.side), A.HorizontalFlip(p=0.5)]
    train = Folder(options.data / "train", A.Compose([*augment, *tail]))
    val = Folder(options.data / "val", A.Compose([augment[0], *tail]))
    more = {"num_workers": options.workers, "persistent_workers": options.workers > 0}
    batches = DataLoader(train, options.batch, shuffle=True, **more)
    held = DataLoader(val, options.batch, **more)
    network = smp.Unet(options.encoder, encoder_weights=None, classes=options.classes).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    ce = torch.nn.CrossEntropyLoss(ignore_index=options.void)
    dice = smp.losses.DiceLoss("multiclass", ignore_index=options.void)
    for epoch in range(1, options.epochs + 1):
        network.train()
        began, images = time.perf_counter(), 0
        for image, mask in batches:
            logits = network(image.to(device))
            target = mask.to(device)
            loss = ce(logits, target) + dice(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            images += len(image)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        network.eval()
        counts = torch.zeros(options.classes, options.classes, dtype=torch.int64)
        with torch.no_grad():
            for image, mask in held:
                guess = network(image.to(device)).argmax(1).cpu()
                seen = mask != options.void
                cells = mask[seen] * options.classes + guess[seen]
                counts += torch.bincount(cells, minlength=options.classes**2).reshape(counts.shape)
        hit = counts.diagonal().double()
        union = counts.sum(0) + counts.sum(1) - hit
        iou = float((hit / union)[union > 0].mean())
        line = {"epoch": epoch, "seconds": seconds, "images": images, "iou": iou}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
