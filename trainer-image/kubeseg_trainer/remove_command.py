"""`kubeseg-trainer remove`: takes one run out of a workspace, and nothing else."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubeseg_trainer.ending import Ending, leave
from kubeseg_trainer.errors import ConfigurationError, StorageError, ending_of
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.names import TERMINATION_LOG
from kubeseg_types.workspace import RUNS, run_dir

_JOB = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_UID = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?")
#: A run that is being removed is none any more: it has another name first, which no job can have.
_LEAVING = ".removed-"


def add_remove_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's own options."""
    remove = commands.add_parser(
        "remove",
        help="remove a run from a workspace: runs/<job>/<uid>, and nothing else",
        description="Removes runs/<job>/<uid>. Links are not followed; a run that is not there is "
        "as good as removed.",
    )
    remove.add_argument("--workspace", type=Path, required=True, help="folder with runs/")
    remove.add_argument("--job", required=True, help="name of the TrainingJob")
    remove.add_argument("--uid", required=True, help="its UID")
    remove.add_argument(
        "--termination-log",
        type=Path,
        default=Path(TERMINATION_LOG),
        help="file for the termination message; written only if it is there",
    )


def remove(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    where = run_dir(options.job, options.uid)
    try:
        there = remove_run(options.workspace, options.job, options.uid)
        ending = Ending(ExitCode.SUCCESS, f"{where} " + ("removed" if there else "was not there"))
    except Exception as error:  # noqa: BLE001 - the one place where it becomes an exit code
        if isinstance(error, OSError):
            error = StorageError(f"{where} can't be removed: {error}")
        ending = Ending(*ending_of(error))
    leave(ending, None, None, None, options.termination_log)
    return int(ending.code)


def remove_run(workspace: Path, job: str, uid: str) -> bool:
    """Remove the folder of this run; whether anything was there.

    Broken off and called again it goes on. ConfigurationError for names that are none, and for
    links in place of folders; OSError where something can't be removed.
    """
    for option, name, pattern in (("--job", job, _JOB), ("--uid", uid, _UID)):
        if not pattern.fullmatch(name):
            raise ConfigurationError(f"{option}: must be a name, not {name!r}")
    if not workspace.is_dir():
        raise ConfigurationError(f"--workspace: {workspace} is not a folder")
    leaving = f"{_LEAVING}{job}-{uid}"
    with _folder(workspace, None) as root, _folder(RUNS, root) as runs:
        if root is None or runs is None:
            return False
        there = _remove_tree(leaving, runs)
        with _folder(job, runs) as jobs_runs:
            if jobs_runs is not None and _is_folder(uid, jobs_runs, run_dir(job, uid)):
                os.rename(uid, leaving, src_dir_fd=jobs_runs, dst_dir_fd=runs)
                there = _remove_tree(leaving, runs)
        with contextlib.suppress(OSError):
            # Other runs of that name, of which it may be full, stay.
            os.rmdir(job, dir_fd=runs)
    return there


@contextmanager
def _folder(path: Path | str, above: int | None) -> Iterator[int | None]:
    """A folder's descriptor, None where it is not there; a link is refused below the workspace."""
    flags = os.O_RDONLY | os.O_DIRECTORY | (0 if above is None else os.O_NOFOLLOW)
    descriptor: int | None = None
    try:
        descriptor = os.open(path, flags, dir_fd=above)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        raise ConfigurationError(f"{path} is a link or a file, where a folder must be") from error
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_folder(name: str, above: int, shown: str) -> bool:
    try:
        mode = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(mode):
        raise ConfigurationError(f"{shown} is a link or a file, where a folder must be")
    return True


def _remove_tree(name: str, above: int) -> bool:
    """Remove a folder with all that is in it, links themselves and not what they lead to."""
    assert shutil.rmtree.avoids_symlink_attacks
    try:
        shutil.rmtree(name, dir_fd=above)
    except FileNotFoundError:
        if _is_folder(name, above, name):
            raise
        return False
    return True
