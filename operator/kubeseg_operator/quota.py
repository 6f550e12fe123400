"""A quota that refuses a pod or a Job: whether waiting helps, and what does. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubeseg_operator.obstacle import EDITED, MAX_QUOTED, MAX_WORDS, Obstacle
from kubeseg_operator.outcome import clip

_TOLD = re.compile(r"exceeded quota: ([^,\s]+), requested: (\S+), used: (\S+), limited: (\S+)")
_QUANTITY = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]{1,3})?)(m|k|[KMGTPE]i?)?")
_SUFFIXES = {"": 1.0, "m": 1e-3, "k": 1e3} | {
    letter + binary: float((1024 if binary else 1000) ** power)
    for power, letter in enumerate("KMGTPE", 1)
    for binary in ("", "i")
}


@dataclass(frozen=True, slots=True)
class _Limit:
    """One resource of a quota, as the API server writes it."""

    resource: str
    asked: str
    used: str
    limit: str

    def holds(self, pods: int = 1) -> bool:
        """Whether so many pods would fit, were nothing else there."""
        asked, limit = amount(self.asked), amount(self.limit)
        return asked is None or limit is None or asked * pods <= limit


def amount(text: str) -> float | None:
    """A quantity as a number; None where it is none."""
    match = _QUANTITY.fullmatch(text)
    try:
        return float(match[1]) * _SUFFIXES[match[2] or ""] if match else None
    except (ValueError, KeyError):
        return None


def refused(words: str, workers: int = 1, *, fixed: bool = False) -> Obstacle:
    """What the API server says of a quota. `fixed`: spec.resources does not change it."""
    return Obstacle("Quota", clip(_sentence(words.rstrip("."), workers, fixed=fixed), MAX_WORDS))


def _sentence(words: str, workers: int, *, fixed: bool) -> str:
    match = _TOLD.search(words)
    limits = _limits(match) if match else []
    if match is None or not limits:
        less = "Wait" if fixed else "Ask for less in spec.resources, wait"
        return (
            f"the namespace's quota is used up: {clip(words, MAX_QUOTED)}. {less} for other jobs "
            f"to end, or have the quota raised.{'' if fixed else EDITED}"
        )
    quota = f'the namespace\'s quota "{clip(match[1], 100)}"'
    limit = next((each for each in limits if not each.holds(workers)), limits[0])
    counted = limit.resource == "pods" or limit.resource.startswith("count/")
    lower = not (fixed or counted)
    allows, asks = f"it allows {limit.resource}={limit.limit}", f"asks for {limit.asked}"
    if limit.holds(workers):
        other = "ask for less in spec.resources" if lower else "have the quota raised"
        return (
            f"{quota} is used up: {allows}, of which {limit.used} are used, and the pod {asks}. "
            f"Wait for other jobs to end, or {other}.{EDITED if lower else ''}"
        )
    if amount(limit.limit) == 0:
        why, lower = f"{quota} allows no {limit.resource}", False
    elif limit.holds():
        why = f"{quota} is too small for the job: {allows}, and each of {workers} workers {asks}"
    else:
        why = f"{quota} is too small for the pod: {allows}, and it {asks}"
    ways = ["ask for less in spec.resources"] if lower else []
    ways += ["make a new TrainingJob with fewer workers"] if limit.holds() else []
    ways += ["have the quota raised"]
    return f"{why}. Waiting does not help: {', or '.join(ways)}.{EDITED if lower else ''}"


def _limits(match: re.Match[str]) -> list[_Limit]:
    asked, used, limited = (dict(_pairs(match[n])) for n in (2, 3, 4))
    return [
        _Limit(resource, asked[resource], used.get(resource, "?"), limited[resource])
        for resource in asked
        if amount(asked[resource]) is not None and amount(limited.get(resource, "")) is not None
    ]


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(pair.partition("=")[0], pair.partition("=")[2]) for pair in text.split(",")]
