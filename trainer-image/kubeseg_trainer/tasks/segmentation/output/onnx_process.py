"""Runs the ONNX export beside the trainer: what happens there can't end a finished training."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubeseg_trainer.engine.hardware import free_memory

#: Longest that it may take, in seconds.
SECONDS = 600.0
#: Share of the free memory that it may take.
_MEMORY_SHARE = 0.9
#: What the libraries alone take, in bytes.
_LEAST_MEMORY = 500 << 20
_POLL = 0.1
_TAIL = 300


def export_onnx(
    weights: Path,
    images: Path,
    target: Path,
    *,
    alive: Callable[[str], None],
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Make the ONNX file `target`; the report of `onnx_export.export`, with `file` None and a
    `reason` where there is none.

    `alive` is called several times a second with a word on how far it is; what it raises ends the
    export and goes on up.
    """
    began, free = time.monotonic(), free_memory()
    budget = int(free * _MEMORY_SHARE) if free is not None else None
    if budget is not None and budget < _LEAST_MEMORY:
        return _failed(target, f"needs more memory than the {budget >> 20:,} MiB that are free")
    with tempfile.TemporaryFile() as output:
        report = target.with_suffix(".report.json")
        process = subprocess.Popen(
            _command(weights, images, target, report, budget),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # It needs no GPU, and the memory that opening one takes.
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )
        try:
            while process.poll() is None:
                passed = time.monotonic() - began
                if passed > seconds:
                    return _failed(target, f"took longer than {seconds:.0f} s")
                alive(f"ONNX export, {passed:.0f} s")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL)
            try:
                found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                said = f" ({budget >> 20:,} MiB of memory were free)" if budget else ""
                return _failed(target, _how_it_ended(process.returncode, output) + said)
            return found
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            report.unlink(missing_ok=True)


def _command(
    weights: Path, images: Path, target: Path, report: Path, budget: int | None
) -> list[str]:
    module = "kubeseg_trainer.tasks.segmentation.output.onnx_export"
    arguments = [f"--weights={weights}", f"--images={images}", f"--out={target}"]
    limit = [f"--memory={budget}"] if budget is not None else []
    return [sys.executable, "-m", module, *arguments, f"--report={report}", *limit]


def _failed(target: Path, reason: str) -> dict[str, Any]:
    target.unlink(missing_ok=True)
    return {"file": None, "reason": reason}


def _how_it_ended(code: int, output: Any) -> str:
    output.seek(0)
    said = output.read().decode(errors="replace").strip().splitlines()
    if code < 0:
        return f"its process was ended by signal {-code}"
    last = said[-1][:_TAIL] if said else "no word"
    return f"its process ended with exit code {code}: {last}"
