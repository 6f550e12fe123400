from __future__ import annotations

import errno
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from kubeseg_trainer import files
from kubeseg_trainer.config import parse_config
from kubeseg_trainer.ending import Ending, termination_message
from kubeseg_trainer.engine.checkpoint import (
    Checkpoint,
    DamagedError,
    checkpoint_name,
    checkpoints_of,
    keep_newest,
    read_checkpoint,
    usable,
    write_checkpoint,
)
from kubeseg_trainer.errors import ConfigurationError, DatasetError, StorageError, ending_of
from kubeseg_trainer.run_directory import open_run
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.names import MAX_TERMINATION_BYTES


def _write(path: Path, value: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(path, {"network/w": torch.full((4, 4), value)}, {"step": 1})


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    weight = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    write_checkpoint(tmp_path / "c", {"network/w": weight}, {"history": [1]})
    found = read_checkpoint(tmp_path / "c")
    assert torch.equal(found.tensors["network/w"], weight)
    assert found.state == {"history": [1]}
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "manifest.json",
        "state.json",
        "tensors.safetensors",
    ]


def test_no_damage_is_ever_loaded(tmp_path: Path) -> None:
    """Cut, flipped, emptied, swapped, removed: refused by name, never a wrong one."""
    chance = random.Random(7)
    _write(tmp_path / "good")
    _write(tmp_path / "other", 2.0)
    names = ["manifest.json", "state.json", "tensors.safetensors"]
    refused = 0
    for trial in range(300):
        victim = tmp_path / f"v{trial}"
        shutil.copytree(tmp_path / "good", victim)
        file = victim / chance.choice(names)
        data = bytearray(file.read_bytes())
        kind = chance.choice(["cut", "flip", "empty", "remove", "swap"])
        match kind:
            case "cut":
                file.write_bytes(data[: chance.randrange(len(data))])
            case "flip":
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                file.write_bytes(data)
            case "empty":
                file.write_bytes(b"")
            case "remove":
                file.unlink()
            case "swap":
                shutil.copy(tmp_path / "other" / file.name, file)
        try:
            found = read_checkpoint(victim)
        except DamagedError:
            refused += 1
        else:
            # A flipped bit in the manifest's time, or a file that was the same in both.
            assert torch.equal(found.tensors["network/w"], torch.ones(4, 4)), (trial, kind)
            assert found.state == {"step": 1}
    assert refused > 200


def test_the_newest_whole_one_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    attempts = [tmp_path / "0001-0001", tmp_path / "0002-0001"]
    # The second attempt went on from an older one: what it wrote is newer nevertheless.
    _write(attempts[0] / "checkpoints" / checkpoint_name(5, 50), 5.0)
    _write(attempts[1] / "checkpoints" / checkpoint_name(3, 30), 3.0)
    _write(attempts[1] / "checkpoints" / checkpoint_name(4, 40), 4.0)
    (attempts[1] / "checkpoints" / ".tmp-1-00009-00000090").mkdir()
    (attempts[1] / "checkpoints" / checkpoint_name(4, 40) / "state.json").write_text("{}")

    def value(found: Checkpoint) -> float:
        return found.tensors["network/w"][0, 0].item()

    assert [value(found) for found in usable(attempts)] == [3.0, 5.0]
    assert "state.json doesn't match its hash" in caplog.text
    keep_newest(attempts, 2)
    assert [path.name for path in checkpoints_of(attempts)] == [
        checkpoint_name(4, 40),
        checkpoint_name(3, 30),
    ]


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
        files.write_directory(tmp_path / "checkpoint", {"a": b"1"})
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert target.read_bytes() == b"old"


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
        (KeyboardInterrupt(), ExitCode.ERROR),
    ],
)
def test_every_end_has_its_code(error: BaseException, code: ExitCode) -> None:
    found, text = ending_of(error)
    assert found == code
    assert text


@pytest.mark.parametrize("letter", ["a", "é", "\n", "\U0001f600", '"'])
def test_a_termination_message_stays_below_the_limit(letter: str) -> None:
    data = termination_message(Ending(ExitCode.ERROR, letter * 5000), None)
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
