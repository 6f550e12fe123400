"""Everything that can have happened to a checkpoint's files, at random."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubeseg_trainer.engine.checkpoint import MANIFEST, STATE, TENSORS

FILES = (MANIFEST, STATE, TENSORS)
#: What JSON can hold but shouldn't here.
STRANGE: tuple[str, ...] = (
    "null", "true", "-1", "0", "1", "3", "2.5", '"2"', "[]", "{}", '""', "1e999", "NaN",
    "9" * 400, "1" + "0" * 6000, '"\\ud800"', "[" * 2000, "[" * 30_000 + "]" * 30_000,
    "\x00", "\xff",
)  # fmt: skip


def _cut(file: Path, chance: random.Random, _: Path) -> None:
    os.truncate(file, chance.randrange(file.stat().st_size))


def _grow(file: Path, chance: random.Random, _: Path) -> None:
    # White space after JSON is still JSON: other bytes are not.
    with file.open("ab") as opened:
        opened.write(chance.randbytes(chance.randrange(1, 50)).replace(b"\n", b"x") + b"x")


def _flip(file: Path, chance: random.Random, _: Path) -> None:
    data = bytearray(file.read_bytes())
    for place in chance.sample(range(len(data)), min(len(data), chance.choice([1, 1, 2, 8]))):
        data[place] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


def _zero(file: Path, chance: random.Random, _: Path) -> None:
    """A page that never reached the disk."""
    data = bytearray(file.read_bytes())
    start = chance.randrange(len(data) - 40)
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    file.write_bytes(data)


def _remove(file: Path, chance: random.Random, _: Path) -> None:
    file.unlink()


def _directory(file: Path, chance: random.Random, _: Path) -> None:
    file.unlink()
    file.mkdir()


def _link(file: Path, chance: random.Random, other: Path) -> None:
    file.unlink()
    target = chance.choice([other / file.name, file.parent, file, Path("/dev/zero"), Path("gone")])
    file.symlink_to(target)


def _pipe(file: Path, chance: random.Random, _: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _other_checkpoints(file: Path, chance: random.Random, other: Path) -> None:
    """Also a manifest that is out of date."""
    shutil.copyfile(other / file.name, file)


def _strange_json(file: Path, chance: random.Random, _: Path) -> None:
    """Another value somewhere in the document, perhaps no JSON at all."""
    document = json.loads((file.parent / MANIFEST).read_bytes())
    holder: Any = document
    while True:
        key = chance.choice(sorted(holder))
        if not isinstance(holder[key], dict) or chance.random() < 0.3:
            break
        holder = holder[key]
    mark = "\x01here\x01"
    before = json.dumps(holder[key])
    strange = chance.choice([value for value in STRANGE if value != before])
    holder[key] = mark
    text = json.dumps(document).replace(json.dumps(mark), strange)
    (file.parent / MANIFEST).write_bytes(text.encode("latin-1"))


def _no_folder(file: Path, chance: random.Random, other: Path) -> None:
    shutil.rmtree(file.parent)
    match chance.randrange(3):
        case 0:
            file.parent.write_bytes(b"")
        case 1:
            file.parent.symlink_to(other)
        case _:
            file.parent.mkdir()


def _another_whole_one(file: Path, chance: random.Random, other: Path) -> None:
    """All the files of another checkpoint, under this one's name."""
    for name in FILES:
        shutil.copyfile(other / name, file.parent / name)


KINDS: tuple[Callable[[Path, random.Random, Path], None], ...] = (
    _cut, _grow, _flip, _flip, _zero, _remove, _directory, _link, _pipe, _other_checkpoints,
    _strange_json, _strange_json, _no_folder, _another_whole_one,
)  # fmt: skip


def damage(checkpoint: Path, others: list[Path], chance: random.Random) -> str:
    """Damage `checkpoint` so that it must not be loaded any more; says how.

    `others` are checkpoints, with other contents, to take files from.
    """
    kind = chance.choice(KINDS)
    file = checkpoint / chance.choice(FILES)
    kind(file, chance, chance.choice(others))
    return f"{kind.__name__} {file.name}"
