"""Loss, Dice and IoU over the epochs, as an SVG picture: no library to draw two panels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from kubeseg_types.trainer import EpochRecord

_WIDTH, _HEIGHT = 900, 320
_PANEL_WIDTH, _PANEL_HEIGHT, _TOP = 360, 220, 46
_LEFTS = (62, 502)
#: More points than pixels show nothing.
_POINTS = 400
_TRAIN, _VALIDATION, _OTHER, _INK, _GRID = "#8a94a3", "#d1495b", "#00798c", "#30343a", "#e4e6ea"


class Line(NamedTuple):
    """One curve: a value for each epoch."""

    label: str
    color: str
    values: list[float]


def nice_top(highest: float) -> float:
    """The end of an axis from 0 that holds `highest`: 1, 2, 2.5 or 5 times a power of ten."""
    if not highest > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= highest * 0.999)


def loss_top(losses: Sequence[float]) -> float:
    """The end of the axis for these losses.

    A first epoch's may be a hundred times the others': beyond four medians curves leave the panel.
    """
    finite = [value for value in losses if math.isfinite(value)]
    return nice_top(min(max(finite), 4 * statistics.median(finite))) if finite else 1.0


def _tick(value: float) -> str:
    return f"{value:.4g}"


def _panel(left: int, title: str, lines: Sequence[Line], top: float, best: int) -> list[str]:
    count = len(lines[0].values)
    right, bottom = left + _PANEL_WIDTH, _TOP + _PANEL_HEIGHT

    def across(epoch: int) -> float:
        return left + _PANEL_WIDTH * ((epoch - 1) / (count - 1) if count > 1 else 0.5)

    def down(value: float) -> float:
        return bottom - _PANEL_HEIGHT * min(max(value / top, 0.0), 1.0)

    parts = [f'<text x="{left}" y="20" font-weight="600">{title}</text>']
    for fifth in range(6):
        value = top * fifth / 5
        y = down(value)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="{_GRID}"/>')
        parts.append(
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{_tick(value)}</text>'
        )
    intervals = count - 1 if count <= 9 else 4
    marks = sorted(
        {1, count, *(round(1 + (count - 1) * i / intervals) for i in range(1, intervals))}
    )
    parts += [
        f'<text x="{across(epoch):.1f}" y="{bottom + 18}" text-anchor="middle">{epoch}</text>'
        for epoch in marks
    ]
    x = across(best)
    parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="{_INK}" stroke-dasharray="2 4"/>')
    stride = math.ceil(count / _POINTS)
    for number, line in enumerate(lines):
        epochs = sorted({*range(1, count + 1, stride), count, best})
        known = [(e, line.values[e - 1]) for e in epochs if math.isfinite(line.values[e - 1])]
        points = " ".join(f"{across(e):.1f},{down(value):.1f}" for e, value in known)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{line.color}" stroke-width="2"/>'
        )
        if count == 1 and known:
            y = down(known[0][1])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{line.color}"/>')
        place = left + number * 120
        parts.append(f'<path d="M{place} 33h18" stroke="{line.color}" stroke-width="3"/>')
        parts.append(f'<text x="{place + 24}" y="37">{line.label}</text>')
    return parts


def curves_svg(history: Sequence[EpochRecord], best: int) -> str:
    """The picture of `history` (epochs 1, 2, …, at least one), with a mark at the epoch `best`."""
    loss = [
        Line("training", _TRAIN, [record.train.loss for record in history]),
        Line("validation", _VALIDATION, [record.validation.loss for record in history]),
    ]
    scores = [
        Line("training IoU", _TRAIN, [record.train.iou for record in history]),
        Line("validation IoU", _VALIDATION, [record.validation.iou for record in history]),
        Line("validation Dice", _OTHER, [record.validation.dice for record in history]),
    ]
    top = loss_top([value for line in loss for value in line.values])
    parts = [
        *_panel(_LEFTS[0], "Loss", loss, top, best),
        *_panel(_LEFTS[1], "IoU and Dice", scores, 1.0, best),
    ]
    text = f"epoch; dotted: the best one, {best}"
    middle = _LEFTS[0] + _PANEL_WIDTH // 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 14}" text-anchor="middle">{text}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12" fill="{_INK}">\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
