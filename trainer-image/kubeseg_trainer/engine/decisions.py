"""What follows from the history of a run: best epoch, early stopping, what is kept, the end.

Pure functions of the history, so that nothing of it has to be saved or can get out of step.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from kubeseg_types.trainer import EpochRecord, TrainerConfig
from kubeseg_types.training import CheckpointPolicy, EarlyStopping


def ranked(history: Sequence[EpochRecord]) -> list[EpochRecord]:
    """Epochs by validation IoU, the best first; of equals the earlier."""
    return sorted(history, key=lambda record: (-record.validation.iou, record.epoch))


def best_of(history: Sequence[EpochRecord]) -> EpochRecord | None:
    """The best epoch so far."""
    return ranked(history)[0] if history else None


def kept_epochs(history: Sequence[EpochRecord], policy: CheckpointPolicy) -> set[int]:
    """Epochs whose weights stay: the best, the newest, or all of them."""
    if policy.keep_epochs:
        return {record.epoch for record in history}
    return {record.epoch for record in [*ranked(history)[: policy.keep_best], *history[-1:]]}


def kept_weights(
    history: Sequence[EpochRecord], checkpoints: Iterable[int], policy: CheckpointPolicy
) -> set[int]:
    """Epochs whose weights stay while there are checkpoints of these epochs: each may be gone on
    from, and then needs what its own history keeps.
    """
    kept = kept_epochs(history, policy)
    for epoch in set(checkpoints):
        kept |= kept_epochs(history[:epoch], policy)
    return kept


def checkpoint_due(policy: CheckpointPolicy, seconds: float) -> bool:
    """Whether a checkpoint within an epoch is due, `seconds` after the last one."""
    return policy.every_seconds is not None and seconds > policy.every_seconds


def surplus(
    checkpoints: Sequence[Path], good: Container[Path], keep: int
) -> tuple[list[Path], list[Path]]:
    """Which of these checkpoints (the newest first) stay and which go.

    Only those known or believed to be `good` count; with `keep` of them there, all others go.
    """
    stay = [path for path in checkpoints if path in good][:keep]
    if len(stay) < keep:
        return list(checkpoints), []
    return stay, [path for path in checkpoints if path not in stay]


def stopped_early(history: Sequence[EpochRecord], rule: EarlyStopping | None) -> bool:
    """Whether the validation IoU has not grown by `min_delta` for `patience` epochs."""
    if rule is None:
        return False
    best, waited = float("-inf"), 0
    for record in history:
        if record.validation.iou > best + rule.min_delta:
            best, waited = record.validation.iou, 0
        else:
            waited += 1
    return waited >= rule.patience


def reason_to_end(config: TrainerConfig, history: Sequence[EpochRecord]) -> str | None:
    """Why the training is over after these epochs, or None."""
    epochs = config.training.epochs
    if len(history) > epochs:
        return f"trained {len(history)} epochs (epochs was lowered to {epochs})"
    if len(history) == epochs:
        return f"all {epochs} epochs are done"
    if config.stop and history:
        return f"stopped on request after epoch {len(history)}"
    if stopped_early(history, config.training.early_stopping):
        rule = config.training.early_stopping
        assert rule is not None
        return f"stopped early: no gain in validation IoU for {rule.patience} epochs"
    return None
