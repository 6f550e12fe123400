"""What a TrainingJob's status says, as lines for people. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kubeseg_local.demo.screen import bar, duration, sparkline
from kubeseg_types.status import EpochMetrics, Phase, TrainingJobStatus

Job = dict[str, Any]
INDENT = " " * 11


@dataclass
class Follower:
    """Takes a TrainingJob as often as it changes, and says how its training stands."""

    history: dict[int, float] = field(default_factory=dict)
    _told: int = -1
    _held_up: str = ""

    def take(self, job: Job) -> TrainingJobStatus:
        """The status, its last epoch kept for the sparkline."""
        status = TrainingJobStatus.model_validate(job.get("status") or {})
        last = status.metrics.last if status.metrics else None
        if last is not None and last.val_iou is not None:
            self.history[last.epoch] = last.val_iou
        return status

    def epoch_line(self, status: TrainingJobStatus) -> str | None:
        """A line for an epoch that has ended since the last one was told, or None."""
        last = status.metrics.last if status.metrics else None
        if last is None or last.epoch <= self._told:
            return None
        self._told = last.epoch
        epochs = status.progress.epochs if status.progress else 0
        return f"  epoch {last.epoch:>3}/{epochs}  {numbers(last)}  {_eta(status, 0)}".rstrip()

    def hold_line(self, status: TrainingJobStatus) -> str | None:
        """A line where a training that had begun no longer runs (suspended, blocked, retried), or
        runs again; None where that is as it was.
        """
        words = f"{status.phase}   {obstacle(status)}".rstrip() if _held_up(status) else ""
        if words == self._held_up:
            return None
        self._held_up = words
        return f"  {words or 'goes on'}"

    def live_text(self, status: TrainingJobStatus, waited_s: float) -> str:
        """What is redrawn, one or two lines; `waited_s` seconds after `status` was received."""
        progress, metrics = status.progress, status.metrics
        if progress is None or not progress.epochs:
            return f"{status.phase or 'Pending'}   {obstacle(status)}".rstrip()
        text = f"epoch {progress.epoch:>2}/{progress.epochs} {bar(_share(status, waited_s))}"
        if metrics is None or metrics.last is None:
            return f"{text}  {status.phase}  {obstacle(status)}".rstrip()
        values = [self.history[epoch] for epoch in sorted(self.history)]
        pace = obstacle(status) if _held_up(status) else _eta(status, waited_s)
        text += f"  {pace}\n{INDENT}{numbers(metrics.last)} {sparkline(values)}"
        best = metrics.best
        if best is not None and best.val_iou is not None:
            text += f"  best {best.val_iou:.2f} ({best.epoch})"
        return text


def numbers(metrics: EpochMetrics) -> str:
    """Losses, Dice and IoU of an epoch: "loss 0.512/0.655  val Dice 0.80 IoU 0.71"."""

    def number(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    losses = f"{number(metrics.train_loss, 3)}/{number(metrics.val_loss, 3)}"
    return f"loss {losses}  val Dice {number(metrics.val_dice, 2)} IoU {number(metrics.val_iou, 2)}"


def _held_up(status: TrainingJobStatus) -> bool:
    """Whether a training with epochs done waits for something or somebody."""
    begun = status.metrics is not None and status.metrics.last is not None
    return begun and status.phase not in {Phase.RUNNING, Phase.STARTING} and not is_finished(status)


def _share(status: TrainingJobStatus, waited_s: float) -> float:
    progress = status.progress
    assert progress is not None
    whole = progress.epochs or 1
    done = progress.epoch / whole
    if progress.eta_seconds and progress.epoch and not _held_up(status):
        # Between two epochs the bar goes on at the pace of those before.
        done += (1 - done) * min(1.0, waited_s / progress.eta_seconds)
        done = min(done, (progress.epoch + 1) / whole)
    return done


def _eta(status: TrainingJobStatus, waited_s: float) -> str:
    progress = status.progress
    if progress is None or progress.eta_seconds is None or progress.epoch >= progress.epochs:
        return ""
    return f"{duration(max(1.0, progress.eta_seconds - waited_s))} left"


def is_finished(status: TrainingJobStatus) -> bool:
    """Whether the training is over, well or not."""
    return status.phase in {Phase.SUCCEEDED, Phase.FAILED}


def obstacle(status: TrainingJobStatus) -> str:
    """The operator's own words on what holds the job up, or what failed."""
    for kind in ("Failed", "Blocked", "Running"):
        for condition in status.conditions:
            wanted = "False" if kind == "Running" else "True"
            if condition.type == kind and condition.status == wanted:
                return f"{condition.reason}: {condition.message}"
    return ""
