"""A full list of a collection: everything is taken in, and what is gone is dropped."""

from __future__ import annotations

from dataclasses import replace

from kubeseg_operator.client import Client
from kubeseg_operator.store import Store
from kubeseg_operator.views import Child, JobView, Key, Pod, version_number
from kubeseg_operator.watched import CHILDREN, JOBS, Intake, Kind


async def take_all(
    client: Client, intake: Intake, kind: Kind, namespace: str | None
) -> tuple[str, int]:
    """List `kind` in `namespace` (None: in all); the list's version, and how much of it was news.

    Raises ApiError, ApiUnreachableError.
    """
    # One at a time: the slower of two would bring back what the newer one no longer had.
    async with intake.lists[kind.plural, namespace]:
        return await _take_all(client, intake, kind, namespace)


async def _take_all(
    client: Client, intake: Intake, kind: Kind, namespace: str | None
) -> tuple[str, int]:
    present: set[str] = set()
    version, news = "", 0
    async for page in client.pages(kind.path(namespace), selector=kind.selector):
        version = (page.get("metadata") or {}).get("resourceVersion", "")
        for raw in page.get("items") or []:
            present.add((raw.get("metadata") or {}).get("uid", ""))
            news += intake.take(kind, raw)
    for key, one in known(intake.store, kind.plural):
        elsewhere = namespace not in {None, key.namespace}
        # What is known of a newer version than the list's has come, or come back, since.
        newer = version_number(one.version) > version_number(version)
        if one.uid not in present and not (elsewhere or newer):
            news += _drop(intake, key, one, version)
    return version, news


def known(store: Store, plural: str) -> list[tuple[Key, JobView | Child | Pod]]:
    """All that the store holds of a kind and that its watch tells of, by TrainingJob."""
    if plural == JOBS.plural:
        return [(job.key, job) for job in store]
    keys = store.keys()
    if plural == CHILDREN.plural:
        return [(key, child) for key in keys for child in store.children(key)]
    return [(key, pod) for key in keys for pod in store.watched_pods(key)]


def _drop(intake: Intake, key: Key, one: JobView | Child | Pod, version: str) -> bool:
    """It was gone in `version`: a slower list that still has it is of an older one."""
    store = intake.store
    if isinstance(one, JobView):
        dropped = store.drop_job(key, one.uid)
    elif isinstance(one, Child):
        dropped = store.drop_child(key, one.name, one.uid, version)
    else:
        dropped = store.drop_pod(key, replace(one, version=version))
    if dropped:
        intake.enqueue(key)
    return dropped
