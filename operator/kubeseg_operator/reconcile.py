"""One visit: observe → decide → apply → write status once → events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from kubeseg_operator.admission import Found
from kubeseg_operator.apply import Applier
from kubeseg_operator.client import ApiError, ApiUnreachableError, Client
from kubeseg_operator.clock import utc_now
from kubeseg_operator.conditions import meaningful
from kubeseg_operator.decide import Ask, Decision, SetFinalizers, Settings, decide
from kubeseg_operator.observe import LiveReader, observed
from kubeseg_operator.obstacle import Obstacle
from kubeseg_operator.poller import Poller, target_of
from kubeseg_operator.reading import status_of
from kubeseg_operator.store import Store
from kubeseg_operator.story import event_manifest, happenings
from kubeseg_operator.views import JobView, Key, Raw
from kubeseg_types.status import TrainingJobStatus

log = logging.getLogger(__name__)

#: A visit that has written status decides again at once: reserve, then create, then rest.
_ROUNDS = 6


#: Told of each status that was written: the job, its status before, and after.
Written = Callable[[JobView, TrainingJobStatus, TrainingJobStatus], None]


class Reconciler:
    """Brings one TrainingJob after another to where it should be."""

    def __init__(
        self,
        client: Client,
        store: Store,
        poller: Poller,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = utc_now,
        written: Written = lambda _job, _before, _after: None,
    ) -> None:
        self._written = written
        self._client, self._store, self._poller = client, store, poller
        self._settings, self._clock = settings, clock
        self._applier = Applier(client, store)
        self._live = LiveReader(client, store)

    async def visit(self, key: Key) -> float | None:
        """Reconcile `key`; returns after how many seconds to come again, if at all.

        Raises ApiError and ApiUnreachableError: come again after a back-off.
        """
        requeue: float | None = None
        for _ in range(_ROUNDS):
            job = self._store.job(key)
            if job is None:
                self._poller.aim(key, None)
                return None
            decision = await self._decide(job)
            for action in decision.actions:
                obstacle = await self._applier.act(job, action)
                if obstacle is not None:
                    decision = await self._decide(job, obstacle)
                    break
            requeue = decision.requeue_after
            if any(isinstance(action, SetFinalizers) for action in decision.actions):
                # The job has changed, and its status is decided on anew.
                requeue = 15.0
                known = self._store.job(key)
                if known is None or known.version != job.version:
                    continue
                break  # nothing came of it: somebody else wants it so
            if not await self._write(job, decision.status):
                break
        self._aim(key)
        return requeue

    async def _decide(self, job: JobView, refusal: Obstacle | None = None) -> Decision:
        report = self._poller.report(job.key)
        confirmed: set[Ask] = set()
        events: tuple[Raw, ...] = ()
        workload: Found | None = None
        answers: dict[Ask, tuple[Raw, ...]] = {}
        while True:
            seen = replace(
                observed(self._store, job, report),
                confirmed=frozenset(confirmed),
                events=events,
                workload=workload,
                answers=answers,
                refusal=refusal,
            )
            decision = decide(job, seen, self._clock(), self._settings)
            if decision.ask is None:
                return decision
            assert decision.ask not in confirmed, f"asked twice: {decision.ask}"
            if decision.ask is Ask.WORKLOAD:
                workload = await self._live.workload(job)
            else:
                answers[decision.ask] = await self._live.answer(decision.ask, job)
            if decision.ask in {Ask.CHILD_EVENTS, Ask.POD_EVENTS}:
                events = answers[decision.ask]
            confirmed.add(decision.ask)

    async def _write(self, job: JobView, status: TrainingJobStatus) -> bool:
        """Write `status` where it is worth it; True where the job has changed by it."""
        before = status_of(job)
        if not meaningful(before, status):
            return False
        try:
            written = await self._applier.write_status(job, status)
        except ApiError as error:
            if error.code == 404:
                self._store.drop_job(job.key, job.uid)
                return True
            if error.code == 409:
                await self._applier.refresh(job)
                return True
            raise
        self._written(written, before, status)
        await self._tell(written, before, status)
        return True

    async def _tell(
        self, job: JobView, before: TrainingJobStatus, after: TrainingJobStatus
    ) -> None:
        now = self._clock()
        for happening in happenings(before, after, now):
            words = happening.message.replace("\r", " ").replace("\n", " ")
            log.info("%s: %s: %s", job.key, happening.reason, words)
            path = f"/api/v1/namespaces/{job.key.namespace}/events"
            try:
                await self._client.create(path, event_manifest(job, happening, now))
            except (ApiError, ApiUnreachableError) as error:
                # An event is a courtesy: status holds the facts.
                log.warning("%s: event %s not written: %s", job.key, happening.reason, error)

    def _aim(self, key: Key) -> None:
        """Poll the running attempt's pod, and forget what tells nothing more."""
        job = self._store.job(key)
        attempts = (job.status.get("attempts") if job else None) or []
        if job is None or job.deleting or not attempts or attempts[-1].get("endTime"):
            self._poller.aim(key, None)
        else:
            number = attempts[-1].get("number", 0)
            self._store.forget_gone(key, below_attempt=number)
            pods, child = self._store.pods(key), attempts[-1].get("uid")
            self._poller.aim(key, target_of(job.uid, number, pods, child=child))
