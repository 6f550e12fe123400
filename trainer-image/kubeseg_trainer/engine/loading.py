"""Which samples in which order, and the loader that brings them."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, default_collate, get_worker_info

from kubeseg_trainer.engine.task import SampleKey, Samples

log = logging.getLogger(__name__)

#: Seconds for a loader process that has gone to be known as such.
_END = 5.0


def epoch_order(count: int, *, seed: int, epoch: int) -> list[int]:
    """The order of `count` samples in `epoch`: a function of both and the seed."""
    generator = np.random.default_rng([seed, epoch])
    return [int(index) for index in generator.permutation(count)]


class Step(NamedTuple):
    """One optimizer step, as one rank sees it."""

    #: Samples over all ranks.
    size: int
    #: This rank's, in the parts that they are computed in; none where there are too few for all.
    parts: list[list[int]]


def share_of_step(samples: Sequence[int], rank: int, ranks: int) -> Sequence[int]:
    """What `rank` of `ranks` has of a step's samples: nearly the same number each, maybe none."""
    size, rest = divmod(len(samples), ranks)
    start = rank * size + min(rank, rest)
    return samples[start : start + size + (rank < rest)]


def split_step(samples: Sequence[int], accumulate: int) -> list[list[int]]:
    """Samples in at most `accumulate` parts of nearly the same size, none empty."""
    parts = min(accumulate, len(samples))
    if not parts:
        return []
    size, rest = divmod(len(samples), parts)
    result, start = [], 0
    for part in range(parts):
        end = start + size + (part < rest)
        result.append(list(samples[start:end]))
        start = end
    return result


def plan_steps(
    order: Sequence[int],
    *,
    position: int,
    batch_size: int,
    accumulate: int,
    rank: int = 0,
    ranks: int = 1,
) -> list[Step]:
    """The steps left, for `rank`, of an epoch of which `position` samples are done.

    Order, position and batches are those of all ranks together: another number of them goes on
    where the last ones stopped.
    """
    left = order[position:]
    steps = [left[i : i + batch_size] for i in range(0, len(left), batch_size)]
    return [
        Step(len(step), split_step(share_of_step(step, rank, ranks), accumulate)) for step in steps
    ]


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

    def __getitem__(self, key: tuple[int, SampleKey]) -> dict[str, torch.Tensor]:
        part, sample = key
        return self._parts[part][sample]


