"""Why Kueue lets an attempt wait, from the Workload that it keeps of the Job. Pure.

Kueue's reasons are passed on: `WaitingForQuota` and `Misconfigured` mean more to whoever runs it
than words of ours would.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kubeseg_operator.obstacle import MAX_WORDS, Obstacle
from kubeseg_operator.outcome import clip
from kubeseg_operator.views import Raw

#: Seconds between two looks at a Workload: as long as it has waited, within these bounds. That it
#: is admitted is told by the watch of Jobs; only the reason may lag.
SHORTEST_PAUSE, LONGEST_PAUSE = 15.0, 600.0
_REASON = re.compile(r"^[A-Za-z]([A-Za-z0-9_,:]{0,126}[A-Za-z0-9_])?$")


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of a Job's Workload; `code` where the API server refused: 403, 404 (there is
    no Kueue).
    """

    workload: Raw | None = None
    code: int | None = None


def pause(waited: float) -> float:
    """Seconds until the next look, of one who has waited for so long."""
    return min(max(waited, SHORTEST_PAUSE), LONGEST_PAUSE)


def waiting(found: Found, queue: str) -> Obstacle:
    """Why the Job is not admitted."""
    waits = f'waits in queue "{queue}"'
    if found.code == 404:
        return Obstacle(
            "NoKueue",
            f'spec.queueName is "{queue}", but there is no Kueue in this cluster (no '
            "kueue.x-k8s.io): nobody admits the job. Install Kueue, or make a new TrainingJob "
            "without queueName.",
        )
    if found.code is not None:
        return Obstacle(
            "Queued",
            f"{waits} until Kueue admits it. Why it waits can't be read: the operator may not list "
            "Workloads (kueue.enabled of the chart lets it).",
        )
    if found.workload is None:
        return Obstacle(
            "Queued",
            f"{waits}; Kueue has no Workload for it. Should that stay so: does Kueue manage "
            "batch/job, and this namespace?",
        )
    return _of_workload(found.workload, waits)


def _condition(workload: Raw, kind: str) -> Raw:
    for entry in (workload.get("status") or {}).get("conditions") or []:
        if entry.get("type") == kind:
            return dict(entry)
    return {}


def _of_workload(workload: Raw, waits: str) -> Obstacle:
    quota, evicted = _condition(workload, "QuotaReserved"), _condition(workload, "Evicted")
    leaves = evicted.get("status") == "True"
    if (workload.get("spec") or {}).get("active") is False:
        why = f" ({_words(evicted)})" if leaves and _words(evicted) else ""
        sentence = (
            f"{waits}, but its Workload {_name(workload)} is deactivated{why}: set its spec.active "
            "to true again, and it is considered."
        )
        return Obstacle("Deactivated", clip(sentence, MAX_WORDS))
    finished = _condition(workload, "Finished")
    if finished.get("status") == "True":
        return _closed(workload, finished, waits)
    reserved = quota.get("status") == "True"
    if reserved and not leaves:
        return _by_checks(workload, waits)
    # One that is evicted keeps its quota until its pods have gone.
    told = evicted if leaves and (reserved or not _words(quota)) else quota
    words, reason = _words(told), str(told.get("reason") or "")
    if not _REASON.match(reason):
        reason = "Queued"
    sentence = f"{waits}: {words}." if words else f"{waits} until Kueue admits it."
    return Obstacle(reason, clip(sentence + _remedy(words), MAX_WORDS))


def _closed(workload: Raw, finished: Raw, waits: str) -> Obstacle:
    """It is over for Kueue, and the Job has not begun: nobody admits it any more."""
    reason = str(finished.get("reason") or "")
    sentence = (
        f"{waits}, but Kueue has closed its Workload {_name(workload)}: {_words(finished)}. Delete "
        "the Job: the next attempt queues anew. Should it end so again, make a new TrainingJob."
    )
    return Obstacle(reason if _REASON.match(reason) else "Queued", clip(sentence, MAX_WORDS))


def _remedy(words: str) -> str:
    """What to do, where Kueue's words tell of something that waiting doesn't help."""
    if re.search(r"LocalQueue .*(doesn't exist|terminating or missing)", words):
        return " Make this LocalQueue, or a new TrainingJob with another queueName."
    if re.search(r"Queue.*(doesn't exist|terminating or missing|inactive|stopped)", words):
        return " Whoever runs Kueue must put this right."
    if "insufficient quota" in words or "maximum capacity" in words:
        return " It is more than the queue can ever give: ask for less in spec.resources."
    return ""


def _words(condition: Raw) -> str:
    return str(condition.get("message") or "").strip().rstrip(".")


def _by_checks(workload: Raw, waits: str) -> Obstacle:
    """It has its quota; admission checks (or the Job's own start) are still to come."""
    checks = (workload.get("status") or {}).get("admissionChecks") or []
    open_checks = [
        f"{check.get('name', '?')} ({check.get('state', 'Pending')}"
        + (f": {check['message']}" if check.get("message") else "")
        + ")"
        for check in checks
        if check.get("state") != "Ready"
    ]
    if open_checks:
        words = f"{waits}: it has its quota, and waits for checks: {', '.join(open_checks)}."
        return Obstacle("WaitingForChecks", clip(words, MAX_WORDS))
    return Obstacle("Queued", f"{waits}: admitted, and about to start.")


def _name(workload: Raw) -> str:
    return str((workload.get("metadata") or {}).get("name", ""))
