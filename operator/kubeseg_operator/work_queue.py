"""A work queue of keys: each waits at most once, and is never worked on twice at a time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")


class WorkQueue(Generic[K]):
    """Keys to be worked on now, later (`add(delay=…)`), or again after a failure (`fail`)."""

    def __init__(
        self,
        *,
        first_delay: float = 0.5,
        longest_delay: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first, self._longest, self._clock = first_delay, longest_delay, clock
        self._ready: deque[K] = deque()
        self._since: dict[K, float] = {}
        self._busy: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._ready)

    def oldest_wait(self) -> float:
        """Seconds that the first key has been ready for; 0 where none is."""
        return self._clock() - self._since[self._ready[0]] if self._ready else 0.0

    def add(self, key: K, delay: float = 0.0) -> None:
        """Have `key` worked on after `delay` seconds, or earlier where that is already asked."""
        if delay > 0:
            due = self._clock() + delay
            if key in self._due and self._due[key] <= due:
                return
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            self._arm()
        elif key in self._busy:
            self._again.add(key)
        elif key not in self._since:
            self._since[key] = self._clock()
            self._ready.append(key)
            self._release_one()

    def fail(self, key: K) -> float:
        """Work on `key` failed: again after a back-off; returns it in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(self._longest, self._first * 2.0 ** min(failures, 20))
        self.add(key, delay)
        return delay

    def succeed(self, key: K) -> None:
        """Work on `key` went well: the next failure counts as the first."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key; `done` must follow."""
        while not self._ready:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                # The wake-up may have been meant for this worker: hand it on.
                if waiter.done() and not waiter.cancelled():
                    self._release_one()
                raise
        key = self._ready.popleft()
        del self._since[key]
        self._busy.add(key)
        return key

    def done(self, key: K) -> None:
        """The work that `get` began has ended; `key` may be worked on again."""
        self._busy.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _release_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            wait = max(0.0, self._heap[0][0] - self._clock())
            self._timer = asyncio.get_running_loop().call_later(wait, self._ripen)

    def _ripen(self) -> None:
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        self._arm()
