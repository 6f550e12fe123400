"""The store, the queue, and what is kept up to date."""

from tests.faults.mutate import Mutant

MUTANTS = (
    Mutant(
        "deleted-jobs-live-on",
        "store",
        "        del family.children[name]\n",
        "",
    ),
    Mutant(
        "gone-pods-are-not-dropped",
        "observe",
        "            if pod.uid not in present and not pod.gone:\n",
        "            if pod.uid not in present and not pod.gone and pod.exit_code is not None:\n",
    ),
    Mutant(
        "the-dead-tell-nothing",
        "store",
        "        family.pods[pod.name] = replace(pod, gone=True, version=version)\n",
        "        family.pods.pop(pod.name, None)\n",
    ),
    Mutant(
        "deletions-are-not-audited",
        "audit",
        "            behind |= {",
        "            _ = {",
    ),
    Mutant(
        "nobody-comes-again",
        "reconcile",
        "            requeue = decision.requeue_after\n",
        "            requeue = None\n",
    ),
    Mutant(
        "nobody-asks-for-progress",
        "reconcile",
        "            self._poller.aim(key, target_of(",
        "            self._poller.aim(key, None and target_of(",
    ),
    Mutant(
        "everything-is-worth-a-write",
        "conditions",
        "    return old.to_dict() != new.to_dict()\n",
        "    return bool(old.to_dict()) or bool(new.to_dict())\n",
    ),
    Mutant(
        "what-is-due-later-never-comes",
        "work_queue",
        "            heapq.heappush(self._heap, (due, next(self._order), key))\n"
        "            self._arm()\n",
        "            heapq.heappush(self._heap, (due, next(self._order), key))\n",
    ),
    Mutant(
        "failed-visits-are-forgotten",
        "work_queue",
        "        self.add(key, delay)\n        return delay\n",
        "        return delay\n",
    ),
    Mutant(
        "what-lost-its-label-is-gone",
        "decide.drift",
        "not tells(pod) and (pod.gone or pod.job != key.name)",
        "not tells(pod) and pod.job != key.name",
    ),
    Mutant(
        "pods-are-looked-for-by-label-alone",
        "observe",
        "        if makers:\n",
        "        if not makers:\n",
    ),
    Mutant(
        "labels-of-pods-are-left",
        "decide.attempt",
        "    drift.put_pods_right(draft, attempt, live)\n",
        "",
    ),
    Mutant(
        "gone-once-gone-for-ever",
        "store",
        "        told = version_number(listed or pod.version)\n",
        "        told = -1 if pod.uid in self._gone else version_number(pod.version)\n",
    ),
)
