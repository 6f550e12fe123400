"""What keeps an attempt's trainer from starting, as status tells it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kubeseg_operator.views import Raw

#: Characters of a sentence: status is small, and a scheduler's message may be long.
MAX_WORDS = 900
#: Of them, those that are somebody else's: the remedy behind them must not be cut off.
MAX_QUOTED = 500
#: Said where the spec is to be changed: what has not begun is made anew of it.
EDITED = " An edit is taken up at once."


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
