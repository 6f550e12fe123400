"""`kubeseg-trainer check`: what a training would say before its first step, in seconds.

Of the data set, without torch; with `network` of the network, too.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubeseg_trainer.config import LOCAL_UID, read_config
from kubeseg_trainer.ending import Ending, termination_message, write_message
from kubeseg_trainer.engine.report import Reporter, wants_bar
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.engine.watchdog import Watchdog
from kubeseg_trainer.errors import ConfigurationError, ending_of
from kubeseg_trainer.tasks import task_kind
from kubeseg_trainer.trial import try_out
from kubeseg_types.base import duration_seconds
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.trainer import TrainerConfig
from kubeseg_types.workspace import run_dir

if TYPE_CHECKING:
    from kubeseg_trainer.tasks.segmentation.check.report import Report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckOptions:
    """The command line of `check`."""

    config: Path
    workspace: Path
    as_json: bool = False
    #: Also try what does not depend on the data: the network, the weights it begins with.
    network: bool = False
    termination_log: Path | None = None


def check(options: CheckOptions, stop: StopRequest) -> int:
    """Print the report on the data set (as JSON, alone on stdout, or as text).

    Returns the exit code: success, DATASET with errors, CONFIGURATION.
    """
    began = time.monotonic()
    try:
        config = read_config(options.config)
        report, tried_before = _check(options, config, stop)
    except Exception as error:  # the one place where it becomes an exit code and a sentence
        code, text = ending_of(error)
        if code == ExitCode.ERROR:
            log.exception("unexpected end")
        if options.as_json:
            problem = {"file": "", "problem": text, "kind": "check"}
            print(json.dumps({"formatVersion": 1, "ok": False, "problems": [problem]}))
        else:
            log.error("%s", text)  # noqa: TRY400 - the sentence says it; a traceback adds nothing
        return _leave(options, code, text)
    how = "an earlier look at the same files" if report.kept else "every file looked at"
    if options.network and not report.errors:
        how += ", network tried before" if tried_before else ", network tried"
    took = f"{how}, {time.monotonic() - began:.1f} s"
    if options.as_json:
        print(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        for line in report.lines():
            log.info("%s", line)
        log.info("%s", took)
    if report.errors:
        return _leave(
            options, ExitCode.DATASET, report.sentence(_whole_list(options, config, report))
        )
    counts = ", ".join(f"{number} {part}" for part, number in report.images.items() if number)
    words = (
        f'data set "{report.dataset}" is good: {counts}, {len(report.warnings)} warnings; {took}'
    )
    return _leave(options, ExitCode.SUCCESS, words)


def _check(options: CheckOptions, config: TrainerConfig, stop: StopRequest) -> tuple[Report, bool]:
    """The report, and whether the network had been tried before.

    The data comes first: with errors in it nobody has to wait for torch.
    """
    if not options.workspace.is_dir():
        raise ConfigurationError(
            f"--workspace: {options.workspace} is not a folder: make it, or name another"
        )
    limit = duration_seconds(config.training.stall_timeout)
    watchdog = Watchdog(limit, lambda silent: _stalled(options, config, silent))

    def beat() -> None:
        stop.check()
        watchdog.beat()

    watchdog.start()
    try:
        with Reporter(bar=wants_bar() and not options.as_json) as reporter:

            def progress(done: int, total: int) -> None:
                beat()
                reporter.step("checking the data set", done, total)

            beat()
            report = _examine(options, config, progress)
            if report.errors or not options.network:
                return report, True
            beat()
            root = options.workspace.resolve()
            return report, try_out(root, task_kind(), config, report.bits, beat)
    finally:
        watchdog.stop()


def _examine(
    options: CheckOptions, config: TrainerConfig, progress: Callable[[int, int], None]
) -> Report:
    from kubeseg_trainer.tasks.segmentation.check.scan import Purpose, examine

    root = options.workspace.resolve()
    return examine(root, config.dataset, Purpose.of(config), progress=progress)[0]


def _whole_list(options: CheckOptions, config: TrainerConfig, report: Report) -> str | None:
    """Leave all problems where the run's own would be; None where there is no TrainingJob's run."""
    from kubeseg_trainer.tasks.segmentation.check.scan import leave_list

    if config.uid == LOCAL_UID:
        return None
    root = options.workspace.resolve()
    folder = root / run_dir(config.job, config.uid)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return leave_list(report, folder, root)
    except OSError as error:
        log.info("the whole list is not left in the workspace: %s", error)
        return None


def _leave(options: CheckOptions, code: ExitCode, text: str) -> int:
    if options.termination_log is not None:
        write_message(options.termination_log, termination_message(Ending(code, text), None))
    return int(code)


def _stalled(options: CheckOptions, config: TrainerConfig, silent: float) -> None:
    """No file was done with for longer than stallTimeout: the volume may hang for ever."""
    text = (
        f"the check got no further for {silent:.0f} s; spec.training.stallTimeout is "
        f"{config.training.stall_timeout}: raise it if the volume is only slow"
    )
    log.error("%s", text)
    _leave(options, ExitCode.STALLED, text)
    os._exit(ExitCode.STALLED)
