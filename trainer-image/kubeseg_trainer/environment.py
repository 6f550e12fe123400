"""What has to be set before heavy libraries are imported, and how log lines look."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from kubeseg_trainer.recent import RECENT

#: Which process has launched this one as one of several.
ENV_LAUNCHER = "KUBESEG_LAUNCHER"
_PR_SET_PDEATHSIG = 1


class _Stdout(logging.StreamHandler[TextIO]):
    """Writes to what sys.stdout is at the time: a progress bar puts itself in between."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stdout


class _Lines(logging.Formatter):
    def __init__(self, *, times: bool, rank: int) -> None:
        text = f"[rank {rank}] %(message)s" if rank else "%(message)s"
        super().__init__(f"%(asctime)s {text}" if times else text, "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}" if not self.usesTime() else text
        return text


#: Whether one may ask a hub, as it was before we said no for ourselves.
_HUB_OFFLINE = os.environ.get("HF_HUB_OFFLINE")


def hub_environment() -> dict[str, str]:
    """The environment for a process that may ask a hub, unless the user has forbidden it."""
    environment = dict(os.environ)
    environment.pop("HF_HUB_OFFLINE", None)
    if not os.access(Path.home(), os.W_OK):
        # A pod's root file system is read-only: what the hub's libraries cache goes elsewhere.
        environment.setdefault("HF_HOME", str(Path(tempfile.gettempdir()) / "hf"))
        environment.setdefault("TORCH_HOME", str(Path(tempfile.gettempdir()) / "torch"))
    return environment if _HUB_OFFLINE is None else {**environment, "HF_HUB_OFFLINE": _HUB_OFFLINE}


def prepare_environment(*, hub: bool = False) -> None:
    """No network at run time (but for a command that asks a `hub`), threads that get along with
    others, the same numbers each time.
    """
    # Before the imports: hub and update checks would wait for a network.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    if not hub:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    # Threads that wait must not spin: on cores shared with others, or under a CPU quota, they
    # spin away the time that the thread they wait for needs (a step took up to 9 times as long).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # MKL's products of small matrices otherwise differ in the last digit from run to run (a batch
    # of one on small pictures showed it): with it they don't, at the same speed.
    os.environ.setdefault("MKL_CBWR", "AUTO")


def follow_launcher() -> None:
    """End with the process that launched this one, where it was one of ours: nobody else would
    tell a process whose launcher was killed.
    """
    launcher = os.environ.get(ENV_LAUNCHER)
    if launcher is None:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(launcher):
        # It was gone before we asked.
        os.kill(os.getpid(), signal.SIGTERM)


def prepare_logging(*, terminal: bool, stream: TextIO | None = None, rank: int = 0) -> None:
    """One line an event, on stdout or `stream`; with the time where nobody watches. What all ranks
    would say alike, rank 0 says alone.
    """
    handler = _Stdout() if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(_Lines(times=not terminal, rank=rank))
    level = logging.WARNING if rank else logging.INFO
    logging.basicConfig(level=level, handlers=[handler, RECENT], force=True)
    if not terminal:
        # Through a pipe too, each line at once.
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
