"""What keeps an attempt's trainer from starting, as status tells it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kubeseg_operator.views import Raw

#: Characters of a sentence: status is small, and a scheduler's message may be long.
MAX_WORDS = 900
#: Of them, those that are somebody else's: the remedy behind them must not be cut off.
MAX_QUOTED = 500
#: A Job that was made stays as it is: what is said where the spec is to be changed.
EDITED = " An edit counts once the job was suspended and resumed (spec.suspend)."


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The one cause that matters: a stable reason, and a sentence with the remedy."""

    reason: str
    message: str


def latest(events: Iterable[Raw], reasons: frozenset[str]) -> Raw | None:
    """The newest of the events with one of these reasons."""

    def when(event: Raw) -> str:
        return str(event.get("lastTimestamp") or event.get("eventTime") or "")

    return max((e for e in events if e.get("reason") in reasons), key=when, default=None)
