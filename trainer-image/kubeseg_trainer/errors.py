"""How a run can end, and the one place that turns an exception into an exit code."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

from kubeseg_types.exit_codes import ExitCode

#: The disk, the quota, or the largest file allowed: the write can't succeed until someone helps.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class TrainerError(Exception):
    """The end of a run; `code` is its exit code, the text what to do about it."""

    code: ExitCode = ExitCode.ERROR


class ConfigurationError(TrainerError):
    """What is asked for can't be done; another attempt would end the same way."""

    code = ExitCode.CONFIGURATION


class DatasetError(TrainerError):
    """The data set can't be trained on; another attempt would end the same way."""

    code = ExitCode.DATASET


class NonFiniteLossError(TrainerError):
    """The loss is no number any more."""

    code = ExitCode.NON_FINITE


class InterruptionError(TrainerError):
    """Asked to stop (SIGTERM, SIGINT); a checkpoint has been written where there was progress."""

    code = ExitCode.INTERRUPTED


class PeerError(TrainerError):
    """Another process of the same training has ended, and this one with it."""

    def __init__(self, code: ExitCode, text: str) -> None:
        super().__init__(text)
        #: The other's own, or INTERRUPTED where it has died.
        self.code = code


class SupersededError(TrainerError):
    """A newer start of the same run is at work."""

    code = ExitCode.SUPERSEDED


class StalledError(TrainerError):
    """No step ended within `training.stallTimeout`."""

    code = ExitCode.STALLED


class OutOfMemoryError(TrainerError):
    """Memory ran out, and a step can't be computed in smaller parts."""

    code = ExitCode.OUT_OF_MEMORY


class StorageError(TrainerError):
    """The workspace could not be written or read."""

    code = ExitCode.STORAGE


def storage_error(error: OSError, path: Path, size: int | None = None) -> StorageError:
    """`error`, met while writing `size` bytes to `path`, as a sentence with the remedy."""
    what = f"{path}" if size is None else f"{path} ({size:,} bytes)"
    if error.errno in FULL:
        return StorageError(
            f"no room to write {what}: {error.strerror}. Free space in the workspace or enlarge "
            f"its volume; the last good checkpoint is untouched, and the run goes on from it"
        )
    return StorageError(f"can't write {what}: {error.strerror or error}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out: the host's or a GPU's."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    # torch reports the host's memory as a plain RuntimeError.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def ending_of(error: BaseException) -> tuple[ExitCode, str]:
    """Exit code and sentence for whatever ended a run."""
    if isinstance(error, TrainerError):
        return error.code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED, "broken off by a second Ctrl-C"
    if is_out_of_memory(error):
        first = str(error).splitlines()[0] if str(error) else "memory is exhausted"
        return ExitCode.OUT_OF_MEMORY, (
            f"out of memory: {first}. Raise training.accumulate, lower training.batchSize or "
            f"training.imageSize, or give it more memory"
        )
    if isinstance(error, OSError) and (error.errno in FULL or error.errno == errno.EIO):
        path = Path(str(error.filename)) if error.filename else Path("the workspace")
        return ExitCode.STORAGE, str(storage_error(error, path))
    return ExitCode.ERROR, f"unexpected {type(error).__name__}: {error}"
