"""Memory that runs out in the middle of a training.

There is no GPU here: the task raises what one would, after the pass that would be too large has
moved batch norm's statistics. What this can't show is that a GPU's memory is free again afterwards.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kubeseg_trainer.engine.task import Batch
from kubeseg_trainer.tasks.segmentation.task import SegmentationTask
from kubeseg_types.exit_codes import ExitCode
from tests.support.datasets import make_dataset
from tests.support.trainings import Place, config_of, terminate

#: Dropout, clipping and an average, so that all that a step touches counts. 8 samples to train on.
TRAINING: dict[str, Any] = {"epochs": 2, "batchSize": 5, "clip": 1.0, "ema": {"decay": 0.9}}
FULL: dict[str, Any] = {
    "model": {"architecture": "FPN", "encoder": "tu-test_resnet"},
    "training": TRAINING,
}
ERROR = "CUDA out of memory. Tried to allocate 2.00 GiB."


class SmallMemory:
    """Room for `limit` samples a pass, from pass `after` on, in training or in validation."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        limit: int,
        *,
        after: int = 0,
        training: bool = True,
        stop_in: int | None = None,
    ) -> None:
        """`stop_in`: the pass in which SIGTERM comes."""
        self.failures = 0
        passes = 0
        real = SegmentationTask.step

        def step(task: SegmentationTask, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            nonlocal passes
            passes += 1
            if passes == stop_in:
                terminate()
            result = real(task, batch)
            if passes > after and len(batch["image"]) > limit and task.network.training == training:
                self.failures += 1
                raise torch.OutOfMemoryError(ERROR)
            return result

        patch.setattr(SegmentationTask, "step", step)


def _result(place: Place, epoch: int = 2) -> tuple[list[Any], dict[str, str]]:
    scores = [(e.train, e.validation, e.learning_rate, e.accumulate) for e in place.history()]
    # Tensor by tensor: the order of a safetensors header's metadata is another each time.
    tensors = load_file(place.weights(epoch))
    return scores, {
        name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in tensors.items()
    }


@pytest.fixture
def other(tmp_path: Path) -> Place:
    """Another workspace with the same data."""
    result = Place(tmp_path / "other")
    make_dataset(result.workspace, count=9)
    return result


def test_a_healed_run_equals_one_that_was_asked_for_so_many_parts(
    place: Place, other: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing half applied, nothing counted twice."""
    with pytest.MonkeyPatch.context() as patch:
        memory = SmallMemory(patch, limit=2)
        assert place.train(config_of(**FULL)) == 0
    # 5 at once, then 3: too much.
    assert memory.failures == 2
    asked = {**FULL, "training": {**TRAINING, "accumulate": 4}}
    assert other.train(config_of(**asked)) == 0
    assert _result(place) == _result(other)
    notes = place.record().notes
    assert "computed in 4 parts instead of 2" in notes[-1]
    assert ERROR in notes[0]
    assert "computed in 4 parts instead of 2" in caplog.text


@pytest.mark.parametrize(
    ("stop_in", "again"),
    [
        # Epoch 1 has 4 passes in training, 2 in validation. Memory runs out in the first of epoch
        # 2's first step, which is then done in 4 parts: stopped in the third of them, in the last.
        (10, 1),
        (11, 0),
    ],
)
def test_what_was_healed_in_the_middle_of_an_epoch_resumes_bit_for_bit(
    place: Place, other: Place, stop_in: int, again: int
) -> None:
    full = {**FULL, "training": {**TRAINING, "batchSize": 4, "accumulate": 2}}
    with pytest.MonkeyPatch.context() as patch:
        SmallMemory(patch, limit=1, after=6)
        assert other.train(config_of(**full)) == 0
    with pytest.MonkeyPatch.context() as patch:
        SmallMemory(patch, limit=1, after=6, stop_in=stop_in)
        assert place.train(config_of(**full)) == ExitCode.INTERRUPTED
    with pytest.MonkeyPatch.context() as patch:
        memory = SmallMemory(patch, limit=1)
        assert place.train(config_of(attempt=2, **full)) == 0
    # What a checkpoint was written after is known to the resumed run.
    assert memory.failures == again
    assert any("4 parts" in note for note in place.record().notes)
    assert _result(place) == _result(other)


def test_parts_asked_for_anew_are_those_that_count(place: Place) -> None:
    with pytest.MonkeyPatch.context() as patch:
        SmallMemory(patch, limit=2)
        assert place.train(config_of(**FULL)) == 0
    more = {**FULL, "training": {**TRAINING, "epochs": 3, "accumulate": 2}}
    assert place.train(config_of(attempt=2, **more)) == 0
    assert [entry.accumulate for entry in place.history()] == [4, 4, 2]


def test_memory_that_runs_out_in_the_validation(place: Place) -> None:
    with pytest.MonkeyPatch.context() as patch:
        memory = SmallMemory(patch, limit=1, training=False)
        config = config_of(
            training={"epochs": 2, "batchSize": 2}, dataset={"name": "discs", "testSize": 0.7}
        )
        assert place.train(config) == 0
    assert memory.failures == 1
    assert all(entry.train.samples + entry.validation.samples == 9 for entry in place.history())
    assert place.history()[-1].accumulate == 2


def test_the_average_is_validated_and_kept_and_the_checkpoint_holds_both(place: Place) -> None:
    assert place.train(config_of(**FULL)) == 0
    kept = load_file(place.weights(2))
    newest = max(place.run_folder().glob("attempts/*/checkpoints/*"))
    held = load_file(newest / "tensors.safetensors")
    different = 0
    for name, value in kept.items():
        average = held.get(f"ema/{name}")
        if average is None:
            # A buffer.
            assert torch.equal(value, held[f"network/{name}"]), name
        else:
            assert torch.equal(value, average), name
            different += int(not torch.equal(value, held[f"network/{name}"]))
    assert different > 10
