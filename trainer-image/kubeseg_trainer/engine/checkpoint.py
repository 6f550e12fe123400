"""Checkpoints: folders of safetensors and JSON with each file's hash; never pickle."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from kubeseg_trainer.engine.tensor_file import size_of, tensor_file
from kubeseg_trainer.files import Written, now, write_directory
from kubeseg_types import workspace

log = logging.getLogger(__name__)

#: 2: the manifest names its checkpoint and is hashed itself.
FORMAT = 2
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
STATE = "state.json"
_MAX_MANIFEST = 1 << 16
_NAME = re.compile(r"^(\d{5,12})-(\d{8,15})$")


class DamagedError(Exception):
    """A checkpoint that can't be used; the text says why."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds."""

    path: Path
    tensors: dict[str, Tensor]
    #: JSON, not looked into.
    state: bytes
    time: str


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    sha256: str
    bytes: int = Field(ge=0)


class _Manifest(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    formatVersion: int  # noqa: N815 # as it stands in the file
    checkpoint: str
    time: str
    files: dict[str, _File]
    #: Of the manifest without this field.
    sha256: str


class _AnyManifest(BaseModel):
    """What a manifest of any format says of itself."""

    model_config = ConfigDict(strict=True, extra="ignore")

    formatVersion: int  # noqa: N815 # as it stands in the file


def checkpoint_name(epoch: int, step: int) -> str:
    """Folder of the checkpoint after `epoch` epochs and `step` steps of the run."""
    return f"{epoch:05d}-{step:08d}"


def parse_name(name: str) -> tuple[int, int] | None:
    """(epoch, step) of a checkpoint's folder, or None where it is no such folder."""
    match = _NAME.match(name)
    return (int(match[1]), int(match[2])) if match else None


def _nothing() -> None:
    """What is done between two chunks unless someone asks."""


def write_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    *,
    between: Callable[[], None] = _nothing,
) -> str:
    """Write a checkpoint at `path`, complete, on the volume and read back, or not at all; returns
    the time it bears. StorageError where it can't be written.
    """
    time = now()

    def manifest(files: Mapping[str, Written]) -> bytes:
        document = {
            "formatVersion": FORMAT,
            "checkpoint": _place(path),
            "time": time,
            "files": {name: {"sha256": f.sha256, "bytes": f.bytes} for name, f in files.items()},
        }
        return json.dumps(document | {"sha256": _digest(document)}, indent=2).encode()

    write_directory(
        path,
        {TENSORS: tensor_file(tensors), STATE: (json.dumps(state).encode(),)},
        size=size_of(tensors),
        last=MANIFEST,
        describe=manifest,
        between=between,
    )
    return time


def _place(path: Path) -> str:
    """Attempt and position, as a checkpoint's path has them."""
    return f"{path.parent.parent.name}/{path.name}"


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`, each file verified against its hash. DamagedError where it isn't
    whole, lies under another's name, or is of a format this version doesn't know.
    """
    manifest = _read_manifest(path)
    contents = {}
    for name in (TENSORS, STATE):
        entry = manifest.files.get(name)
        if entry is None:
            raise DamagedError(f"{MANIFEST} doesn't name {name}")
        data = _read(path / name, entry.bytes)
        if len(data) != entry.bytes:
            raise DamagedError(f"{name} doesn't have the {entry.bytes:,} bytes it had")
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise DamagedError(f"{name} doesn't match its hash")
        contents[name] = data
    try:
        tensors = load(contents[TENSORS])
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DamagedError(f"{TENSORS} is no safetensors file: {error}") from error
    return Checkpoint(path, tensors, contents[STATE], manifest.time)


def _read_manifest(path: Path) -> _Manifest:
    data = _read(path / MANIFEST, _MAX_MANIFEST)
    try:
        version = _AnyManifest.model_validate_json(data).formatVersion
        if version != FORMAT:
            raise DamagedError(f"it has format {version}, this version reads {FORMAT}")
        manifest = _Manifest.model_validate_json(data)
    except ValidationError as error:
        raise DamagedError(f"{MANIFEST} is damaged: {first_problem(error)}") from error
    if _digest(manifest.model_dump(exclude={"sha256"})) != manifest.sha256:
        raise DamagedError(f"{MANIFEST} doesn't match its hash")
    if manifest.checkpoint != _place(path):
        raise DamagedError(f"it is checkpoint {manifest.checkpoint} under another's name")
    return manifest


def first_problem(error: ValidationError) -> str:
    """The first thing that a document is refused for, in a few words."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else problem["msg"]


def _read(path: Path, limit: int) -> bytes:
    """At most `limit` bytes and one of the file at `path`; DamagedError where it is no file."""
    try:
        # Whatever lies there instead, a pipe or a device, must neither block nor never end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DamagedError(f"{path.name} is no file")
            size = os.fstat(descriptor).st_size
            return file.read(min(size, limit) + 1)
    except OSError as error:
        raise DamagedError(f"{path.name} can't be read: {error.strerror}") from error


def checkpoints_of(attempts: Sequence[Path]) -> list[Path]:
    """Checkpoints in these attempts' folders (oldest attempt first), the newest first."""
    found = []
    for order, attempt in enumerate(attempts):
        try:
            names = [entry.name for entry in (attempt / workspace.CHECKPOINTS).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            position = parse_name(name)
            if position is not None:
                found.append(((order, *position), attempt / workspace.CHECKPOINTS / name))
    return [path for _, path in sorted(found, reverse=True)]


def any_whole(attempts: Sequence[Path]) -> bool:
    """Whether there is a checkpoint to go on from."""
    for path in checkpoints_of(attempts):
        try:
            read_checkpoint(path)
        except DamagedError:
            continue
        return True
    return False


def usable(list_attempts: Callable[[], Sequence[Path]]) -> Iterator[Checkpoint]:
    """The checkpoints that are whole, the newest first; the others are named in the log.

    Listed again at the end: an older start that still lives may have replaced what was there.
    """
    seen: set[Path] = set()
    while fresh := [path for path in checkpoints_of(list_attempts()) if path not in seen]:
        for path in fresh:
            seen.add(path)
            try:
                yield read_checkpoint(path)
            except DamagedError as error:
                log.warning("checkpoint %s is left out: %s; trying the one before", path, error)
