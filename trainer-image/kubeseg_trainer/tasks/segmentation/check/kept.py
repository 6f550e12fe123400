"""What a look at a data set's files found, kept in the workspace and used again.

`checks/<fingerprint>.json`, beside it `….masks` where masks were drawn from annotations. The
fingerprint is made of each file's path, size and time of change: nothing is read for it. Both may
be removed at any time: then the files are looked at again.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeseg_trainer.errors import DatasetError, StorageError
from kubeseg_trainer.files import now, write_file
from kubeseg_trainer.tasks.segmentation.check.look import Look
from kubeseg_trainer.tasks.segmentation.data.dataset import Pair, Problem
from kubeseg_trainer.tasks.segmentation.data.images import Facts
from kubeseg_types import workspace

log = logging.getLogger(__name__)

#: Of the kept file, and of what a look finds: another one is not read.
VERSION = 2


@dataclass
class Drawings:
    """Masks drawn from annotations."""

    names: list[str]
    #: (pair, part).
    pairs: list[tuple[Pair, str | None]]
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


@dataclass
class Found:
    """What the files of a data set showed."""

    looks: list[Look]
    drawings: Drawings | None = None


def fingerprint_of(root: Path, files: Iterable[Path], *settings: object) -> str:
    """Fingerprint of `files` (below `root`) as they are now, and of `settings` (JSON).

    DatasetError where one isn't there, such as a link that leads nowhere.
    """
    digest = hashlib.sha256(json.dumps([VERSION, *settings]).encode())
    for path in sorted(set(files)):
        name = path.relative_to(root).as_posix()
        try:
            stat = path.stat()
        except OSError as error:
            raise DatasetError(f"{name} can't be read: {error.strerror}") from error
        digest.update(f"\n{name}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def pack_file(root: Path, fingerprint: str) -> Path:
    """Where the masks drawn for `fingerprint` belong: in the workspace, if it can be written."""
    folder = root / workspace.CHECKS
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
    if not os.access(folder, os.W_OK):
        folder = Path(tempfile.mkdtemp(prefix="kubeseg-masks-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / f"{fingerprint}.masks"


def keep(root: Path, fingerprint: str, name: str, data_set: Path, found: Found) -> None:
    """Keep `found`; where the workspace can't be written, a log line says so."""
    folder = root / workspace.CHECKS
    document = {
        "formatVersion": VERSION,
        "dataset": name,
        "time": now(),
        "looks": [_pack_look(look) for look in found.looks],
        "drawings": _pack_drawings(found.drawings, data_set) if found.drawings else None,
    }
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    try:
        folder.mkdir(exist_ok=True)
        write_file(folder / f"{fingerprint}.json", data)
    except (OSError, StorageError) as error:
        log.info("what the check found is not kept: %s", error)


def recall(root: Path, fingerprint: str, data_set: Path) -> Found | None:
    """What was kept for `fingerprint`; None where nothing (readable) was."""
    folder = root / workspace.CHECKS
    try:
        document = json.loads((folder / f"{fingerprint}.json").read_bytes())
        if document["formatVersion"] != VERSION:
            return None
        looks = [_unpack_look(entry) for entry in document["looks"]]
        packed = document["drawings"]
        if packed is None:
            return Found(looks)
        masks = folder / f"{fingerprint}.masks"
        size, last = masks.stat().st_size, max((p[2] + p[3] for p in packed["pairs"]), default=0)
        if size != last:
            return None
        return Found(looks, _unpack_drawings(packed, data_set, masks))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        log.info("what an earlier check kept can't be read (%s): looking again", error)
        return None


def _pack_look(look: Look) -> list[Any]:
    facts = look.facts
    known = [facts.width, facts.height, facts.channels, facts.alpha, facts.bits] if facts else None
    return [
        look.image,
        look.mask,
        look.problem,
        known,
        look.values,
        look.pixels,
        look.mean,
        look.square,
        look.digest,
    ]


def _unpack_look(entry: list[Any]) -> Look:
    image, mask, problem, facts, values, pixels, mean, square, digest = entry
    return Look(
        image,
        mask,
        tuple(problem) if problem else None,
        Facts(*facts) if facts else None,
        tuple(values),
        tuple(pixels),
        tuple(mean),
        tuple(square),
        digest,
    )


def _pack_drawings(drawings: Drawings, data_set: Path) -> dict[str, Any]:
    return {
        "names": drawings.names,
        "pairs": [
            [pair.image.relative_to(data_set).as_posix(), part, *(pair.span or (0, 0))]
            for pair, part in drawings.pairs
        ],
        "problems": [[p.file, p.text, p.kind] for p in drawings.problems],
        "warnings": [[p.file, p.text, p.kind] for p in drawings.warnings],
    }


def _unpack_drawings(packed: dict[str, Any], data_set: Path, masks: Path) -> Drawings:
    return Drawings(
        packed["names"],
        [
            (
                Pair(
                    image.removesuffix(Path(image).suffix), data_set / image, masks, (begin, length)
                ),
                part,
            )
            for image, part, begin, length in packed["pairs"]
        ],
        [Problem(*entry) for entry in packed["problems"]],
        [Problem(*entry) for entry in packed["warnings"]],
    )
