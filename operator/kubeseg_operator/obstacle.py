"""What keeps an attempt's trainer from starting, as status tells it."""

from __future__ import annotations

from dataclasses import dataclass

#: Characters of a sentence: status is small, and a scheduler's message may be long.
MAX_WORDS = 900


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The one cause that matters: a stable reason, and a sentence with the remedy."""

    reason: str
    message: str
