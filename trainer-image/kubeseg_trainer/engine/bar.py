"""The bar on a terminal. rich honours NO_COLOR, and the terminal's width as it changes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

#: Columns that the bar itself keeps, beside the text before it and the numbers behind it.
_BAR = 12


def fitting(notes: Sequence[str], width: int) -> str:
    """As many of `notes`, from the first on, as `width` columns have room for."""
    text = ""
    for note in notes:
        longer = f"{text}  {note}" if text else note
        if len(longer) > width:
            break
        text = longer
    return text


class _Notes(ProgressColumn):
    """The notes that fit."""

    # The time left changes without a step, and the width at any time.
    max_refresh = None

    def __init__(self, console: Console) -> None:
        super().__init__(Column(no_wrap=True))
        self._console = console

    def render(self, task: Task) -> Text:
        """The notes of `task`, on one line."""
        count = f"{task.total or 0:.0f}"
        taken = len(task.description) + 2 * len(count) + 1 + _BAR + 3
        return Text(fitting(task.fields["notes"], self._console.width - taken))


class Bar:
    """One bar, at the lower end of the terminal; lines that stay go above it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stdout)
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            _Notes(self._console),
            console=self._console,
            transient=True,
            expand=True,
        )
        self._task = self._progress.add_task("", total=None, visible=False, notes=())
        self._text = ""

    def start(self) -> None:
        """Show it."""
        self._progress.start()

    def stop(self) -> None:
        """Take it away."""
        self._progress.stop()

    def show(self, text: str, done: int, total: int, notes: Sequence[str] | None) -> None:
        """`done` of `total` of what `text` names; None leaves the notes as they are."""
        if text != self._text:
            self._text = text
            self._progress.reset(self._task, total=total, description=text, visible=True)
        if notes is None:
            self._progress.update(self._task, completed=done, total=total)
        else:
            self._progress.update(self._task, completed=done, total=total, notes=notes)

    def line(self, text: str) -> None:
        """One line above the bar; the terminal wraps what is too long."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
