"""Looks now and then for a newer start of the same run."""

from __future__ import annotations

import time

from kubeseg_trainer.run_directory import RunDirectory

#: Seconds between two looks: one listing of a small folder.
EVERY = 2.0


class Lookout:
    """Asked often, looks seldom; from any thread."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._last = time.monotonic()

    def check(self) -> None:
        """SupersededError where a newer start is there, seen within `EVERY` seconds."""
        if time.monotonic() - self._last >= EVERY:
            self.look()

    def look(self) -> None:
        """SupersededError where a newer start is there."""
        self._last = time.monotonic()
        self._run.not_superseded()
