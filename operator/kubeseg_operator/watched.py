"""What is watched: TrainingJobs, and the Jobs and Pods that carry our label."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from kubeseg_operator.store import Store
from kubeseg_operator.views import (
    Key,
    Raw,
    child_view,
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

    def take(self, kind: Kind, raw: Raw, *, deleted: bool = False) -> bool:
        """One object; True where it was news."""
        try:
            key, news = self._keep(kind, raw, deleted)
        except Exception:
            # One object's surprise must not end the watch of all others.
            name = (raw.get("metadata") or {}).get("name")
            log.exception("%s %r can't be read", kind.plural, name)
            return False
        if key is not None and news:
            self.enqueue(key)
        return news

    def _keep(self, kind: Kind, raw: Raw, deleted: bool) -> tuple[Key | None, bool]:
        if kind is JOBS:
            job = job_view(raw)
            if deleted:
                return job.key, self.store.drop_job(job.key, job.uid, for_good=True)
            return job.key, self.store.put_job(job)
        key = key_of_child(raw) if kind is CHILDREN else key_of_labelled(raw)
        if key is None:
            return None, False
        if kind is CHILDREN:
            child = child_view(raw)
            if deleted:
                return key, self.store.drop_child(key, child.name, child.uid, child.version)
            return key, self.store.put_child(key, child)
        pod = pod_view(raw)
        return key, self.store.drop_pod(key, pod) if deleted else self.store.put_pod(key, pod)
