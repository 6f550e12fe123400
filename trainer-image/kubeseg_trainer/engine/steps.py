"""One optimizer step: forward and backward over its parts, then the update.

What goes wrong on the way and can be mended (memory, compilation) is, and the step done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from kubeseg_trainer.engine.ema import Average
from kubeseg_trainer.engine.feed import Feed
from kubeseg_trainer.engine.finite import FiniteWatch
from kubeseg_trainer.engine.loading import Step, split_step
from kubeseg_trainer.engine.optimizer import load_optimizer_state, make_optimizer, optimizer_state
from kubeseg_trainer.engine.precision import Scaler
from kubeseg_trainer.engine.preparation import Preparation
from kubeseg_trainer.engine.schedule import learning_rate
from kubeseg_trainer.engine.state import State
from kubeseg_trainer.engine.surroundings import Surroundings
from kubeseg_trainer.engine.task import Batch, Sums, Task
from kubeseg_trainer.errors import (
    ConfigurationError,
    InterruptionError,
    NonFiniteLossError,
    OutOfMemoryError,
    is_out_of_memory,
)

#: Spreads seeds so that neighbouring steps share nothing.
_STRIDE = 0x9E3779B97F4A7C15
_RANK_STRIDE = 0xD1B54A32D192ED03

Remedy = Callable[[], None]


class Stepper:
    """Network and optimizer, and what moves them by one step."""

    def __init__(self, task: Task, around: Surroundings) -> None:
        training = around.source.config.training
        self._task = task
        self._around = around
        self.optimizer = make_optimizer(task.network, training)
        #: Parts that a step is computed in, now: more than asked for where memory ran out.
        self.accumulate = training.accumulate
        #: Seconds spent waiting for data since someone set it to 0.
        self.waiting = 0.0
        self._way = Preparation(task, around)
        self._scaler: Scaler | None = None
        self._average = Average(task.network, training.ema.decay) if training.ema else None
        self._buffers = list(task.network.buffers())
        self._buffers_before = [buffer.clone() for buffer in self._buffers]
        self._finite = FiniteWatch(task.train.names, around.device)

    # -- before the first step, and what a checkpoint holds ------------------------------------

    def prepare(self) -> None:
        """Settle how passes are computed; once, before the first."""
        self._way.settle(self.accumulate)
        if self._way.precision == "Float16" and self._scaler is None:
            self._scaler = Scaler(self._around.device)

    def state_tensors(self) -> dict[str, Tensor]:
        """All that is a tensor beside the network's: of the optimizer, the scaler, the average."""
        parts = {"optimizer": optimizer_state(self._task.network, self.optimizer)}
        if self._scaler is not None:
            parts["scaler"] = self._scaler.tensors()
        if self._average is not None:
            parts["ema"] = self._average.tensors()
        return {f"{part}/{name}": v for part, held in parts.items() for name, v in held.items()}

    def identity(self) -> dict[str, Any]:
        """What a start that goes on from here must do alike, as JSON."""
        training = self._around.source.config.training
        return {
            "precision": self._way.precision,
            "accumulate": self.accumulate,
            "asked": [training.batch_size, training.accumulate],
        }

    def load(self, tensors: dict[str, Tensor], identity: dict[str, Any]) -> None:
        """Go on from what `state_tensors` and `identity` gave."""
        parts: dict[str, dict[str, Tensor]] = {"optimizer": {}, "scaler": {}, "ema": {}}
        for key, value in tensors.items():
            part, _, name = key.partition("/")
            parts[part][name] = value
        load_optimizer_state(self._task.network, self.optimizer, parts["optimizer"])
        if self._average is not None:
            self._average.load(parts["ema"])
        self._way.go_on(identity["precision"])
        self.prepare()
        if self._scaler is not None and parts["scaler"]:
            self._scaler.load(parts["scaler"])
        # Another batch or another number of parts is a decision of today.
        if (
            identity["asked"] == self.identity()["asked"]
            and identity["accumulate"] > self.accumulate
        ):
            self._take_parts(
                identity["accumulate"],
                f"a step goes on in {identity['accumulate']} parts, as since memory ran out",
            )

    # -- passes ----------------------------------------------------------------------------------

    def forward(self, batch: Batch, size: int) -> tuple[Tensor, Tensor]:
        """Mean loss and counts of a batch of `size` samples, in training and in validation."""
        with self._way.running(size):
            return self._task.step(batch)

    def weights(self) -> dict[str, Tensor]:
        """What is validated and exported: the network's state, with the averages if there are."""
        averages = self._average.tensors() if self._average is not None else {}
        return {**self._task.network.state_dict(), **averages}

    def eagerly(self) -> AbstractContextManager[Any]:
        """For a forward pass of any size, such as that of the pictures."""
        return self._way.eagerly()

    def averaged(self) -> AbstractContextManager[None]:
        """The network with the weights that are validated and exported."""
        return nullcontext() if self._average is None else self._average.in_place()

    def step(self, step: Step, batches: Iterator[Batch], state: State, *, progress: float) -> None:
        """One step, at `progress` epochs, which moves `state` on.

        InterruptionError, on all ranks, after a signal to any: what it had begun is undone.
        """
        training = self._around.source.config.training
        rate = learning_rate(
            training.scheduler,
            peak=training.learning_rate,
            done=progress,
            epochs=training.epochs,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        feed = Feed(batches, step.parts)
        sums = self._gradients(feed, state, step.size)
        self._around.group.reduce_step(
            self._task.network, self._buffers_before, len(feed.samples) / step.size
        )
        self._update(state, feed.samples)
        self.waiting += feed.waited
        state.sums = sums
        state.learning_rate = rate
        state.step += 1
        state.position += step.size

    def _gradients(self, feed: Feed, state: State, size: int) -> Sums:
        """This rank's gradients of a step of `size` samples, in as many parts as it takes; returns
        the new sums. InterruptionError on all ranks where one was to stop meanwhile.
        """
        if self._buffers:
            # One call for all of them.
            torch._foreach_copy_(self._buffers_before, self._buffers)
        sums = None
        while True:
            try:
                sums = self._pass(feed, state, size)
                break
            except InterruptionError:
                # The others are to hear of it before anyone goes.
                break
            except (RuntimeError, MemoryError) as error:
                sizes = [len(part) for part in split_step(feed.samples, self.accumulate)]
                remedy = None if feed.failed else self.remedy(error, max(sizes))
                if remedy is None:
                    raise
            # Out here the error is gone, and with its frames all that they kept in memory.
            self._undo()
            remedy()
        if not self.agree(done=sums is not None):
            self._undo()
            self._around.group.check_stop(self._around.stop)
        assert sums is not None
        return sums

    def agree(self, *, done: bool = True) -> bool:
        """Whether all ranks are `done`; all take the number of parts that one of them needs."""
        broken_off, parts = self._around.group.maxima([int(not done), self.accumulate])
        if parts > self.accumulate:
            self._take_parts(
                parts,
                f"out of memory in another process: each batch is now computed in {parts} "
                f"parts instead of {self.accumulate}; nothing else changes",
            )
        return not broken_off

    def _pass(self, feed: Feed, state: State, size: int) -> Sums:
        training, group = self._around.source.config.training, self._around.group
        # Dropout and the like: a function of seed, step and rank, so nothing needs saving.
        seed = training.seed + (state.step + 1) * _STRIDE + group.rank * _RANK_STRIDE
        torch.manual_seed(seed % 2**63)
        sums = state.sums
        for number, (part, batch) in enumerate(feed.parts(self.accumulate)):
            if number:
                self._around.stop.check()
            loss, counts = self.forward(batch, len(part))
            self._backward(loss * (len(part) / size))
            sums = sums.plus(self._told(loss, sums), counts, len(part))
            if self._scaler is None:
                # With a scaler such a step is skipped, and the scaler is watched.
                self._finite.loss(loss, part, epoch=state.epoch, step=state.step)
            self._around.watchdog.beat()
        if feed.samples:
            self._way.worked()
        return sums

    def _backward(self, loss: Tensor) -> None:
        if self._scaler is None:
            torch.autograd.backward(loss)
        else:
            self._scaler.backward(loss)

    def _update(self, state: State, samples: list[int]) -> None:
        """Clip, and move the weights and their average."""
        clip, scaler = self._around.source.config.training.clip, self._scaler
        if scaler is None:
            norm = self._clip(clip)
            # Of several processes' gradients it can't be said whose samples spoilt them.
            samples = samples if self._around.group.size == 1 else []
            self._finite.gradients(norm, samples, epoch=state.epoch, step=state.step)
            self.optimizer.step()
        else:
            if clip is not None:
                scaler.unscale(self.optimizer)
                self._clip(clip)
            self._watch_scale(scaler, state)
            scaler.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update(state.step + 1)

    def _clip(self, most: float | None) -> Tensor:
        """Norm of all gradients, which are scaled down where it is above `most`."""
        parameters = list(self._task.network.parameters())
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        if most is not None:
            clip_grads_with_norm_(parameters, most, norm)
        return norm

    # -- what can go wrong -----------------------------------------------------------------------

    def remedy(self, error: BaseException, size: int) -> Remedy | None:
        """What mends `error`, met in a pass whose largest part had `size` samples; None: nothing.

        OutOfMemoryError where a part can't get smaller. The remedy keeps no hold of the error.
        """
        first = (str(error).splitlines() or [""])[0] or type(error).__name__
        if is_out_of_memory(error):
            if size <= 1:
                raise OutOfMemoryError(
                    f"out of memory with one image at a time: {first}. Lower "
                    f"spec.training.imageSize, take a smaller network, or give it more memory "
                    f"(spec.training.batchSize and accumulate don't help any more)"
                ) from error
            return lambda: self._halve(first)
        if "does not have a deterministic implementation" in first:
            raise ConfigurationError(
                f"spec.training.deterministic: can't be had with this network on this device: "
                f"{first}"
            ) from error
        return self._way.remedy(error)

    def _halve(self, why: str) -> None:
        if self._around.device.type == "cuda":
            torch.cuda.empty_cache()
        training = self._around.source.config.training
        parts = 2 * self.accumulate
        self._take_parts(
            parts,
            f"out of memory ({why}): each batch of {training.batch_size} is now computed in "
            f"{parts} parts instead of {self.accumulate}; nothing else changes",
        )

    def _take_parts(self, parts: int, note: str) -> None:
        self.accumulate = parts
        self._way.take_parts(parts)
        self._around.board.update(accumulate=parts)
        self._around.board.note(note)

    def _undo(self) -> None:
        with torch.no_grad():
            for buffer, old in zip(self._buffers, self._buffers_before, strict=True):
                buffer.copy_(old)
        self.optimizer.zero_grad(set_to_none=True)

    def _told(self, loss: Tensor, sums: Sums) -> Tensor:
        """What the epoch's mean loss hears of: a step that float16 will skip changes no mean."""
        if self._scaler is None:
            return loss
        mean = sums.loss / sums.samples.clamp(min=1)
        return torch.where(torch.isfinite(loss), loss.detach().double(), mean)

    def check_finite(self) -> None:
        """NonFiniteLossError where a loss or a gradient so far is no number."""
        self._finite.check()

    def _watch_scale(self, scaler: Scaler, state: State) -> None:
        """NonFiniteLossError where too many steps in a row were skipped before this one."""
        skipped = scaler.skipped()
        if skipped >= Scaler.LIMIT:
            raise NonFiniteLossError(
                f"the gradients of {skipped} steps in a row, up to step {state.step} of epoch "
                f"{state.epoch + 1}, were not finite in float16, at whatever scale. Lower "
                f"spec.training.learningRate, set spec.training.clip: 1, or take "
                f"spec.training.precision: Float32"
            )
