"""A full list of a collection: everything is taken in, and what is gone is dropped."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from kubeseg_operator.client import Client
from kubeseg_operator.store import Store
from kubeseg_operator.views import Key, version_number
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
    for known in _known(intake.store, kind, namespace):
        # What is known of a newer version than the list's has come, or come back, since.
        newer = version_number(known.version) > version_number(version)
        if known.uid not in present and not newer:
            news += _drop(intake, kind, known, version)
    return version, news


class _Known(NamedTuple):
    """An object of the store, and the TrainingJob that it belongs to."""

    key: Key
    uid: str
    name: str
    version: str


def _known(store: Store, kind: Kind, namespace: str | None) -> list[_Known]:
    """All that the store holds of `kind`."""
    if kind is JOBS:
        found = [_Known(job.key, job.uid, job.key.name, job.version) for job in store]
    else:
        of, keys = store.children if kind is CHILDREN else store.watched_pods, store.keys()
        found = [_Known(key, one.uid, one.name, one.version) for key in keys for one in of(key)]
    return [each for each in found if namespace in {None, each.key.namespace}]


def _drop(intake: Intake, kind: Kind, known: _Known, version: str) -> bool:
    """It was gone in `version`: a slower list that still has it is of an older one."""
    store, (key, uid, name, _) = intake.store, known
    if kind is JOBS:
        dropped = store.drop_job(key, uid)
    elif kind is CHILDREN:
        dropped = store.drop_child(key, name, uid, version)
    else:
        pod = next((pod for pod in store.pods(key) if pod.uid == uid), None)
        dropped = pod is not None and store.drop_pod(key, replace(pod, version=version))
    if dropped:
        intake.enqueue(key)
    return dropped
