"""Which samples in which order, and the loader that brings them."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from kubeseg_trainer.engine.task import SampleKey, Samples


def epoch_order(count: int, *, seed: int, epoch: int) -> list[int]:
    """The order of `count` samples in `epoch`: a function of both and the seed."""
    generator = np.random.default_rng([seed, epoch])
    return [int(index) for index in generator.permutation(count)]


def split_step(samples: Sequence[int], accumulate: int) -> list[list[int]]:
    """One step's samples in at most `accumulate` parts of nearly the same size, none empty."""
    parts = min(accumulate, len(samples))
    size, rest = divmod(len(samples), parts)
    result, start = [], 0
    for part in range(parts):
        end = start + size + (part < rest)
        result.append(list(samples[start:end]))
        start = end
    return result


def plan_steps(
    order: Sequence[int], *, position: int, batch_size: int, accumulate: int
) -> list[list[list[int]]]:
    """The steps left of an epoch of which `position` samples are done: parts of samples each."""
    left = order[position:]
    steps = [left[i : i + batch_size] for i in range(0, len(left), batch_size)]
    return [split_step(step, accumulate) for step in steps]


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Optimizer steps in a whole epoch."""
    return math.ceil(samples / batch_size)


class _Keys(Sampler[list[tuple[int, SampleKey]]]):
    """The batches that the loader brings next; set anew for each pass."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, SampleKey]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, SampleKey]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Parts:
    """All parts of the data behind one key, so that one set of processes serves them all."""

    def __init__(self, parts: Sequence[Samples]) -> None:
        self._parts = parts

    def __getitem__(self, key: tuple[int, SampleKey]) -> dict[str, Any]:
        part, sample = key
        return self._parts[part][sample]


def _start_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group: the main process alone decides on the end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import cv2

    cv2.setNumThreads(0)


class Loader:
    """Batches of several parts of the data, by key, decoded in `workers` processes (0: here)."""

    def __init__(self, parts: Sequence[Samples], *, workers: int, pin: bool) -> None:
        self._keys = _Keys()
        # A generator of its own: without one the loader would draw from the global state.
        generator = torch.Generator()
        generator.manual_seed(0)
        more: dict[str, Any] = {}
        if workers:
            more = {
                "persistent_workers": True,
                "prefetch_factor": 4,
                "worker_init_fn": _start_worker,
                # A fork of a process with threads may inherit a lock that nobody holds any more.
                "multiprocessing_context": "forkserver",
            }
        self._loader: DataLoader[Any] = DataLoader(
            _Parts(parts),  # type: ignore[arg-type] # any object with __getitem__ will do
            batch_sampler=self._keys,
            num_workers=workers,
            pin_memory=pin,
            generator=generator,
            **more,
        )

    def batches(
        self, part: int, keys: Sequence[Sequence[SampleKey]]
    ) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of these keys of a part, in this order."""
        self._keys.batches = [[(part, key) for key in batch] for batch in keys]
        return iter(self._loader)
