"""The trimmed local store: what the watches last told, by TrainingJob.

It may be stale, and nothing relies on its being fresh: writes carry preconditions, and absence is
confirmed by a live read before anything is concluded from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import inf

from kubeseg_operator.clock import stamp, utc_now
from kubeseg_operator.views import DEFAULT_SCHEDULER, Child, JobView, Key, Pod, version_number


@dataclass(slots=True)
class _Family:
    """The children of one TrainingJob's name, and their pods."""

    children: dict[str, Child] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.children or self.pods)


#: So many UIDs that are gone are remembered, the newest.
_REMEMBERED = 4096
#: So many pods of a TrainingJob that are gone are kept, those that went last: twice as many as it
#: may have workers. Pods with its label are made by anybody.
_MOST_GONE = 512


def _older(new: str, known: str) -> bool:
    """True where version `new` is certainly older than `known`, or the same."""
    return 0 <= version_number(new) <= version_number(known)


def _with_leaving(pod: Pod, known: Pod | None) -> Pod:
    """`pod`, with the version at which it was first seen being deleted."""
    if known is None or known.uid != pod.uid or known.leaving_version is None:
        return pod
    return replace(pod, leaving_version=known.leaving_version)


class Store:
    """TrainingJobs, their Jobs and Pods. Every change returns whether it told anything new."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._jobs: dict[Key, JobView] = {}
        self._families: dict[Key, _Family] = {}
        #: UIDs that are gone for good, and in which version: what a slow watch or list still tells
        #: of them is old. To a watch by label an object is gone that has only lost the label: what
        #: is told of it in a newer version, or read live, brings it back.
        self._gone: dict[str, float] = {}
        #: Where the Jobs and pods are that are there, by UID.
        self._keys: dict[str, Key] = {}
        #: When the Job controller last took up a Job, and the cluster's scheduler last placed a
        #: pod. Of their clocks, but never later than they were heard of.
        self.last_taken_up = self.last_placed = ""

    def __iter__(self) -> Iterator[JobView]:
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def job(self, key: Key) -> JobView | None:
        """The TrainingJob `key`."""
        return self._jobs.get(key)

    def keys(self) -> set[Key]:
        """All keys of which anything is known."""
        return set(self._jobs) | set(self._families)

    def children(self, key: Key) -> tuple[Child, ...]:
        """All Jobs that name `key`, whoever owns them."""
        family = self._families.get(key)
        return tuple(family.children.values()) if family else ()

    def pods(self, key: Key) -> tuple[Pod, ...]:
        """All Pods that name `key`; those that are gone too, until they are forgotten."""
        family = self._families.get(key)
        return tuple(family.pods.values()) if family else ()

    def watched_pods(self, key: Key) -> tuple[Pod, ...]:
        """The pods of `key` that are there and have a label: no watch tells of others."""
        return tuple(pod for pod in self.pods(key) if not pod.gone and pod.job)

    def key_of(self, uid: str) -> Key | None:
        """Where the Job or pod with this UID is, unless it is gone."""
        return self._keys.get(uid)

    def put_job(self, job: JobView) -> bool:
        """Keep `job` unless a newer version, or its end, is known."""
        known = self._jobs.get(job.key)
        if version_number(job.version) < self._gone.get(job.uid, -inf):
            return False
        if known and known.uid == job.uid and _older(job.version, known.version):
            return False
        if known and known.uid != job.uid and known.created > job.created:
            return False
        self._jobs[job.key] = job
        return True

    def drop_job(self, key: Key, uid: str, *, for_good: bool = False) -> bool:
        """The TrainingJob with this UID is gone; `for_good`: whoever says so saw it go.

        A 404 alone may come from an API server that doesn't serve the CRD for the moment.
        """
        if for_good:
            self._bury(uid)
        known = self._jobs.get(key)
        if known is None or known.uid != uid:
            return False
        if not for_good:
            # What is older than what was known is old, even if the 404 should prove wrong.
            self._bury(uid, version_number(known.version))
        del self._jobs[key]
        family = self._families.get(key)
        if family:
            family.pods = {name: pod for name, pod in family.pods.items() if not pod.gone}
            self._tidy(key)
        return True

    def put_child(self, key: Key, child: Child) -> bool:
        """Keep `child` unless a newer version, or its end, is known."""
        if version_number(child.version) < self._gone.get(child.uid, -inf):
            return False
        family = self._families.setdefault(key, _Family())
        known = family.children.get(child.name)
        if known and known.uid == child.uid and _older(child.version, known.version):
            return False
        if known and known.uid != child.uid and known.created > child.created:
            return False
        family.children[child.name] = child
        self._keys[child.uid] = key
        self.last_taken_up = self._later(self.last_taken_up, child.started)
        return True

    def drop_child(self, key: Key, name: str, uid: str, version: str | None = None) -> bool:
        """The Job with this UID is gone; `version`: the one in which a watch saw it go."""
        family = self._families.get(key)
        known = family.children.get(name) if family else None
        if version is not None:
            if (
                known
                and known.uid == uid
                and version_number(version) < version_number(known.version)
            ):
                return False
            self._bury(uid, version_number(version))
        if family is None or known is None or known.uid != uid:
            return False
        self._keys.pop(uid, None)
        del family.children[name]
        self._tidy(key)
        return True

    def put_pod(self, key: Key, pod: Pod, listed: str | None = None) -> bool:
        """Keep `pod` unless a newer version is known, or that it was gone in a newer one: one that
        had only lost its label comes back.

        One that is with another TrainingJob has to leave that first. `listed`: the version in which
        it was there, where it is known of a later one than its own.
        """
        told = version_number(listed or pod.version)
        if told < self._gone.get(pod.uid, -inf) or self._keys.get(pod.uid, key) != key:
            return False
        family = self._families.setdefault(key, _Family())
        known = family.pods.get(pod.name)
        if known and known.uid == pod.uid:
            if known.gone:
                if told < version_number(known.version):
                    return False
            elif _older(pod.version, known.version):
                return False
        family.pods[pod.name] = _with_leaving(pod, known)
        self._keys[pod.uid] = key
        if pod.scheduler == DEFAULT_SCHEDULER:
            self.last_placed = self._later(self.last_placed, pod.scheduled_at)
        return True

    def adopt_pod(self, key: Key, pod: Pod, listed: str) -> bool:
        """Keep `pod`, which a Job of `key` has made, wherever its label had put it."""
        other = self._keys.get(pod.uid, key)
        if other != key:
            del self._keys[pod.uid]
            known = self._families[other].pods.pop(pod.name)
            self._tidy(other)
            pod = known if _older(pod.version, known.version) else pod
        return self.put_pod(key, pod, listed)

    def drop_pod(self, key: Key, pod: Pod, version: str | None = None) -> bool:
        """`pod` is gone; what was last seen of it tells how it ended, and is kept for that.

        `version`: the one in which it was no longer with `key`, where that is not the pod's own.
        """
        version = version or pod.version
        family = self._families.get(key)
        known = family.pods.get(pod.name) if family else None
        ours = known is not None and known.uid == pod.uid
        if known and ours and version_number(version) < version_number(known.version):
            return False
        # Another TrainingJob's label it may have got in a version between the two.
        self._bury(pod.uid, version_number(pod.version))
        if self._keys.get(pod.uid) == key:
            del self._keys[pod.uid]
        if key not in self._jobs:
            if family is None or not ours:
                return False
            del family.pods[pod.name]
            self._tidy(key)
            return True
        if known and (not ours or known.gone):
            return False
        family = self._families.setdefault(key, _Family())
        pod = _with_leaving(pod, known)
        family.pods.pop(pod.name, None)
        family.pods[pod.name] = replace(pod, gone=True, version=version)
        gone = [name for name, each in family.pods.items() if each.gone]
        if len(gone) > _MOST_GONE:
            del family.pods[gone[0]]
        return True

    def forget_gone(self, key: Key, below_attempt: int) -> None:
        """Forget pods that are gone, of attempts before `below_attempt`."""
        family = self._families.get(key)
        if family:
            family.pods = {
                name: pod
                for name, pod in family.pods.items()
                if not (pod.gone and pod.attempt < below_attempt)
            }
            self._tidy(key)

    def _later(self, last: str, told: str | None) -> str:
        if told is None or told <= last:
            return last
        return max(last, min(told, stamp(self._clock())))

    def _bury(self, uid: str, version: float = inf) -> None:
        self._gone[uid] = version
        if len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def _tidy(self, key: Key) -> None:
        if not self._families.get(key):
            self._families.pop(key, None)
