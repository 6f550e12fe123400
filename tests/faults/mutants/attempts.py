"""Attempts: reserved before they are made, never used twice; absence is never believed."""

from tests.faults.mutate import Mutant

MUTANTS = (
    Mutant(
        "absent-job-is-believed",
        "decide.attempt",
        "    if Ask.CHILD not in seen.confirmed:\n",
        "    if Ask.PODS in seen.confirmed and not seen.confirmed:\n",
    ),
    Mutant(
        "a-waiting-attempt-keeps-its-pods",
        "decide.edits",
        "    draft.actions.append(DeleteChild(child.name, child.uid))\n",
        "",
    ),
    Mutant(
        "a-begun-attempt-is-made-anew",
        "decide.edits",
        "    if attempt.start_time is not None or waits or not known:\n",
        "    if not known:\n",
    ),
    Mutant(
        "silent-pods-are-believed",
        "decide.attempt",
        "        if _some_silent(draft, child, current):\n",
        "        if draft.seen.confirmed and not draft.seen.progress and "
        "_some_silent(draft, child, current):\n",
    ),
    Mutant(
        "next-attempt-beside-a-living-pod",
        "decide.attempt",
        "    if any(not pod.ended for pod in pods):\n",
        "    if any(not pod.ended and not pod.deleting for pod in pods):\n",
    ),
    Mutant(
        "job-before-reservation",
        "decide.ends",
        "    return draft.decided(starting(attempt))\n\n\ndef _stop_without_trainer",
        "    from kubeseg_operator.builders import child_job\n"
        "    from kubeseg_operator.decide.model import CreateChild\n"
        "    manifest = child_job(\n"
        "        draft.job, draft.spec, attempt=number, image=draft.settings.image\n"
        "    )\n"
        "    draft.actions.append(CreateChild(manifest))\n"
        "    return draft.decided(starting(attempt))\n\n\ndef _stop_without_trainer",
    ),
    Mutant(
        "uid-is-not-recorded",
        "decide.attempt",
        "        attempt = draft.replace_last(uid=child.uid)\n",
        "        pass\n",
    ),
    Mutant(
        "numbers-from-what-is-kept",
        "decide.ends",
        "number = last.number + 1 if last else 1",
        "number = len(draft.status.attempts) + 1",
    ),
    Mutant(
        "all-attempts-are-kept",
        "decide.ends",
        "[-KEPT_ATTEMPTS:]",
        "",
    ),
    Mutant(
        "running-job-is-a-stray",
        "decide.draft",
        "            if (keep is None or action.uid != keep.uid) and action",
        "            if action",
    ),
    Mutant(
        "newer-job-is-a-stray",
        "decide.draft",
        "        return child.attempt <= (status.attempts[-1].number",
        "        return True or (status.attempts[-1].number",
    ),
    Mutant(
        "labels-make-it-ours",
        "decide.draft",
        "return [pod for pod in self.seen.pods if pod.child == uid]\n",
        "return [p for p in self.seen.pods if p.attempt == attempt.number]\n",
    ),
    Mutant(
        "anyones-job-is-ours",
        "observe",
        "children = tuple(child for child in store.children(job.key) if _is_of(child, job))",
        "children = tuple(store.children(job.key))",
    ),
    Mutant(
        "adopts-what-is-not-ours",
        "apply",
        "        if child.owner == job.uid:\n",
        "        if child.owner in {job.uid, None}:\n",
    ),
    Mutant(
        "create-taken-is-done",
        "apply",
        "                return await self._adopt(job, name)\n",
        "                return None\n",
    ),
    Mutant(
        "deletes-any-uid",
        "apply",
        '{"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}',
        '{"propagationPolicy": "Foreground"}',
    ),
    Mutant(
        "deletes-in-the-background",
        "apply",
        '{"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}',
        '{"propagationPolicy": "Background", "preconditions": {"uid": uid}}',
    ),
    Mutant(
        "patches-any-uid",
        "apply",
        'body = {"metadata": {"uid": uid, **meta}}',
        'body = {"metadata": {**meta}}',
    ),
    Mutant(
        "status-of-any-version",
        "apply",
        '        "resourceVersion": job.version,\n',
        "",
    ),
    Mutant(
        "nobody-asks-who-killed-it",
        "decide.attempt",
        "if unexplained(current) and Ask.END_EVENTS not in draft.seen.confirmed:",
        "if False:",
    ),
    Mutant(
        "old-spec-is-remembered",
        "reading",
        "if known is None or known[0] != part:",
        "if known is None:",
    ),
    Mutant(
        "conflict-is-overwritten",
        "reconcile",
        "                await self._applier.refresh(job)\n                return True\n",
        "                await self._applier.refresh(job)\n"
        "                fresh = self._store.job(job.key)\n"
        "                if fresh is not None:\n"
        "                    await self._applier.write_status(fresh, status)\n"
        "                return True\n",
    ),
)
