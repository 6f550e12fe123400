"""Checkpoints: folders of safetensors and JSON with each file's hash; never pickle."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from kubeseg_trainer.files import now, sha256_of, write_directory
from kubeseg_types import workspace

log = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
STATE = "state.json"
_NAME = re.compile(r"^(\d{5,})-(\d{8,})$")


class DamagedError(Exception):
    """A checkpoint that can't be used; the text says why."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds."""

    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    time: str


def checkpoint_name(epoch: int, step: int) -> str:
    """Folder of the checkpoint after `epoch` epochs and `step` steps of the run."""
    return f"{epoch:05d}-{step:08d}"


def parse_name(name: str) -> tuple[int, int] | None:
    """(epoch, step) of a checkpoint's folder, or None where it is no such folder."""
    match = _NAME.match(name)
    return (int(match[1]), int(match[2])) if match else None


def write_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> str:
    """Write a checkpoint at `path`, complete or not at all; returns the time it bears."""
    time = now()
    # safetensors stores contiguous tensors; loading copies back into each tensor's own format.
    packed = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    files = {TENSORS: packed, STATE: json.dumps(state).encode()}
    manifest = {
        "formatVersion": FORMAT,
        "time": time,
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in files.items()
        },
    }
    write_directory(path, {**files, MANIFEST: json.dumps(manifest, indent=2).encode()})
    return time


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`, each file verified against its hash. DamagedError where it isn't
    whole, or of a format this version doesn't know.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if manifest["formatVersion"] != FORMAT:
            raise DamagedError(
                f"has format {manifest['formatVersion']}, this version reads {FORMAT}"
            )
        contents = {}
        for name in (TENSORS, STATE):
            data = (path / name).read_bytes()
            expected = manifest["files"][name]["sha256"]
            if hashlib.sha256(data).hexdigest() != expected:
                raise DamagedError(f"{name} doesn't match its hash")
            contents[name] = data
        return Checkpoint(
            path, load(contents[TENSORS]), json.loads(contents[STATE]), str(manifest["time"])
        )
    except OSError as error:
        raise DamagedError(f"{error.filename or path} can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{MANIFEST} or a file it names is damaged: {error!r}") from error


def checkpoints_of(attempts: Sequence[Path]) -> list[Path]:
    """Checkpoints in these attempts' folders (oldest attempt first), the newest first."""
    found = []
    for order, attempt in enumerate(attempts):
        folder = attempt / workspace.CHECKPOINTS
        for path in folder.iterdir() if folder.is_dir() else ():
            position = parse_name(path.name)
            if position is not None:
                found.append(((order, *position), path))
    return [path for _, path in sorted(found, reverse=True)]


def usable(attempts: Sequence[Path]) -> Iterator[Checkpoint]:
    """The checkpoints that are whole, the newest first; the others are named in the log."""
    for path in checkpoints_of(attempts):
        try:
            yield read_checkpoint(path)
        except DamagedError as error:
            log.warning("checkpoint %s is left out: %s; trying the one before", path, error)


def keep_newest(attempts: Sequence[Path], count: int) -> None:
    """Remove all but the `count` newest checkpoints of these attempts."""
    for path in checkpoints_of(attempts)[count:]:
        shutil.rmtree(path, ignore_errors=True)


def verify_file(path: Path, sha256: str) -> bool:
    """Whether the file at `path` is there and is the one with this hash."""
    return path.is_file() and sha256_of(path) == sha256
