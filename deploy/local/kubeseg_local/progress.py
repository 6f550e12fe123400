"""How far a long step is: a line that redraws itself on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

EVERY_S = 5.0
# Less than this, and the first parts say nothing about the others.
LEAST_SHARE, LEAST_S = 0.03, 5.0


def eta_text(done: int, total: int, elapsed_s: float) -> str:
    """What is left, in words: empty while there is too little to judge by."""
    if done < total * LEAST_SHARE or done >= total or elapsed_s < LEAST_S:
        return ""
    left = elapsed_s * (total - done) / done
    if left < 60:
        return f"about {max(5, round(left / 5) * 5)}s left"
    minutes, half = divmod(round(left / 30), 2)
    return f"about {minutes}m{30 * half:02d}s left"


class Progress:
    """Tells of one long step. `say` gets each line; without it, standard error does."""

    def __init__(self, title: str, say: Callable[[str], None] | None = None) -> None:
        self._title = title
        self._say = say
        self._terminal = say is None and sys.stderr.isatty()
        self._started = time.monotonic()
        self._told = 0.0
        self._first_step: float | None = None

    def note(self, text: str) -> None:
        """A sentence about what happens now."""
        self._put(f"{self._title}: {text}", keep=True)

    def step(self, done: int, total: int) -> None:
        """`done` of `total` parts are ready; told at most every few seconds."""
        now = time.monotonic()
        # What came before, like a download, is no measure of the steps.
        self._first_step = now if self._first_step is None else self._first_step
        if now - self._told < (0.2 if self._terminal else EVERY_S):
            return
        self._told = now
        share = min(0.99, done / total) if total else 0.0
        bar = "█" * round(20 * share) + "░" * (20 - round(20 * share))
        left = "linking" if done >= total else eta_text(done, total, now - self._first_step)
        self._put(f"{self._title}  {bar} {100 * share:3.0f} %  {left}", keep=not self._terminal)

    def done(self) -> None:
        """The step is over."""
        seconds = round(time.monotonic() - self._started)
        self._put(f"{self._title}: done in {seconds // 60}m{seconds % 60:02d}s", keep=True)

    def _put(self, text: str, *, keep: bool) -> None:
        if self._say is not None:
            self._say(text)
        elif self._terminal:
            print(f"\r\033[K{text}", end="\n" if keep else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)
