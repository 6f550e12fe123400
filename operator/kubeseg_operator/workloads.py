"""Reading what Kueue keeps of a queued Job. Only jobs that wait in a queue come here."""

from __future__ import annotations

import time
from collections.abc import Callable

from kubeseg_operator.admission import Found
from kubeseg_operator.client import ApiError, Client
from kubeseg_operator.views import Raw, owner_uid
from kubeseg_types.names import KUEUE_GROUP, LABEL_WORKLOAD_JOB

#: Seconds that an answer counts, so that a flood of visits asks once.
_FRESH = 10.0
#: Seconds until Kueue's version is asked for anew; until one that is not there is looked for again.
_VERSION_FRESH, _ABSENCE_FRESH = 600.0, 60.0
_REMEMBERED = 10_000


class Workloads:
    """Finds the Workload of a Job, in the version of Kueue's API that the server prefers."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._answers: dict[str, tuple[float, Found]] = {}
        self._version: tuple[float, str | None] | None = None

    async def of(self, namespace: str, child_uid: str) -> Found:
        """What there is of the Job with this UID. Raises ApiError but for 403 and 404."""
        now = self._clock()
        known = self._answers.get(child_uid)
        if known and now - known[0] < _FRESH:
            return known[1]
        found = await self._look(namespace, child_uid)
        if len(self._answers) >= _REMEMBERED:
            self._answers = {
                uid: entry for uid, entry in self._answers.items() if now - entry[0] < _FRESH
            }
        self._answers[child_uid] = (now, found)
        return found

    async def _look(self, namespace: str, child_uid: str) -> Found:
        try:
            version = await self._served()
            if version is None:
                return Found(code=404)
            path = f"/apis/{KUEUE_GROUP}/{version}/namespaces/{namespace}/workloads"
            answer = await self._client.get(
                path, labelSelector=f"{LABEL_WORKLOAD_JOB}={child_uid}", limit="10"
            )
        except ApiError as error:
            if error.code not in {403, 404}:
                raise
            if error.code == 404:
                # The version is served no more.
                self._version = None
            return Found(code=error.code)
        return Found(_owned(answer.get("items") or [], child_uid))

    async def _served(self) -> str | None:
        now = self._clock()
        if self._version is not None:
            asked, version = self._version
            if now - asked < (_VERSION_FRESH if version else _ABSENCE_FRESH):
                return version
        try:
            group = await self._client.get(f"/apis/{KUEUE_GROUP}")
        except ApiError as error:
            if error.code != 404:
                raise
            group = {}
        preferred = (group.get("preferredVersion") or {}).get("version")
        self._version = (now, str(preferred) if preferred else None)
        return self._version[1]


def _owned(workloads: list[Raw], child_uid: str) -> Raw | None:
    """The newest of the Job's own Workloads: a label alone may be anybody's."""
    own = [each for each in workloads if owner_uid(each, "Job") == child_uid]

    def created(workload: Raw) -> str:
        return str((workload.get("metadata") or {}).get("creationTimestamp", ""))

    newest = max(own, key=created, default=None)
    return None if newest is None else _slim(newest)


def _slim(workload: Raw) -> Raw:
    """Without the pods' templates: ten thousand are remembered."""
    return {
        "metadata": {"name": (workload.get("metadata") or {}).get("name", "")},
        "spec": {"active": (workload.get("spec") or {}).get("active")},
        "status": {
            name: (workload.get("status") or {}).get(name)
            for name in ("conditions", "admissionChecks")
        },
    }
