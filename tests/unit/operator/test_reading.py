"""What people and probes read: conditions, durations, events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from kubeseg_operator.clock import human, parse, stamp
from kubeseg_operator.conditions import Standing, describe, meaningful
from kubeseg_operator.metrics import OperatorMetrics
from kubeseg_operator.probes import Servers
from kubeseg_operator.story import event_manifest, happenings
from kubeseg_types.status import Phase, TrainingJobStatus
from tests.support.operator_objects import (
    NOW,
    at,
    attempt,
    condition,
    ended_attempt,
    job,
    progress,
    running_attempt,
)
from tests.support.operator_process import free_port


def status(**fields: Any) -> TrainingJobStatus:
    return TrainingJobStatus.model_validate(fields)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-5, "0s"),
        (59.4, "59s"),
        (60, "1m"),
        (719, "11m"),
        (3600, "1h"),
        (11_100, "3h5m"),
        (86_400, "1d"),
        (187_200, "2d4h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert human(seconds) == text


def test_times() -> None:
    assert stamp(datetime(2026, 1, 2, 3, 4, 5, 999, UTC)) == "2026-01-02T03:04:05Z"
    assert parse("2026-01-02T03:04:05.5Z") == datetime(2026, 1, 2, 3, 4, 5, 500_000, UTC)
    assert (parse(None), parse("soon")) == (None, None)
    assert parse("0001-01-01T00:00:00+23:00") is None  # before the first year, in UTC


def test_a_transitions_time_moves_only_when_the_condition_does() -> None:
    first = describe(status(), status(), Standing(Phase.STARTING, "S", "x"), 1, NOW)
    later = NOW.replace(hour=9)
    second = describe(first, first, Standing(Phase.RUNNING, "R", "y"), 1, later)
    moved = {c.type for c in second.conditions if c.last_transition_time == stamp(later)}
    assert moved == {"Running"}
    third = describe(second, second, Standing(Phase.RUNNING, "R", "z"), 2, later.replace(hour=10))
    assert {c.last_transition_time for c in third.conditions} == {stamp(NOW), stamp(later)}
    assert {c.observed_generation for c in third.conditions} == {2}


def test_a_uid_alone_is_not_worth_a_write() -> None:
    old = status(attempts=[attempt()])
    assert not meaningful(old, status(attempts=[attempt(uid="u")]))
    assert meaningful(old, status(attempts=[attempt(uid="u", node="n")]))
    assert meaningful(status(attempts=[attempt(uid="u")]), status(attempts=[attempt(uid="v")]))
    assert not meaningful(old, old)


def test_a_job_that_is_stopped_while_suspended_has_not_been_resumed() -> None:
    before = status(conditions=[condition("Suspended")])
    for end, event in (("Complete", "Succeeded"), ("Failed", "Failed")):
        after = status(conditions=[condition("Suspended", "False"), condition(end)])
        assert [told.reason for told in happenings(before, after, NOW)] == [event]


RUNS = condition("Running") | {"message": "attempt 2 runs on node gpu-1, from epoch 17"}
STORIES: list[tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = [
    ({}, {"attempts": [attempt()]}, []),
    (
        {"attempts": [attempt(2)]},
        {"attempts": [running_attempt(2)], "conditions": [RUNS]},
        [("AttemptStarted", "attempt 2 on node gpu-1, from epoch 17")],
    ),
    (
        {"attempts": [running_attempt()]},
        {
            "attempts": [ended_attempt(reason="Drained", epoch=17, node="gpu-3"), attempt(2)],
            "progress": progress(17, checkpoint={"epoch": 17, "time": at(-4)}),
        },
        [
            (
                "Interrupted",
                (
                    "attempt 1 on node gpu-3 interrupted at epoch 17 (Drained); "
                    "newest checkpoint: epoch 17, 4s old"
                ),
            )
        ],
    ),
    (
        {"attempts": [running_attempt()]},
        {
            "attempts": [ended_attempt(1, "Failed", reason="Stalled", message="no step for 30m")],
            "retry": {"failures": 1, "notBefore": at(20)},
        },
        [("Retrying", "attempt 1 failed (Stalled): no step for 30m; going on in 20s")],
    ),
    (
        {"attempts": [running_attempt()]},
        {"attempts": [ended_attempt(1, "Failed")], "conditions": [condition("Failed")]},
        [("Failed", "")],
    ),
    ({}, {"conditions": [condition("Blocked")]}, [("Blocked", "")]),
    ({"conditions": [condition("Blocked")]}, {"conditions": [condition("Blocked")]}, []),
    (
        {"conditions": [condition("Blocked")]},
        {"conditions": [condition("Blocked", reason="Another")]},
        [("Blocked", "")],
    ),
    (
        {"attempts": [running_attempt()]},
        {
            "attempts": [ended_attempt(reason="Suspended")],
            "conditions": [condition("Suspended")],
        },
        [("Suspended", "")],
    ),
    (
        {"conditions": [condition("Suspended")]},
        {"conditions": [condition("Suspended", "False")]},
        [("Resumed", "spec.suspend is false again")],
    ),
    (
        {"conditions": [condition("Complete")]},
        {"conditions": [condition("Complete", "False")]},
        [("Reopened", "spec.training.epochs was raised: training on")],
    ),
]


@pytest.mark.parametrize(("before", "after", "told"), STORIES)
def test_events_tell_changes_only(
    before: dict[str, Any], after: dict[str, Any], told: list[tuple[str, str]]
) -> None:
    found = happenings(status(**before), status(**after), NOW)
    assert [(h.reason, h.message) for h in found] == told


def test_the_same_event_has_the_same_name() -> None:
    (told,) = happenings(status(), status(conditions=[condition("Suspended")]), NOW)
    first = event_manifest(job(), told, NOW)
    again = event_manifest(job(), told, NOW.replace(hour=9))
    other = event_manifest(job(resourceVersion="101"), told, NOW)
    assert first["metadata"]["name"] == again["metadata"]["name"]
    assert first["metadata"]["name"] != other["metadata"]["name"]


async def test_probes_tell_what_is_asked_of_them() -> None:
    ill: list[str] = []
    ready = [(False, "starting")]
    probes, metrics = free_port(), free_port()
    servers = Servers(
        "127.0.0.1",
        ill=lambda: ill[0] if ill else None,
        ready=lambda: ready[0],
        registry=OperatorMetrics().registry,
        probes_port=probes,
        metrics_port=metrics,
    )
    async with servers, httpx.AsyncClient() as client:

        async def look(port: int, path: str) -> tuple[int, str]:
            answer = await client.get(f"http://127.0.0.1:{port}/{path}")
            return answer.status_code, answer.text

        assert await look(probes, "healthz") == (200, "ok")
        assert await look(probes, "readyz") == (503, "starting")
        ready[0] = (True, "standby: pod-1 leads")
        assert await look(probes, "readyz") == (200, "standby: pod-1 leads")
        ill.append("watches have stood still")
        assert await look(probes, "healthz") == (500, "watches have stood still")
        code, text = await look(metrics, "metrics")
        assert (code, "kubeseg_operator_reconciles_total" in text) == (200, True)
