"""The life-cycles: what a user writes and does, how the trainings go, and how it must end."""

from types import ModuleType

from tests.faults.scenarios import (
    control,
    drift,
    endings,
    errands,
    groups,
    hindrances,
    lost_nodes,
    queues,
    stalls,
)
from tests.faults.scenarios.scenario import Scenario

_SUBJECTS: tuple[ModuleType, ...] = (
    endings,
    control,
    hindrances,
    groups,
    errands,
    stalls,
    drift,
    queues,
    lost_nodes,
)
SCENARIOS = {one.name: one for subject in _SUBJECTS for one in subject.SCENARIOS}

__all__ = ["SCENARIOS", "Scenario"]
