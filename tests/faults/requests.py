"""The operator's requests, looked at before they are done: may it ask for that at all?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from kubeseg_operator.clock import parse
from kubeseg_types.names import DEFAULT_CLAIM, LABEL_ATTEMPT, LABEL_CLEANUP_OF, PLURAL
from tests.faults.objects import deleting, finished, owned_by
from tests.faults.watchdog import Watchdog, is_true

Raw = dict[str, Any]
#: What the operator may write at all, and where.
_VERBS = {("POST", "jobs"), ("POST", "events"), ("PUT", PLURAL), ("PATCH", "pods")}
_VERBS |= {("POST", "services"), ("DELETE", "jobs"), ("DELETE", PLURAL), ("PATCH", PLURAL)}
_VERBS |= {("PATCH", "jobs"), ("DELETE", "pods")}
#: What of a Job may be put right, and only to what it was made with.
_MENDED = {"metadata": {"uid", "labels", "ownerReferences"}, "spec": {"parallelism", "completions"}}
#: Seconds after a node's last word, and after the due end of its pod, that it is waited for.
_LOST_AFTER, _SLACK = 600.0, 30.0
#: Seconds that an operator may be behind: where no event gets lost, and where an audit must tell.
_BEHIND, _BEHIND_AUDIT = 40.0, 700.0


@dataclass(slots=True)
class Requests:
    """`lossy`: events may get lost, and what an operator does not know, an audit tells."""

    dog: Watchdog
    lossy: bool

    def inspect(self, who: str, verb: str, path: str, body: Raw) -> None:
        """Every write has a precondition, or is one that can be made only once."""
        say = self.dog.say
        plural, _, name = path.partition("/namespaces/team/")[2].partition("/")
        if (verb, plural) not in _VERBS:
            say(f"{who} has no business with {verb} {path}")
            return
        meta = body.get("metadata", {})
        if verb == "PUT" and not (meta.get("resourceVersion") and meta.get("uid")):
            say(f"PUT {name} without the version and UID that it replaces")
        if verb == "PATCH" and not meta.get("uid"):
            say(f"PATCH {name} without a UID")
        only = {"uid", "resourceVersion", "finalizers"}
        if (verb, plural) == ("PATCH", PLURAL) and (set(body), set(meta)) != ({"metadata"}, only):
            say(f"PATCH {name} of more than finalizers, or of any version: {body}")
        if (verb, plural) == ("PATCH", "jobs"):
            self._mend(name, body)
        if verb == "POST" and plural == "jobs" and not meta["labels"].get(LABEL_CLEANUP_OF):
            owners = meta.get("ownerReferences", [])
            if len(owners) != 1 or owners[0]["kind"] != "TrainingJob" or not meta.get("name"):
                say(f"POST of a Job that nobody owns, or without a name: {meta}")
        if verb == "DELETE":
            self._delete(who, plural, name, body)

    def _mend(self, name: str, body: Raw) -> None:
        """A Job is put right as it was made; `suspend` is never touched, nor what Kueue may set."""
        if any(set(fields) - _MENDED.get(part, set()) for part, fields in body.items()):
            self.dog.say(f"PATCH {name} of what is not its business: {body}")
        known = self.dog.api.find("jobs", "team", name)
        if known is None or known["metadata"]["uid"] != body["metadata"].get("uid"):
            return
        made = self.dog.as_made(known)
        labels = body["metadata"].get("labels", {})
        owners = body["metadata"].get("ownerReferences", made["metadata"]["ownerReferences"])
        spec = body.get("spec", {})
        if not (
            labels.items() <= made["metadata"]["labels"].items()
            and owners == made["metadata"]["ownerReferences"]
            and spec.items() <= made["spec"].items()
        ):
            self.dog.say(f"PATCH {name} to what it was not: {body}")
        if spec and made["spec"].get("suspend"):
            self.dog.say(f"PATCH {name}, which is Kueue's: {body}")

    def _delete(self, who: str, plural: str, name: str, options: Raw) -> None:
        only = options.get("preconditions", {})
        if not only.get("uid"):
            self.dog.say(f"DELETE {plural}/{name} without a UID")
        known = self.dog.api.find(plural, "team", name)
        if known is None or known["metadata"]["uid"] != only.get("uid"):
            return
        if plural == PLURAL:
            if not only.get("resourceVersion"):
                self.dog.say(f"DELETE {name} without the version that was decided on")
            self._inspect_ttl(known)
        elif plural == "pods":
            if options.get("gracePeriodSeconds") != 0:
                self.dog.say(f"DELETE {name}: pods are left to their Jobs, unless at once")
            if not self._is_lost(who, known):
                self.dog.say(f"DELETE {name}, whose node may yet answer or write")
        else:
            self._delete_job(who, name, known, options)

    def _delete_job(self, who: str, name: str, known: Raw, options: Raw) -> None:
        if options.get("propagationPolicy") != "Foreground":
            self.dog.say(f"DELETE {name} not in the foreground: its pod could outlive it")
        labels = self.dog.as_made(known)["metadata"]["labels"]
        if finished(known) or LABEL_ATTEMPT not in labels:
            return
        job = self.dog.owner(known)
        attempts = (job or {}).get("status", {}).get("attempts", [])
        number, uid = int(labels[LABEL_ATTEMPT]), known["metadata"]["uid"]
        current = [
            a
            for a in attempts
            if a["number"] == number and "endTime" not in a and a.get("uid", uid) == uid
        ]
        if not job or not current or deleting(job) or self.dog.life(job).was_suspended:
            return
        pods = [pod for pod in self.dog.api.all("pods", "team") if owned_by(pod, uid)]
        made_for = known["spec"]["template"]["spec"].get("priorityClassName")
        if made_for != job["spec"].get("priorityClassName") and not any(map(_has_begun, pods)):
            return
        if any(self._is_lost(who, pod) for pod in pods):
            self.dog.given_up(known)
        else:
            self.dog.say(f"DELETE {name}, the running attempt's Job, without a reason")

    def _is_lost(self, who: str, pod: Raw) -> bool:
        """Its node has not answered for long, its end is overdue, and nothing is lost by that."""
        cluster, now = self.dog.cluster, asyncio.get_running_loop().time()
        node = pod["spec"].get("nodeName", "")
        since, until = cluster.lost.get(node), now
        if since is None and node in cluster.found:
            since, until = cluster.found[node]
        behind = _BEHIND_AUDIT if self.lossy or self.dog.is_stale(who) else _BEHIND
        if since is None or until - since < _LOST_AFTER or now - until > behind:
            return False
        due = parse(pod["metadata"].get("deletionTimestamp"))
        claim = self.dog.api.find("persistentvolumeclaims", "team", DEFAULT_CLAIM)
        shared = claim is not None and "ReadWriteMany" in claim["spec"]["accessModes"]
        overdue = due is not None and (self.dog.now() - due).total_seconds() >= _SLACK
        if shared and overdue:
            for reference in pod["metadata"].get("ownerReferences", []):
                self.dog.given_up({"metadata": reference})
        return shared and overdue

    def _inspect_ttl(self, job: Raw) -> None:
        status, ttl = job.get("status", {}), job["spec"].get("ttlSecondsAfterFinished")
        done = parse(status.get("completionTime"))
        over = is_true(status, "Complete") or is_true(status, "Failed")
        early = not done or ttl is None or (self.dog.now() - done).total_seconds() < ttl
        if not over or early:
            self.dog.say(f"the TrainingJob is deleted before its time: {status.get('phase')}")


def _has_begun(pod: Raw) -> bool:
    """Its trainer runs, or ran."""
    return bool(pod.get("status", {}).get("containerStatuses"))
