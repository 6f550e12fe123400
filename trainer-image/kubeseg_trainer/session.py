"""One start of one attempt: what it prepares, trains, exports and leaves behind."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeseg_trainer.completion import Completion
from kubeseg_trainer.config import LOCAL_UID, ConfigSource
from kubeseg_trainer.ending import Ending, leave
from kubeseg_trainer.engine.board import Board
from kubeseg_trainer.engine.group import Group
from kubeseg_trainer.engine.loggers.logger import EpochLogger
from kubeseg_trainer.engine.report import Reporter
from kubeseg_trainer.engine.server import Server
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.engine.watchdog import Watchdog
from kubeseg_trainer.milestones import Milestones, process_age
from kubeseg_trainer.recent import RECENT
from kubeseg_trainer.recorder import Recorder
from kubeseg_trainer.run_directory import known_run, open_run
from kubeseg_trainer.tasks import TaskKind
from kubeseg_types.base import duration_seconds
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.trainer import TrainerConfig

if TYPE_CHECKING:
    from kubeseg_trainer.engine.loop import Loop

log = logging.getLogger(__name__)

#: Characters of the log that go into the words about a stall.
_LAST_LINES = 300
_NOWHERE = "where this start began"
#: Seconds that a trainer with an older configuration than its checkpoint waits for the newer.
GENERATION_WAIT = 30.0


@dataclass(frozen=True)
class TrainOptions:
    """The command line of `train`."""

    config: Path
    workspace: Path
    address: str
    #: None: no server.
    port: int | None
    termination_log: Path
    bar: bool
    #: Folder on this node for the decoded cache; None: the user's own.
    scratch: Path | None = None


class Session:
    """One start of one attempt, as one of the processes of `group`."""

    def __init__(
        self,
        options: TrainOptions,
        stop: StopRequest,
        config: TrainerConfig,
        *,
        group: Group,
        kind: TaskKind,
    ) -> None:
        self._options = options
        self._stop = stop
        self.milestones = Milestones()
        self.milestones.reach("begun")
        self._closing = threading.Lock()
        self._ending: Ending | None = None
        self.group = group
        self._kind = kind
        root, job, uid = options.workspace, config.job, config.uid
        if group.leads:
            attempt = None if config.uid == LOCAL_UID else config.attempt
            self.run = open_run(root, job=job, uid=uid, attempt=attempt)
            group.share([self.run.attempt, self.run.start])
        else:
            number, start = group.share(None)
            self.run = known_run(root, job=job, uid=uid, attempt=number, start=start)
        config = config.model_copy(update={"attempt": self.run.attempt})
        self.source = ConfigSource(options.config, config)
        self.board = Board(config, attempt=self.run.attempt, start=self.run.start)
        self.server: Server | None = None
        self._loggers: Sequence[EpochLogger] = ()
        self._recorder = Recorder(self.run, group, self.source, self.board, self.milestones)
        limit = duration_seconds(config.training.stall_timeout)
        self.watchdog = Watchdog(limit, self._stalled)

    # -- the run -----------------------------------------------------------------------------

    def train(self) -> str:
        """Train, export, and say why it ended."""
        options = self._options
        if options.port is not None and self.group.local_rank == 0:
            # In the other pods for the probe only.
            self.server = Server(
                options.address, options.port, self.board, probe_only=not self.group.leads
            )
            self.server.start()
        self.run.not_superseded()
        self._recorder.write()
        config = self.source.config
        where = f"  {self.server.url}" if self.server else ""
        log.info("%s attempt %s  %s%s", config.job, self.run.name, self.run.folder, where)
        self.watchdog.start()
        with Reporter(bar=options.bar) as reporter:
            return self._fit(self._prepare(reporter))

    def _prepare(self, reporter: Reporter) -> Loop:
        """Look at the data set in threads while torch is imported: both take seconds."""
        with ThreadPoolExecutor(1) as pool:
            scan = pool.submit(self._scan, reporter)
            from kubeseg_trainer.assembly import assemble, refuse_early

            self.milestones.reach("imports")
            self._stop.check()
            if not scan.done():
                # A large data set: what can't work at all is refused before its scan is over.
                config = self.source.config
                refuse_early(self._kind, config, self.run, self.group, self._beat)
            examined = scan.result()
        for text in self._kind.warnings(examined) if self.group.leads else ():
            log.warning("%s", text)
        self._stop.check()
        loop = assemble(
            examined,
            self._kind,
            group=self.group,
            source=self.source,
            run=self.run,
            board=self.board,
            reporter=reporter,
            stop=self._stop,
            watchdog=self.watchdog,
            milestones=self.milestones,
            scratch=self._options.scratch,
        )
        self.milestones.reach("networkBuilt")
        return loop

    def _beat(self) -> None:
        self._stop.check()
        self.watchdog.beat()

    def _scan(self, reporter: Reporter) -> Any:
        def progress(done: int, total: int) -> None:
            self._stop.check()
            self.watchdog.beat()
            reporter.step("checking the data set", done, total)

        examined = self._kind.examine(
            self.run.workspace,
            self.source.config,
            progress=progress,
            report_folder=self.run.base if self.group.leads else None,
        )
        self.milestones.reach("dataChecked")
        return examined

    def _fit(self, loop: Loop) -> str:
        from kubeseg_trainer.engine.hardware import describe

        store = loop.around.store
        self._loggers = loop.around.loggers
        resumed = loop.resume()
        self.milestones.reach("resumed")
        if self.group.leads:
            self._await_generation(loop)
            self.run.not_superseded()
            store.start_history(loop.state.history, loop.source)
        loop.share_config()
        self._recorder.keep(
            class_names=list(loop.task.class_names),
            versions=_versions(self._kind),
            hardware=describe(loop.around.device) | {"processes": self.group.size},
        )
        loop.saver.on_epoch = self._epoch_ended
        loop.show()
        self._recorder.write()
        log.info(
            "%s  %d training images, %d validation, %d classes  ready after %.1fs",
            resumed,
            len(loop.task.train),
            len(loop.task.validation),
            len(loop.task.class_names),
            process_age(),
        )
        completion = Completion(loop, self.run, self._recorder, self.milestones, self._beat)
        while True:
            why = loop.fit()
            self.milestones.reach("trained", again=True)
            self.board.update(state="Saving")
            self.watchdog.beat()
            outcome = completion.reach(why)
            if outcome is not None:
                text = f"{why}; {outcome}"
                again = self.source.poll() and loop.reason_to_end() is None
                self.group.share([again, text])
            else:
                with self.watchdog.paused():
                    again, text = self.group.share(None)
            loop.share_config()
            if not again:
                return str(text)
            log.info("the configuration changed: generation %d", self.source.config.generation)

    def _epoch_ended(self) -> None:
        self.milestones.reach("firstEpoch")
        self._recorder.write()

    def _await_generation(self, loop: Loop) -> None:
        """Give the newer configuration, which the checkpoint knew of, time to arrive."""
        known = loop.state.generation
        deadline = time.monotonic() + GENERATION_WAIT
        while self.source.config.generation < known:
            if time.monotonic() > deadline:
                log.warning(
                    "the configuration is of generation %d, the checkpoint knew %d, and it did not "
                    "come within %.0f s: going on with what is there",
                    self.source.config.generation,
                    known,
                    GENERATION_WAIT,
                )
                return
            self._stop.wait(0.2)
            self.watchdog.beat()
            self.source.poll()

    # -- the end -----------------------------------------------------------------------------

    def _stalled(self, silent: float) -> None:
        limit = self.source.config.training.stall_timeout
        words = stall_words(silent, limit, begun="firstStep" in self.milestones.reached)
        text = f"{words}{_place()}. Its last lines: {RECENT.text(_LAST_LINES)}"
        self.close(Ending(ExitCode.STALLED, text))
        # The thread that hangs can't be asked to end.
        os._exit(ExitCode.STALLED)

    def close(self, ending: Ending) -> None:
        """Leave the outcome everywhere that someone looks for it; the first one counts."""
        with self._closing:
            if self._ending is not None:
                return
            ending = self._ending = self._with_way_on(ending)
            self.watchdog.stop()
            self.group.leave(ending.code, ending.text)
            self.milestones.reach("ended", again=True)
            self._recorder.keep(timings=dict(self.milestones.reached))
            self.board.update(notify=True, state="Finished")
            run, record = self.run if self.group.leads else None, self._recorder.record
            leave(ending, run, record, self.board.progress, self._options.termination_log)
            for logger in self._loggers:
                # A newer start is at work: the run has not ended.
                logger.close("Running" if ending.code == ExitCode.SUPERSEDED else ending.state)
            if self.server is not None:
                self.server.stop()

    def _with_way_on(self, ending: Ending) -> Ending:
        """An interruption with where the run goes on, which rank 0 knows."""
        if ending.code != ExitCode.INTERRUPTED or not self.group.leads:
            return ending
        point = self.board.progress.checkpoint
        where = f"from epoch {point.epoch}, step {point.step}" if point else _NOWHERE
        who = "the same command" if self.source.config.uid == LOCAL_UID else "the next attempt"
        return Ending(ending.code, f"{ending.text}; {who} goes on {where}")


def stall_words(silent: float, limit: str, *, begun: bool) -> str:
    """Why a training counts as stalled; `begun`: it has done a step before."""
    if begun:
        return f"no step ended for {silent:.0f} s; spec.training.stallTimeout is {limit}"
    return (
        f"stalled before the first step: nothing happened for {silent:.0f} s, and "
        f"spec.training.stallTimeout is {limit}. Raise it if the start takes longer than that"
    )


def _place() -> str:
    """Where the main thread stands, in words."""
    frames = sys._current_frames()  # noqa: SLF001 - public in all but name (documented)
    frame = frames.get(threading.main_thread().ident or 0)
    if frame is None:
        return ""
    code = frame.f_code
    return f". It stood in {code.co_qualname} ({Path(code.co_filename).name}:{frame.f_lineno})"


def _versions(kind: TaskKind) -> dict[str, str]:
    names = ("kubeseg", "torch", "numpy", *kind.packages)
    versions = {name: importlib.metadata.version(name) for name in names}
    return versions | {"python": platform.python_version()}
