"""What is written in the background, and what of it is kept."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from kubeseg_trainer.engine.checkpoint import (
    checkpoint_name,
    checkpoints_of,
    read_checkpoint,
    usable,
    write_checkpoint,
)
from kubeseg_trainer.engine.decisions import checkpoint_due, kept_weights, surplus
from kubeseg_trainer.engine.snapshot import Snapshot
from kubeseg_trainer.engine.tensor_file import tensor_file
from kubeseg_trainer.engine.writer import Writer
from kubeseg_trainer.errors import StorageError
from kubeseg_types.trainer import EpochRecord
from kubeseg_types.training import CheckpointPolicy
from tests.support.run_folders import part


def _write(path: Path, value: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(path, {"network/w": torch.full((4, 4), value)}, {"step": 1})


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    weight = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    write_checkpoint(tmp_path / "c", {"network/w": weight}, {"history": [1]})
    found = read_checkpoint(tmp_path / "c")
    assert torch.equal(found.tensors["network/w"], weight)
    assert found.state == b'{"history": [1]}'
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "manifest.json",
        "state.json",
        "tensors.safetensors",
    ]


def test_the_newest_attempt_comes_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    attempts = [tmp_path / "0001-0001", tmp_path / "0002-0001"]
    # The second attempt went on from an older one: what it wrote is newer nevertheless.
    _write(attempts[0] / "checkpoints" / checkpoint_name(5, 50), 5.0)
    _write(attempts[1] / "checkpoints" / checkpoint_name(3, 30), 3.0)
    _write(attempts[1] / "checkpoints" / checkpoint_name(4, 40), 4.0)
    (attempts[1] / "checkpoints" / ".tmp-1-00009-00000090").mkdir()
    (attempts[1] / "checkpoints" / checkpoint_name(4, 40) / "state.json").write_text('{"step":2}')
    values = [found.tensors["network/w"][0, 0].item() for found in usable(lambda: attempts)]
    assert values == [3.0, 5.0]
    assert "state.json doesn't match its hash" in caplog.text or "bytes it had" in caplog.text


def test_the_library_reads_what_is_written_tensor_by_tensor(tmp_path: Path) -> None:
    tensors = {
        "cl": torch.randn(3, 2, 5, 4).to(memory_format=torch.channels_last),
        "permuted": torch.randn(3, 4).t(),
        "half": torch.randn(7).half(),
        "brain": torch.randn(3).bfloat16(),
        "double": torch.tensor(1.5, dtype=torch.float64),
        "flags": torch.tensor([True, False, True]),
        "counts": torch.arange(5),
        "bytes": torch.arange(3, dtype=torch.uint8),
        "empty": torch.empty(0, 3),
        "ü": torch.ones(1),
    }
    file = tmp_path / "f.safetensors"
    file.write_bytes(b"".join(tensor_file(tensors, {"epoch": "3"})))
    with safe_open(file, framework="pt") as opened:
        assert opened.metadata() == {"epoch": "3"}
        assert set(opened.keys()) == set(tensors)
        for name, tensor in tensors.items():
            found = opened.get_tensor(name)
            assert found.dtype == tensor.dtype
            assert torch.equal(found, tensor), name


def test_a_snapshot_stays_as_it_was_in_the_same_memory() -> None:
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    before = weight.clone()
    snapshot = Snapshot()
    taken = snapshot.take({"weights/w": weight, "network/w": weight, "s": torch.ones(())})
    snapshot.ready()
    weight.zero_()
    assert torch.equal(taken["weights/w"], before)
    assert taken["weights/w"] is taken["network/w"]
    assert taken["weights/w"].stride() == weight.stride()
    again = snapshot.take({"weights/w": weight})
    assert again["weights/w"].data_ptr() == taken["weights/w"].data_ptr()
    assert not again["weights/w"].any()
    larger = snapshot.take({"weights/w": torch.ones(9)})
    assert torch.equal(larger["weights/w"], torch.ones(9))


def test_a_failed_step_is_tried_again_and_what_comes_after_it_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kubeseg_trainer.engine.writer.RETRY", 0.01)
    done: list[str] = []
    room = threading.Event()
    tried = threading.Event()

    def first() -> None:
        tried.set()
        if not room.is_set():
            raise StorageError("no room to write it")
        done.append("first")

    writer = Writer()
    writer.start([first, lambda: done.append("second")])
    assert tried.wait(20)
    assert writer.busy
    room.set()
    writer.wait()
    assert done == ["first", "second"]
    assert "no room to write it. The training goes on" in caplog.text


def test_who_waits_gets_the_error_after_a_last_try() -> None:
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        raise StorageError("no room")

    writer = Writer()
    writer.start([fail, lambda: tries.append(100)])
    with pytest.raises(StorageError, match="no room"):
        writer.wait()
    assert sum(tries) in (1, 2)
    writer.wait()
    writer.start([[].clear, [].pop])
    with pytest.raises(IndexError):
        writer.wait()


def _history(*scores: float) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=number, step=number, train=part(0), validation=part(2 * score),
            learning_rate=0.1, seconds=1, samples_per_second=1, time="2026-01-01T00:00:00Z",
            attempt=1, start=1,
        )
        for number, score in enumerate(scores, start=1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "checkpoints", "policy", "kept"),
    [
        ((0.1, 0.3, 0.2), [3], {}, {2, 3}),
        # Someone may go on from the checkpoint of epoch 2, whose best is 1.
        ((0.2, 0.1, 0.3, 0.4), [2, 4], {}, {1, 2, 4}),
        ((0.2, 0.1, 0.3, 0.4), [4], {}, {4}),
        ((0.2, 0.1, 0.3, 0.4), [4], {"keep_best": 2}, {3, 4}),
        ((0.2, 0.1, 0.3, 0.4), [], {"keep_best": 3}, {1, 3, 4}),
        ((0.2, 0.1, 0.3, 0.4), [2], {"keep_epochs": True}, {1, 2, 3, 4}),
        ((0.2, 0.1), [0, 0, 1], {}, {1, 2}),
        ((), [0], {}, set()),
    ],
)
def test_weights_stay_as_long_as_a_checkpoint_asks_for_them(
    scores: tuple[float, ...], checkpoints: list[int], policy: dict[str, int], kept: set[int]
) -> None:
    assert kept_weights(_history(*scores), checkpoints, CheckpointPolicy(**policy)) == kept


@pytest.mark.parametrize(
    ("found", "damaged", "keep", "stay"),
    [
        ("dcba", "", 2, "dc"),
        ("dcba", "", 9, "dcba"),
        # What is damaged doesn't count, and goes once enough others are there.
        ("dcba", "c", 2, "db"),
        ("dcba", "cb", 3, "dcba"),
        ("dc", "c", 1, "d"),
        ("c", "c", 1, "c"),
        ("", "", 1, ""),
    ],
)
def test_the_newest_good_checkpoints_stay(found: str, damaged: str, keep: int, stay: str) -> None:
    paths = [Path(name) for name in found]
    good = {path for path in paths if path.name not in damaged}
    kept, gone = surplus(paths, good, keep)
    assert [path.name for path in kept] == list(stay)
    assert sorted(kept + gone) == sorted(paths)


def test_by_time_only_where_it_is_asked_for() -> None:
    assert not checkpoint_due(CheckpointPolicy(), 1e9)
    assert not checkpoint_due(CheckpointPolicy(every_seconds=60), 59)
    assert checkpoint_due(CheckpointPolicy(every_seconds=60), 61)
    assert checkpoints_of([]) == []
