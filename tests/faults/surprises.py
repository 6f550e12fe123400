"""What the operator logs as an error: it goes on after it, but here it is a finding."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Surprises(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._say(f"unexpected: {record.getMessage()}: {error!r}")


@contextmanager
def surprises(say: Callable[[str], None]) -> Iterator[None]:
    """Each error that is logged goes to `say`, and nothing of the log anywhere else."""
    log = logging.getLogger("kubeseg_operator")
    handler, level, propagate = _Surprises(say), log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.ERROR)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate
