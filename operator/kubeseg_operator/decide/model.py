"""What a decision is made from, and what it consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from kubeseg_operator.admission import Found
from kubeseg_operator.obstacle import Obstacle
from kubeseg_operator.views import Child, Pod, Raw
from kubeseg_types.names import ANNOTATION_CONFIG
from kubeseg_types.status import TrainingJobStatus
from kubeseg_types.trainer import Progress


class Ask(StrEnum):
    """What has to be read live before a decision can be made: the store may be stale."""

    #: Is the running attempt's Job really not there?
    CHILD = "Child"
    #: Which pods of the running attempt are there?
    PODS = "Pods"
    #: Are the check's, the clean-up's Job really not there?
    CHECK = "Check"
    CLEANUP = "Cleanup"
    #: Events on the running attempt's Job, or on its pod.
    CHILD_EVENTS = "ChildEvents"
    POD_EVENTS = "PodEvents"
    #: Events on pods of it that were killed, and do not say why; nothing where it may not be read.
    END_EVENTS = "EndEvents"
    #: What Kueue says of the running attempt's Job.
    WORKLOAD = "Workload"
    #: The workspace claim, and events on it; the nodes with what they offer. Only where a trainer
    #: can't start or its node is lost, remembered for some seconds, and nothing where it may not be
    #: read.
    CLAIM = "Claim"
    CLAIM_EVENTS = "ClaimEvents"
    NODES = "Nodes"


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of the children of one TrainingJob, all of them its own."""

    children: tuple[Child, ...] = ()
    pods: tuple[Pod, ...] = ()
    progress: Progress | None = None
    #: What has been read live in this visit.
    confirmed: frozenset[Ask] = frozenset()
    events: tuple[Raw, ...] = ()
    workload: Found | None = None
    #: What questions about other objects have brought.
    answers: Mapping[Ask, tuple[Raw, ...]] = field(default_factory=dict)
    #: Why the Job that was reserved can't be made.
    refusal: Obstacle | None = None
    #: When the Job controller last took up a Job and the scheduler last placed a pod, of any
    #: TrainingJob: in a burst they are busy, not away.
    last_taken_up: str = ""
    last_placed: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator was started with."""

    image: str
    backoff_seconds: float = 10.0
    longest_backoff_seconds: float = 300.0
    #: After so long a node that does not answer is no longer waited for, where that is safe; 0: it
    #: always is waited for.
    lost_node_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class CreateChild:
    """Make the reserved attempt's Job."""

    manifest: Raw


@dataclass(frozen=True, slots=True)
class EnsureService:
    """Make the Service of several workers where it isn't there, and put it right where it was
    changed. It is read first: nothing is written where all is well.
    """

    manifest: Raw


@dataclass(frozen=True, slots=True)
class DeleteChild:
    """Delete this very Job, in the foreground: its pods get SIGTERM first."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Remove this very pod at once: its node does not answer, and is not asked."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class MendChild:
    """Put right what others have changed of this very Job; its pods go on."""

    name: str
    uid: str
    patch: Raw


@dataclass(frozen=True, slots=True)
class MendPod:
    """Put right what others have changed of this very pod's labels."""

    name: str
    uid: str
    labels: dict[str, str]

    @property
    def meta(self) -> Raw:
        """The patch of its metadata."""
        return {"labels": self.labels}


@dataclass(frozen=True, slots=True)
class PatchConfig:
    """Bring a changed configuration to a live pod."""

    name: str
    uid: str
    text: str

    @property
    def meta(self) -> Raw:
        """The patch of its metadata."""
        return {"annotations": {ANNOTATION_CONFIG: self.text}}


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the TrainingJob itself, in this very version: its time to live is over."""

    uid: str
    version: str


@dataclass(frozen=True, slots=True)
class SetFinalizers:
    """Give the TrainingJob, in this very version, these finalizers. Nothing else of the decision
    counts then but actions before it: the next decision is made from what came of it.
    """

    uid: str
    version: str
    finalizers: tuple[str, ...]


Action = (
    CreateChild
    | EnsureService
    | DeleteChild
    | DeletePod
    | MendChild
    | MendPod
    | PatchConfig
    | DeleteJob
    | SetFinalizers
)


@dataclass(frozen=True, slots=True)
class Decision:
    """Actions first, then the status, then another visit after so many seconds.

    With `ask` set nothing else counts: read that live, and decide again.
    """

    status: TrainingJobStatus
    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None
    ask: Ask | None = field(default=None)
