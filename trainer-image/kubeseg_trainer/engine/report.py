"""What a person sees: one line an epoch in a log, a bar on a terminal."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from kubeseg_types.trainer import EpochRecord

log = logging.getLogger(__name__)

#: Seconds within an epoch after which a log gets a sign of life.
BEAT = 30.0


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
    waiting: float,
    memory: float,
    checkpoint_seconds: float | None,
    eta: float | None,
) -> str:
    """The line of one epoch; train/validation where two numbers stand together.

    `waiting` is the share of time spent waiting for data, `memory` in bytes.
    """
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
        f"data {waiting:.0%}",
        f"mem {memory / 2**30:.1f}G",
    ]
    if checkpoint_seconds is not None:
        parts.append(f"ckpt {checkpoint_seconds:.1f}s")
    if eta is not None:
        parts.append(f"eta {duration(eta)}")
    return "  ".join(parts)


def wants_bar() -> bool:
    """Whether stdout is a terminal that a person watches."""
    return sys.stdout.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"


class Reporter:
    """Shows how far something is."""

    def __init__(self, *, bar: bool) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._text = ""
        self._beat = time.monotonic()
        if bar:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.progress import TimeElapsedColumn as Elapsed

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                Elapsed(),
                TextColumn("{task.fields[note]}"),
                # rich honours NO_COLOR itself.
                console=Console(file=sys.stdout),
                transient=True,
            )

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

    def step(self, text: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` of what `text` names."""
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task(text, total=total, note=note)
            if text != self._text:
                self._bar.reset(self._task, total=total, description=text)
            self._text = text
            self._bar.update(self._task, completed=done, total=total, note=note)
        elif time.monotonic() - self._beat > BEAT:
            self._beat = time.monotonic()
            log.info("%s: %d of %d  %s", text, done, total, note)

    def line(self, text: str) -> None:
        """One line that stays."""
        self._beat = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            log.info("%s", text)
