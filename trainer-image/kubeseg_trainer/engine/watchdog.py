"""Ends a trainer that no longer gets anywhere."""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Calls `stalled` when `beat` was not called for `limit` seconds."""

    def __init__(self, limit: float, stalled: Callable[[float], None]) -> None:
        self._limit = limit
        self._stalled = stalled
        self._last = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def beat(self) -> None:
        """Something has been done."""
        self._last = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Not watching: whoever is waited for is watched itself."""
        limit, self._limit = self._limit, float("inf")
        try:
            yield
        finally:
            self.beat()
            self._limit = limit

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._limit / 4)):
            silent = time.monotonic() - self._last
            if silent > self._limit:
                # Where every thread stands: the one thing that explains a stall afterwards.
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                self._stalled(silent)
                return
