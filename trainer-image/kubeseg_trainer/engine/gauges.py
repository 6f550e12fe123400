"""The board's snapshot as Prometheus gauges; docs/interfaces.md lists them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kubeseg_trainer.engine.board import Board
from kubeseg_types.trainer import EpochRecord, Progress

#: Means over classes, and values of each class, by the name of the field.
_SCORES = ("dice", "iou", "precision", "recall")

#: Name, what it is, value.
Gauge = tuple[str, str, float | None]


def _of_progress(progress: Progress) -> Iterator[Gauge]:
    yield "kubeseg_epoch", "Epochs finished.", progress.epoch
    yield "kubeseg_epochs", "Epochs wanted.", progress.epochs
    yield "kubeseg_step", "Steps done in the current epoch.", progress.step
    yield "kubeseg_steps", "Steps in an epoch.", progress.steps_per_epoch
    yield (
        "kubeseg_samples_per_second",
        "Training throughput of the current epoch, waiting included.",
        progress.samples_per_second,
    )
    yield "kubeseg_eta_seconds", "Seconds left, estimated.", progress.eta_seconds
    yield (
        "kubeseg_data_waiting_ratio",
        "Share of the last epoch's training time spent waiting for data.",
        progress.waiting,
    )
    yield (
        "kubeseg_memory_peak_bytes",
        "Largest memory so far, of the GPU, else of the process.",
        progress.memory_bytes,
    )
    yield "kubeseg_batch_size", "Images a step, over all workers.", progress.batch_size
    yield "kubeseg_accumulate", "Parts that a step is computed in.", progress.accumulate
    yield "kubeseg_workers", "Processes that train together.", progress.workers
    if progress.checkpoint is not None and progress.checkpoint.time:
        yield (
            "kubeseg_checkpoint_timestamp_seconds",
            "When the newest checkpoint was written, in seconds since 1970.",
            datetime.fromisoformat(progress.checkpoint.time).timestamp(),
        )
    yield (
        "kubeseg_checkpoint_seconds",
        "How long the training stood still for the newest checkpoint.",
        progress.checkpoint_seconds,
    )


def _of_epoch(last: EpochRecord) -> Iterator[Gauge]:
    yield "kubeseg_learning_rate", "At the last epoch's last step.", last.learning_rate
    yield "kubeseg_epoch_seconds", "Training pass of the last epoch.", last.seconds
    yield (
        "kubeseg_validation_seconds",
        "Validation pass of the last epoch.",
        last.validation_seconds,
    )
    for part, metrics in (("train", last.train), ("val", last.validation)):
        yield f"kubeseg_{part}_loss", f"Mean loss of the last epoch, part {part}.", metrics.loss
        for name in _SCORES:
            text = f"Mean {name} over the classes that occur, last epoch, part {part}."
            yield f"kubeseg_{part}_{name}", text, getattr(metrics, name)


class BoardCollector(Collector):
    """The board's snapshot as gauges, read when Prometheus asks."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        """All gauges that have a value by now."""
        progress = self._board.progress
        labels = ["namespace", "job"]
        own = [self._board.namespace, progress.job]
        last = progress.last
        gauges = [*_of_progress(progress), *(_of_epoch(last) if last else ())]
        for name, text, value in gauges:
            if value is not None:
                family = GaugeMetricFamily(name, text, labels=labels)
                family.add_metric(own, value)
                yield family
        if last is None:
            return
        for name in _SCORES:
            family = GaugeMetricFamily(
                f"kubeseg_class_{name}",
                f"{name} of the last epoch by class, where the class occurs.",
                labels=[*labels, "part", "class"],
            )
            for part, metrics in (("train", last.train), ("val", last.validation)):
                scores = getattr(metrics, f"class_{name}")
                for label, score in zip(progress.class_names, scores, strict=False):
                    if score is not None:
                        family.add_metric([*own, part, label], score)
            yield family
