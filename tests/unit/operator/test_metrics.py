"""What Prometheus reads: series from status, counters, and how the operator is."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from kubeseg_operator.metrics import (
    JobCollector,
    OperatorCollector,
    OperatorMetrics,
    start_seconds,
)
from kubeseg_operator.views import JobView
from kubeseg_operator.work_queue import WorkQueue
from kubeseg_types.status import TrainingJobStatus
from tests.support.operator_objects import job


def text_of(*collectors: Any) -> str:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry).decode()


def test_series_come_from_status_and_a_strange_status_hides_only_its_own() -> None:
    told = {
        "phase": "Running",
        "metrics": {"last": {"epoch": 3, "valIou": 0.5}, "best": {"epoch": 2, "valIou": 0.6}},
    }
    strange: list[dict[str, Any]] = [
        {"phase": "Dancing"},
        {"phase": ["Running"]},
        {"phase": "Running", "metrics": ["none"]},
        {"phase": "Running", "metrics": {"last": {"epoch": "many", "valIou": float("nan")}}},
    ]
    odd = [job(name=f"odd-{n}", status=status) for n, status in enumerate(strange)]
    text = text_of(JobCollector([*odd, job(status=told), job(name="new")]))
    assert 'kubeseg_job_phase{job="job",namespace="team",phase="Running"} 1.0' in text
    assert 'kubeseg_job_phase{job="new",namespace="team",phase="Pending"} 1.0' in text
    assert 'kubeseg_job_last{job="job",metric="val_iou",namespace="team"} 0.5' in text
    assert 'kubeseg_job_best{job="job",metric="epoch",namespace="team"} 2.0' in text
    assert 'kubeseg_jobs{namespace="team",phase="Running"} 3.0' in text
    assert 'kubeseg_jobs{namespace="team",phase="Pending"} 1.0' in text
    assert "Dancing" not in text
    assert "many" not in text
    assert 'kubeseg_job_last{job="odd' not in text


def test_why_a_job_is_blocked_in_whichever_phase() -> None:
    def blocked(name: str, reason: Any, value: str = "True", phase: str = "Queued") -> JobView:
        told = {"type": "Blocked", "status": value, "reason": reason}
        return job(name=name, status={"phase": phase, "conditions": [told, "odd"]})

    text = text_of(
        JobCollector(
            [
                blocked("a", "NoKueue"),
                blocked("b", "Quota", phase="Blocked"),
                blocked("c", "NotBlocked", "False", "Running"),
                blocked("d", "no reason!"),
                blocked("e", ["NoKueue"]),
                job(name="f", status={"phase": "Blocked", "conditions": 3}),
            ]
        )
    )
    assert 'kubeseg_job_blocked{job="a",namespace="team",reason="NoKueue"} 1.0' in text
    assert 'kubeseg_job_blocked{job="b",namespace="team",reason="Quota"} 1.0' in text
    assert text.count("kubeseg_job_blocked{") == 2


async def test_how_the_operator_is() -> None:
    now = [100.0]
    queue: WorkQueue[str] = WorkQueue(clock=lambda: now[0])
    ages: list[tuple[str, str, float]] = []
    leads = [False]
    collector = OperatorCollector(queue, lambda: ages, lambda: leads[0])
    text = text_of(collector)
    assert "kubeseg_operator_leading 0.0" in text
    assert "kubeseg_operator_queue_depth 0.0" in text
    assert "kubeseg_operator_queue_oldest_seconds 0.0" in text
    assert "kubeseg_operator_watch_age_seconds{" not in text

    leads[0] = True
    queue.add("a")
    now[0] += 3
    queue.add("b")
    now[0] += 4
    ages += [("pods", "team", 4.0), ("jobs", "", 7.0)]
    text = text_of(collector)
    assert "kubeseg_operator_leading 1.0" in text
    assert "kubeseg_operator_queue_depth 2.0" in text
    assert "kubeseg_operator_queue_oldest_seconds 7.0" in text
    assert 'watch_age_seconds{namespace="team",resource="pods"} 4.0' in text
    assert 'watch_age_seconds{namespace="",resource="jobs"} 7.0' in text


CREATED = "2026-01-02T03:04:05Z"
FIRST = {"number": 1, "jobName": "job-1", "startTime": "2026-01-02T03:04:47Z"}
WAITING = {"number": 1, "jobName": "job-1"}
EARLY = FIRST | {"startTime": "2026-01-02T03:04:01Z"}


@pytest.mark.parametrize(
    ("before", "after", "seconds"),
    [
        ([], [FIRST], 42.0),
        ([WAITING], [FIRST], 42.0),
        ([WAITING], [EARLY], 0.0),  # the node's clock is behind
        ([], [WAITING], None),
        ([FIRST], [FIRST], None),
        ([FIRST], [FIRST, FIRST | {"number": 2}], None),  # a retry is no start
        ([], [FIRST | {"number": 2}], None),
    ],
)
def test_time_from_creation_to_running(
    before: list[Any], after: list[Any], seconds: float | None
) -> None:
    def status(attempts: list[Any]) -> TrainingJobStatus:
        return TrainingJobStatus.model_validate({"attempts": attempts})

    made = job(creationTimestamp=CREATED)
    assert start_seconds(made, status(before), status(after)) == seconds
    metrics = OperatorMetrics()
    metrics.count_start(made, status(before), status(after))
    text = generate_latest(metrics.registry).decode()
    assert f"job_start_seconds_count {0 if seconds is None else 1}.0" in text
