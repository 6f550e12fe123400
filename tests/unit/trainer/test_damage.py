"""Whatever happened to checkpoints: the newest whole one is gone on from, never another."""

from __future__ import annotations

import json
import logging
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from kubeseg_trainer.config import parse_config
from kubeseg_trainer.engine.checkpoint import checkpoint_name, write_checkpoint
from kubeseg_trainer.engine.group import ALONE
from kubeseg_trainer.engine.resume import identity_of, resume_newest
from kubeseg_trainer.engine.state import State, document_of
from kubeseg_trainer.engine.steps import Stepper
from kubeseg_trainer.engine.store import tensors_of
from kubeseg_trainer.engine.surroundings import Surroundings
from kubeseg_trainer.engine.task import Sums, Task
from kubeseg_trainer.run_directory import RunDirectory, attempt_folders
from kubeseg_types.trainer import EpochRecord
from tests.support.damage import damage
from tests.support.run_folders import part
from tests.support.trainings import config_of

CONFIG = parse_config(json.dumps(config_of()))
#: (attempt, epochs finished): oldest to newest; a position may occur in two attempts.
CHECKPOINTS = ((1, 1), (1, 2), (2, 2), (2, 3))


class Samples:
    """Nine of them."""

    names = tuple(str(number) for number in range(9))

    def __len__(self) -> int:
        return len(self.names)


@dataclass
class TinyTask:
    """What of a task a checkpoint asks for."""

    network: nn.Module = field(default_factory=lambda: nn.Linear(3, 2))
    train: Samples = field(default_factory=Samples)
    class_names: tuple[str, ...] = ("a", "b")
    fingerprint: str = "f"

    def new_counts(self) -> Tensor:
        return torch.zeros(2, 2, dtype=torch.int64)


def _stepper(task: Task) -> Stepper:
    source = SimpleNamespace(config=CONFIG)
    around = SimpleNamespace(group=ALONE, source=source, device=torch.device("cpu"))
    return Stepper(task, cast("Surroundings", around))


def _trained(value: float) -> tuple[Task, Stepper]:
    task = cast("Task", TinyTask())
    stepper = _stepper(task)
    stepper.prepare()
    task.network(torch.full((1, 3), float(value))).sum().backward()
    stepper.optimizer.step()
    with torch.no_grad():
        for parameter in task.network.parameters():
            parameter.fill_(value)
    return task, stepper


def _identity(task: Task, stepper: Stepper) -> dict[str, Any]:
    return {**identity_of(task, CONFIG), "stepper": stepper.identity()}


def _record(epoch: int) -> EpochRecord:
    return EpochRecord(
        epoch=epoch, step=3 * epoch, train=part(0.5), validation=part(epoch / 10),
        learning_rate=0.1, seconds=1.0, samples_per_second=9.0, time="2026-01-01T00:00:00Z",
        attempt=1, start=1,
    )  # fmt: skip


def _write(base: Path, attempt: int, epoch: int, **changes: Any) -> Path:
    """A whole checkpoint whose weights are all `10 * attempt + epoch`."""
    task, stepper = _trained(10 * attempt + epoch)
    state = State(
        Sums.zero(task.new_counts()),
        step=3 * epoch,
        # No two checkpoints share a file.
        seconds=10 * attempt + epoch,
        history=[_record(number + 1) for number in range(epoch)],
    )
    path = base / f"attempts/{attempt:04d}-0001/checkpoints" / checkpoint_name(epoch, state.step)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = document_of(state, state.history, _identity(task, stepper)) | changes
    write_checkpoint(path, tensors_of(task.network, stepper.state_tensors(), state), document)
    return path


