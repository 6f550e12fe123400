"""The data of one step, in as many parts as the memory allows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch

from kubeseg_trainer.engine.loading import split_step
from kubeseg_trainer.engine.task import Batch


class Feed:
    """One step's samples: parts as the loader brings them, or cut anew from what it brought.

    What has come stays until the step is done, so that the step can be done again in smaller parts.
    They are cut as if they had been planned so, whatever was loaded: a resumed run does the same.
    """

    def __init__(self, batches: Iterator[Batch], planned: Sequence[Sequence[int]]) -> None:
        self._batches = batches
        self._planned = [list(part) for part in planned]
        self._brought: list[Batch] = []
        self.samples = [sample for part in planned for sample in part]
        #: Seconds spent waiting for data.
        self.waited = 0.0
        #: Whether an error came from the loader: it has nothing more to bring then.
        self.failed = False

    def _load(self, number: int) -> Batch:
        while len(self._brought) <= number:
            began = time.monotonic()
            self.failed = True
            self._brought.append(next(self._batches))
            self.failed = False
            self.waited += time.monotonic() - began
        return self._brought[number]

    def parts(self, accumulate: int) -> Iterator[tuple[list[int], Batch]]:
        """(samples, their batch) of each of `accumulate` parts, or of fewer in a short step."""
        wanted = split_step(self.samples, accumulate)
        if wanted == self._planned:
            for number, part in enumerate(wanted):
                yield part, self._load(number)
            return
        self._load(len(self._planned) - 1)
        whole = {
            name: torch.cat([batch[name] for batch in self._brought]) for name in self._brought[0]
        }
        start = 0
        for part in wanted:
            end = start + len(part)
            yield part, {name: values[start:end] for name, values in whole.items()}
            start = end
