"""The training loop: epochs of steps, validation, records, checkpoints, live edits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kubeseg_trainer.config import ConfigSource
from kubeseg_trainer.engine.board import Board
from kubeseg_trainer.engine.decisions import best_of, reason_to_end
from kubeseg_trainer.engine.hardware import memory_in_use
from kubeseg_trainer.engine.loading import Loader, epoch_order, plan_steps, steps_per_epoch
from kubeseg_trainer.engine.optimizer import make_optimizer
from kubeseg_trainer.engine.report import Reporter, epoch_line
from kubeseg_trainer.engine.resume import identity_of, restore
from kubeseg_trainer.engine.schedule import learning_rate
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.engine.state import State
from kubeseg_trainer.engine.store import Store, newest_checkpoint
from kubeseg_trainer.engine.task import Batch, SampleKey, Sums, Task
from kubeseg_trainer.engine.watchdog import Watchdog
from kubeseg_trainer.errors import InterruptionError, NonFiniteLossError, SupersededError
from kubeseg_trainer.files import now
from kubeseg_types.status import CheckpointPointer
from kubeseg_types.trainer import EpochRecord, Part, TrainerConfig

log = logging.getLogger(__name__)

#: Seconds between two looks for a newer start of the same run.
SUPERSEDED_EVERY = 10.0
#: The parts of the data, as the loader numbers them.
TRAIN, VALIDATION = 0, 1
#: Spreads seeds so that neighbouring steps share nothing.
_STRIDE = 0x9E3779B97F4A7C15


@dataclass
class Surroundings:
    """What a loop works with."""

    source: ConfigSource
    store: Store
    board: Board
    reporter: Reporter
    stop: StopRequest
    watchdog: Watchdog
    device: torch.device
    workers: int
    bfloat16: bool


def _nothing() -> None:
    """What is done at an epoch's end unless someone asks for more."""


