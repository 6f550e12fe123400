"""Shows several long steps at once: redrawn lines on a terminal, else a line now and then.

Only the standard library.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

BEAT_S = 10.0


def is_live(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether lines may be redrawn: a terminal that is no CI's and no dumb one."""
    return stream.isatty() and not environment.get("CI") and environment.get("TERM") != "dumb"


def duration(seconds: float) -> str:
    """`9 s`, `1m20s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}m{whole % 60:02d}s"


def bar(done: int, total: int, width: int = 20) -> str:
    """A bar of `width` characters."""
    full = min(width, width * done // total) if total else 0
    return "█" * full + "░" * (width - full)


def left(done: int, total: int, elapsed_s: float) -> str:
    """What is left, in words; empty while there is too little to judge by."""
    if done <= 0 or done >= total or elapsed_s < 5:
        return ""
    return f"about {duration(max(5.0, 5 * round(elapsed_s * (total - done) / done / 5)))} left"


class Board:
    """Lines by name, in the order in which they were first shown."""

    def __init__(
        self,
        stream: TextIO = sys.stdout,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._live = is_live(stream, environment)
        self._colour = self._live and not environment.get("NO_COLOR")
        self._clock = clock
        self._lines: dict[str, str] = {}
        self._drawn = 0
        self._told: dict[str, float] = {}

    def show(self, name: str, text: str) -> None:
        """The present state of the step `name`."""
        now = self._clock()
        self._lines[name] = text
        if self._live:
            self._draw()
        elif now - self._told.get(name, float("-inf")) >= BEAT_S:
            self._told[name] = now
            self._print(name, text)

    def finish(self, name: str, text: str, *, ok: bool) -> None:
        """The step `name` is over: its line stays, with a tick or a cross."""
        self._lines.pop(name, None)
        self._erase()
        mark = "✓" if ok else "✗"
        if self._colour:
            mark = f"\033[{32 if ok else 31}m{mark}\033[0m"
        self._print(name, f"{text} {mark}")
        self._draw()

    def close(self) -> None:
        """Remove what is still redrawn, so that other output can follow."""
        self._erase()
        self._lines.clear()

    def _print(self, name: str, text: str) -> None:
        print(f"● {name:8} {text}", file=self._stream, flush=True)

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\033[{self._drawn}A\033[J")
            self._drawn = 0

    def _draw(self) -> None:
        if not self._live:
            return
        self._erase()
        # A line that wraps would be counted as one and not be erased.
        width = os.get_terminal_size(self._stream.fileno()).columns - 1
        for name, text in self._lines.items():
            self._stream.write(f"● {name:8} {text}"[:width] + "\n")
        self._drawn = len(self._lines)
        self._stream.flush()
