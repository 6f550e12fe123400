"""What a measurement says: one line for people, or one JSON object a line."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True)
class Measure:
    """A figure, its spread over the repetitions, and what it was to reach.

    `ratio` compares it with its twin of the same run, pair by pair (the median of the pairs);
    `min` and `max` are those of the ratio where there is one, else of the value.
    """

    measure: str
    value: float
    unit: str
    ratio: float | None
    min: float
    max: float
    goal: str | None
    met: bool | None


def _verdict(
    figure: float, goal: float | None, better: Literal["higher", "lower"]
) -> tuple[str, bool | None]:
    """The sign that a goal is written with, and whether it is met; None without one."""
    higher = better == "higher"
    sign = "≥" if higher else "≤"
    if goal is None:
        return sign, None
    return sign, figure >= goal if higher else figure <= goal


def compare(
    name: str,
    unit: str,
    ours: Sequence[float],
    twins: Sequence[float],
    *,
    goal: float | None,
    better: Literal["higher", "lower"] = "higher",
) -> Measure:
    """`ours` against `twins`, measured in turn: pair by pair."""
    ratios = [mine / other for mine, other in zip(ours, twins, strict=True)]
    ratio = statistics.median(ratios)
    sign, met = _verdict(ratio, goal, better)
    return Measure(
        name,
        round(statistics.median(ours), 6),
        unit,
        round(ratio, 4),
        round(min(ratios), 4),
        round(max(ratios), 4),
        None if goal is None else f"ratio {sign} {goal:g}",
        met,
    )


def single(
    name: str,
    unit: str,
    values: Sequence[float],
    *,
    goal: float | None = None,
    better: Literal["higher", "lower"] = "lower",
) -> Measure:
    """A figure without a twin."""
    value = statistics.median(values)
    sign, met = _verdict(value, goal, better)
    return Measure(
        name,
        round(value, 6),
        unit,
        None,
        round(min(values), 6),
        round(max(values), 6),
        None if goal is None else f"{sign} {goal:g} {unit}",
        met,
    )


def show(measure: Measure, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        print(json.dumps(asdict(measure), ensure_ascii=False), flush=True)
        return
    m = measure
    ratio = "" if m.ratio is None else f"  {m.ratio:.3g}× its twin"
    verdict = "" if m.met is None else f"  goal {m.goal}: {'met' if m.met else 'MISSED'}"
    print(
        f"{m.measure:<32} {m.value:>10.4g} {m.unit:<10}{ratio}  [{m.min:.3g} … {m.max:.3g}]"
        f"{verdict}",
        flush=True,
    )
