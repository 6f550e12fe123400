"""The training loop: epochs of steps, validation, records, checkpoints, live edits."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from kubeseg_trainer.engine.decisions import best_of, checkpoint_due, reason_to_end
from kubeseg_trainer.engine.epoch_end import part_of_sums, record_epoch, tell_epoch
from kubeseg_trainer.engine.loading import Loader, epoch_order, plan_steps, steps_per_epoch
from kubeseg_trainer.engine.pace import Pace
from kubeseg_trainer.engine.pictures import PictureBook
from kubeseg_trainer.engine.report import step_notes
from kubeseg_trainer.engine.resume import identity_of, resume_newest
from kubeseg_trainer.engine.saving import Saver
from kubeseg_trainer.engine.state import State
from kubeseg_trainer.engine.steps import Stepper
from kubeseg_trainer.engine.store import tensors_of
from kubeseg_trainer.engine.surroundings import Surroundings
from kubeseg_trainer.engine.task import SampleKey, Sums, Task
from kubeseg_trainer.engine.validate import validate, weights_of_file
from kubeseg_trainer.errors import InterruptionError
from kubeseg_types.status import CheckpointPointer
from kubeseg_types.trainer import EpochRecord, Part, TrainerConfig

log = logging.getLogger(__name__)

#: The parts of the data, as the loader numbers them.
TRAIN, VALIDATION, TEST = 0, 1, 2


class Loop:
    """One training, from where its checkpoint (or nothing) stands to its end."""

    def __init__(self, task: Task, around: Surroundings) -> None:
        self.task = task
        self.around = around
        self.stepper = Stepper(task, around)
        self.state = State(Sums.zero(task.new_counts()), generation=around.source.config.generation)
        pin = around.device.type == "cuda"
        parts = [task.train, task.validation]
        if task.test is not None:
            parts.append(task.test)
        self._loader = Loader(
            parts,
            workers=around.workers,
            pin=pin,
            note=around.board.note,
        )
        self.pace = Pace(len(task.train), len(task.validation))
        self._pictures = PictureBook(around.store.run)
        self._last_saved = time.monotonic()
        #: Of rank 0, which alone writes.
        self.saver = Saver(around.store, around.board)
        #: The checkpoint that this start goes on from.
        self.source: Path | None = None

    # -- beginning ---------------------------------------------------------------------------

    def resume(self) -> str:
        """Go on from the newest whole checkpoint of the run; says where that is."""
        around = self.around
        resumed = resume_newest(
            around.store.run,
            self.task,
            self.stepper,
            self._config,
            around.device,
            group=around.group,
        )
        if resumed is None:
            return "from scratch"
        self.state, found = state, _ = resumed
        self.source = found.path
        self.saver.checkpoint = CheckpointPointer(
            epoch=state.epoch, step=state.step, time=found.time
        )
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
            workers=self.around.group.size,
            class_names=list(self.task.class_names),
            last=history[-1] if history else None,
            best=best_of(history),
            checkpoint=self.saver.checkpoint,
        )

    def reason_to_end(self) -> str | None:
        """Why the training is over where it stands, or None."""
        return reason_to_end(self._config, self.state.history)

    # -- the whole ---------------------------------------------------------------------------

    def fit(self) -> str:
        """Train until there is a reason to end, which is returned.

        InterruptionError after a signal to any rank, with a checkpoint of the last whole step.
        """
        try:
            if self.reason_to_end() is None:
                self.stepper.prepare()
            while (why := self.reason_to_end()) is None:
                self._train_epoch()
                with self.stepper.averaged():
                    validation = self._validate()
                self._finish_epoch(validation)
        except InterruptionError as error:
            if self.around.group.stopped:
                self._finish()
            else:
                # This rank alone, at the beginning: the others hear of it as it leaves.
                self.saver.finish_after(error)
            raise
        except BaseException as error:
            # A signal to the whole process group takes the loader's workers first.
            if self.around.stop.requested and "DataLoader worker" in str(error):
                if self.around.group.size == 1:
                    self._finish()
                self.around.stop.check()
            self.saver.finish_after(error)
            raise
        self._finish()
        return why

    @property
    def _config(self) -> TrainerConfig:
        return self.around.source.config

    def _finish(self) -> None:
        """Have all of the present position on the volume; the others wait for rank 0."""
        if self.state.step > 0:
            self._save_position()
        if self.around.group.leads:
            self.saver.finish(self.state)
        self.around.group.meet()

    def _save_position(self) -> None:
        """Begin to write a checkpoint of the present position, unless there is one (called on all
        ranks: rank 0 gathers the sums, and writes).
        """
        self.stepper.check_finite()
        self.state.sums = self.around.group.gather(self.state.sums)
        if self.around.group.leads:
            self.saver.within_epoch(self.state, tensors=self._tensors(), **self._saved())
        self._last_saved = time.monotonic()
        self.around.watchdog.beat()

    def _tensors(self) -> dict[str, Tensor]:
        return tensors_of(self.task.network, self.stepper.state_tensors(), self.state)

    def _saved(self) -> dict[str, Any]:
        """What every save is handed."""
        return {
            "weights": self.stepper.weights(),
            "identity": {
                **identity_of(self.task, self._config),
                "stepper": self.stepper.identity(),
            },
            "policy": self._config.checkpoint,
        }

    # -- one epoch ---------------------------------------------------------------------------

    def _train_epoch(self) -> None:
        state, training = self.state, self._config.training
        epoch, total = state.epoch + 1, len(self.task.train)
        order = epoch_order(total, seed=training.seed, epoch=epoch)
        steps = plan_steps(
            order,
            position=state.position,
            batch_size=training.batch_size,
            accumulate=self.stepper.accumulate,
            rank=self.around.group.rank,
            ranks=self.around.group.size,
        )
        keys = [[SampleKey(epoch, i) for i in part] for step in steps for part in step.parts]
        per_epoch = steps_per_epoch(total, training.batch_size)
        self.task.network.train()
        self.stepper.waiting = 0.0
        board = self.around.board
        board.update(state="Training", step=0, steps_per_epoch=per_epoch)
        self.pace.begin(state.position)
        batches = self._loader.batches(TRAIN, keys) if keys else iter(())
        for step in steps:
            self.stepper.step(step, batches, state, progress=state.epoch + state.position / total)
            state.seconds += self.pace.step(state.position)
            self.around.milestones.reach("firstStep")
            done = per_epoch - (total - state.position + training.batch_size - 1) // (
                training.batch_size
            )
            board.update(
                step=done,
                samples_per_second=self.pace.samples_per_second,
                eta_seconds=self._eta(),
            )
            self.around.reporter.step(
                f"epoch {epoch}/{training.epochs}",
                done,
                per_epoch,
                lambda: step_notes(state, self.around.board.progress),
            )
            self._between_steps()
        # Waits for a GPU's last step.
        self.stepper.check_finite()
        state.seconds += self.pace.lap()
        self.pace.trained()

    def _between_steps(self) -> None:
        around, policy = self.around, self._config.checkpoint
        around.group.check_stop(around.stop)
        around.store.look()
        since = time.monotonic() - self._last_saved
        due = checkpoint_due(policy, since) and not self.saver.busy
        # Rank 0 says when, for its clock and its disk count.
        if policy.every_seconds is not None and around.group.any(due and around.group.leads):
            self._save_position()

    def _validate(self) -> Sums:
        self.around.group.check_stop(self.around.stop)
        self.around.board.update(state="Validating")
        sums = validate(
            self.task,
            self.around,
            self.stepper,
            self._loader,
            part=VALIDATION,
            total=len(self.task.validation),
            text=f"validation {self.state.epoch + 1}",
        )
        self.pace.validated()
        if self.around.group.leads:
            # With the very network that has just been validated.
            self._pictures.draw(
                self.task,
                self.state.epoch + 1,
                count=self._config.export.samples,
                precision=self.stepper.eagerly,
            )
        return sums

    def evaluate_test(self, weights: Path) -> Part:
        """Metrics of the task's test part with the weights file; the network stays as it is."""
        test = self.task.test
        assert test is not None
        with weights_of_file(self.task.network, weights):
            sums = validate(
                self.task,
                self.around,
                self.stepper,
                self._loader,
                part=TEST,
                total=len(test),
                text="test",
            )
        return part_of_sums(self.task, sums)

    def _finish_epoch(self, validation: Sums) -> None:
        state, around = self.state, self.around
        around.store.look()
        state.sums = around.group.total(state.sums)
        record = record_epoch(
            self.task,
            around,
            state,
            validation,
            stepper=self.stepper,
            pace=self.pace,
            samples=self._pictures.newest,
        )
        if around.group.leads and around.source.poll():
            log.info("the configuration changed: generation %d", self._config.generation)
        self.share_config()
        config = self._config
        state.generation = max(state.generation, config.generation)
        if around.group.leads:
            around.group.share(record.to_dict())
            self._save_epoch(record)
        else:
            # With rank 0's times: the history is the same everywhere.
            state.history[-1] = EpochRecord.model_validate(around.group.share(None))
            around.board.update(
                epoch=record.epoch,
                epochs=config.training.epochs,
                generation=config.generation,
                last=state.history[-1],
                best=best_of(state.history),
            )
            around.watchdog.beat()
            self.pace.finished()

    def share_config(self) -> None:
        """Follow rank 0's configuration on all ranks."""
        source, group = self.around.source, self.around.group
        shared = group.share(source.config.to_dict() if group.leads else None)
        if not group.leads:
            source.config = TrainerConfig.model_validate(shared)

    def _save_epoch(self, record: EpochRecord) -> None:
        """Write the epoch that has just ended, and tell of it."""
        state, around, config = self.state, self.around, self._config
        due = record.epoch % config.checkpoint.every_epochs == 0
        still = self.saver.stood_still
        self.saver.epoch(
            state,
            tensors=self._tensors() if due else None,
            told={
                "epochs": config.training.epochs,
                "generation": config.generation,
                "waiting": record.waiting,
                "memory_bytes": record.memory_bytes,
                "eta_seconds": self._eta(),
            },
            **self._saved(),
        )
        if due:
            self._last_saved = time.monotonic()
        around.watchdog.beat()
        self._pictures.thin(state.history)
        self.pace.finished()
        still = self.saver.stood_still - still
        tell_epoch(self.task, around, state, checkpoint_seconds=still, eta=self._eta())

    def _eta(self) -> float | None:
        """Seconds left, as far as can be told."""
        left = self._config.training.epochs - self.state.epoch
        return self.pace.left(epochs=left, position=self.state.position)
