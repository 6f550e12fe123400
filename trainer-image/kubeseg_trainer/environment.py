"""What has to be set before heavy libraries are imported, and how log lines look."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO


class _Stdout(logging.StreamHandler[TextIO]):
    """Writes to what sys.stdout is at the time: a progress bar puts itself in between."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stdout


class _Lines(logging.Formatter):
    def __init__(self, *, times: bool) -> None:
        super().__init__("%(asctime)s %(message)s" if times else "%(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}" if not self.usesTime() else text
        return text


def prepare_environment() -> None:
    """No network at run time, threads that get along with others, the same numbers each time."""
    # Before the imports: hub and update checks would wait for a network.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    # Threads that wait must not spin: on cores shared with others, or under a CPU quota, they
    # spin away the time that the thread they wait for needs (a step took up to 9 times as long).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # MKL's products of small matrices otherwise differ in the last digit from run to run (a batch
    # of one on small pictures showed it): with it they don't, at the same speed.
    os.environ.setdefault("MKL_CBWR", "AUTO")


def prepare_logging(*, terminal: bool) -> None:
    """One line an event, on stdout; with the time where nobody watches."""
    handler = _Stdout()
    handler.setFormatter(_Lines(times=not terminal))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    if not terminal:
        # Through a pipe too, each line at once.
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
