"""How passes are computed: in which precision, compiled or not; settled before the first step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from kubeseg_trainer.engine import compiling
from kubeseg_trainer.engine.loading import collate, split_step
from kubeseg_trainer.engine.precision import (
    Precision,
    asked_for,
    autocast,
    faster,
    measure,
    supports,
    worth_a_trial,
)
from kubeseg_trainer.engine.surroundings import Surroundings
from kubeseg_trainer.engine.task import SampleKey, Task
from kubeseg_trainer.errors import is_out_of_memory

#: Samples of a trial on a CPU, where the ratio doesn't depend on their number but the time does.
_FEW = 2


class Preparation:
    """Chooses how passes are computed, and computes them so."""

    def __init__(self, task: Task, around: Surroundings) -> None:
        self._task = task
        self._around = around
        self._compiled: compiling.Compiled | None = None
        self._settled = False
        #: None until it is settled.
        self.precision: Precision | None = asked_for(around.source.config.training, around.device)

    def go_on(self, precision: Precision | None) -> None:
        """Take the precision that a checkpoint remembers, where it was chosen and can be had."""
        if self.precision is not None or precision is None:
            return
        if supports(precision, self._around.device):
            self.precision = precision
        else:
            self._around.board.note(
                f"the run began in {precision.lower()}, which this device doesn't compute in"
            )

    def settle(self, accumulate: int) -> None:
        """Choose what is still open, and compile where that is asked for."""
        if self._settled:
            return
        self._settled = True
        self._agree(accumulate)
        if self._around.source.config.training.compile:
            self._compile(accumulate)

    def _agree(self, accumulate: int) -> None:
        """Have one precision on all ranks: rank 0 measures, and all must be able to do it."""
        group = self._around.group
        if not group.any(self.precision is None):
            return
        chosen = self.precision
        if group.leads and chosen is None:
            chosen = self._choose(accumulate)
        chosen = group.share(chosen)
        assert chosen is not None
        lacking = group.any(not supports(chosen, self._around.device))
        self.precision = "Float32" if lacking and group.size > 1 else chosen

    @contextmanager
    def running(self, size: int) -> Iterator[None]:
        """A context for the forward pass of `size` samples."""
        assert self.precision is not None, "prepare() comes first"
        with autocast(self.precision, self._around.device):
            if self._compiled is None:
                yield
            else:
                with self._compiled.running(size):
                    yield

    def eagerly(self) -> AbstractContextManager[Any]:
        """A context for a forward pass of any size, in this precision, never compiled."""
        assert self.precision is not None, "prepare() comes first"
        return autocast(self.precision, self._around.device)

    # -- precision -------------------------------------------------------------------------------

    def _choose(self, accumulate: int) -> Precision:
        """What Auto takes: what the device has, where it is measured to be faster."""
        around = self._around
        candidate = worth_a_trial(around.device)
        if candidate is None:
            return "Float32"
        if around.source.config.training.deterministic:
            # No clock decides what the numbers will be.
            return candidate if around.device.type == "cuda" else "Float32"
        training = around.source.config.training
        size = math.ceil(min(training.batch_size, len(self._task.train)) / accumulate)
        if around.device.type != "cuda":
            size = min(size, _FEW)
        while True:
            try:
                seconds = self._try_out(candidate, size)
                break
            except RuntimeError as error:
                # The first step says so, if one sample is too much.
                if size <= 1 or not is_out_of_memory(error):
                    raise
            size //= 2
        chosen = faster(seconds, candidate)
        around.reporter.line(
            f"precision {chosen}: {size} images took {1000 * seconds['Float32']:.0f} ms in "
            f"Float32, {1000 * seconds[candidate]:.0f} ms in {candidate}"
        )
        return chosen

    def _try_out(self, candidate: Precision, size: int) -> dict[Precision, float]:
        network = self._task.network
        batch = collate([self._task.train[SampleKey(0, i)] for i in range(size)])
        before = [buffer.clone() for buffer in network.buffers()]

        def run(precision: Precision) -> None:
            self._around.stop.check()
            self._around.watchdog.beat()
            with autocast(precision, self._around.device):
                loss, _ = self._task.step(batch)
            torch.autograd.backward(loss)
            network.zero_grad(set_to_none=True)

        network.train()
        try:
            return measure(candidate, self._around.device, run)
        finally:
            network.zero_grad(set_to_none=True)
            with torch.no_grad():
                for buffer, old in zip(network.buffers(), before, strict=True):
                    buffer.copy_(old)

    # -- compilation -----------------------------------------------------------------------------

    def _sizes(self, accumulate: int) -> set[int]:
        """How many samples a pass has, but for the last ones of an epoch."""
        batch_size = self._around.source.config.training.batch_size
        parts = {len(part) for part in split_step(range(batch_size), accumulate)}
        return parts | {max(1, batch_size // accumulate)}

    def _compile(self, accumulate: int) -> None:
        why = compiling.missing_compiler(self._around.device)
        if why is None:
            self._compiled = compiling.Compiled(self._task.network, self._sizes(accumulate))
            self._around.reporter.line("compiling: the first steps take up to minutes")
        else:
            self._around.board.note(f"runs without torch.compile: {why}")

    def worked(self) -> None:
        """A whole step's passes have succeeded."""
        if self._compiled is not None:
            self._compiled.proven = True

    def take_parts(self, accumulate: int) -> None:
        """Steps are computed in so many parts from now on."""
        if self._compiled is not None:
            self._compiled.sizes = frozenset(self._sizes(accumulate))

    def remedy(self, error: BaseException) -> Callable[[], None] | None:
        """Going on without compilation, where `error` comes from it or may do; else None."""
        compiled = self._compiled
        if compiled is None or (compiled.proven and not compiling.about_compilation(error)):
            return None
        # What torch wraps says why; the wrapping only who raised it.
        inner = getattr(error, "inner_exception", error)
        reason = f"{type(inner).__name__}: {(str(inner).strip().splitlines() or [''])[0]}"

        def run_eagerly() -> None:
            compiled.undo()
            self._compiled = None
            self._around.board.note(f"goes on without torch.compile, which failed: {reason}")

        return run_eagerly
