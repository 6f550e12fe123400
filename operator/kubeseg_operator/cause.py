"""Of several workers' ends, the one that ended the attempt. Pure.

When one worker ends, all do: its peers notice and end as interrupted (the trainer's promise), and
the Job controller sends SIGTERM to whatever is left. So an interruption without a cause of its own
tells the least, whatever clocks of different nodes say of who was first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kubeseg_operator.views import Pod
from kubeseg_types.exit_codes import Outcome


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one pod ended. `own`: by something that happened to this very pod."""

    pod: Pod
    outcome: Outcome
    reason: str
    words: str
    own: bool

    @property
    def moment(self) -> str:
        """When it began to end; "" where nobody could tell: its node is gone."""
        told = [time for time in (self.pod.deleted_at, self.pod.ended_at) if time]
        return min(told, default="")


def newest_of_each(pods: Iterable[Pod]) -> list[Pod]:
    """The newest pod of each worker, in order: Kueue may have had others before it."""
    newest: dict[int, Pod] = {}

    def weight(pod: Pod) -> tuple[str, bool, bool]:
        return (pod.created, pod.exit_code not in {None, 0}, pod.exit_code is not None)

    for pod in sorted(pods, key=weight):
        newest[pod.index] = pod
    return [newest[index] for index in sorted(newest)]


#: After every version.
_LAST = 1 << 64


def _weight(verdict: Verdict) -> tuple[int, str, int, int]:
    """What tells most is the smallest."""
    pod, moment = verdict.pod, verdict.moment
    match verdict.outcome:
        # These would happen again, whatever else has happened.
        case Outcome.PERMANENT:
            return (0, moment, _second_hand(verdict), pod.index)
        case Outcome.OUT_OF_MEMORY:
            return (1, moment, _second_hand(verdict), pod.index)
        # Of a failure and an eviction the first: peers of one that vanished may fail, too.
        case Outcome.FAILED:
            return (2, moment, _second_hand(verdict), pod.index)
        case Outcome.INTERRUPTED if verdict.own:
            return (2, moment, 0, pod.index)
        case Outcome.INTERRUPTED:
            deleted = pod.deleted_at is not None
            if pod.exit_code is None:
                # It may have waited for a node, and been removed because another one had ended.
                return (3, moment, _LAST + 1, pod.index)
            # The Job controller removes the others within the second.
            return (3, moment, (pod.leaving_version or 0) if deleted else _LAST, pod.index)
        case _:
            return (4, moment, 0, pod.index)


def _second_hand(verdict: Verdict) -> int:
    """Whether it tells of another process's end (`rank 3: …`), as all do that ended with it."""
    return int(verdict.words.startswith("rank "))


def first_cause(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict that the attempt has; None where there is none."""
    return min(verdicts, key=_weight, default=None)


def nodes_of(pods: Iterable[Pod]) -> str | None:
    """Names of the pods' nodes, each once, in the order of the workers, as status has them."""
    names = dict.fromkeys(pod.node for pod in sorted(pods, key=lambda p: p.index) if pod.node)
    text = ",".join(names)
    if not text:
        return None
    return text if len(text) <= 253 else f"{text[:252]}…"
