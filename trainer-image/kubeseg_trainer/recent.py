"""The last lines of the log, for whoever can't read it: they go into the termination message."""

from __future__ import annotations

import logging
from collections import deque

#: A condition shows them: two whole epochs say enough, and the log has the rest.
LAST = 2
_LONGEST_LINE = 200


class RecentLines(logging.Handler):
    """Keeps the last lines that were logged, from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=LAST)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line; of several the first."""
        try:
            line = record.getMessage().strip().partition("\n")[0]
        except (TypeError, ValueError):
            return  # the other handlers report it
        if line:
            self._lines.append(line[:_LONGEST_LINE])

    def text(self, limit: int) -> str:
        """The newest lines that fit into `limit` characters, in order, on one line."""
        kept: list[str] = []
        room = limit
        for line in reversed(list(self._lines)):
            room -= len(line) + 3
            if room < 0:
                break
            kept.insert(0, line)
        return " | ".join(kept)


RECENT = RecentLines()
