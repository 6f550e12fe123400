from __future__ import annotations

from typing import Any

import pytest

from kubeseg_trainer.config import follow
from kubeseg_trainer.engine.decisions import best_of, kept_epochs, reason_to_end, stopped_early
from kubeseg_trainer.engine.loading import (
    Step,
    epoch_order,
    plan_steps,
    share_of_step,
    split_step,
)
from kubeseg_trainer.engine.report import duration, epoch_line
from kubeseg_trainer.engine.schedule import FLOOR, learning_rate
from kubeseg_types.trainer import EpochRecord, Part, TrainerConfig
from kubeseg_types.training import CheckpointPolicy, EarlyStopping, Scheduler


def history(*ious: float) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=number,
            step=number,
            train=_part(iou),
            validation=_part(iou),
            learning_rate=1e-3,
            seconds=2.0,
            samples_per_second=3.0,
            time="2026-01-01T00:00:00Z",
            attempt=1,
            start=1,
        )
        for number, iou in enumerate(ious, 1)
    ]


def _part(iou: float) -> Part:
    return Part(loss=0.5, dice=iou, iou=iou, samples=6, class_dice=[iou, None], class_iou=[iou, 0])


def config(**fields: Any) -> TrainerConfig:
    training = {"epochs": 9, **fields.pop("training", {})}
    base = {"job": "j", "uid": "u", "model": {}, "dataset": {"name": "d"}, "training": training}
    return TrainerConfig.model_validate(base | fields)


@pytest.mark.parametrize(
    ("ious", "best"), [((), None), ((0.2,), 1), ((0.2, 0.5, 0.5, 0.1), 2), ((0.0, 0.0), 1)]
)
def test_the_earlier_of_equal_epochs_is_best(ious: tuple[float, ...], best: int | None) -> None:
    found = best_of(history(*ious))
    assert (found.epoch if found else None) == best


@pytest.mark.parametrize(
    ("ious", "policy", "kept"),
    [
        ((0.1, 0.5, 0.3), {}, {2, 3}),
        ((0.1, 0.5, 0.3, 0.4), {"keepBest": 2}, {2, 4}),
        ((0.1, 0.5, 0.3), {"keepEpochs": True}, {1, 2, 3}),
        ((0.7,), {}, {1}),
        ((), {}, set()),
    ],
)
def test_best_and_newest_weights_stay(
    ious: tuple[float, ...], policy: dict[str, Any], kept: set[int]
) -> None:
    assert kept_epochs(history(*ious), CheckpointPolicy.model_validate(policy)) == kept


@pytest.mark.parametrize(
    ("ious", "patience", "delta", "stops"),
    [
        ((0.1, 0.2, 0.3), 1, 0.0, False),
        ((0.3, 0.2), 1, 0.0, True),
        ((0.3, 0.3), 1, 0.0, True),
        ((0.3, 0.2, 0.4), 2, 0.0, False),
        ((0.3, 0.32, 0.34), 2, 0.05, True),
        ((), 1, 0.0, False),
    ],
)
def test_early_stopping(ious: tuple[float, ...], patience: int, delta: float, stops: bool) -> None:
    rule = EarlyStopping(patience=patience, min_delta=delta)
    assert stopped_early(history(*ious), rule) == stops
    assert not stopped_early(history(*ious), None)


@pytest.mark.parametrize(
    ("fields", "done", "word"),
    [
        ({}, 8, None),
        ({}, 9, "all 9 epochs"),
        ({"training": {"epochs": 3}}, 3, "all 3 epochs"),
        ({"training": {"epochs": 3}}, 5, "trained 5 epochs (epochs was lowered to 3)"),
        ({"stop": True}, 0, None),
        ({"stop": True}, 1, "stopped on request"),
        ({"training": {"earlyStopping": {"patience": 2}}}, 5, "stopped early"),
    ],
)
def test_why_a_training_ends(fields: dict[str, Any], done: int, word: str | None) -> None:
    reason = reason_to_end(config(**fields), history(*[0.5] * done))
    assert (reason is None) if word is None else (reason is not None and word in reason)


