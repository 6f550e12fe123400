"""An event loop whose time jumps: whatever waits for an hour is there at once, in the same order.

No file or socket is ever waited for, so a run is a function of its seed alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class StuckError(AssertionError):
    """Nothing is left to happen, and the main task has not ended."""


class _Clock:
    """What the loop takes for a selector: waiting is moving the time on."""

    def __init__(self) -> None:
        self.now = 0.0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise StuckError("every task waits for ever")
        self.now += max(timeout, 0.0)
        return []

    def get_map(self) -> dict[Any, Any]:
        return {}


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop without I/O. `time()` begins at 0, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Clock()
        # A timer that is due within the clock's grain may run: rounding must not spin.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._selector.now

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        pass


@contextlib.contextmanager
def virtual_loop() -> Generator[VirtualLoop]:
    """A loop of its own; what is still pending at the end is cancelled."""
    loop = VirtualLoop()
    try:
        yield loop
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time."""
    with virtual_loop() as loop:
        return loop.run_until_complete(main)