def collate(samples: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """One batch (first axis) of samples, each tensor in the memory order of its samples.

    So pictures that are decoded channels last reach the network that way without a copy.
    """
    return {name: _stack([sample[name] for sample in samples]) for name in samples[0]}


def _stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    order = tensors[0].dim_order()
    ordered = [tensor.permute(order) for tensor in tensors]
    stacked: torch.Tensor
    if get_worker_info() is None:
        # Not torch's: it copies with all threads, and waiting for the last of them takes longer
        # than the copy where cores are shared (10 times the whole loader's time, measured).
        stacked = torch.from_numpy(np.stack([tensor.numpy() for tensor in ordered]))
    else:
        # The library's own puts the batch into shared memory.
        stacked = default_collate(ordered)
    return stacked.permute(0, *(order.index(axis) + 1 for axis in range(len(order))))


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _start_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group: the main process alone decides on the end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The fork server is no parent to rely on: it lives as long as we do.
    trainer = multiprocessing.parent_process()
    assert trainer is not None
    threading.Thread(target=_end_with, args=(trainer.sentinel,), daemon=True).start()
    import cv2

    cv2.setNumThreads(0)


def _stack_arrays(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of arrays, which go through a pipe; tensors would go through shared memory."""
    return {name: np.stack([np.asarray(sample[name]) for sample in samples]) for name in samples[0]}


class Loader:
    """Batches of several parts of the data, by key, decoded in `workers` processes (0: here).

    Where shared memory is too small for their batches, these come through pipes instead; where that
    fails, or the host kills the processes, there are none. `note` is told. No batch is lost.
    """

    def __init__(
        self,
        parts: Sequence[Samples],
        *,
        workers: int,
        pin: bool,
        note: Callable[[str], None] = log.warning,
    ) -> None:
        self.parts = parts
        self._pin = pin
        self._note = note
        self._keys = _Keys()
        self.workers = workers
        #: Whether batches come through pipes.
        self.pipes = False
        self._loader = self._make()

    def _make(self) -> DataLoader[Any]:
        # A generator of its own: without one the loader would draw from the global state.
        generator = torch.Generator()
        generator.manual_seed(0)
        more: dict[str, Any] = {}
        if self.workers:
            more = {
                "persistent_workers": True,
                "prefetch_factor": 4,
                "worker_init_fn": _start_worker,
                # A fork of a process with threads may inherit a lock that nobody holds any more.
                "multiprocessing_context": "forkserver",
            }
        return DataLoader(
            _Parts(self.parts),  # type: ignore[arg-type] # any object with __getitem__ will do
            batch_sampler=self._keys,
            num_workers=self.workers,
            pin_memory=self._pin,
            collate_fn=_stack_arrays if self.workers and self.pipes else collate,
            generator=generator,
            **more,
        )

    def batches(
        self, part: int, keys: Sequence[Sequence[SampleKey]]
    ) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of these keys of a part, in this order."""
        left = [[(part, key) for key in batch] for batch in keys]
        while True:
            self._keys.batches = left
            brought = 0
            try:
                for batch in self._loader:
                    yield {name: torch.as_tensor(values) for name, values in batch.items()}
                    brought += 1
                return
            # EOFError: a process was killed while it handed over a batch.
            except (RuntimeError, OSError, EOFError) as error:
                if not self._mend(error):
                    raise
            left = left[brought:]

    def _mend(self, error: Exception) -> bool:
        """Whether the processes are now set up such that `error` need not come again."""
        if not self.workers:
            return False
        if isinstance(error, EOFError | ConnectionError):
            # The connection breaks an instant before it is known how its process ended.
            wait([worker.sentinel for worker in self._processes()], timeout=_END)
        trouble = worker_trouble(str(error), self._exit_codes())
        if trouble is None:
            return False
        if trouble == "shared memory" and not self.pipes:
            self.pipes = True
            self._note(
                f"shared memory ({_shared_memory()}) is too small for the loader processes: "
                f"batches come through pipes instead, which is slower. Raise "
                f"spec.resources.sharedMemory"
            )
        else:
            self._note(
                f"{self.workers} loader processes ended for want of {trouble}: images are decoded "
                f"by the training process, which is slower. Raise spec.resources.memory"
            )
            self.workers = 0
        # The old processes end with it.
        self._loader = self._make()
        return True

    def _processes(self) -> list[Any]:
        iterator = self._loader._iterator  # noqa: SLF001 - nowhere else is said why one ended
        return [] if iterator is None else iterator._workers  # type: ignore[attr-defined] # noqa: SLF001

    def _exit_codes(self) -> list[int]:
        codes = [worker.exitcode for worker in self._processes()]
        return [code for code in codes if code is not None]


def worker_trouble(
    text: str, exit_codes: Sequence[int]
) -> Literal["shared memory", "memory"] | None:
    """What loader processes lacked, from an error's text and how they ended; None: something else.

    A write to shared memory that is full ends a process with SIGBUS.
    """
    if -signal.SIGKILL in exit_codes:
        return "memory"
    signs = ("shared memory", "(shm)", "unable to mmap", "No space left on device", "Bus error")
    if -signal.SIGBUS in exit_codes or any(sign in text for sign in signs):
        return "shared memory"
    return None


def _shared_memory() -> str:
    stat = os.statvfs("/dev/shm")  # noqa: S108 - where the system has it
    return f"{stat.f_blocks * stat.f_frsize / 2**20:.0f} MiB"
