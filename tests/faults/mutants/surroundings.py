"""Stalls, lost nodes, what others change, queues, and which of several workers ended an attempt."""

from tests.faults.mutate import Mutant

MUTANTS = (
    # Stalls: why, in words.
    Mutant(
        "last-words-are-left-out",
        "outcome",
        "    if told and told.message and told.exit_code == code:\n",
        "    if told and told.message and told.exit_code == code == 0:\n",
    ),
    Mutant(
        "the-log-is-not-quoted",
        "outcome",
        "    if told is None and pod.end_message.strip():\n",
        "    if told is not None and pod.end_message.strip():\n",
    ),
    # Lost nodes.
    Mutant(
        "lost-nodes-are-not-named",
        "views",
        'unanswered=ready.get("lastTransitionTime") if hidden and not gates else None,',
        'unanswered=ready.get("lastTransitionTime") if hidden and gates else None,',
    ),
    Mutant(
        "volumes-are-taken-from-lost-nodes",
        "decide.lost",
        "    elif _shared(draft.seen.answers.get(Ask.CLAIM, ())):\n",
        "    elif draft.seen.answers.get(Ask.CLAIM, ()):\n",
    ),
    Mutant(
        "lost-nodes-are-given-up-at-once",
        "decide.lost",
        "    elif draft.again_at(since, limit) or draft.again_at(pod.due, min(SLACK, limit)):\n",
        "    elif draft.again_at(pod.due, min(SLACK, limit)):\n",
    ),
    Mutant(
        "a-lost-nodes-grace-period-is-cut-short",
        "decide.lost",
        "    elif draft.again_at(since, limit) or draft.again_at(pod.due, min(SLACK, limit)):\n",
        "    elif draft.again_at(since, limit):\n",
    ),
    Mutant(
        "lost-nodes-are-given-up-before-eviction",
        "decide.lost",
        "    if not all(one.deleting for one in lost):\n",
        "    if not lost:\n",
    ),
    Mutant(
        "pods-of-lost-nodes-stay",
        "decide.lost",
        "        draft.actions += [DeletePod(one.name, one.uid) for one in lost "
        "if not one.forced]\n",
        "",
    ),
    Mutant(
        "jobs-of-lost-nodes-stay",
        "decide.lost",
        "            draft.actions.append(DeleteChild(child.name, child.uid))\n",
        "            pass\n",
    ),
    Mutant(
        "silent-kubelets-are-waited-for",
        "decide.lost",
        "    return None if draft.again_at(pod.due, OVERDUE) else pod.due\n",
        "    return None\n",
    ),
    # Drift.
    Mutant(
        "taken-labels-stay-away",
        "decide.drift",
        "    if not child.labelled or child.attempt != attempt.number:\n",
        "    if not child.labelled and child.attempt != attempt.number:\n",
    ),
    Mutant(
        "the-label-makes-the-attempt",
        "decide.draft",
        "            if child.uid == attempt.uid or (attempt.uid is None and child.name == "
        "attempt.job_name):\n",
        "            if child.uid == attempt.uid or (\n"
        "                attempt.uid is None and child.attempt == attempt.number\n"
        "            ):\n",
    ),
    Mutant(
        "orphans-stay-orphans",
        "decide.drift",
        "    if child.owner is None:\n",
        "    if child.owner is None and not child.labelled:\n",
    ),
    Mutant(
        "orphans-are-strangers",
        "observe",
        "    if child.owner is not None or child.foreign:\n",
        "    if child.owner is not None or child.foreign or not child.labelled:\n",
    ),
    Mutant(
        "unlabelled-is-gone",
        "store",
        "        if version_number(child.version) < self._gone.get(child.uid, -inf):\n",
        "        if child.uid in self._gone:\n",
    ),
    Mutant(
        "mends-any-uid",
        "apply",
        '        body = patch | {"metadata": patch["metadata"] | {"uid": uid}}\n',
        "        body = patch\n",
    ),
    Mutant(
        "scaled-jobs-stay-so",
        "decide.drift",
        "    if ours and child.parallelism is not None and child.parallelism != workers:\n",
        "    if ours and child.parallelism is not None and child.parallelism > workers:\n",
    ),
    # Queues.
    Mutant(
        "kueues-number-of-pods-is-fought",
        "decide.drift",
        "    if ours and child.parallelism is not None and child.parallelism != workers:\n",
        "    if child.parallelism is not None and child.parallelism != workers:\n",
    ),
    Mutant(
        "preemptions-are-not-counted",
        "decide.queued",
        "preemptions=(attempt.preemptions or 0) + 1)",
        "preemptions=attempt.preemptions)",
    ),
    Mutant(
        "the-deadline-runs-in-the-queue",
        "decide.queued",
        "    draft.update(start_time=None)\n",
        "",
    ),
    Mutant(
        "the-queues-reason-is-asked-once",
        "decide.queued",
        "    draft.again_after(admission.pause(_waited(draft, attempt)))\n",
        "",
    ),
    Mutant(
        "admission-is-not-noticed",
        "decide.queued",
        "    return draft.replace_last(queued_time=None, queued_seconds=waited)\n",
        "    return draft.replace_last(queued_seconds=waited)\n",
    ),
    Mutant(
        "the-queue-counts-as-patience",
        "decide.holdup",
        "admitted = draft.status.start_time if draft.spec.queue_name is not None else None",
        "admitted = None",
    ),
    # Several workers.
    Mutant(
        "any-worker-is-the-cause",
        "cause",
        "    return min(verdicts, key=_weight, default=None)\n",
        "    return next(iter(verdicts), None)\n",
    ),
)