@pytest.mark.parametrize(
    ("newer", "epochs", "stop"),
    [
        ({"generation": 2, "training": {"epochs": 4}}, 4, False),
        ({"generation": 2, "stop": True}, 9, True),
        ({"generation": 0, "training": {"epochs": 4}}, 9, False),
    ],
)
def test_only_live_fields_of_newer_generations_are_followed(
    newer: dict[str, Any], epochs: int, stop: bool
) -> None:
    other = config(model={"encoder": "resnet50"}, **newer)
    followed = follow(config(generation=1), other)
    assert (followed.training.epochs, followed.stop) == (epochs, stop)
    assert followed.model.encoder == "resnet34"


@pytest.mark.parametrize(
    ("scheduler", "done", "rate"),
    [
        (Scheduler(name="Constant"), 7.0, 1.0),
        (Scheduler(name="Cosine"), 0.0, 1.0),
        (Scheduler(name="Cosine"), 5.0, FLOOR + (1 - FLOOR) / 2),
        (Scheduler(name="Cosine"), 10.0, FLOOR),
        (Scheduler(name="Cosine"), 12.0, FLOOR),
        (Scheduler(name="Polynomial"), 10.0, FLOOR),
        (Scheduler(name="Cosine", warmup_epochs=2), 1.0, 0.5),
        (Scheduler(name="Cosine", warmup_epochs=2), 0.0, FLOOR),
        (Scheduler(name="Cosine", warmup_epochs=2), 2.0, 1.0),
        (Scheduler(name="Cosine", warmup_epochs=99), 5.0, 0.5),
    ],
)
def test_the_rate_is_a_function_of_the_position(
    scheduler: Scheduler, done: float, rate: float
) -> None:
    assert learning_rate(scheduler, peak=1.0, done=done, epochs=10) == pytest.approx(rate)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    order = epoch_order(50, seed=3, epoch=2)
    assert sorted(order) == list(range(50))
    assert order == epoch_order(50, seed=3, epoch=2)
    assert order != epoch_order(50, seed=3, epoch=3)
    assert order != epoch_order(50, seed=4, epoch=2)


@pytest.mark.parametrize(
    ("count", "accumulate", "sizes"),
    [(8, 1, [8]), (8, 3, [3, 3, 2]), (2, 4, [1, 1]), (1, 1, [1]), (0, 2, [])],
)
def test_a_batch_falls_into_even_parts(count: int, accumulate: int, sizes: list[int]) -> None:
    assert [len(part) for part in split_step(range(count), accumulate)] == sizes


@pytest.mark.parametrize("position", [0, 4, 8, 10])
def test_no_sample_is_lost_or_repeated_after_a_break(position: int) -> None:
    order = epoch_order(11, seed=0, epoch=1)
    steps = plan_steps(order, position=position, batch_size=4, accumulate=2)
    assert [i for step in steps for part in step.parts for i in part] == order[position:]


@pytest.mark.parametrize(
    ("count", "ranks", "shares"),
    [(8, 2, [4, 4]), (5, 3, [2, 2, 1]), (1, 3, [1, 0, 0]), (0, 2, [0, 0]), (3, 1, [3])],
)
def test_ranks_share_a_step_evenly(count: int, ranks: int, shares: list[int]) -> None:
    samples = list(range(count))
    parts = [share_of_step(samples, rank, ranks) for rank in range(ranks)]
    assert [len(part) for part in parts] == shares
    assert [i for part in parts for i in part] == samples


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_all_ranks_together_do_what_one_does(ranks: int) -> None:
    order = epoch_order(23, seed=0, epoch=1)

    def plan(rank: int, ranks: int) -> list[Step]:
        return plan_steps(order, position=5, batch_size=7, accumulate=2, rank=rank, ranks=ranks)

    whole = plan(0, 1)
    for number, steps in enumerate(zip(*(plan(rank, ranks) for rank in range(ranks)), strict=True)):
        together = [i for step in steps for part in step.parts for i in part]
        assert together == [i for part in whole[number].parts for i in part]
        assert {step.size for step in steps} == {len(together)}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (41.4, "41s"), (720, "12m"), (11_100, "3h05m")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_epochs_line() -> None:
    line = epoch_line(
        history(0.7)[0].model_copy(update={"waiting": 0.014, "memory_bytes": 2**31}),
        epochs=5,
        class_names=["road", "pole"],
        checkpoint_seconds=None,
        eta=90,
    )
    assert line == (
        "epoch 1/5  loss 0.5000/0.5000  dice 0.700/0.700  iou 0.700  worst pole 0.00  "
        "lr 1.0e-03  3 img/s  data 1%  mem 2.0G  eta 90s"
    )
