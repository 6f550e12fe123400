"""What every logger is told, and under which names it passes it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kubeseg_types.trainer import EpochRecord


class EpochLogger(Protocol):
    """Passes epochs on. Its own troubles are warnings: it never stops the training."""

    def log(self, history: Sequence[EpochRecord]) -> None:
        """The newest epoch of this history is finished; returns without waiting for anyone."""

    def close(self, state: str) -> None:
        """This start ends, and the run is now in `state` (as run.json has it)."""


def scalars(record: EpochRecord, class_names: Sequence[str]) -> Mapping[str, float]:
    """The numbers of an epoch by name, such as val/iou and val_class_iou/road."""
    values: dict[str, float | None] = {
        "training/learning_rate": record.learning_rate,
        "training/epoch_seconds": record.seconds,
        "training/validation_seconds": record.validation_seconds,
        "training/samples_per_second": record.samples_per_second,
        "training/data_waiting_ratio": record.waiting,
        "training/memory_peak_bytes": record.memory_bytes,
        "training/batch_size": record.batch_size,
        "training/accumulate": record.accumulate,
    }
    for part, metrics in (("train", record.train), ("val", record.validation)):
        values[f"{part}/loss"] = metrics.loss
        for name in ("dice", "iou", "precision", "recall"):
            values[f"{part}/{name}"] = getattr(metrics, name)
            for label, score in zip(class_names, getattr(metrics, f"class_{name}"), strict=False):
                values[f"{part}_class_{name}/{label}"] = score
    return {name: float(value) for name, value in values.items() if value is not None}
