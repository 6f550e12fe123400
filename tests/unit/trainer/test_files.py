from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from kubeseg_trainer import files
from kubeseg_trainer.config import parse_config
from kubeseg_trainer.ending import Ending, message_bytes, termination_message
from kubeseg_trainer.errors import ConfigurationError, DatasetError, StorageError, ending_of
from kubeseg_trainer.run_directory import open_run
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.names import MAX_TERMINATION_BYTES


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_the_old_file_and_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    target = tmp_path / "run.json"
    files.write_file(target, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(number, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StorageError, match=r"no room to write .*run.json \(3 bytes\)"):
        files.write_file(target, b"new")
    with pytest.raises(StorageError, match="last good checkpoint is untouched"):
        files.write_directory(
            tmp_path / "checkpoint", {"a": [b"1"]}, last="m", describe=lambda _: b"2"
        )
    with pytest.raises(StorageError, match="no room to write"):
        files.append_line(target, "more")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert target.read_bytes() == b"old"


def test_what_comes_back_otherwise_never_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that loses what it was given, and says nothing."""
    real = os.fsync

    def lose(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.ftruncate(descriptor, 1)
        real(descriptor)

    files.write_file(tmp_path / "w", b"old")
    monkeypatch.setattr("os.fsync", lose)
    with pytest.raises(StorageError, match="what was read back is not what was written"):
        files.write_file(tmp_path / "w", [b"ne", b"w"], read_back=True)
    with pytest.raises(StorageError, match="what was read back is not what was written"):
        files.write_directory(tmp_path / "c", {"a": [b"123"]}, last="m", describe=lambda _: b"4")
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
    assert (tmp_path / "w").read_bytes() == b"old"


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    """A disk with room for a part of it: here, a limit on the length of files."""
    target = tmp_path / "metrics.jsonl"
    files.append_line(target, "first")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        with pytest.raises(StorageError, match="no room"):
            files.append_line(target, "second, and longer")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    files.append_line(target, "third")
    assert target.read_text() == "first\nthird\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), ExitCode.CONFIGURATION),
        (DatasetError("x"), ExitCode.DATASET),
        (MemoryError(), ExitCode.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory."), ExitCode.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't"), ExitCode.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left", "/w/x"), ExitCode.STORAGE),
        (OSError(errno.ENOENT, "No such file", "/w/x"), ExitCode.ERROR),
        (RuntimeError("else"), ExitCode.ERROR),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    ],
)
def test_every_end_has_its_code(error: BaseException, code: ExitCode) -> None:
    found, text = ending_of(error)
    assert found == code
    assert text


@pytest.mark.parametrize("letter", ["a", "é", "\n", "\U0001f600", '"'])
def test_a_termination_message_stays_below_the_limit(letter: str) -> None:
    data = message_bytes(termination_message(Ending(ExitCode.ERROR, letter * 5000), None))
    assert len(data) < MAX_TERMINATION_BYTES
    assert json.loads(data)["reason"] == "TrainerError"


def test_starts_are_numbered_and_the_newest_supersedes(tmp_path: Path) -> None:
    def start(attempt: int | None) -> Any:
        return open_run(tmp_path, job="j", uid="u", attempt=attempt)

    first, second = start(1), start(1)
    assert (first.name, second.name) == ("0001-0001", "0001-0002")
    assert first.newer() == "0001-0002"
    assert second.newer() is None
    third = start(None)
    assert third.name == "0002-0001"
    assert second.newer() == "0002-0001"
    assert start(12).newer() is None
    assert third.newer() == "0012-0001"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "must be a mapping"),
        ("{", "neither JSON nor YAML"),
        ("[1]", "must be a mapping"),
        ("kind: TrainingJob", "metadata.name: must be a name"),
        ("kind: TrainingJob\nmetadata: {name: a/b}", "metadata.name: must be a name"),
        ("kind: TrainingJob\nmetadata: {name: a}\nspec: {}", "spec.dataset: must be set"),
        ("{" + " " * 200_000 + "}", "at most 131,072 are read"),
    ],
)
def test_a_configuration_that_is_none(text: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        parse_config(text)
