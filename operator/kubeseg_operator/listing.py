"""A full list of a collection: everything is taken in, and what is gone is dropped."""

from __future__ import annotations

from typing import NamedTuple

from kubeseg_operator.client import Client
from kubeseg_operator.store import Store
from kubeseg_operator.views import Key
from kubeseg_operator.watched import CHILDREN, JOBS, Intake, Kind


async def take_all(
    client: Client, intake: Intake, kind: Kind, namespace: str | None
) -> tuple[str, int]:
    """List `kind` in `namespace` (None: in all); the list's version, and how much of it was news.

    Raises ApiError, ApiUnreachableError.
    """
    before = {known.uid for known in _known(intake.store, kind, namespace)}
    present: set[str] = set()
    version, news = "", 0
    async for page in client.pages(kind.path(namespace), selector=kind.selector):
        version = (page.get("metadata") or {}).get("resourceVersion", "")
        for raw in page.get("items") or []:
            present.add((raw.get("metadata") or {}).get("uid", ""))
            news += intake.take(kind, raw)
    for known in _known(intake.store, kind, namespace):
        # What was known before the list began and isn't in it has been deleted.
        if known.uid in before and known.uid not in present:
            news += _drop(intake, kind, known, version)
    return version, news


class _Known(NamedTuple):
    """An object of the store, and the TrainingJob that it belongs to."""

    key: Key
    uid: str
    name: str


def _known(store: Store, kind: Kind, namespace: str | None) -> list[_Known]:
    """All that the store holds of `kind`."""
    if kind is JOBS:
        found = [_Known(job.key, job.uid, job.key.name) for job in store]
    else:
        keys = store.keys()
        if kind is CHILDREN:
            found = [_Known(key, c.uid, c.name) for key in keys for c in store.children(key)]
        else:
            found = [_Known(key, p.uid, p.name) for key in keys for p in store.watched_pods(key)]
    return [each for each in found if namespace in {None, each.key.namespace}]


def _drop(intake: Intake, kind: Kind, known: _Known, version: str) -> bool:
    store, (key, uid, name) = intake.store, known
    if kind is JOBS:
        dropped = store.drop_job(key, uid)
    elif kind is CHILDREN:
        dropped = store.drop_child(key, name, uid)
    else:
        pod = next((pod for pod in store.pods(key) if pod.uid == uid), None)
        dropped = pod is not None and store.drop_pod(key, pod, version)
    if dropped:
        intake.enqueue(key)
    return dropped
