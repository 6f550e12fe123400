"""The wish to stop: SIGTERM, or SIGINT."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType

from kubeseg_trainer.errors import InterruptionError

log = logging.getLogger(__name__)

#: What a training says as soon as a signal comes.
STOPPING = "stopping: what is trained gets a checkpoint (Ctrl-C again: at once, without)"


class StopRequest:
    """Set by a signal, looked at between the parts of the work."""

    def __init__(self, said: str = "") -> None:
        self._event = threading.Event()
        #: Wakes the thread that says it.
        self._news = threading.Event()
        self._name = ""
        self._said = said
        self._installed = self._over = False

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._event.is_set()

    def install(self) -> None:
        """Take over SIGTERM and SIGINT; a second SIGINT breaks off at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)
        self._installed = True
        if self._said:
            # Not by the handler: it may have interrupted the log in the middle of a line.
            threading.Thread(target=self._say, daemon=True, name="signals").start()

    def over(self) -> None:
        """The outcome is known: no signal changes it any more.

        Ignored rather than handled, since Python takes its handlers away before its very end.
        """
        self._over = True
        self._news.set()
        if self._installed:
            ignore_signals()

    def _say(self) -> None:
        self._news.wait()
        if not self._over:
            log.info("%s", self._said)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._name = signal.Signals(number).name
        self._event.set()
        self._news.set()

    def check(self) -> None:
        """InterruptionError where a signal has come."""
        if self._event.is_set():
            raise InterruptionError(f"interrupted by {self._name}")

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until a signal; InterruptionError then."""
        self._event.wait(seconds)
        self.check()


def ignore_signals() -> None:
    """Let SIGTERM and SIGINT do nothing from here on, even while Python is shutting down."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
