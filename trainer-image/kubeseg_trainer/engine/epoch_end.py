"""What is written and told at the end of an epoch."""

from __future__ import annotations

from kubeseg_trainer.engine.hardware import memory_in_use
from kubeseg_trainer.engine.pace import Pace
from kubeseg_trainer.engine.report import epoch_line
from kubeseg_trainer.engine.state import State
from kubeseg_trainer.engine.steps import Stepper
from kubeseg_trainer.engine.surroundings import Surroundings
from kubeseg_trainer.engine.task import Sums, Task
from kubeseg_trainer.files import now
from kubeseg_types.trainer import EpochRecord, Part


def part_of_sums(task: Task, sums: Sums) -> Part:
    """The metrics of summed counts."""
    return task.part(float(sums.loss), sums.counts.cpu(), int(sums.samples))


def record_epoch(
    task: Task,
    around: Surroundings,
    state: State,
    validation: Sums,
    *,
    stepper: Stepper,
    pace: Pace,
    samples: str | None,
) -> EpochRecord:
    """Add the epoch that `state` has reached the end of to its history, yet without a weights
    file; `state` then begins the next. `samples`: folder with its pictures.
    """
    epoch = state.epoch + 1
    training = around.source.config.training
    train = part_of_sums(task, state.sums)
    seconds = max(state.seconds, 1e-9)
    record = EpochRecord(
        epoch=epoch,
        step=state.step,
        train=train,
        validation=part_of_sums(task, validation),
        learning_rate=state.learning_rate,
        seconds=round(state.seconds, 3),
        samples_per_second=round(train.samples / seconds, 3),
        validation_seconds=_rounded(pace.validation_seconds, 3),
        time=now(),
        attempt=around.store.run.attempt,
        start=around.store.run.start,
        # A start that only validates has not waited for anything.
        waiting=_rounded(_share_waited(stepper, pace), 4),
        memory_bytes=int(memory_in_use(around.device)),
        batch_size=training.batch_size,
        accumulate=stepper.accumulate,
        samples=samples,
    )
    state.begin_epoch(record, Sums.zero(task.new_counts()))
    return record


def _share_waited(stepper: Stepper, pace: Pace) -> float | None:
    return min(1.0, stepper.waiting / pace.seconds) if pace.samples_per_second else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def tell_epoch(
    task: Task,
    around: Surroundings,
    state: State,
    *,
    checkpoint_seconds: float | None,
    eta: float | None,
) -> None:
    """The newest epoch's line on the terminal or in the log, and what goes to the loggers."""
    around.reporter.line(
        epoch_line(
            state.history[-1],
            epochs=around.source.config.training.epochs,
            class_names=task.class_names,
            checkpoint_seconds=checkpoint_seconds,
            eta=eta,
        )
    )
    for logger in around.loggers:
        logger.log(state.history)