class Loop:
    """One training, from where its checkpoint (or nothing) stands to its end."""

    def __init__(self, task: Task, around: Surroundings) -> None:
        self.task = task
        self.around = around
        self.optimizer = make_optimizer(task.network, around.source.config.training)
        self.state = State(Sums.zero(task.new_counts()), generation=around.source.config.generation)
        pin = around.device.type == "cuda"
        self._loader = Loader((task.train, task.validation), workers=around.workers, pin=pin)
        self._waiting = 0.0
        self._epoch_seconds: list[float] = []
        self._last_saved = time.monotonic()
        self._last_look = time.monotonic()
        self._unchecked: tuple[Tensor, list[str]] | None = None
        self.checkpoint: CheckpointPointer | None = None
        #: Called when an epoch's records are written.
        self.on_epoch: Callable[[], None] = _nothing

    # -- beginning ---------------------------------------------------------------------------

    def resume(self) -> str:
        """Go on from the newest whole checkpoint of the run; says where that is."""
        found = newest_checkpoint(self.around.store.run.attempts())
        if found is None:
            return "from scratch"
        self.state = state = restore(
            found, self.task, self.optimizer, self._config, self.around.device
        )
        self.checkpoint = CheckpointPointer(epoch=state.epoch, step=state.step, time=found.time)
        return f"from epoch {state.epoch}, step {state.step} ({found.path.parent.parent.name})"

    def show(self) -> None:
        """Put on the board where this start begins."""
        history, config = self.state.history, self._config
        self.around.board.update(
            notify=True,
            epoch=len(history),
            start_epoch=len(history),
            epochs=config.training.epochs,
            generation=config.generation,
            steps_per_epoch=steps_per_epoch(len(self.task.train), config.training.batch_size),
            class_names=list(self.task.class_names),
            last=history[-1] if history else None,
            best=best_of(history),
            checkpoint=self.checkpoint,
        )

    def reason_to_end(self) -> str | None:
        """Why the training is over where it stands, or None."""
        return reason_to_end(self._config, self.state.history)

    # -- the whole ---------------------------------------------------------------------------

    def fit(self) -> str:
        """Train until there is a reason to end, which is returned.

        InterruptionError after a signal, with a checkpoint of the last whole step.
        """
        try:
            while (why := self.reason_to_end()) is None:
                self._train_epoch()
                validation = self._validate()
                self._finish_epoch(validation)
        except InterruptionError:
            self.save()
            raise
        except RuntimeError as error:
            # A signal to the whole process group takes the loader's workers first.
            if self.around.stop.requested and "DataLoader worker" in str(error):
                self.save()
                self.around.stop.check()
            raise
        self.save()
        return why

    @property
    def _config(self) -> TrainerConfig:
        return self.around.source.config

    def save(self) -> None:
        """Write a checkpoint of the present position, unless there is one."""
        if self.around.store.has_checkpoint(self.state) or self.state.step == 0:
            return
        self._check_loss()
        self.checkpoint = self.around.store.save_checkpoint(
            self.task.network,
            self.optimizer,
            self.state,
            identity=identity_of(self.task, self._config),
            policy=self._config.checkpoint,
        )
        self._last_saved = time.monotonic()
        self.around.watchdog.beat()
        self.around.board.update(notify=True, checkpoint=self.checkpoint)

    # -- one epoch ---------------------------------------------------------------------------

    def _train_epoch(self) -> None:
        state, training = self.state, self._config.training
        epoch, total = state.epoch + 1, len(self.task.train)
        order = epoch_order(total, seed=training.seed, epoch=epoch)
        steps = plan_steps(
            order,
            position=state.position,
            batch_size=training.batch_size,
            accumulate=training.accumulate,
        )
        keys = [[SampleKey(epoch, i) for i in part] for parts in steps for part in parts]
        per_epoch = steps_per_epoch(total, training.batch_size)
        self.task.network.train()
        self._waiting = 0.0
        board = self.around.board
        board.update(state="Training", epoch=state.epoch, steps_per_epoch=per_epoch)
        batches = self._loader.batches(TRAIN, keys) if keys else iter(())
        began = time.monotonic()
        begun_at = state.position
        for parts in steps:
            started = time.monotonic()
            self._step(parts, batches, progress=state.epoch + state.position / total)
            state.seconds += time.monotonic() - started
            done = per_epoch - (total - state.position + training.batch_size - 1) // (
                training.batch_size
            )
            speed = (state.position - begun_at) / (time.monotonic() - began)
            board.update(step=done, samples_per_second=speed, eta_seconds=self._eta())
            self.around.reporter.step(
                f"epoch {epoch}/{training.epochs}", done, per_epoch, f"{speed:.3g} img/s"
            )
            self._between_steps()
        self._check_loss()

    def _step(self, parts: list[list[int]], batches: Iterator[Batch], *, progress: float) -> None:
        """One optimizer step over `parts`; InterruptionError undoes what it had begun."""
        state, training = self.state, self._config.training
        network = self.task.network
        rate = learning_rate(
            training.scheduler,
            peak=training.learning_rate,
            done=progress,
            epochs=training.epochs,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # Dropout and the like: a function of the seed and the step, so nothing needs saving.
        torch.manual_seed((training.seed + (state.step + 1) * _STRIDE) % 2**63)
        before = [b.clone() for b in network.buffers()] if len(parts) > 1 else []
        count = sum(len(part) for part in parts)
        sums = state.sums
        for number, part in enumerate(parts):
            if number and self.around.stop.requested:
                with torch.no_grad():
                    for buffer, old in zip(network.buffers(), before, strict=True):
                        buffer.copy_(old)
                self.optimizer.zero_grad(set_to_none=True)
                self.around.stop.check()
            waited = time.monotonic()
            batch = next(batches)
            self._waiting += time.monotonic() - waited
            with self._precision():
                loss, counts = self.task.step(batch)
            torch.autograd.backward(loss * (len(part) / count))
            sums = sums.plus(loss, counts, len(part))
            self._watch_loss(loss, [self.task.train.names[i] for i in part])
            self.around.watchdog.beat()
        if training.clip is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), training.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        state.sums = sums
        state.learning_rate = rate
        state.step += 1
        state.position += count

    def _precision(self) -> AbstractContextManager[Any]:
        if self.around.bfloat16:
            return torch.autocast(self.around.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _watch_loss(self, loss: Tensor, names: list[str]) -> None:
        """Check a loss; on a GPU that of the step before, whose value no longer has to be waited
        for.
        """
        if self.around.device.type == "cuda":
            self._check_loss()
        self._unchecked = (loss.detach(), names)
        if self.around.device.type != "cuda":
            self._check_loss()

    def _check_loss(self) -> None:
        if self._unchecked is None:
            return
        loss, names = self._unchecked
        self._unchecked = None
        if not bool(torch.isfinite(loss)):
            listed = ", ".join(names[:8]) + (f" (+{len(names) - 8} more)" if names[8:] else "")
            raise NonFiniteLossError(
                f"the loss became {loss.item()} in epoch {self.state.epoch + 1}, step "
                f"{self.state.step + 1}, on the batch {listed}. Lower spec.training.learningRate, "
                f"set spec.training.clip: 1, or look at these files"
            )

    def _between_steps(self) -> None:
        around = self.around
        around.stop.check()
        moment = time.monotonic()
        if moment - self._last_look > SUPERSEDED_EVERY:
            self._last_look = moment
            self.check_superseded()
        every = self._config.checkpoint.every_seconds
        if every is not None and moment - self._last_saved > every:
            self.save()

    def check_superseded(self) -> None:
        """SupersededError where a newer start of this run is there."""
        newer = self.around.store.run.newer()
        if newer is not None:
            raise SupersededError(
                f"start {newer} of this run is newer than {self.around.store.run.name}: "
                f"this one ends"
            )

    def _validate(self) -> Part:
        self.around.stop.check()
        training = self._config.training
        self.around.board.update(state="Validating")
        network, total = self.task.network.eval(), len(self.task.validation)
        # No gradients are kept: the same memory takes the whole batch at once.
        size = max(1, training.batch_size // training.accumulate)
        keys = [
            [SampleKey(None, i) for i in range(start, min(start + size, total))]
            for start in range(0, total, size)
        ]
        sums = Sums.zero(self.task.new_counts())
        done = 0
        with torch.inference_mode(), self._precision():
            for batch, part in zip(self._loader.batches(VALIDATION, keys), keys, strict=True):
                loss, counts = self.task.step(batch)
                sums = sums.plus(loss, counts, len(part))
                done += len(part)
                self.around.watchdog.beat()
                self.around.stop.check()
                self.around.reporter.step(f"validation {self.state.epoch + 1}", done, total)
        network.train()
        return self._part(sums)

    def _part(self, sums: Sums) -> Part:
        return self.task.part(float(sums.loss), sums.counts.cpu(), int(sums.samples))

    def _finish_epoch(self, validation: Part) -> None:
        state, around = self.state, self.around
        self.check_superseded()
        epoch = state.epoch + 1
        train = self._part(state.sums)
        record = EpochRecord(
            epoch=epoch,
            step=state.step,
            train=train,
            validation=validation,
            learning_rate=state.learning_rate,
            seconds=round(state.seconds, 3),
            samples_per_second=round(train.samples / max(state.seconds, 1e-9), 3),
            time=now(),
            attempt=around.store.run.attempt,
            start=around.store.run.start,
            weights=around.store.save_weights(self.task.network, epoch),
        )
        waiting = self._waiting / max(state.seconds, 1e-9)
        self._epoch_seconds.append(state.seconds)
        state.history.append(record)
        state.position, state.seconds = 0, 0.0
        state.sums = Sums.zero(self.task.new_counts())
        around.store.append(record)
        if around.source.poll():
            log.info("the configuration changed: generation %d", self._config.generation)
        state.generation = max(state.generation, self._config.generation)
        around.board.update(
            notify=True,
            epoch=epoch,
            epochs=self._config.training.epochs,
            step=0,
            generation=self._config.generation,
            last=record,
            best=best_of(state.history),
            eta_seconds=self._eta(),
        )
        saved = None
        if epoch % self._config.checkpoint.every_epochs == 0:
            began = time.monotonic()
            self.save()
            saved = time.monotonic() - began
        around.store.retain(state.history, self._config.checkpoint)
        self.on_epoch()
        around.reporter.line(
            epoch_line(
                record,
                epochs=self._config.training.epochs,
                class_names=self.task.class_names,
                waiting=waiting,
                memory=memory_in_use(around.device),
                checkpoint_seconds=saved,
                eta=self._eta(),
            )
        )

    def _eta(self) -> float | None:
        """Seconds left, from the epochs of this start."""
        if not self._epoch_seconds:
            return None
        recent = self._epoch_seconds[-10:]
        each = sum(recent) / len(recent)
        left = self._config.training.epochs - self.state.epoch
        return max(0.0, left * each - self.state.seconds)
