"""`kubeseg-trainer check`: what a training would say of its data set, in seconds, without torch."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

from kubeseg_trainer.config import read_config
from kubeseg_trainer.engine.report import Reporter, wants_bar
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.errors import ConfigurationError, TrainerError, ending_of
from kubeseg_types.exit_codes import ExitCode

log = logging.getLogger(__name__)


def check(config_file: Path, workspace: Path, stop: StopRequest, *, as_json: bool) -> int:
    """Print the report on the data set (as JSON, alone on stdout, or as text).

    Returns the exit code: success, DATASET with errors, CONFIGURATION.
    """
    began = time.monotonic()
    try:
        config = read_config(config_file)
        if not workspace.is_dir():
            raise ConfigurationError(
                f"--workspace: {workspace} is not a folder: make it, or name another"
            )
        from kubeseg_trainer.tasks.segmentation.check.scan import Purpose, examine

        with Reporter(bar=wants_bar() and not as_json) as reporter:

            def progress(done: int, total: int) -> None:
                stop.check()
                reporter.step("checking the data set", done, total)

            report, checked = examine(
                workspace.resolve(), config.dataset, Purpose.of(config), progress=progress
            )
    except (TrainerError, OSError, MemoryError) as error:
        code, text = ending_of(error)
        if as_json:
            problem = {"file": "", "problem": text, "kind": "check"}
            print(json.dumps({"formatVersion": 1, "ok": False, "problems": [problem]}))
        else:
            log.error("%s", text)  # noqa: TRY400 - the sentence says it; a traceback adds nothing
        return int(code)
    if as_json:
        print(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        how = "an earlier look at the same files" if report.kept else "every file looked at"
        for line in report.lines():
            log.info("%s", line)
        log.info("%s, %.1f s", how, time.monotonic() - began)
    return int(ExitCode.DATASET if checked is None else ExitCode.SUCCESS)
