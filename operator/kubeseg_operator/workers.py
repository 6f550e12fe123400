"""The workers: they take keys from the queue, and visit each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from kubeseg_operator.client import ApiError, ApiUnreachableError
from kubeseg_operator.metrics import OperatorMetrics
from kubeseg_operator.reconcile import Reconciler
from kubeseg_operator.views import Key
from kubeseg_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)

#: Visits at a time: they wait for the API server most of the time.
WORKERS = 32
#: Seconds that a key may wait, with no visit ending, before the operator counts as stuck.
PATIENCE = 120.0
#: Seconds that one visit may take: its calls end by themselves long before, however slow.
LONGEST_VISIT = 900.0


class Workers:
    """Visits keys until they are cancelled; a failed visit is repeated after a back-off."""

    def __init__(
        self,
        queue: WorkQueue[Key],
        reconciler: Reconciler,
        metrics: OperatorMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue, self._reconciler, self._metrics = queue, reconciler, metrics
        self._clock = clock
        self._ended_at = clock()
        self._begun: dict[Key, float] = {}

    def ill(self) -> str | None:
        """A sentence where keys wait and no visit has ended for long, or one visit never ends."""
        now = self._clock()
        waited = self._queue.oldest_wait()
        if waited > PATIENCE and now - self._ended_at > PATIENCE:
            return f"reconciles have stood still: a key waits for {waited:.0f} s"
        key = min(self._begun, key=self._begun.__getitem__, default=None)
        if key is not None and now - self._begun[key] > LONGEST_VISIT:
            return f"the reconcile of {key} does not end: {now - self._begun[key]:.0f} s"
        return None

    async def run(self, at_once: int = WORKERS) -> None:
        """Work for ever, on `at_once` keys at a time."""
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            begun = self._begun[key] = self._clock()
            try:
                await self._visit(key)
            finally:
                self._queue.done(key)
                del self._begun[key]
                self._ended_at = self._clock()
                self._metrics.seconds.observe(self._ended_at - begun)

    async def _visit(self, key: Key) -> None:
        try:
            requeue = await self._reconciler.visit(key)
        except (ApiError, ApiUnreachableError) as error:
            self._again(key, str(error))
        except Exception:
            # One job's surprise must not stop the others; it is counted, logged and tried again.
            log.exception("%s: the visit failed unexpectedly", key)
            self._again(key, "an unexpected error")
        else:
            self._queue.succeed(key)
            self._metrics.reconciles.labels("ok").inc()
            if requeue is not None:
                self._queue.add(key, max(requeue, 0.05))

    def _again(self, key: Key, why: str) -> None:
        delay = self._queue.fail(key)
        self._metrics.reconciles.labels("error").inc()
        log.warning("%s: again in %.1f s: %s", key, delay, why)
