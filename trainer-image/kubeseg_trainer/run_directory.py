"""A run's folder in the workspace, and the folder of this start in it."""

from __future__ import annotations

from pathlib import Path

from kubeseg_trainer.errors import ConfigurationError, storage_error
from kubeseg_trainer.files import write_file
from kubeseg_types import workspace
from kubeseg_types.trainer import RunRecord


class RunDirectory:
    """Where one start of one attempt writes; made exclusively."""

    def __init__(self, root: Path, base: Path, attempt: int, start: int) -> None:
        #: The workspace, and the run's folder in it.
        self.workspace = root
        self.base = base
        self.attempt = attempt
        self.start = start
        self.name = workspace.attempt_name(attempt, start)
        self.folder = base / workspace.ATTEMPTS / self.name

    @property
    def metrics_file(self) -> Path:
        """metrics.jsonl of this start."""
        return self.folder / workspace.METRICS_FILE

    @property
    def model_folder(self) -> Path:
        """Where the best model is exported to."""
        return self.base / workspace.MODEL

    def relative(self, path: Path) -> str:
        """`path` as the contract writes it: relative to the workspace, with forward slashes."""
        return path.relative_to(self.workspace).as_posix()

    def attempts(self) -> list[Path]:
        """Folders of all starts, the oldest first."""
        return attempt_folders(self.base)

    def newer(self) -> str | None:
        """Name of a newer start, or None: a newer one supersedes this one."""
        newest = self.attempts()[-1:]
        own = (self.attempt, self.start)
        for folder in newest:
            number = workspace.parse_attempt_name(folder.name)
            if number is not None and number > own:
                return folder.name
        return None

    def write_record(self, record: RunRecord) -> None:
        """Replace run.json."""
        text = record.model_dump_json(by_alias=True, exclude_none=True, indent=2)
        write_file(self.base / workspace.RUN_FILE, text.encode() + b"\n")


def attempt_folders(base: Path) -> list[Path]:
    """Folders of all starts of the run at `base`, the oldest first."""
    try:
        names = [entry.name for entry in (base / workspace.ATTEMPTS).iterdir()]
    except FileNotFoundError:
        return []
    numbered = [(workspace.parse_attempt_name(name), name) for name in names]
    known = sorted((number, name) for number, name in numbered if number is not None)
    return [base / workspace.ATTEMPTS / name for _, name in known]


def next_attempt(base: Path) -> int:
    """The attempt after all that are there."""
    folders = attempt_folders(base)
    number = workspace.parse_attempt_name(folders[-1].name) if folders else None
    return number[0] + 1 if number else 1


def open_run(root: Path, *, job: str, uid: str, attempt: int | None) -> RunDirectory:
    """Make the folder of the next start of `attempt` (None: of the next free attempt).

    ConfigurationError where `root` is no folder, StorageError where it can't be written.
    """
    if not root.is_dir():
        raise ConfigurationError(f"--workspace: {root} is not a folder: make it, or name another")
    root = root.resolve()
    base = root / workspace.run_dir(job, uid)
    try:
        (base / workspace.ATTEMPTS).mkdir(parents=True, exist_ok=True)
        number = attempt if attempt is not None else next_attempt(base)
        start = 1
        while True:
            run = RunDirectory(root, base, number, start)
            try:
                run.folder.mkdir()
            except FileExistsError:
                start += 1
                continue
            (run.folder / workspace.EPOCHS).mkdir()
            (run.folder / workspace.CHECKPOINTS).mkdir()
            return run
    except OSError as error:
        raise storage_error(error, base) from error
