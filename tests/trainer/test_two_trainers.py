"""Two trainers on one run's folder: the older one ends, and harms nothing of the newer."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from kubeseg_trainer.engine import checkpoint
from kubeseg_trainer.engine.lookout import Lookout
from kubeseg_trainer.engine.store import Store
from kubeseg_trainer.engine.task import Task
from kubeseg_trainer.engine.tensor_file import tensor_file
from kubeseg_trainer.errors import SupersededError
from kubeseg_trainer.files import Buffer
from kubeseg_trainer.run_directory import RunDirectory, open_run
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.trainer import EpochRecord, RunRecord, WeightsFile
from kubeseg_types.training import CheckpointPolicy
from tests.support.datasets import make_dataset
from tests.support.run_folders import part
from tests.support.trainings import Place, at_beat, config_of
from tests.support.zygote import Zygote

SCANNED = 9


@pytest.fixture
def _looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeseg_trainer.engine.lookout.EVERY", 0.0)


@pytest.mark.usefixtures("_looks_always")
@pytest.mark.parametrize(
    ("beat", "where"),
    [
        (3, "in the scan"),
        (SCANNED + 3, "in a step"),
        (SCANNED + 8, "in the validation"),
        (SCANNED + 15, "in the second epoch"),
    ],
)
def test_the_older_one_ends_wherever_it_is(place: Place, beat: int, where: str) -> None:
    def newer() -> None:
        (place.run_folder() / "attempts" / "0002-0001").mkdir()
        (place.run_folder() / "run.json").write_bytes(b"the newer one's")

    with at_beat(beat, newer):
        assert place.train(config_of(training={"epochs": 3})) == ExitCode.SUPERSEDED, where
    assert (place.run_folder() / "run.json").read_bytes() == b"the newer one's"
    assert "0002-0001" in place.message()["message"]


@pytest.mark.usefixtures("_looks_always")
def test_it_breaks_off_what_it_is_writing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tensor_file
    parts: list[int] = []

    def slow(tensors: Mapping[str, Tensor]) -> Iterator[Buffer]:
        for number, buffer in enumerate(real(tensors)):
            if number == 5:
                (place.run_folder() / "attempts" / "0002-0001").mkdir()
            parts.append(number)
            yield buffer

    monkeypatch.setattr(checkpoint, "tensor_file", slow)
    assert place.train(config_of(training={"epochs": 3})) == ExitCode.SUPERSEDED
    assert parts == list(range(6))
    left = place.run_folder() / "attempts" / "0001-0001" / "checkpoints"
    assert not list(left.iterdir())


class _Names:
    """What of a task a store asks for."""

    def metadata(self, epoch: int) -> dict[str, str]:
        return {"epoch": str(epoch)}


class _Start:
    """A trainer's file operations, one by one, without the training."""

    def __init__(self, root: Path, attempt: int) -> None:
        self.run = open_run(root, job="j", uid="u", attempt=attempt)
        self.store = Store(self.run, cast("Task", _Names()))
        found = next(checkpoint.usable(self.run.own_attempts), None)
        document = json.loads(found.state) if found else {"history": []}
        self.history = [EpochRecord.model_validate(entry) for entry in document["history"]]
        self.store.start_history(self.history, found.path if found else None)

    def do(self, chance: random.Random) -> None:
        """One of the things that a trainer does."""
        tensors = {"w": torch.full((3,), float(len(self.history)))}
        policy = CheckpointPolicy(keep_last=chance.choice([1, 2]), keep_best=chance.choice([1, 2]))
        match chance.randrange(3):
            case 0:
                weights = self.store.save_weights(tensors, len(self.history) + 1)
                self.history.append(_record(len(self.history) + 1, chance, weights))
                self.store.append(self.history[-1])
                self.run.write_record(_run_record(self.run))
            case 1 if not self.store.checkpoint_path(
                len(self.history), 3 * len(self.history)
            ).exists():
                entries = [entry.to_dict() for entry in self.history]
                document = {"history": entries, "step": 3 * len(entries)}
                self.store.save_checkpoint(tensors, document)
            case _:
                self.store.tidy(self.history, policy)

    def files(self) -> dict[Path, bytes]:
        """What this start needs: its own files, those its history names, its checkpoint."""
        mine = {path for path in self.run.folder.rglob("*") if path.is_file()}
        mine |= {self.run.workspace / e.weights.path for e in self.history if e.weights}
        return {path: path.read_bytes() for path in mine if path.exists()}


