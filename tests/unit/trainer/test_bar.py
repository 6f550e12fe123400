"""The bar on a terminal: what fits is shown, the most important first."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

from kubeseg_trainer.engine.bar import Bar, fitting
from kubeseg_trainer.engine.report import wants_bar

NOTES = ["loss 0.3412", "eta 12m", "best iou 0.689 (16)", "212 img/s"]


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (10, ""),
        (11, "loss 0.3412"),
        (20, "loss 0.3412  eta 12m"),
        (60, "loss 0.3412  eta 12m  best iou 0.689 (16)  212 img/s"),
    ],
)
def test_notes_that_fit(width: int, text: str) -> None:
    assert fitting(NOTES, width) == text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_it_stays_on_one_line_at_any_width(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, height=10, force_terminal=True, color_system=None)
    bar = Bar(console)
    bar.show("epoch 17/50", 113, 212, NOTES)
    with console.capture() as shown:
        console.print(bar._progress.get_renderable())
    lines = shown.get().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("epoch 17/50 ")
    assert "113/212" in lines[0]
    assert ("loss 0.3412" in lines[0]) == (width > 45)
    assert ("212 img/s" in lines[0]) == (width > 100)


def test_lines_that_stay_are_not_folded_and_bear_no_colour_where_none_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    bar = Bar(Console(file=out, width=40, height=10, force_terminal=True))
    line = "epoch 1/2  " + "x" * 100 + " [bold]0.5"
    bar.start()
    bar.show("epoch 1/2", 1, 2, ["loss 0.5"])
    bar.line(line)
    bar.stop()
    assert line in out.getvalue()
    # Neither foreground nor background colours.
    assert "\x1b[3" not in out.getvalue()
    assert "\x1b[9" not in out.getvalue()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "terminal", "bar"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm", "CI": "true"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, True),
    ],
)
def test_who_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], terminal: bool, bar: bool
) -> None:
    for name in ("TERM", "CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", _Terminal() if terminal else io.StringIO())
    assert wants_bar() is bar


def test_the_trainer_starts_without_torch() -> None:
    """It is imported while the data set is looked at: not before the two can begin together."""
    program = "import sys, kubeseg_trainer.train_command as _; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
