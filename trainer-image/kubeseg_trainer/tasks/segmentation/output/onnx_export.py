"""The program that makes model.onnx: a process of its own, with a limit on its memory.

`onnx_process` starts it. The newest exporter of torch needs another library, takes ten times as
long, and pins sizes that it should not; the older one traces all of smp's networks at any size.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import signal
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubeseg_trainer.tasks.segmentation.output.deployed import Deployed
    from kubeseg_trainer.tasks.segmentation.output.model_info import ModelInfo

#: Read by ONNX Runtime from 1.12 on (2022); the first that has layer normalisation.
OPSET = 17
#: Largest difference of logits that passes, as a share of the largest logit.
TOLERANCE = 1e-3
#: Least share of pixels that must get the same label.
EQUAL_LABELS = 0.999
#: Files above it would need a second file for the weights (a limit of protobuf).
MAX_BYTES = 2**31 - 1
#: Size of the larger check: more shows nothing new, and takes long.
_CHECKED_SIDE = 512


@dataclass(frozen=True)
class Shape:
    """Which axes of the input may differ from the example's."""

    batch: bool
    size: bool

    @property
    def names(self) -> list[str]:
        """As the report has them."""
        return ["batch"] * self.batch + ["height", "width"] * self.size


#: What is tried, the most useful first.
SHAPES = (Shape(batch=True, size=True), Shape(batch=True, size=False), Shape(False, False))


