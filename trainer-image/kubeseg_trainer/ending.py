"""The outcome of a start: log line, run.json, termination message."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kubeseg_trainer.errors import StorageError, SupersededError
from kubeseg_trainer.files import now
from kubeseg_trainer.run_directory import RunDirectory
from kubeseg_types.exit_codes import TABLE, ExitCode, Outcome
from kubeseg_types.names import MAX_TERMINATION_BYTES
from kubeseg_types.trainer import Part, Progress, RunRecord, Scores, TerminationMessage

log = logging.getLogger(__name__)

_SHORT = 1000


@dataclass(frozen=True)
class Ending:
    """How a start ended."""

    code: ExitCode
    text: str

    @property
    def reason(self) -> str:
        """One word, as status and events have it."""
        return TABLE[self.code][1]

    @property
    def state(self) -> Literal["Interrupted", "Succeeded", "Failed"]:
        """What run.json calls it."""
        match TABLE[self.code][0]:
            case Outcome.SUCCEEDED:
                return "Succeeded"
            case Outcome.INTERRUPTED:
                return "Interrupted"
            case _:
                return "Failed"


def termination_message(
    ending: Ending, progress: Progress | None, test: Part | None = None
) -> TerminationMessage:
    """What a start leaves of its ending and of how far it came; `test`: of the best weights."""
    message = TerminationMessage(
        exit_code=int(ending.code), reason=ending.reason, message=ending.text[:_SHORT]
    )
    if progress is not None:
        best = progress.best
        message = message.model_copy(
            update={
                "epoch": progress.epoch,
                "epochs": progress.epochs,
                "start_epoch": progress.start_epoch,
                "generation": progress.generation,
                "last": progress.last.metrics() if progress.last else None,
                "best": best.metrics() if best else None,
                "checkpoint": progress.checkpoint,
                "best_weights": best.weights.path if best and best.weights else None,
                "best_sha256": best.weights.sha256 if best and best.weights else None,
            }
        )
    if test is not None:
        scores = Scores(loss=test.loss, dice=test.dice, iou=test.iou, samples=test.samples)
        message = message.model_copy(update={"test": scores})
    return message


def message_bytes(message: TerminationMessage) -> bytes:
    """`message` as JSON, its text shortened until it is below the limit."""
    while True:
        data = message.model_dump_json(by_alias=True, exclude_none=True).encode()
        if len(data) < MAX_TERMINATION_BYTES or not message.message:
            return data
        # Characters of several bytes, or many to be escaped.
        shorter = message.message[: len(message.message) // 2]
        message = message.model_copy(update={"message": shorter})


def leave(
    ending: Ending,
    run: RunDirectory | None,
    record: RunRecord | None,
    progress: Progress | None,
    termination_log: Path,
) -> None:
    """Write the outcome wherever it can be written; what can't be is logged."""
    test = record.test if record is not None and ending.code == ExitCode.SUCCESS else None
    if ending.code == ExitCode.SUCCESS:
        log.info("%s", ending.text)
    elif ending.state == "Interrupted":
        log.warning("%s (exit %d)", ending.text, ending.code)
    else:
        log.error("%s: %s (exit %d)", ending.reason, ending.text, ending.code)
    # A newer start writes run.json by now.
    if run is not None and record is not None and ending.code != ExitCode.SUPERSEDED:
        final = record.model_copy(
            update={
                "state": ending.state,
                "reason": ending.reason,
                "message": ending.text,
                "updated": now(),
            }
        )
        try:
            run.write_record(final)
        except (StorageError, SupersededError) as error:
            log.warning("run.json could not be brought up to date: %s", error)
    write_message(termination_log, termination_message(ending, progress, test))


def write_message(termination_log: Path, message: TerminationMessage) -> None:
    """Write the termination message where the kubelet has made a file for it."""
    if termination_log.exists() and os.access(termination_log, os.W_OK):
        try:
            # No temporary file beside it: it is a mount of its own.
            termination_log.write_bytes(message_bytes(message))
        except OSError as error:
            log.warning("the termination message could not be written: %s", error)