def _record(epoch: int, chance: random.Random, weights: WeightsFile) -> EpochRecord:
    return EpochRecord(
        epoch=epoch, step=3 * epoch, train=part(0.5), validation=part(chance.random()),
        learning_rate=0.1, seconds=1, samples_per_second=1, time="2026-01-01T00:00:00Z",
        attempt=1, start=1, weights=weights,
    )  # fmt: skip


def _run_record(run: RunDirectory) -> RunRecord:
    return RunRecord(
        namespace="n", job="j", uid="u", generation=1, attempt=run.attempt, start=run.start,
        state="Running", config={}, metrics_file="m", started="2026-01-01T00:00:00Z",
        updated="2026-01-01T00:00:00Z",
    )  # fmt: skip


@pytest.mark.usefixtures("_looks_always")
@pytest.mark.parametrize("seed", range(12))
def test_nothing_of_the_newer_one_is_ever_touched(tmp_path: Path, seed: int) -> None:
    """Their operations in any order, from the moment on that the newer one has begun."""
    chance = random.Random(seed)
    older = _Start(tmp_path, 1)
    for _ in range(chance.randrange(12)):
        older.do(chance)
    newer = _Start(tmp_path, chance.choice([1, 2]))
    newer.run.write_record(_run_record(newer.run))
    ended = False
    for _ in range(15):
        if chance.random() < 0.5:
            newer.do(chance)
            continue
        before = newer.files()
        try:
            older.do(chance)
        except SupersededError:
            ended = True
        assert newer.files() == before
        record = json.loads((newer.run.base / "run.json").read_bytes())
        assert (record["attempt"], record["start"]) == (newer.run.attempt, newer.run.start)
    assert ended
    with pytest.raises(SupersededError, match=f"start {newer.run.name} of this run is newer"):
        Lookout(older.run).look()


def _two(
    zygotes: tuple[Zygote, Zygote], folder: Path, config: dict[str, Any], after: float
) -> tuple[Place, int, int]:
    place = Place(folder)
    make_dataset(place.workspace, count=9)
    codes = []
    for attempt, zygote in enumerate(zygotes, start=1):
        file = folder / f"config-{attempt}.json"
        file.write_text(json.dumps({**config, "attempt": attempt}))
        arguments = ["train", "--config", str(file), "--workspace", str(place.workspace)]
        zygote.start([*arguments, "--no-server"], folder / f"log-{attempt}", seed=attempt)
        if attempt == 1:
            # Not a wait for something: the moment that the newer one comes is what varies.
            time.sleep(after)
    codes = [zygote.wait() for zygote in zygotes]
    return place, codes[0], codes[1]


def _outcome(place: Place) -> list[Any]:
    return [
        (e.epoch, e.train, e.validation, e.weights and e.weights.sha256) for e in place.history()
    ]


def _compete(tmp_path: Path, epochs: int, delays: list[float]) -> list[int]:
    config = config_of(training={"epochs": epochs})
    alone = Place(tmp_path / "alone")
    make_dataset(alone.workspace, count=9)
    assert alone.train(config) == 0
    codes = []
    with Zygote() as first, Zygote() as second:
        for number, after in enumerate(delays):
            place, older, newer = _two((first, second), tmp_path / str(number), config, after)
            logs = (tmp_path / str(number) / "log-1").read_text()
            assert newer == 0, (tmp_path / str(number) / "log-2").read_text()
            assert older in (0, ExitCode.SUPERSEDED), logs
            codes.append(older)
            record = place.record()
            assert (record.state, record.attempt) == ("Succeeded", 2)
            assert _outcome(place) == _outcome(alone), after
    return codes


@pytest.mark.slow
def test_two_processes_at_once(tmp_path: Path) -> None:
    assert ExitCode.SUPERSEDED in _compete(tmp_path, 6, [0.5])


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_two_processes_at_once_many_times(tmp_path: Path) -> None:
    chance = random.Random(2)
    codes = _compete(tmp_path, 20, [chance.uniform(0, 5) for _ in range(30)])
    print(f"30 times: the older one ended with 76 {codes.count(ExitCode.SUPERSEDED)} times")
    assert ExitCode.SUPERSEDED in codes
