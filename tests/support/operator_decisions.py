"""Deciding, and reading decisions, in tests of the operator."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from kubeseg_operator.decide import Decision, Observed, Settings, decide
from kubeseg_operator.views import JobView, Pod, packed
from tests.support.operator_objects import NOW, child, ended_pod, job, last_words, running_pod

SETTINGS = Settings(image="trainer:1", backoff_seconds=10)
NOTHING = Observed()


def look(known: JobView, seen: Observed = NOTHING, after: float = 0) -> Decision:
    """Decide."""
    return decide(known, seen, NOW + timedelta(seconds=after), SETTINGS)


def kinds(decision: Decision) -> list[str]:
    """Names of the actions."""
    return [type(action).__name__ for action in decision.actions]


def of(decision: Decision, kind: str) -> Any:
    """A condition."""
    return next(c for c in decision.status.conditions if c.type == kind)


def standing(decision: Decision) -> tuple[str, str]:
    """Phase, and reason of the condition that is true (or of Running, where none is)."""
    status = decision.status
    true = [c for c in status.conditions if c.status == "True"]
    assert len(true) <= 1
    shown = true[0] if true else of(decision, "Running")
    return str(status.phase), shown.reason


def following(decision: Decision, known: JobView) -> JobView:
    """The job as it is once the decision's status is written."""
    version = str(int(known.version) + 1)
    return replace(known, status_json=packed(decision.status.to_dict()), version=version)


def ended(code: int, message: str = "", **fields: Any) -> Observed:
    """A finished Job with its pod."""
    finished = "Complete" if code == 0 else "Failed"
    return Observed(
        children=(child(finished=finished),), pods=(ended_pod(code, message=message, **fields),)
    )


def pending(**fields: Any) -> Pod:
    """A pod that does not run yet, with the configuration as it is."""
    return running_pod(job(), **({"phase": "Pending", "state": None} | fields))


NO_NODE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: none",
}

WORDS = last_words(
    epoch=12, best={"epoch": 11, "valIou": 0.83}, best_weights="runs/w", best_sha256="ab"
)
