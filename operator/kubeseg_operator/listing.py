"""A full list of a collection: everything is taken in, and what is gone is dropped."""

from __future__ import annotations

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
    before = {uid for _, uid, _ in _known(intake.store, kind, namespace)}
    present: set[str] = set()
    version, news = "", 0
    async for page in client.pages(kind.path(namespace), selector=kind.selector):
        version = (page.get("metadata") or {}).get("resourceVersion", "")
        for raw in page.get("items") or []:
            present.add((raw.get("metadata") or {}).get("uid", ""))
            news += intake.take(kind, raw)
    for key, uid, name in _known(intake.store, kind, namespace):
        # What was known before the list began and isn't in it has been deleted.
        if uid in before and uid not in present:
            news += _drop(intake, kind, key, uid, name)
    return version, news


def _known(store: Store, kind: Kind, namespace: str | None) -> list[tuple[Key, str, str]]:
    """Key, UID and name of all that the store holds of `kind`."""
    if kind is JOBS:
        found = [(job.key, job.uid, job.key.name) for job in store]
    else:
        keys = store.keys()
        if kind is CHILDREN:
            found = [(key, child.uid, child.name) for key in keys for child in store.children(key)]
        else:
            found = [(k, p.uid, p.name) for k in keys for p in store.pods(k) if not p.gone]
    return [each for each in found if namespace in {None, each[0].namespace}]


def _drop(intake: Intake, kind: Kind, key: Key, uid: str, name: str) -> bool:
    store = intake.store
    if kind is JOBS:
        dropped = store.drop_job(key, uid)
    elif kind is CHILDREN:
        dropped = store.drop_child(key, name, uid)
    else:
        pod = next((pod for pod in store.pods(key) if pod.uid == uid), None)
        dropped = pod is not None and store.drop_pod(key, pod)
    if dropped:
        intake.enqueue(key)
    return dropped
