"""The operator's own metrics, and each job's last and best values as status has them."""

from __future__ import annotations

import math
import re
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kubeseg_operator.clock import parse
from kubeseg_operator.views import JobView
from kubeseg_types.status import Phase, TrainingJobStatus

#: Metric label → the field of `status.metrics.last` and `.best`.
VALUES = {
    "epoch": "epoch",
    "train_loss": "trainLoss",
    "train_dice": "trainDice",
    "train_iou": "trainIou",
    "val_loss": "valLoss",
    "val_dice": "valDice",
    "val_iou": "valIou",
}
_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
#: From a warm node that has the image to days in a queue.
_START_BUCKETS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14_400, 86_400)
_PHASES = frozenset(Phase)
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9_,:]{0,127}")


class OperatorMetrics:
    """Counters of what the operator does."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "kubeseg_operator_reconciles_total",
            "Visits to TrainingJobs.",
            ["outcome"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "kubeseg_operator_reconcile_seconds",
            "Duration of a visit.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.requests = Counter(
            "kubeseg_operator_api_requests_total",
            "Requests to the API server; code 0: no answer.",
            ["verb", "code"],
            registry=self.registry,
        )
        self.starts = Histogram(
            "kubeseg_operator_job_start_seconds",
            "From a TrainingJob's creation to its first running trainer.",
            buckets=_START_BUCKETS,
            registry=self.registry,
        )
        for outcome in ("ok", "error"):
            self.reconciles.labels(outcome)

    def count_request(self, verb: str, code: int) -> None:
        """One request, or one try of it."""
        self.requests.labels(verb, str(code)).inc()

    def count_start(
        self, job: JobView, before: TrainingJobStatus, after: TrainingJobStatus
    ) -> None:
        """Where the step from `before` to `after` is the job's first start: how long it took."""
        seconds = start_seconds(job, before, after)
        if seconds is not None:
            self.starts.observe(seconds)


def start_seconds(
    job: JobView, before: TrainingJobStatus, after: TrainingJobStatus
) -> float | None:
    """Seconds from creation until the first trainer ran; None where it isn't that step."""
    if any(attempt.start_time for attempt in before.attempts):
        return None
    first = next((a for a in after.attempts if a.number == 1), None)
    begun = parse(first.start_time) if first else None
    created = parse(job.created)
    # The node's clock may be behind the API server's.
    return max(0.0, (begun - created).total_seconds()) if begun and created else None


class Queue(Protocol):
    """What is told of the work queue."""

    def __len__(self) -> int: ...

    def oldest_wait(self) -> float:
        """Seconds."""
        ...


class OperatorCollector(Collector):
    """How the operator is, at each scrape."""

    def __init__(
        self,
        queue: Queue,
        ages: Callable[[], Iterable[tuple[str, str, float]]],
        leads: Callable[[], bool],
    ) -> None:
        self._queue, self._ages, self._leads = queue, ages, leads

    def collect(self) -> Iterator[Metric]:
        """All series."""
        yield GaugeMetricFamily(
            "kubeseg_operator_leading", "1 where this pod leads.", value=float(self._leads())
        )
        yield GaugeMetricFamily(
            "kubeseg_operator_queue_depth", "TrainingJobs to be visited.", value=len(self._queue)
        )
        yield GaugeMetricFamily(
            "kubeseg_operator_queue_oldest_seconds",
            "How long the first of them has waited.",
            value=self._queue.oldest_wait(),
        )
        watches = GaugeMetricFamily(
            "kubeseg_operator_watch_age_seconds",
            "Since a watch last told something; bookmarks come every minute.",
            labels=["resource", "namespace"],
        )
        for resource, namespace, age in self._ages():
            watches.add_metric([resource, namespace], age)
        yield watches


class JobCollector(Collector):
    """Made from the store at each scrape, so that a deleted job's series end with it.

    Status is read as it is, without the model: of ten thousand jobs that would take seconds.
    """

    def __init__(self, jobs: Iterable[JobView]) -> None:
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        """All series."""
        where = ["namespace", "job"]
        phases = GaugeMetricFamily(
            "kubeseg_job_phase", "1 for the current phase.", labels=[*where, "phase"]
        )
        blocked = GaugeMetricFamily(
            "kubeseg_job_blocked",
            "1 while the condition Blocked is true, and why.",
            labels=[*where, "reason"],
        )
        sums = GaugeMetricFamily(
            "kubeseg_jobs", "TrainingJobs in this phase.", labels=["namespace", "phase"]
        )
        last = GaugeMetricFamily(
            "kubeseg_job_last", "Values of the last epoch.", labels=[*where, "metric"]
        )
        best = GaugeMetricFamily(
            "kubeseg_job_best",
            "Values of the epoch with the best validation IoU.",
            labels=[*where, "metric"],
        )
        tally: Tally[tuple[str, str]] = Tally()
        for job in self._jobs:
            status = job.status
            phase = status.get("phase") or Phase.PENDING
            # Somebody else may have written the status: nothing of it becomes a label unseen.
            if not isinstance(phase, str) or phase not in _PHASES:
                continue
            phases.add_metric([*job.key, phase], 1)
            tally[job.key.namespace, phase] += 1
            reason = _blocked_by(status.get("conditions"))
            if reason:
                blocked.add_metric([*job.key, reason], 1)
            metrics = _dict(status.get("metrics"))
            _add(last, job, _dict(metrics.get("last")))
            _add(best, job, _dict(metrics.get("best")))
        for labels, count in sorted(tally.items()):
            sums.add_metric(labels, count)
        yield from (phases, blocked, sums, last, best)


def _blocked_by(conditions: Any) -> str:
    """Reason of the condition Blocked where it is true; "" where not."""
    for entry in conditions if isinstance(conditions, list) else []:
        found = _dict(entry)
        if (found.get("type"), found.get("status")) == ("Blocked", "True"):
            reason = str(found.get("reason"))
            return reason if _REASON.fullmatch(reason) else ""
    return ""


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _add(family: GaugeMetricFamily, job: JobView, values: dict[str, Any]) -> None:
    for name, field in VALUES.items():
        value = values.get(field)
        if isinstance(value, int | float) and math.isfinite(value):
            family.add_metric([*job.key, name], float(value))
