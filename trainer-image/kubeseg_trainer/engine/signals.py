"""The wish to stop: SIGTERM, or SIGINT."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from kubeseg_trainer.errors import InterruptionError


class StopRequest:
    """Set by a signal, looked at between the parts of the work."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._name = ""

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._event.is_set()

    def install(self) -> None:
        """Take over SIGTERM and SIGINT; a second SIGINT breaks off at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._name = signal.Signals(number).name
        self._event.set()

    def check(self) -> None:
        """InterruptionError where a signal has come."""
        if self._event.is_set():
            raise InterruptionError(f"interrupted by {self._name}")

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until a signal; InterruptionError then."""
        self._event.wait(seconds)
        self.check()
