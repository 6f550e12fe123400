"""Several processes train together: what one would do alone, and nobody is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kubeseg_types.exit_codes import ExitCode
from tests.support.datasets import make_dataset
from tests.support.line_task import LineKind
from tests.support.ranks import Ranks
from tests.support.trainings import Place, at_beat, config_of, terminate

#: 11 points in batches of 5: the last batch has one, and all ranks but one nothing to do.
POINTS = 11
EPOCHS = 3


def _config(**more: Any) -> dict[str, Any]:
    training = {"epochs": EPOCHS, "batchSize": 5, "learningRate": 0.05, **more.pop("training", {})}
    return config_of(training=training, **more)


def _final(place: Place) -> dict[str, torch.Tensor]:
    return load_file(place.weights(EPOCHS))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("alone"))
    assert place.train(_config(), kind=LineKind()) == 0
    return place


@pytest.fixture
def ranks(tmp_path: Path) -> Ranks:
    return Ranks(tmp_path)


def _assert_same_training(place: Place, alone: Place) -> None:
    for name, value in _final(alone).items():
        torch.testing.assert_close(_final(place)[name], value, rtol=1e-5, atol=1e-6, msg=name)
    for mine, theirs in zip(place.history(), alone.history(), strict=True):
        # Counts are whole numbers, and losses sums in float64 of what differs in the last digits.
        for part in ("train", "validation"):
            one, other = getattr(mine, part), getattr(theirs, part)
            assert (one.iou, one.dice, one.samples) == (other.iou, other.dice, other.samples)
            assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert (mine.step, mine.learning_rate) == (theirs.step, theirs.learning_rate)


@pytest.mark.parametrize(("size", "accumulate"), [(2, 1), (3, 2)])
def test_they_do_what_one_does_alone(
    ranks: Ranks, alone: Place, size: int, accumulate: int
) -> None:
    config = _config(training={"accumulate": accumulate})
    assert ranks.train(config, size) == [0] * size, ranks.logs()
    _assert_same_training(ranks.place, alone)
    assert len(ranks.digests()) == 1
    everything = [(e, i) for e in range(1, EPOCHS + 1) for i in range(POINTS)]
    assert ranks.seen() == everything
    assert ranks.place.record().hardware["processes"] == size
    assert torch.equal(_final(ranks.place)["idle"], torch.ones(3))


def test_a_signal_to_one_stops_all_and_another_number_goes_on(ranks: Ranks, alone: Place) -> None:
    # Beats: one of the assembly, one a step, and in validation.
    assert ranks.train(_config(), 2, at={1: (3, "terminate")}) == [75, 75], ranks.logs()
    assert ranks.place.record().state == "Interrupted"
    done = len(ranks.seen())
    assert 0 < done < POINTS

    seen = ranks.folder / "rank-alone.seen"
    with at_beat(7, terminate):
        assert ranks.place.train(_config(attempt=2), kind=LineKind(seen=seen)) == 75
    assert POINTS < len(ranks.seen()) < 2 * POINTS

    assert ranks.train(_config(attempt=3), 3) == [0, 0, 0], ranks.logs()
    assert ranks.seen() == [(e, i) for e in range(1, EPOCHS + 1) for i in range(POINTS)]
    _assert_same_training(ranks.place, alone)
    assert [entry.attempt for entry in ranks.place.history()] == [2, 3, 3]


@pytest.mark.parametrize("killed", [0, 2])
def test_the_death_of_one_ends_the_others(ranks: Ranks, killed: int) -> None:
    codes = ranks.train(_config(training={"epochs": 100_000}), 3, at={killed: (9, "kill")})
    expected = [75, 75, 75]
    expected[killed] = -9
    assert codes == expected, ranks.logs()
    for other in {0, 1, 2} - {killed}:
        text = (ranks.folder / f"rank-{other}.termination").read_text()
        assert f"rank {killed}: has died" in text


def test_an_error_of_one_is_the_error_of_all(ranks: Ranks) -> None:
    # The first step's samples are the order's first five: one of rank 1's.
    from kubeseg_trainer.engine.loading import epoch_order

    poison = epoch_order(POINTS, seed=0, epoch=1)[4]
    assert ranks.train(_config(), 2, poison=poison) == [ExitCode.NON_FINITE] * 2, ranks.logs()
    assert "rank 1: the loss became nan in epoch 1, step 1, on the batch" in str(
        ranks.place.record().message
    )


@pytest.mark.parametrize(
    ("most", "parts"),
    # A step's five points are three and two, and so only one of them is too many; the validation's
    # first batch is five.
    [((100, 2), 2), ((1, 100), 4), ((1, 1), 4)],
)
def test_what_one_has_no_memory_for_all_do_in_smaller_parts(
    ranks: Ranks, tmp_path: Path, most: tuple[int, int], parts: int
) -> None:
    single = Place(tmp_path / "single")
    config = _config(training={"ema": {"decay": 0.5}, "clip": 0.5})
    assert single.train(config, kind=LineKind()) == 0
    assert ranks.train(config, 2, most=most) == [0, 0], ranks.logs()
    _assert_same_training(ranks.place, single)
    assert ranks.place.history()[-1].accumulate == parts
    assert len(ranks.digests()) == 1


def test_a_live_edit_reaches_all(ranks: Ranks) -> None:
    config = _config(training={"epochs": 100_000})
    edited = _config(generation=2, training={"epochs": 2})
    assert ranks.train(config, 2, at={0: (3, edited)}) == [0, 0], ranks.logs()
    assert len(ranks.place.history()) == 2
    assert ranks.place.record().generation == 2
    assert len(ranks.digests()) == 1


def test_statistics_of_batch_norm_are_those_of_all_samples(ranks: Ranks, tmp_path: Path) -> None:
    """Of the first layer, whose input no weight changes: the mean is that of one process."""
    single = Place(tmp_path / "single")
    config = _config(training={"batchSize": 4, "epochs": EPOCHS})
    assert single.train(config, kind=LineKind(norm=True, train=12)) == 0
    assert ranks.train(config, 2, norm=True, train=12) == [0, 0], ranks.logs()
    mine, theirs = _final(ranks.place), _final(single)
    torch.testing.assert_close(mine["norm.running_mean"], theirs["norm.running_mean"])
    assert mine["norm.num_batches_tracked"] == theirs["norm.num_batches_tracked"] == 9
    assert torch.equal(mine["scale"], torch.tensor(0.1))
    assert len(ranks.digests()) == 1


def test_segmentation_goes_on_with_another_number(ranks: Ranks) -> None:
    make_dataset(ranks.place.workspace, count=9)
    training = {"epochs": 2, "accumulate": 2, "batchSize": 4}
    # Of the 9 looks at a pair, the assembly, and the first of the step's two parts.
    at = {0: (12, "terminate")}
    codes = ranks.train(_config(training=training), 2, at=at, segmentation=True)
    assert codes == [75, 75], ranks.logs()
    codes = ranks.train(_config(attempt=2, training=training), 3, segmentation=True)
    assert codes == [0, 0, 0], ranks.logs()
    assert [entry.train.samples for entry in ranks.place.history()] == [8, 8]
    assert [entry.validation.samples for entry in ranks.place.history()] == [1, 1]


def test_who_waits_in_vain_says_for_whom(ranks: Ranks) -> None:
    env = {"KUBESEG_RENDEZVOUS_TIMEOUT": "1"}
    assert ranks.train(_config(), 3, ranks=[0, 2], env=lambda _: env) == [75, 75]
    text = (ranks.folder / "rank-0.termination").read_text()
    assert "2 of 3 processes are here after 1 s" in text


def test_processes_that_do_not_fit_together_say_why(ranks: Ranks) -> None:
    """The third believes to be one of two, or the second once more."""
    wrong = [
        ({"WORLD_SIZE": "2", "RANK": "1"}, "rank 1 was started as one of 2 processes"),
        ({"RANK": "1"}, "two processes say that they are rank 1"),
    ]
    for env, text in wrong:
        codes = ranks.train(
            _config(),
            3,
            env=lambda rank, env=env: {  # type: ignore[misc] # mypy can't infer a default's type
                "KUBESEG_RENDEZVOUS_TIMEOUT": "3",
                **(env if rank == 2 else {}),
            },
        )
        assert sorted(codes) == [2, 75, 75], ranks.logs()
        assert text in ranks.logs()


def test_a_batch_that_is_too_small_for_all_is_refused(ranks: Ranks) -> None:
    assert ranks.train(_config(training={"batchSize": 1}), 2) == [2, 2]
    assert "spec.training.batchSize: must be at least 2" in ranks.place.record().message  # type: ignore[operator]
