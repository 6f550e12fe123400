"""The demo's lines: one for each step, redrawn while it runs on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

BEAT_S = 10.0
SPARKS = "▁▂▃▄▅▆▇█"
BAR_WIDTH = 20
NAME_WIDTH = 8


def duration(seconds: float) -> str:
    """`9 s`, `1m20s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}m{whole % 60:02d}s"


def bar(share: float) -> str:
    """A bar of 20 characters for a share from 0 to 1."""
    full = int(BAR_WIDTH * min(1.0, max(0.0, share)))
    return "█" * full + "░" * (BAR_WIDTH - full)


def sparkline(values: list[float], width: int = 24) -> str:
    """The last values, each from 0 to 1, as a row of little bars."""
    return "".join(SPARKS[min(7, max(0, int(8 * value)))] for value in values[-width:])


class Step:
    """A step under way: say what it does now, and what came of it."""

    def __init__(self, screen: Screen, name: str) -> None:
        self._screen = screen
        self.name = name
        self.result = ""

    def say(self, text: str) -> None:
        """What happens now."""
        self._screen.present(self.name, text)


class Screen:
    """Where the demo prints. Lines are redrawn on a terminal that is no CI's."""

    def __init__(self) -> None:
        live = sys.stdout.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"
        self.live = live
        self._console = Console(
            highlight=False, soft_wrap=not live, force_terminal=live, no_color=not live or None
        )
        self._live: Live | None = None
        self._told = time.monotonic()
        self._last = ""

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Run a step; its line ends with the time it took and a tick, or with a cross."""
        begun = self._told = time.monotonic()
        step = Step(self, name)
        with self._drawing():
            try:
                yield step
            except BaseException:
                self._end_live()
                self._finish(name, step.result or "not done", begun, well=False)
                raise
        self._finish(name, step.result, begun, well=True)

    def _finish(self, name: str, text: str, begun: float, *, well: bool) -> None:
        spent = time.monotonic() - begun
        line = Text(f"● {name:{NAME_WIDTH}} {text}   ")
        line.append(f"{duration(spent)} " if spent >= 0.95 else "")
        line.append("✓" if well else "✗", "green" if well else "red")
        self._console.print(line)

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        if self.live:
            self._live = Live(console=self._console, transient=True, refresh_per_second=8)
            self._live.start()
        try:
            yield
        finally:
            self._end_live()

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def present(self, name: str, text: str) -> None:
        """Redraw a step's line; without a terminal print it now and then, when it changed."""
        line = f"● {name:{NAME_WIDTH}} {text}"
        if self._live is not None:
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))
        elif time.monotonic() - self._told > BEAT_S and line != self._last:
            self._told, self._last = time.monotonic(), line
            self.line(line)

    def line(self, text: str = "", style: str = "") -> None:
        """A line that stays."""
        self._console.print(Text(text, style))
