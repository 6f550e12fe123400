"""What the demo says of a TrainingJob's status."""

from __future__ import annotations

from typing import Any

import pytest

from kubeseg_local.demo.screen import bar, duration, sparkline
from kubeseg_local.demo.view import Follower, is_finished, obstacle
from kubeseg_types.status import TrainingJobStatus


def job(epoch: int = 0, val_iou: float = 0.5, **status: Any) -> dict[str, Any]:
    metrics = {
        "epoch": epoch,
        "trainLoss": 0.5,
        "valLoss": 0.75,
        "trainDice": 0.9,
        "valDice": 0.8,
        "valIou": val_iou,
    }
    full: dict[str, Any] = {
        "phase": "Running",
        "progress": {"epoch": epoch, "epochs": 4, "etaSeconds": 30},
    }
    if epoch:
        full["metrics"] = {"last": metrics, "best": metrics}
    return {"status": full | status}


def test_each_epoch_is_told_once() -> None:
    follower = Follower()
    lines = [follower.epoch_line(follower.take(job(epoch))) for epoch in (0, 1, 1, 2)]
    assert lines[0] is None
    assert lines[1] is not None
    assert "epoch   1/4  loss 0.500/0.750  val Dice 0.80 IoU 0.50  30 s left" in lines[1]
    assert lines[2] is None
    assert lines[3] is not None


def test_the_live_text_has_epoch_losses_metrics_best_and_what_is_left() -> None:
    follower = Follower()
    follower.take(job(1, 0.1))
    text = follower.live_text(follower.take(job(2, 0.9)), waited_s=10)
    for wanted in ("epoch  2/4", "20 s left", "0.500/0.750", "Dice 0.80 IoU 0.90 ▁█", "best 0.90"):
        assert wanted in text


def test_the_bar_moves_between_epochs_but_never_past_the_next() -> None:
    follower = Follower()
    status = follower.take(job(2))
    bars = [follower.live_text(status, waited).count("█") for waited in (0, 10, 1000)]
    assert bars == [10, 13, 15]


def test_what_holds_up_a_training_that_had_begun_is_told_once() -> None:
    condition = {
        "type": "Blocked",
        "status": "True",
        "reason": "Quota",
        "message": "the namespace's quota is used up",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    blocked = job(2, phase="Blocked", conditions=[condition])
    follower = Follower()
    jobs = [job(0, phase="Blocked"), job(2), blocked, blocked, job(2, phase="Starting"), job(3)]
    lines = [follower.hold_line(follower.take(each)) for each in jobs]
    words = "Quota: the namespace's quota is used up"
    assert lines == [None, None, f"  Blocked   {words}", None, "  goes on", None]
    text = follower.live_text(follower.take(blocked), waited_s=1000)
    assert words in text
    assert text.count("█") == 10


def test_before_anything_runs_the_operators_words_are_shown() -> None:
    condition = {
        "type": "Blocked",
        "status": "True",
        "reason": "Unschedulable",
        "message": "needs 3 CPUs",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = Follower().take({"status": {"phase": "Blocked", "conditions": [condition]}})
    assert Follower().live_text(status, 0) == "Blocked   Unschedulable: needs 3 CPUs"
    assert obstacle(status) == "Unschedulable: needs 3 CPUs"
    assert Follower().live_text(Follower().take({}), 0) == "Pending"


@pytest.mark.parametrize(
    ("phase", "over"), [("Succeeded", True), ("Failed", True), ("Retrying", False), (None, False)]
)
def test_what_ends_the_waiting(phase: str | None, over: bool) -> None:
    assert is_finished(TrainingJobStatus.model_validate({"phase": phase})) is over


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (80, "1m20s")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("share", "full"), [(-1, 0), (0, 0), (0.5, 10), (1, 20), (3, 20)])
def test_bar(share: float, full: int) -> None:
    assert bar(share) == "█" * full + "░" * (20 - full)


def test_sparkline_shows_the_newest() -> None:
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([0.0] * 30 + [1.0], width=3) == "▁▁█"
