"""Which images train and which validate: a function of each file's name and the seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from kubeseg_trainer.errors import DatasetError
from kubeseg_trainer.tasks.segmentation.data.dataset import Pair


def share_of(stem: str, seed: int) -> float:
    """Where `stem` falls between 0 and 1."""
    digest = hashlib.sha256(f"{seed}/{stem}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_stems(
    stems: Sequence[str], *, test_size: float, seed: int
) -> tuple[list[str], list[str]]:
    """(train, validation), each sorted and with one image at least.

    An image added later moves none of the others, except that a part that would be empty borrows
    the image nearest to its side.
    """
    if len(stems) < 2:
        raise DatasetError(
            f"{len(stems)} image{'s' * (len(stems) != 1)} with a mask: at least 2 are needed, "
            f"one to train on and one to validate on"
        )
    ordered = sorted(stems, key=lambda stem: (share_of(stem, seed), stem))
    held_back = sum(share_of(stem, seed) < test_size for stem in ordered)
    held_back = min(max(held_back, 1), len(ordered) - 1)
    return sorted(ordered[held_back:]), sorted(ordered[:held_back])


def divide(pairs: Sequence[Pair], *, test_size: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """`pairs` for training and for validation, by `split_stems`."""
    by_stem = {pair.stem: pair for pair in pairs}
    first, second = split_stems(list(by_stem), test_size=test_size, seed=seed)
    return [by_stem[stem] for stem in first], [by_stem[stem] for stem in second]
