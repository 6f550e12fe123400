"""When a crashed component is started again."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_S = 60.0
CRASHES_ALLOWED = 5
FIRST_DELAY_S = 0.5


@dataclass(frozen=True)
class Restart:
    """Start it again after `delay_s`."""

    delay_s: float


@dataclass(frozen=True)
class GiveUp:
    """Leave it down, and call the cluster failed."""

    why: str


def decide(crashes: list[float], now: float) -> Restart | GiveUp:
    """What to do after the newest of `crashes` (seconds on the clock of `now`, oldest first)."""
    recent = [at for at in crashes if now - at <= WINDOW_S]
    if len(recent) >= CRASHES_ALLOWED:
        return GiveUp(f"crashed {len(recent)} times within {WINDOW_S:.0f} s")
    return Restart(FIRST_DELAY_S * 2 ** max(0, len(recent) - 1))