def _resume(root: Path, base: Path) -> float | None:
    """The value of the checkpoint that a third attempt goes on from; all of it must be there."""
    task = cast("Task", TinyTask())
    stepper = _stepper(task)
    run = RunDirectory(root, base, 3, 1)
    resumed = resume_newest(run, task, stepper, CONFIG, torch.device("cpu"))
    weights = {p.data.flatten()[0].item() for p in task.network.parameters()}
    if resumed is None:
        assert not stepper.optimizer.state
        return None
    state, found = resumed
    assert len(weights) == 1
    value = weights.pop()
    assert (value // 10, value % 10) == (int(found.path.parts[-3][:4]), state.epoch)
    assert len(stepper.optimizer.state) == 2
    return value


def _trials(tmp_path: Path, seed: int, count: int, caplog: pytest.LogCaptureFixture) -> int:
    whole = tmp_path / "whole"
    for attempt, epoch in CHECKPOINTS:
        _write(whole, attempt, epoch)
    names = [
        f"attempts/{attempt:04d}-0001/checkpoints/{checkpoint_name(epoch, 3 * epoch)}"
        for attempt, epoch in CHECKPOINTS
    ]
    chance, damaged, base = random.Random(seed), 0, tmp_path / "run"
    while damaged < count:
        caplog.clear()
        shutil.copytree(whole, base)
        # Mostly the newest ones, sometimes all of them.
        victims = [name for name in names if chance.random() < 0.7]
        how = {
            name: damage(base / name, [whole / n for n in names if n != name], chance)
            for name in victims
        }
        damaged += len(victims)
        left = [10 * a + e for (a, e), name in zip(CHECKPOINTS, names, strict=True)
                if name not in victims]  # fmt: skip
        assert _resume(tmp_path, base) == (left[-1] if left else None), (seed, damaged, how)
        told = [record for record in caplog.records if "is left out" in record.getMessage()]
        newest = next((n for n, name in enumerate(reversed(names)) if name not in victims), 4)
        assert len(told) == newest, (seed, damaged, how)
        assert all(record.levelno == logging.WARNING for record in told)
        shutil.rmtree(base)
    return damaged


def test_the_newest_whole_checkpoint_is_taken_whatever_happened_to_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert _trials(tmp_path, seed=8, count=300, caplog=caplog) >= 300


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_ten_thousand_damaged_checkpoints(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    assert _trials(tmp_path, seed=seed, count=2500, caplog=caplog) >= 2500


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"step": "x"}, "step: Input should be a valid integer"),
        ({"step": 10**30}, "step: "),
        ({"step": 4}, "state.json is that of checkpoint 00003-00000004"),
        ({"position": -1}, "position: "),
        ({"seconds": float("inf")}, "seconds: "),
        ({"history": []}, "state.json is that of checkpoint 00000-"),
        ({"history": [1]}, "history.0"),
        ({"history": None}, "history: "),
        ({"defining": []}, "defining: "),
        ({"threads": None}, "threads: "),
    ],
)
def test_contents_that_no_training_wrote_are_left_out_even_with_right_hashes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], why: str
) -> None:
    _write(tmp_path, 1, 2)
    _write(tmp_path, 2, 3, **changes)
    assert _resume(tmp_path, tmp_path) == 12
    assert why in caplog.text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"network/weight": None}, "network/weight is missing"),
        ({"network/more": torch.ones(1)}, "network/more is surplus"),
        ({"network/weight": torch.ones(3, 2)}, "float32 [3, 2], must be float32 [2, 3]"),
        ({"network/weight": torch.ones(2, 3).half()}, "float16 [2, 3], must be float32"),
        ({"sums/counts": torch.ones(3, 3, dtype=torch.int64)}, "sums/counts is int64 [3, 3]"),
        ({"optimizer/other/exp_avg": torch.ones(1)}, "optimizer/other/exp_avg belongs to no"),
        ({"optimizer/bias/exp_avg": torch.ones(7)}, "optimizer/bias/exp_avg belongs to no"),
        ({"strange": torch.ones(1)}, "it holds strange, which this version doesn't know"),
    ],
)
def test_tensors_that_fit_nowhere_change_nothing(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, Tensor | None],
    why: str,
) -> None:
    task, stepper = _trained(23)
    state = State(Sums.zero(task.new_counts()), step=9, history=[_record(n + 1) for n in range(3)])
    tensors = {**tensors_of(task.network, stepper.state_tensors(), state), **change}
    path = tmp_path / "attempts/0002-0001/checkpoints" / checkpoint_name(3, 9)
    path.parent.mkdir(parents=True)
    write_checkpoint(
        path,
        {name: value for name, value in tensors.items() if value is not None},
        document_of(state, state.history, _identity(task, stepper)),
    )
    _write(tmp_path, 1, 2)
    assert _resume(tmp_path, tmp_path) == 12
    assert why in caplog.text


@pytest.mark.parametrize("version", [0, 1, 3, 10**9])
def test_an_unknown_format_is_left_out_and_says_so(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
) -> None:
    _write(tmp_path, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr("kubeseg_trainer.engine.checkpoint.FORMAT", version)
        _write(tmp_path, 2, 3)
    assert _resume(tmp_path, tmp_path) == 12
    assert f"it has format {version}, this version reads 2" in caplog.text


def test_what_an_older_start_replaced_meanwhile_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It still lives, keeps one checkpoint, and has just written the next one."""
    old = _write(tmp_path, 1, 1)
    listed = RunDirectory.own_attempts

    def replaced(self: RunDirectory) -> list[Path]:
        folders = listed(self)
        monkeypatch.setattr(RunDirectory, "own_attempts", listed)
        return folders

    def late(path: Path) -> Any:
        monkeypatch.setattr("kubeseg_trainer.engine.checkpoint.read_checkpoint", real)
        _write(tmp_path, 1, 2)
        shutil.rmtree(old)
        return real(path)

    from kubeseg_trainer.engine import checkpoint

    real = checkpoint.read_checkpoint
    monkeypatch.setattr(RunDirectory, "own_attempts", replaced)
    monkeypatch.setattr(checkpoint, "read_checkpoint", late)
    assert _resume(tmp_path, tmp_path) == 12
    assert [folder.name for folder in attempt_folders(tmp_path)] == ["0001-0001"]
