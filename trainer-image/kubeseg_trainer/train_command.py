"""`kubeseg-trainer train`: from the command line to the exit code."""

from __future__ import annotations

import logging
import os
import time

from kubeseg_trainer.config import read_config
from kubeseg_trainer.ending import Ending, leave
from kubeseg_trainer.engine.group import ALONE, Group
from kubeseg_trainer.engine.peers import Loss
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.errors import PeerError, StorageError, ending_of
from kubeseg_trainer.placement import placement_of
from kubeseg_trainer.session import Session, TrainOptions
from kubeseg_trainer.tasks import TaskKind, task_kind
from kubeseg_types.exit_codes import ExitCode

log = logging.getLogger(__name__)

#: Seconds that a process has to end by itself, and to write what it was writing, when another one
#: has gone.
PEER_GRACE = 10.0


class _Start:
    """What there is of a start at any moment, so that it can be closed from there."""

    def __init__(self, options: TrainOptions, stop: StopRequest, kind: TaskKind) -> None:
        self._options = options
        self._stop = stop
        self._kind = kind
        self.group: Group = ALONE
        self.session: Session | None = None

    def run(self) -> str:
        """Train; returns how it went."""
        config = read_config(self._options.config)
        place = placement_of(os.environ)
        if place is not None:
            # It imports torch, which a single process does beside the look at its data.
            from kubeseg_trainer.engine.rendezvous import join

            self.group = join(place, self._stop, self._lost)
        self.session = Session(self._options, self._stop, config, group=self.group, kind=self._kind)
        return self.session.train()

    def close(self, ending: Ending) -> None:
        """Leave the outcome everywhere that someone looks for it."""
        if self.session is not None:
            self.session.close(ending)
        else:
            self.group.leave(ending.code, ending.text)
            leave(ending, None, None, None, self._options.termination_log)

    def _lost(self, loss: Loss) -> None:
        """End with another process. The main thread may be computing, or in a collective that
        never returns: it gets a moment to notice, no more.
        """
        time.sleep(PEER_GRACE)
        self.close(Ending(loss.code, loss.sentence))
        os._exit(loss.code)


def train(options: TrainOptions, stop: StopRequest, kind: TaskKind | None = None) -> int:
    """Run one start of an attempt to its end; returns the exit code.

    The one place where whatever went wrong becomes an exit code, a sentence and a record.
    """
    start = _Start(options, stop, kind or task_kind())
    try:
        ending = Ending(ExitCode.SUCCESS, start.run())
        stop.over()
    except BaseException as error:
        stop.over()
        code, text = ending_of(error)
        session = start.session
        trouble = isinstance(error, OSError | StorageError)
        if session is not None and trouble and session.run.newer():
            # A newer start tidies up after us: what we then trip over is no failure.
            code, text = ExitCode.SUPERSEDED, f"a newer start of this run took over: {text}"
        if code == ExitCode.ERROR and not isinstance(error, PeerError):
            log.exception("unexpected end")
        ending = Ending(code, text)
        start.close(ending)
        if isinstance(error, PeerError):
            # What is left of the connections may wait for the other for ever.
            os._exit(code)
    else:
        start.close(ending)
    return int(ending.code)
