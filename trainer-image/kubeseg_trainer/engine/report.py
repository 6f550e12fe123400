"""What a person sees: one line an epoch in a log, and a bar on a terminal."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kubeseg_types.trainer import EpochRecord, Progress

if TYPE_CHECKING:
    # For its type only: it imports torch, which a check of a data set does without.
    from kubeseg_trainer.engine.bar import Bar
    from kubeseg_trainer.engine.state import State

log = logging.getLogger(__name__)

#: Seconds within an epoch after which a log gets a sign of life.
BEAT = 30.0
#: Seconds between two looks at what a bar's notes say: on a GPU each waits for its newest step.
GLANCE = 0.5

Notes = Callable[[], Sequence[str]]


def _no_notes() -> Sequence[str]:
    return ()


def duration(seconds: float) -> str:
    """Seconds as people read them: 41s, 12m, 3h05m."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole}s"
    minutes = round(seconds / 60)
    return f"{minutes}m" if minutes < 100 else f"{minutes // 60}h{minutes % 60:02d}m"


def epoch_line(
    record: EpochRecord,
    *,
    epochs: int,
    class_names: Sequence[str],
    checkpoint_seconds: float | None,
    eta: float | None,
) -> str:
    """The line of one epoch; train/validation where two numbers stand together."""
    train, val = record.train, record.validation
    parts = [
        f"epoch {record.epoch}/{epochs}",
        f"loss {train.loss:.4f}/{val.loss:.4f}",
        f"dice {train.dice:.3f}/{val.dice:.3f}",
        f"iou {val.iou:.3f}",
    ]
    scored = [
        (score, name)
        for score, name in zip(val.class_iou, class_names, strict=False)
        if score is not None
    ]
    if scored:
        score, name = min(scored)
        parts.append(f"worst {name} {score:.2f}")
    parts += [
        f"lr {record.learning_rate:.1e}",
        f"{record.samples_per_second:.3g} img/s",
        *([] if record.waiting is None else [f"data {record.waiting:.0%}"]),
        f"mem {(record.memory_bytes or 0) / 2**30:.1f}G",
    ]
    if checkpoint_seconds is not None:
        parts.append(f"ckpt {checkpoint_seconds:.1f}s")
    if eta is not None:
        parts.append(f"eta {duration(eta)}")
    return "  ".join(parts)


def step_notes(state: State, progress: Progress) -> list[str]:
    """What stands behind the bar of an epoch, the most important first."""
    samples = int(state.sums.samples)
    notes = [f"loss {float(state.sums.loss) / samples:.4f}"] if samples else []
    if progress.eta_seconds is not None:
        notes.append(f"eta {duration(progress.eta_seconds)}")
    if progress.best is not None:
        notes.append(f"best iou {progress.best.validation.iou:.3f} ({progress.best.epoch})")
    if progress.samples_per_second is not None:
        notes.append(f"{progress.samples_per_second:.3g} img/s")
    return notes


def wants_bar() -> bool:
    """Whether stdout is a terminal that a person watches, and that can show a bar."""
    capable = os.environ.get("TERM", "").lower() not in {"", "dumb", "unknown"}
    return sys.stdout.isatty() and capable and not os.environ.get("CI")


class Reporter:
    """Shows how far something is."""

    def __init__(self, *, bar: bool) -> None:
        self._bar: Bar | None = None
        self._text = ""
        self._beat = self._glance = time.monotonic()
        if bar:
            from kubeseg_trainer.engine.bar import Bar

            self._bar = Bar()

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, text: str, done: int, total: int, notes: Notes = _no_notes) -> None:
        """`done` of `total` of what `text` names; `notes` is asked only when they are shown."""
        moment = time.monotonic()
        if self._bar is not None:
            fresh = None
            if text != self._text or moment - self._glance > GLANCE:
                self._glance = moment
                fresh = notes()
            self._bar.show(text, done, total, fresh)
            self._text = text
        elif moment - self._beat > BEAT:
            self._beat = moment
            log.info("%s", "  ".join([f"{text}: {done} of {total}", *notes()]))

    def line(self, text: str) -> None:
        """One line that stays."""
        self._beat = time.monotonic()
        if self._bar is not None:
            self._bar.line(text)
        else:
            log.info("%s", text)
