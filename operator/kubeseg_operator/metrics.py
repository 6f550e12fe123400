"""The operator's own metrics, and each job's last and best values as status has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import ValidationError

from kubeseg_operator.views import JobView
from kubeseg_types.status import EpochMetrics, Phase, TrainingJobStatus

VALUES = ("epoch", "train_loss", "train_dice", "train_iou", "val_loss", "val_dice", "val_iou")
_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


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
        for outcome in ("ok", "error"):
            self.reconciles.labels(outcome)

    def count_request(self, verb: str, code: int) -> None:
        """One request, or one try of it."""
        self.requests.labels(verb, str(code)).inc()


class JobCollector(Collector):
    """Made from the store at each scrape, so that a deleted job's series end with it."""

    def __init__(self, jobs: Iterable[JobView], depth: Callable[[], int]) -> None:
        self._jobs, self._depth = jobs, depth

    def collect(self) -> Iterator[Metric]:
        """All series."""
        depth = GaugeMetricFamily("kubeseg_operator_queue_depth", "TrainingJobs to be visited.")
        depth.add_metric([], self._depth())
        yield depth
        where = ["namespace", "job"]
        phases = GaugeMetricFamily(
            "kubeseg_job_phase", "1 for the current phase.", labels=[*where, "phase"]
        )
        last = GaugeMetricFamily(
            "kubeseg_job_last", "Values of the last epoch.", labels=[*where, "metric"]
        )
        best = GaugeMetricFamily(
            "kubeseg_job_best",
            "Values of the epoch with the best validation IoU.",
            labels=[*where, "metric"],
        )
        for job in self._jobs:
            try:
                status = TrainingJobStatus.model_validate(job.status)
            except ValidationError:
                # The reconciler reports this job; the others' series must not suffer for it.
                continue
            phases.add_metric([*job.key, status.phase or Phase.PENDING], 1)
            if status.metrics:
                _add(last, job, status.metrics.last)
                _add(best, job, status.metrics.best)
        yield from (phases, last, best)


def _add(family: GaugeMetricFamily, job: JobView, values: EpochMetrics | None) -> None:
    for name in VALUES:
        value = getattr(values, name, None)
        if value is not None:
            family.add_metric([*job.key, name], value)
