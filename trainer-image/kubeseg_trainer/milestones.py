"""When a process reached what: for run.json's `timings`."""

from __future__ import annotations

import os
import time
from pathlib import Path

_IMPORTED = time.monotonic()
#: In /proc/<pid>/stat, after the command's name: ticks from boot to the start of the process.
_START_TIME = 19


def process_age() -> float:
    """Seconds since this process began, or, without /proc, since this module was imported."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began = int(fields[_START_TIME]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic() - _IMPORTED


class Milestones:
    """Seconds from the start of the process to each milestone."""

    def __init__(self) -> None:
        self.reached: dict[str, float] = {}

    def reach(self, name: str, *, again: bool = False) -> None:
        """`name` is reached now; only the first time counts, or with `again` the last."""
        if again or name not in self.reached:
            self.reached[name] = round(process_age(), 3)
