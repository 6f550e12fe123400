"""Observing: what the store knows of a TrainingJob's children; live reads where that matters."""

from __future__ import annotations

from kubeseg_operator.admission import Found
from kubeseg_operator.apply import children_path, pods_path
from kubeseg_operator.client import ApiError, Client
from kubeseg_operator.decide import Ask, Observed
from kubeseg_operator.outcome import unexplained
from kubeseg_operator.store import Store
from kubeseg_operator.surroundings import Surroundings
from kubeseg_operator.views import LABEL_CONTROLLER, Child, JobView, Raw, child_view, pod_view
from kubeseg_operator.workloads import Workloads
from kubeseg_types.names import DEFAULT_CLAIM, LABEL_JOB
from kubeseg_types.trainer import Progress

_MAX_EVENTS = "50"
#: Characters of an event's message: whoever makes events may write a megabyte.
_TOLD = 1024
#: So many of the pods that were killed are asked after: those that ended first.
_MAX_MUTE = 8


def observed(store: Store, job: JobView, report: Progress | None) -> Observed:
    """What the store knows of the children of this very TrainingJob."""
    children = tuple(child for child in store.children(job.key) if _is_of(child, job))
    return Observed(
        children=children,
        pods=store.pods(job.key),
        progress=report,
        last_taken_up=store.last_taken_up,
        last_placed=store.last_placed,
    )


def _is_of(child: Child, job: JobView) -> bool:
    """True where this very TrainingJob has made it: it owns it, or did and has noted its UID."""
    if child.owner is not None or child.foreign:
        return child.owner == job.uid
    noted = {(each.get("jobName"), each.get("uid")) for each in job.status.get("attempts") or []}
    return (child.name, child.uid) in noted and child.name.startswith(f"{job.key.name}-")


class LiveReader:
    """Answers a decision's question by reading the API server."""

    def __init__(self, client: Client, store: Store) -> None:
        self._client, self._store = client, store
        self._workloads = Workloads(client)
        self._around = Surroundings(client)

    async def workload(self, job: JobView) -> Found:
        """What Kueue says of the running attempt's Job."""
        waiting = [child for child in self._own(job) if child.suspended and not child.finished]
        newest = max(waiting, key=lambda child: child.attempt, default=None)
        if newest is None:
            return Found()
        return await self._workloads.of(job.key.namespace, newest.uid)

    async def answer(self, question: Ask, job: JobView) -> tuple[Raw, ...]:
        """Bring the store up to date on what is asked; events are returned."""
        match question:
            case Ask.CHILD:
                attempts = job.status.get("attempts") or [{}]
                await self._child(job, attempts[-1].get("jobName"))
            case Ask.CHECK:
                await self._child(job, (job.status.get("preflight") or {}).get("jobName"))
            case Ask.CLEANUP:
                await self._child(job, (job.status.get("cleanup") or {}).get("jobName"))
            case Ask.PODS:
                await self._pods(job)
            case Ask.CHILD_EVENTS:
                uids = [c.uid for c in self._own(job) if not c.finished]
                return await self._events(job, uids[-2:])
            case Ask.POD_EVENTS:
                pods = self._store.pods(job.key)
                waiting = [p for p in pods if not (p.ended or p.running or p.deleting)]
                # The one that is longest on its node: the decision is about that one.
                waiting.sort(key=lambda pod: pod.scheduled_at or "~")
                return await self._events(job, [pod.uid for pod in waiting[:1]])
            case Ask.END_EVENTS:
                return await self._end_events(job)
            case Ask.CLAIM:
                return await self._claim(job)
            case Ask.CLAIM_EVENTS:
                claims = await self._claim(job)
                return await self._events(job, [c["metadata"]["uid"] for c in claims])
            case Ask.NODES:
                return await self._around.nodes()
        return ()

    def _own(self, job: JobView) -> list[Child]:
        return [child for child in self._store.children(job.key) if _is_of(child, job)]

    async def _claim(self, job: JobView) -> tuple[Raw, ...]:
        name = (job.spec.get("workspace") or {}).get("claimName", DEFAULT_CLAIM)
        return await self._around.claim(job.key.namespace, name)

    async def _child(self, job: JobView, name: str | None) -> None:
        if not name:
            return
        try:
            raw = await self._client.get(children_path(job.key.namespace, name))
        except ApiError as error:
            if error.code != 404:
                raise
            for child in self._store.children(job.key):
                if child.name == name:
                    self._store.drop_child(job.key, name, child.uid)
            return
        child = child_view(raw)
        if _is_of(child, job):
            self._store.put_child(job.key, child)

    async def _pods(self, job: JobView) -> None:
        """Those with our label, and those that our Jobs have made: others may have taken it."""
        store, key, present, first = self._store, job.key, set[str](), ""
        selectors = [f"{LABEL_JOB}={key.name}"]
        makers = self._makers(job)
        if makers:
            selectors.append(f"{LABEL_CONTROLLER} in ({','.join(sorted(makers))})")
        for selector in selectors:
            async for page in self._client.pages(pods_path(key.namespace), selector=selector):
                version = (page.get("metadata") or {}).get("resourceVersion", "")
                first = first or version
                for raw in page.get("items") or []:
                    pod = pod_view(raw)
                    present.add(pod.uid)
                    keep = store.adopt_pod if pod.child in makers else store.put_pod
                    keep(key, pod, version)
        # What is in neither list was gone when the first was made.
        for pod in store.pods(key):
            if pod.uid not in present and not pod.gone:
                store.drop_pod(key, pod, first)

    def _makers(self, job: JobView) -> set[str]:
        """UIDs of the Jobs whose pods may matter: those that are there, and the last on record."""
        status = job.status
        records = [
            *(status.get("attempts") or [])[-1:],
            status.get("preflight"),
            status.get("cleanup"),
        ]
        noted = {record["uid"] for record in records if record and record.get("uid")}
        return noted | {child.uid for child in self._own(job)}

    async def _end_events(self, job: JobView) -> tuple[Raw, ...]:
        last = (job.status.get("attempts") or [{}])[-1]
        # Of the Job itself, as the decision has them: labels may be anybody's.
        made_by = {child.uid for child in self._own(job) if child.name == last.get("jobName")}
        mute = unexplained(pod for pod in self._store.pods(job.key) if pod.child in made_by)
        mute.sort(key=lambda pod: pod.ended_at or "")
        try:
            return await self._events(job, [pod.uid for pod in mute[:_MAX_MUTE]])
        except ApiError as error:
            if error.code != 403:
                raise
            # How an attempt ended is decided without them.
            return ()

    async def _events(self, job: JobView, uids: list[str]) -> tuple[Raw, ...]:
        events: list[Raw] = []
        for uid in uids:
            answer = await self._client.get(
                f"/api/v1/namespaces/{job.key.namespace}/events",
                fieldSelector=f"involvedObject.uid={uid}",
                limit=_MAX_EVENTS,
            )
            events += map(_slim, answer.get("items") or [])
        return tuple(events)


def _slim(event: Raw) -> Raw:
    kept = {name: event.get(name) for name in ("reason", "lastTimestamp", "eventTime")}
    about = {"uid": (event.get("involvedObject") or {}).get("uid")}
    return kept | {"involvedObject": about, "message": str(event.get("message") or "")[:_TOLD]}
