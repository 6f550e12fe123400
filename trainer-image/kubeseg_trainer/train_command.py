"""`kubeseg-trainer train`: one start of one attempt, from configuration to exit code."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubeseg_trainer.config import LOCAL_UID, ConfigSource, read_config
from kubeseg_trainer.ending import Ending, leave
from kubeseg_trainer.engine.board import Board
from kubeseg_trainer.engine.report import Reporter
from kubeseg_trainer.engine.server import Server
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.engine.watchdog import Watchdog
from kubeseg_trainer.errors import SupersededError, ending_of
from kubeseg_trainer.files import now
from kubeseg_trainer.run_directory import open_run
from kubeseg_types.base import duration_seconds
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.trainer import RunRecord, WeightsFile

if TYPE_CHECKING:
    from kubeseg_trainer.engine.loop import Loop
    from kubeseg_trainer.tasks.segmentation.scan import Checked

log = logging.getLogger(__name__)

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


class Session:
    """One start of one attempt."""

    def __init__(self, options: TrainOptions, stop: StopRequest) -> None:
        self._options = options
        self._stop = stop
        self._began = time.monotonic()
        config = read_config(options.config)
        attempt = None if config.uid == LOCAL_UID else config.attempt
        self.run = open_run(options.workspace, job=config.job, uid=config.uid, attempt=attempt)
        config = config.model_copy(update={"attempt": self.run.attempt})
        self.source = ConfigSource(options.config, config)
        self.board = Board(config, attempt=self.run.attempt, start=self.run.start)
        self.server: Server | None = None
        self.record = RunRecord(
            namespace=config.namespace,
            job=config.job,
            uid=config.uid,
            generation=config.generation,
            attempt=self.run.attempt,
            start=self.run.start,
            state="Running",
            config=config.to_dict(),
            metrics_file=self.run.relative(self.run.metrics_file),
            started=now(),
            updated=now(),
        )
        limit = duration_seconds(config.training.stall_timeout)
        self.watchdog = Watchdog(max(limit, 1), self._stalled)

    # -- the run -----------------------------------------------------------------------------

    def train(self) -> str:
        """Train, export, and say why it ended."""
        options = self._options
        if options.port is not None:
            self.server = Server(options.address, options.port, self.board)
            self.server.start()
        newer = self.run.newer()
        if newer is not None:
            raise SupersededError(f"start {newer} of this run is there: {self.run.name} ends")
        self._write_record()
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

            self._stop.check()
            if not scan.done():
                # A large data set: what can't work at all is refused before its scan is over.
                refuse_early(self.source.config)
            checked = scan.result()
        self._stop.check()
        return assemble(
            checked,
            source=self.source,
            run=self.run,
            board=self.board,
            reporter=reporter,
            stop=self._stop,
            watchdog=self.watchdog,
        )

    def _scan(self, reporter: Reporter) -> Checked:
        from kubeseg_trainer.tasks.segmentation.scan import check_data_set

        def progress(done: int, total: int) -> None:
            self._stop.check()
            self.watchdog.beat()
            reporter.step("checking the data set", done, total)

        config = self.source.config
        return check_data_set(
            self.run.workspace,
            config.dataset,
            seed=config.training.seed,
            progress=progress,
            report_folder=self.run.base,
        )

    def _fit(self, loop: Loop) -> str:
        from kubeseg_trainer.engine.hardware import describe

        store = loop.around.store
        resumed = loop.resume()
        self._await_generation(loop)
        store.start_history(loop.state.history)
        self.record = self.record.model_copy(
            update={
                "class_names": list(loop.task.class_names),
                "versions": _versions(),
                "hardware": describe(loop.around.device),
            }
        )
        loop.on_epoch = self._write_record
        loop.show()
        self._write_record()
        log.info(
            "%s  %d training images, %d validation, %d classes  ready after %.1fs",
            resumed,
            len(loop.task.train),
            len(loop.task.validation),
            len(loop.task.class_names),
            time.monotonic() - self._began,
        )
        while True:
            why = loop.fit()
            self.board.update(state="Saving")
            self.watchdog.beat()
            best, weights = store.export(loop.state.history)
            self._write_record(model=self.run.relative(self.run.model_folder), weights=weights)
            if not self.source.poll() or loop.reason_to_end() is not None:
                break
            log.info("the configuration changed: generation %d", self.source.config.generation)
        return (
            f"{why}; best epoch {best.epoch}, validation IoU {best.validation.iou:.4f}, "
            f"model in {self.run.relative(self.run.model_folder)}"
        )

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

    # -- records -----------------------------------------------------------------------------

    def _write_record(self, model: str | None = None, weights: WeightsFile | None = None) -> None:
        """Bring run.json up to date with the board and the configuration."""
        progress, config = self.board.progress, self.source.config
        update: dict[str, object] = {
            "generation": config.generation,
            "config": config.to_dict(),
            "epoch": progress.epoch,
            "best": progress.best.metrics() if progress.best else None,
            "best_weights": progress.best.weights if progress.best else None,
            "updated": now(),
        }
        if model is not None:
            update |= {"model": model, "model_weights": weights}
        self.record = self.record.model_copy(update=update)
        self.run.write_record(self.record)

    def _stalled(self, silent: float) -> None:
        text = (
            f"no step ended for {silent:.0f} s; spec.training.stallTimeout is "
            f"{self.source.config.training.stall_timeout}. Where it stood is in the log above"
        )
        self.close(Ending(ExitCode.STALLED, text))
        # The thread that hangs can't be asked to end.
        os._exit(ExitCode.STALLED)

    def close(self, ending: Ending) -> None:
        """Leave the outcome everywhere that someone looks for it."""
        self.watchdog.stop()
        self.board.update(notify=True, state="Finished")
        leave(ending, self.run, self.record, self.board.progress, self._options.termination_log)
        if self.server is not None:
            self.server.stop()


def _versions() -> dict[str, str]:
    names = ("kubeseg", "torch", "segmentation-models-pytorch", "albumentations", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    return versions | {"python": platform.python_version()}


def train(options: TrainOptions, stop: StopRequest) -> int:
    """Run one start of an attempt to its end; returns the exit code.

    The one place where whatever went wrong becomes an exit code, a sentence and a record.
    """
    session: Session | None = None
    try:
        session = Session(options, stop)
        ending = Ending(ExitCode.SUCCESS, session.train())
    except BaseException as error:
        code, text = ending_of(error)
        if session is not None and isinstance(error, OSError) and session.run.newer():
            # A newer start tidies up after us: what we then trip over is no failure.
            code, text = ExitCode.SUPERSEDED, f"a newer start of this run took over: {text}"
        if code == ExitCode.ERROR:
            log.exception("unexpected end")
        ending = Ending(code, text)
    if session is not None:
        session.close(ending)
    else:
        leave(ending, None, None, None, options.termination_log)
    return int(ending.code)
