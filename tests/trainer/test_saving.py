"""What is written behind a running training: in which order, what of it stays, what a stop gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from torch import Tensor

from kubeseg_trainer.engine import store as store_module
from kubeseg_trainer.engine.board import Board
from kubeseg_trainer.engine.checkpoint import checkpoints_of, parse_name, read_checkpoint
from kubeseg_trainer.engine.tensor_file import tensor_file
from kubeseg_trainer.files import Buffer, sha256_of
from kubeseg_trainer.run_directory import attempt_folders
from kubeseg_types.exit_codes import ExitCode
from tests.support.trainings import Place, after_epoch, at_beat, config_of, terminate

SCANNED = 9
IN_FIRST_EPOCH = SCANNED + 3


def _checkpoints(place: Place) -> list[tuple[int, int] | None]:
    found = checkpoints_of(attempt_folders(place.run_folder()))
    return [parse_name(path.name) for path in reversed(found)]


def _weights(place: Place) -> list[int]:
    """Epochs whose weights are there."""
    return [
        entry.epoch
        for entry in place.history()
        if entry.weights and (place.workspace / entry.weights.path).is_file()
    ]


@pytest.mark.parametrize(
    ("policy", "edit", "checkpoints", "weights"),
    [
        ({}, {}, [3, 4], {3, 4}),
        ({"keepLast": 1}, {}, [4], {4}),
        ({"everyEpochs": 3}, {}, [3, 4], {3, 4}),
        ({"everyEpochs": 9, "keepEpochs": True}, {}, [4], {1, 2, 3, 4}),
        # Edited within the first epoch: counts from its end.
        ({}, {"keepLast": 3}, [2, 3, 4], {2, 3, 4}),
        ({"keepLast": 9}, {"keepLast": 1, "everyEpochs": 2}, [4], {4}),
        ({}, {"keepEpochs": True, "everyEpochs": 4}, [4], {1, 2, 3, 4}),
        ({"everyEpochs": 9}, {"everyEpochs": 1, "keepLast": 100}, [1, 2, 3, 4], {1, 2, 3, 4}),
    ],
)
def test_the_policy_may_be_edited_while_it_trains(
    place: Place,
    policy: dict[str, Any],
    edit: dict[str, Any],
    checkpoints: list[int],
    weights: set[int],
) -> None:
    training: dict[str, Any] = {"training": {"epochs": 4}}

    def change() -> None:
        place.configure(config_of(generation=2, checkpoint=edit, **training))

    with at_beat(IN_FIRST_EPOCH if edit else 10**9, change):
        assert place.train(config_of(checkpoint=policy, **training)) == 0
    assert [position and position[0] for position in _checkpoints(place)] == checkpoints
    # Beside what the policy asks for: what those need who go on from a checkpoint that stays.
    needed = {best for epoch in checkpoints for best in (epoch, _best_until(place, epoch))}
    assert set(_weights(place)) >= weights | needed
    if not edit:
        assert set(_weights(place)) == weights | needed
    assert place.message()["checkpoint"]["epoch"] == 4


def _best_until(place: Place, epoch: int) -> int:
    history = place.history()[:epoch]
    return max(history, key=lambda entry: (entry.validation.iou, -entry.epoch)).epoch


def test_early_stopping_may_be_taken_back(place: Place) -> None:
    patient: dict[str, Any] = {
        "training": {"epochs": 4, "earlyStopping": {"patience": 2, "minDelta": 1.0}}
    }

    def change() -> None:
        place.configure(config_of(generation=2, training={"epochs": 4}))

    with at_beat(IN_FIRST_EPOCH, change):
        assert place.train(config_of(**patient)) == 0
    assert len(place.history()) == 4


def test_an_epoch_is_told_once_all_of_it_is_there(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    real = Board.update

    def update(self: Board, *, notify: bool = False, **fields: Any) -> None:
        last, pointer = fields.get("last"), fields.get("checkpoint")
        if last is not None:
            assert last.weights is not None
            assert sha256_of(place.workspace / last.weights.path) == last.weights.sha256
            lines = (place.workspace / place.record().metrics_file).read_text().splitlines()
            assert len(lines) == last.epoch == fields["epoch"]
            told.append(last.epoch)
        if pointer is not None:
            newest = checkpoints_of(attempt_folders(place.run_folder()))[0]
            assert parse_name(newest.name) == (pointer.epoch, pointer.step)
            read_checkpoint(newest)
            told.append(-pointer.epoch)
        real(self, notify=notify, **fields)

    monkeypatch.setattr(Board, "update", update)
    assert place.train(config_of(training={"epochs": 3})) == 0
    assert told == [1, -1, 2, -2, 3, -3]


def test_a_stop_while_an_epoch_is_written_saves_that_and_what_came_after(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[Buffer]:
        parts = tensor_file(tensors, metadata)
        yield next(parts)
        # Here the training has begun the next epoch, or soon will.
        terminate()
        yield from parts

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "tensor_file", slow)
        assert place.train(config_of(training={"epochs": 3})) == ExitCode.INTERRUPTED
    message = place.message()
    assert message["epoch"] == message["checkpoint"]["epoch"] == 1
    newest = _checkpoints(place)[-1]
    assert newest == (1, message["checkpoint"]["step"])
    assert place.history()[0].weights is not None
    assert place.train(config_of(attempt=2, training={"epochs": 3})) == 0
    assert [entry.attempt for entry in place.history()] == [1, 2, 2]


def test_an_error_in_the_training_leaves_what_was_being_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise MemoryError

    # Right after the first epoch's end, while its files are being written.
    with after_epoch(1, fail):
        code = place.train(config_of(training={"epochs": 3}))
    assert code == ExitCode.OUT_OF_MEMORY
    assert len(place.history()) == 1
    assert place.message()["checkpoint"]["epoch"] == 1
