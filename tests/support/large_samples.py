"""Samples of a megabyte, for loaders; as a program: loads them through too small a /dev/shm."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kubeseg_trainer.engine.loading import Loader
from kubeseg_trainer.engine.task import SampleKey

COUNT = 12
KEYS = [[SampleKey(1, i), SampleKey(1, i + 1)] for i in range(0, COUNT, 2)]


class LargeSamples:
    """Each holds its number a million times."""

    names: Sequence[str] = [str(number) for number in range(COUNT)]
    alike = True

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, key: SampleKey) -> dict[str, torch.Tensor]:
        return {"image": torch.full((1 << 20,), key.sample, dtype=torch.uint8)}


def seen(batch: dict[str, torch.Tensor]) -> list[int]:
    """The samples in a batch; none where its contents are not theirs."""
    image = batch["image"]
    return [int(row[0]) for row in image if bool((row == row[0]).all())]


def main() -> None:
    """Print what was noted, then the samples as they came."""
    loader = Loader((LargeSamples(),), workers=2, pin=False, note=print)
    print([number for batch in loader.batches(0, KEYS) for number in seen(batch)])
    print("pipes" if loader.pipes else "shared", loader.workers)


if __name__ == "__main__":
    main()
