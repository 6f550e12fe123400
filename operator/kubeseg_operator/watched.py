"""What is watched: TrainingJobs, and the Jobs and Pods that carry our label."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from kubeseg_operator.store import Store
from kubeseg_operator.views import (
    Child,
    Key,
    Pod,
    Raw,
    child_view,
    job_key,
    job_view,
    key_of_child,
    key_of_labelled,
    pod_view,
)
from kubeseg_types.names import GROUP, LABEL_JOB, PLURAL, VERSION

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """One watched kind: where it lies in the API, and which objects of it count."""

    group: str
    version: str
    plural: str
    selector: str | None

    def path(self, namespace: str | None) -> str:
        """Path of the collection, of one namespace or of all."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return (
            f"{root}/namespaces/{namespace}/{self.plural}" if namespace else f"{root}/{self.plural}"
        )


JOBS = Kind(GROUP, VERSION, PLURAL, None)
CHILDREN = Kind("batch", "v1", "jobs", LABEL_JOB)
PODS = Kind("", "v1", "pods", LABEL_JOB)
KINDS = (JOBS, CHILDREN, PODS)


@dataclass(slots=True)
class Intake:
    """Takes in what watches and lists tell: into the store, and into the queue where it is news."""

    store: Store
    enqueue: Callable[[Key], None]
    #: Held while a collection is listed: its plural, and its namespace.
    lists: defaultdict[tuple[str, str | None], asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )

    def take(self, kind: Kind, raw: Raw, *, deleted: bool = False) -> bool:
        """One object; True where it was news."""
        try:
            key = key_of(kind, raw)
            news = self._keep(kind, key, raw, deleted)
        except Exception:
            # One object's surprise must not end the watch of all others.
            name = (raw.get("metadata") or {}).get("name")
            log.exception("%s %r can't be read", kind.plural, name)
            return False
        if key is not None and news:
            self.enqueue(key)
        return news

    def concerns(self, kind: Kind, raw: Raw) -> bool:
        """Whether it belongs to a TrainingJob, as far as it can be read."""
        try:
            return key_of(kind, raw) is not None
        except Exception:  # noqa: BLE001 - `take` has said what is wrong with it
            return False

    def _keep(self, kind: Kind, key: Key | None, raw: Raw, deleted: bool) -> bool:
        if kind is JOBS:
            job = job_view(raw)
            if deleted:
                return self.store.drop_job(job.key, job.uid, for_good=True)
            return self.store.put_job(job)
        one = child_view(raw) if kind is CHILDREN else pod_view(raw)
        before = self.store.key_of(one.uid)
        if before is not None and before != key:
            if not self._drop(before, one):
                # Old news: where it is now was told in a newer version.
                return False
            # Its label names another TrainingJob now, or none: to the first it is gone.
            self.enqueue(before)
        if key is None:
            return False
        if deleted:
            return self._drop(key, one)
        if isinstance(one, Child):
            return self.store.put_child(key, one)
        return self.store.put_pod(key, one)

    def _drop(self, key: Key, one: Child | Pod) -> bool:
        if isinstance(one, Child):
            return self.store.drop_child(key, one.name, one.uid, one.version)
        return self.store.drop_pod(key, one)


def key_of(kind: Kind, raw: Raw) -> Key | None:
    """The TrainingJob that an object belongs to, or is; None where its label names none."""
    if kind is JOBS:
        return job_key(raw)
    return key_of_child(raw) if kind is CHILDREN else key_of_labelled(raw)
