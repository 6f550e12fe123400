"""The decisions: from a TrainingJob, what was observed and the time, to what is to be done."""

from kubeseg_operator.decide.model import (
    Action,
    Ask,
    CreateChild,
    Decision,
    DeleteChild,
    DeleteJob,
    DeletePod,
    EnsureService,
    MendChild,
    MendPod,
    Observed,
    PatchConfig,
    SetFinalizers,
    Settings,
)
from kubeseg_operator.decide.visit import decide

__all__ = [
    "Action",
    "Ask",
    "CreateChild",
    "Decision",
    "DeleteChild",
    "DeleteJob",
    "DeletePod",
    "EnsureService",
    "MendChild",
    "MendPod",
    "Observed",
    "PatchConfig",
    "SetFinalizers",
    "Settings",
    "decide",
]