def sizes_to_check(side: int, padded: int, step: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two (height, width) that a network trained on squares of `side` is checked at.

    The second is no square, no multiple of anything, and is padded to another size: `step` more
    than `padded` in height, less in width where there is less.
    """
    return (side, side), (padded + max(1, step // 4), max(1, side * 3 // 4 - 3))


def _export(model: Deployed, example: Any, shape: Shape, target: Path) -> None:
    import torch

    from kubeseg_trainer.tasks.segmentation.output.deployed import pooling_at_any_size

    axes: dict[str, dict[int, str]] = {"image": {}, "logits": {}, "labels": {}}
    if shape.batch:
        for each in axes.values():
            each[0] = "batch"
    if shape.size:
        axes["image"] |= {2: "height", 3: "width"}
        axes["logits"] |= {2: "height", 3: "width"}
        axes["labels"] |= {1: "height", 2: "width"}
    with pooling_at_any_size(), warnings.catch_warnings():
        # That it is the older exporter, and that a trace pins what depends on the size: for the
        # first see above, the second is checked at another size.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            str(target),
            dynamo=False,
            input_names=["image"],
            output_names=["logits", "labels"],
            dynamic_axes=axes,
            opset_version=OPSET,
        )


def _describe(file: Path, metadata: dict[str, str]) -> None:
    """Check the file by ONNX's own rules, and let it say what it is."""
    import onnx

    proto = onnx.load(str(file))
    onnx.checker.check_model(proto)
    onnx.helper.set_model_props(proto, metadata)
    onnx.save(proto, str(file))


def _compare(model: Deployed, session: Any, images: Any) -> dict[str, Any]:
    import torch

    with torch.inference_mode():
        logits, labels = (tensor.numpy() for tensor in model(images))
    found, found_labels = session.run(["logits", "labels"], {"image": images.numpy()})
    return {
        "size": [int(side) for side in images.shape[2:]],
        "images": int(images.shape[0]),
        "largestDifference": float(abs(logits - found).max()),
        "largestLogit": float(abs(logits).max()),
        "equalLabels": float((labels == found_labels).mean()),
    }


def _problem(check: dict[str, Any]) -> str | None:
    at = f"at {check['size'][0]}×{check['size'][1]}"
    # Written so that a difference that is no number fails too.
    if not check["largestDifference"] <= TOLERANCE * max(1.0, check["largestLogit"]):
        return f"{at} logits differ from PyTorch's by {check['largestDifference']:.2g}"
    if not check["equalLabels"] >= EQUAL_LABELS:
        return f"{at} only {check['equalLabels']:.2%} of the labels equal PyTorch's"
    return None


def _try(
    model: Deployed, info: ModelInfo, shape: Shape, images: Any, target: Path
) -> list[dict[str, Any]]:
    """Export with these axes free, and compare; the comparisons. ValueError where they fail."""
    import onnxruntime

    from kubeseg_trainer.tasks.segmentation.output.model_info import metadata_of

    side = min(info.image_size, _CHECKED_SIDE) if shape.size else info.image_size
    first, second = sizes_to_check(side, model.padding.target(side), model.padding.step)
    inputs = [images] if first == tuple(images.shape[2:]) else [_resized(images, first)]
    if shape.size:
        inputs.append(_resized(images, second)[:1])
    elif shape.batch and len(images) > 1:
        inputs.append(images[:1])
    if not shape.batch:
        inputs = [inputs[0][:1]]
    _export(model, inputs[0], shape, target)
    if target.stat().st_size > MAX_BYTES:
        raise ValueError(f"has {target.stat().st_size:,} bytes, ONNX files end at {MAX_BYTES:,}")
    _describe(target, metadata_of(info))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
    session = onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    checks = [_compare(model, session, each) for each in inputs]
    problems = [problem for check in checks if (problem := _problem(check))]
    if problems:
        raise ValueError("; ".join(problems))
    return checks


def _resized(images: Any, size: tuple[int, int]) -> Any:
    import torch.nn.functional as F  # noqa: N812 - everyone's name for it

    return F.interpolate(images, size=size, mode="bilinear", align_corners=False).round()


def export(weights: Path, images: Path, target: Path) -> dict[str, Any]:
    """Make `target` from a weights file, and compare it with PyTorch on `images`.

    `images` is an .npy file: N × C × S × S, as read. The report says what was made (`file`), or
    why nothing was (`reason`).
    """
    import numpy as np
    import torch

    from kubeseg_trainer.engine.hardware import set_threads
    from kubeseg_trainer.tasks.segmentation.output.deployed import load_deployed

    set_threads()
    model, info = load_deployed(weights)
    pictures = torch.from_numpy(np.load(images).astype(np.float32))
    tried: list[dict[str, Any]] = []
    for shape in SHAPES:
        try:
            checks = _try(model, info, shape, pictures, target)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever exporter, network or runtime may raise
            tried.append({"dynamic": shape.names, "problem": _first_line(error)})
            continue
        return {
            "file": target.name,
            "opset": OPSET,
            "dynamic": shape.names,
            "size": None if shape.size else [info.image_size, info.image_size],
            "tolerance": TOLERANCE,
            "checks": checks,
            "tried": tried,
        }
    target.unlink(missing_ok=True)
    reason = "; ".join(f"{'+'.join(t['dynamic']) or 'fixed'}: {t['problem']}" for t in tried)
    return {"file": None, "reason": reason, "tried": tried}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no reason given'}"


def _end_with_parent() -> None:
    """A trainer that is killed leaves nobody behind (Linux: PR_SET_PDEATHSIG)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(1, signal.SIGKILL)


def _limit_memory(most: int) -> None:
    """Let allocations fail here beyond `most` bytes, before the kernel ends the whole pod.

    The kernel counts what libraries reserve and never touch too: so that comes on top.
    """
    import onnx  # noqa: F401 - for the memory that it takes, as the others
    import onnxruntime  # noqa: F401

    import kubeseg_trainer.tasks.segmentation.output.deployed  # noqa: F401

    lines = Path("/proc/self/status").read_text().splitlines()
    used = {line.split(":")[0]: line.split() for line in lines}
    touched, counted = (int(used[name][1]) * 1024 for name in ("RssAnon", "VmData"))
    if touched > most:
        raise MemoryError
    limit = counted + most - touched
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main() -> None:
    """Read the command line, export, and write the report."""
    parser = argparse.ArgumentParser(prog="onnx_export")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--memory", type=int, help="most bytes that it may take")
    options = parser.parse_args()
    # A Ctrl-C reaches the whole process group: the trainer alone decides on the end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    began = time.monotonic()
    try:
        if options.memory:
            _limit_memory(options.memory)
        report = export(options.weights, options.images, options.out)
    except MemoryError:
        report = {"file": None, "reason": "out of memory"}
    report["seconds"] = round(time.monotonic() - began, 2)
    options.report.write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main()
