"""What a job says that can't start, in tests of the operator."""

from __future__ import annotations

from typing import Any

from kubeseg_operator.decide import Ask, Observed
from kubeseg_operator.obstacle import Obstacle
from kubeseg_types.spec import TrainingJobSpec
from tests.support.operator_decisions import look, of, pending
from tests.support.operator_objects import attempt, child, job


def spec(**fields: Any) -> TrainingJobSpec:
    """A spec with these fields."""
    wanted = {"dataset": {"name": "d"}, "training": {"epochs": 1}}
    return TrainingJobSpec.model_validate(wanted | fields)


def refused(message: str) -> list[dict[str, Any]]:
    """Conditions of a pod that the scheduler finds no node for."""
    return [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
        }
    ]


def why(
    message: str | None, wish: dict[str, Any] | None = None, after: float = 0, **seen: Any
) -> Obstacle | None:
    """What the condition Blocked says where the scheduler says `message`."""
    stuck = pending(node=None, conditions=refused(message) if message else [])
    known = job(spec=wish or {"resources": {"gpus": 1}}, status={"attempts": [attempt()]})
    everything = {"children": (child(),), "pods": (stuck,), "confirmed": frozenset(Ask)} | seen
    blocked = of(look(known, Observed(**everything), after=after), "Blocked")
    return Obstacle(blocked.reason, blocked.message) if blocked.status == "True" else None
