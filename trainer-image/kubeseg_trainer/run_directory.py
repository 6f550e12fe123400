"""A run's folder in the workspace, and the folder of this start in it."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import ValidationError

from kubeseg_trainer.errors import ConfigurationError, SupersededError, storage_error
from kubeseg_trainer.files import write_file
from kubeseg_types import workspace
from kubeseg_types.trainer import RunRecord

log = logging.getLogger(__name__)


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

    def own_attempts(self) -> list[Path]:
        """Folders of this start and those before it, the oldest first."""
        own = (self.attempt, self.start)
        numbered = [(workspace.parse_attempt_name(path.name), path) for path in self.attempts()]
        return [path for number, path in numbered if number is not None and number <= own]

    def newer(self) -> str | None:
        """Name of a newer start, or None: a newer one supersedes this one."""
        newest = self.attempts()[-1:]
        own = (self.attempt, self.start)
        for folder in newest:
            number = workspace.parse_attempt_name(folder.name)
            if number is not None and number > own:
                return folder.name
        return None

    def not_superseded(self) -> None:
        """SupersededError where a newer start of this run is there.

        What several starts share is changed only right after this. For removing that means: list
        first, then look, then remove what was listed. So nothing of a newer start is in the list.
        """
        newer = self.newer()
        if newer is not None:
            raise SupersededError(f"start {newer} of this run is newer than {self.name}: it ends")

    def read_record(self) -> RunRecord | None:
        """run.json as the newest start left it; None where there is none that can be read."""
        try:
            return RunRecord.model_validate_json((self.base / workspace.RUN_FILE).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            log.warning("run.json of an earlier start is left aside: %s", error)
            return None

    def write_record(self, record: RunRecord) -> None:
        """Replace run.json. SupersededError where a newer start is there: it is that one's now."""
        text = record.model_dump_json(by_alias=True, exclude_none=True, indent=2)
        path = self.base / workspace.RUN_FILE
        write_file(path, text.encode() + b"\n", last_look=self.not_superseded)


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


def known_run(root: Path, *, job: str, uid: str, attempt: int, start: int) -> RunDirectory:
    """The folder of a start that another process has made."""
    root = root.resolve()
    return RunDirectory(root, root / workspace.run_dir(job, uid), attempt, start)


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


_MODEL_FILES = ("model.safetensors", "model.onnx")


def model_file(path: Path) -> Path:
    """The file to load for the model at `path`: that file, or the one in a model or run folder.

    ConfigurationError where there is none.
    """
    if path.is_file():
        if path.suffix in {".safetensors", ".onnx"}:
            return path
        raise ConfigurationError(f"{path} is no model: give a .safetensors or an .onnx file")
    if not path.is_dir():
        raise ConfigurationError(f"{path} is not there: give a model's file or folder")
    for folder in (path, path / workspace.MODEL):
        for name in _MODEL_FILES:
            if (folder / name).is_file():
                return folder / name
    if (path / workspace.RUN_FILE).is_file():
        raise ConfigurationError(
            f"the run {path} has no {workspace.MODEL}/ yet: it is made at the end; meanwhile each "
            f"epoch's weights are in {workspace.ATTEMPTS}/*/{workspace.EPOCHS}/"
        )
    raise ConfigurationError(f"{path} holds neither {' nor '.join(_MODEL_FILES)}")
