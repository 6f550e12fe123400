"""The trainer's exit codes: the one table that trainer and operator read (ADR 0004)."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """How a trainer ends. Codes from 75 follow the spirit of sysexits' EX_TEMPFAIL: try again."""

    SUCCESS = 0
    ERROR = 1
    CONFIGURATION = 2
    DATASET = 3
    NON_FINITE = 4
    INTERRUPTED = 75
    SUPERSEDED = 76
    STALLED = 77
    OUT_OF_MEMORY = 78
    STORAGE = 79


class Outcome(StrEnum):
    """What the end of an attempt means for the TrainingJob."""

    SUCCEEDED = "Succeeded"
    #: Would happen again: the job fails at once.
    PERMANENT = "Permanent"
    #: Nobody's fault: goes on at once, never counted against `maxRetries`.
    INTERRUPTED = "Interrupted"
    OUT_OF_MEMORY = "OutOfMemory"
    #: Counted since the last progress, retried after a back-off.
    FAILED = "Failed"


#: code -> (what it means, the reason in status and events).
TABLE: dict[ExitCode, tuple[Outcome, str]] = {
    ExitCode.SUCCESS: (Outcome.SUCCEEDED, "Trained"),
    ExitCode.ERROR: (Outcome.FAILED, "TrainerError"),
    ExitCode.CONFIGURATION: (Outcome.PERMANENT, "InvalidConfiguration"),
    ExitCode.DATASET: (Outcome.PERMANENT, "InvalidDataset"),
    ExitCode.NON_FINITE: (Outcome.PERMANENT, "NonFiniteLoss"),
    ExitCode.INTERRUPTED: (Outcome.INTERRUPTED, "Interrupted"),
    ExitCode.SUPERSEDED: (Outcome.INTERRUPTED, "Superseded"),
    ExitCode.STALLED: (Outcome.FAILED, "Stalled"),
    ExitCode.OUT_OF_MEMORY: (Outcome.OUT_OF_MEMORY, "OutOfMemory"),
    ExitCode.STORAGE: (Outcome.FAILED, "StorageError"),
}


def classify(code: int) -> tuple[Outcome, str]:
    """Outcome and reason of any exit code; one that is not in the table is a trainer's error."""
    try:
        return TABLE[ExitCode(code)]
    except ValueError:
        return TABLE[ExitCode.ERROR]
