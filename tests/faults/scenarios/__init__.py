"""The life-cycles: what a user writes and does, how the trainings go, and how it must end."""

from tests.faults.scenarios import control, endings, errands, groups, hindrances
from tests.faults.scenarios.scenario import Scenario

_BY_SUBJECT = (endings, control, hindrances, groups, errands)
SCENARIOS = {one.name: one for subject in _BY_SUBJECT for one in subject.SCENARIOS}

__all__ = ["SCENARIOS", "Scenario"]
