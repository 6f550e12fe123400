"""What attempts cost, what was lost, and what would be lost now."""

from __future__ import annotations

from typing import Any

import pytest

from kubeseg_operator.decide import Ask, Observed
from tests.support.operator_decisions import WORDS, ended, following, look, of
from tests.support.operator_objects import (
    at,
    child,
    ended_attempt,
    job,
    last_words,
    progress,
    report,
    running_attempt,
    running_pod,
)

HOUR = 3600
#: The attempt began an hour ago; its pod says that it ended a second ago.
BEGUN = running_attempt(startTime=at(-HOUR), gpus=4)


def point(seconds: float, epoch: int = 3) -> dict[str, Any]:
    return {"epoch": epoch, "step": 0, "time": at(seconds)}


@pytest.mark.parametrize(
    ("code", "words", "known", "seconds", "lost"),
    [
        (0, WORDS, None, 3599, 0),
        (1, "", None, 3599, 3599),  # no checkpoint at all
        (1, "", point(-600), 3599, 599),
        (1, "", point(-2 * HOUR), 3599, 3599),  # of an attempt before this one
        (1, "", point(500), 3599, 0),  # the pod's clock is ahead
        (75, last_words(75, epoch=4, checkpoint=point(-2)), point(-600), 3599, 1),
        (3, last_words(3), None, 3599, 3599),
    ],
)
def test_an_attempts_cost(
    code: int, words: str, known: dict[str, Any] | None, seconds: int, lost: int
) -> None:
    told = {"progress": progress(3, checkpoint=known)} if known else {}
    decision = look(job(status={"attempts": [BEGUN], **told}), ended(code, words))
    first = decision.status.attempts[0]
    assert (first.seconds, first.lost_seconds) == (seconds, lost)
    assert first.gpu_hours == pytest.approx(4 * seconds / HOUR, abs=1e-4)
    assert first.lost_gpu_hours == pytest.approx(4 * lost / HOUR, abs=1e-4)
    totals = decision.status.totals
    assert totals is not None
    assert (totals.attempts, totals.seconds, totals.lost_seconds) == (1, seconds, lost)


def test_totals_outlive_the_attempts_that_are_listed() -> None:
    old = {"attempts": 40, "seconds": 1000, "lostSeconds": 10, "gpuHours": 9.5, "lostGpuHours": 0.5}
    attempts = [ended_attempt(number, epoch=number) for number in range(31, 40)]
    status = {"attempts": [*attempts, running_attempt(40, startTime=at(-HOUR))], "totals": old}
    decision = look(
        job(status=status),
        Observed(
            children=(child(attempt=40, finished="Complete"),), confirmed=frozenset({Ask.PODS})
        ),
    )
    assert decision.status.totals is not None
    assert (decision.status.totals.attempts, decision.status.totals.seconds) == (41, 1000 + HOUR)
    assert decision.status.totals.gpu_hours == 9.5


@pytest.mark.parametrize("suspend", [False, True])
def test_a_start_that_was_never_seen_is_told_by_the_pod_that_has_ended(suspend: bool) -> None:
    status = {"attempts": [running_attempt(startTime=None)]}
    first = look(job(spec={"suspend": suspend}, status=status), ended(75)).status.attempts[0]
    assert (first.start_time, first.seconds) == (at(-20), 19)


@pytest.mark.parametrize(
    ("old", "gpus", "words"),
    [
        (None, 4, ""),
        ({"attempts": 1, "seconds": 120}, 0, "; 2 attempts, 1h1m"),
        (
            {"attempts": 1, "seconds": 120, "lostSeconds": 60},
            0,
            "; 2 attempts, 1h1m, 1m of them lost",
        ),
        (
            {"attempts": 1, "seconds": 120, "gpuHours": 2.0, "lostGpuHours": 0.25},
            4,
            "; 2 attempts, 1h1m, 6.0 GPU-hours, 0.2 of them lost",
        ),
    ],
)
def test_a_job_that_has_succeeded_tells_what_it_took(
    old: dict[str, Any] | None, gpus: int, words: str
) -> None:
    attempts = [running_attempt(startTime=at(-HOUR), gpus=gpus)]
    decision = look(job(status={"attempts": attempts, "totals": old}), ended(0, WORDS))
    best = "trained 12 of 12 epochs; best validation IoU 0.830 at epoch 11"
    assert of(decision, "Complete").message == best + words


def test_an_attempt_that_never_ran_cost_nothing() -> None:
    known = job(status={"attempts": [running_attempt(startTime=None)]})
    first = look(known, Observed(confirmed=frozenset({Ask.CHILD, Ask.PODS}))).status.attempts[0]
    assert (first.seconds, first.gpu_hours) == (0, 0.0)


def test_gpus_are_noted_as_the_attempt_is_reserved() -> None:
    (first,) = look(job(spec={"resources": {"gpus": 1}, "preflight": "Never"})).status.attempts
    assert first.gpus == 1
    (first,) = look(job()).status.attempts
    assert first.gpus == 0


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, {"since": at(-20), "epochs": 0, "steps": 0}),
        ({"epoch": 2, "step": 3}, {"since": at(-20), "epochs": 2, "steps": 23}),
        (
            {"epoch": 2, "step": 3, "checkpoint": {"epoch": 2, "step": 20, "time": at(-4)}},
            {"since": at(-4), "epochs": 0, "steps": 3},
        ),
        (
            {"epoch": 2, "step": 3, "checkpoint": {"epoch": 1, "step": 10, "time": at(-90)}},
            {"since": at(-20), "epochs": 1, "steps": 13},
        ),
        # A pod may claim any number: the API server takes what comes of it.
        ({"epoch": 10**6, "step": 3, "steps_per_epoch": 2**53}, {"steps": 2**53}),
    ],
)
def test_what_would_be_lost_now(told: dict[str, Any], expected: dict[str, Any]) -> None:
    known = job(status={"attempts": [running_attempt(startEpoch=0)]})
    seen = Observed(children=(child(),), pods=(running_pod(known),), progress=report(**told))
    decision = look(known, seen)
    assert decision.status.at_risk is not None
    found = decision.status.at_risk.to_dict()
    assert {name: found[name] for name in expected} == expected
    # No clock's tick is a write.
    assert look(following(decision, known), seen, after=9).status == decision.status


def test_nothing_is_at_risk_where_nothing_runs() -> None:
    status = {"attempts": [BEGUN], "atRisk": {"since": at(-9), "epochs": 1, "steps": 1}}
    assert look(job(status=status), ended(1)).status.at_risk is None
