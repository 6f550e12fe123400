"""The mutants: what a change of the operator must never do unnoticed; and the survey over them.

Each is one fault of the kind that reviews miss. A mutant whose text is no longer in the source
fails loudly (`StaleMutantError`): adapt it to what the source has become.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.mutate import ENVIRONMENT, Mutant, source_of

ROOT = Path(__file__).resolve().parents[2]
#: The share that must be caught, and the schedules that each mutant is given.
WANTED, SCHEDULES = 0.95, 3000

MUTANTS = (
    # Terminal means terminal.
    Mutant(
        "finished-forgets-itself",
        "decide.visit",
        "    if is_finished(before) and not _reopens(before, spec):\n",
        "    if is_finished(before) and seen.children and not _reopens(before, spec):\n",
    ),
    Mutant(
        "reopens-without-more-epochs",
        "decide.visit",
        "return is_true(status, ConditionType.COMPLETE) and spec.training.epochs > max(",
        "return is_true(status, ConditionType.COMPLETE) and spec.training.epochs != max(",
    ),
    Mutant(
        "ttl-too-early",
        "decide.visit",
        "    if left > 0:\n",
        "    if left > 9:\n",
    ),
    Mutant(
        "ttl-of-any-version",
        "apply",
        'only = {"uid": uid, "resourceVersion": version}',
        'only = {"uid": uid}',
    ),
    Mutant(
        "finished-leaves-strays",
        "decide.visit",
        "[*strays(seen, status)]",
        "[]",
    ),
    Mutant(
        "finished-with-a-running-attempt",
        "decide.ends",
        "    if draft.active:\n        end_attempt(draft, Ending(",
        "    if draft.active and draft.active.uid:\n        end_attempt(draft, Ending(",
    ),
    Mutant(
        "finished-epochs-are-those-done",
        "decide.ends",
        "finished=Finished(epochs=wanted,",
        "finished=Finished(epochs=draft.epoch,",
    ),
    # Absence is never believed.
    Mutant(
        "absent-job-is-believed",
        "decide.attempt",
        "    if Ask.CHILD not in seen.confirmed:\n",
        "    if seen.confirmed and Ask.CHILD not in seen.confirmed:\n",
    ),
    Mutant(
        "silent-pods-are-believed",
        "decide.attempt",
        "        if _some_silent(draft, pods) and Ask.PODS not in draft.seen.confirmed:\n",
        "        if draft.seen.confirmed and not draft.seen.progress and _some_silent(draft, pods):"
        "\n",
    ),
    Mutant(
        "next-attempt-beside-a-living-pod",
        "decide.attempt",
        "    if any(not pod.ended for pod in pods):\n",
        "    if any(not pod.ended and not pod.deleting for pod in pods):\n",
    ),
    # Attempts.
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
        "            and pod.child is not None\n"
        "            and (uid is None or pod.child == uid)\n",
        "",
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
    # Preconditions.
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
        '{"metadata": {"uid": uid, "annotations"',
        '{"metadata": {"annotations"',
    ),
    Mutant(
        "status-of-any-version",
        "apply",
        '            "resourceVersion": job.version,\n',
        "",
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
    # The life-cycle.
    Mutant(
        "deadline-runs-while-suspended",
        "decide.ends",
        "    if spec.suspend:\n        draft.update(start_time=None)\n",
        "    if spec.suspend:\n",
    ),
    Mutant(
        "suspend-does-not-hold",
        "decide.ends",
        "    if spec.suspend:\n        draft.update(start_time=None)\n",
        "    if spec.suspend and draft.status.attempts:\n        draft.update(start_time=None)\n",
    ),
    Mutant(
        "suspend-is-not-carried-out",
        "decide.attempt",
        "        if known or not meaningful(",
        "        if (known and begun) or not meaningful(",
    ),
    Mutant(
        "suspended-before-the-pods-are-gone",
        "decide.attempt",
        "    if child.deleting or spec.suspend:\n",
        "    if child.deleting and spec.suspend:\n"
        "        return ended(draft, _as_asked(draft, ending(None, [])))\n"
        "    if child.deleting or spec.suspend:\n",
    ),
    Mutant(
        "suspension-is-called-an-interruption",
        "decide.attempt",
        "    if end.outcome is Outcome.INTERRUPTED and (draft.spec.suspend or draft.spec.stop):\n",
        "    if end.outcome is Outcome.INTERRUPTED and draft.spec.stop:\n",
    ),
    Mutant(
        "stop-fails-a-running-job",
        "decide.attempt",
        "    if spec.stop and not begun and draft.epoch == 0",
        "    if spec.stop and draft.epoch == 0",
    ),
    Mutant(
        "edits-do-not-reach-the-pod",
        "decide.attempt",
        "        _bring_config(draft, attempt, live)\n",
        "        pass\n",
    ),
    Mutant(
        "edits-are-sent-without-end",
        "decide.attempt",
        "        if pod.config_hash != wanted:\n",
        "        if True:\n",
    ),
    Mutant(
        "reports-of-anyone-count",
        "decide.attempt",
        "if report is None or report.attempt != attempt.number or report.uid != draft.job.uid:",
        "if report is None:",
    ),
    Mutant(
        "a-starting-trainer-knows-best",
        "decide.attempt",
        '    unread = report.state == "Starting" or (report.state == "Finished" and ',
        '    unread = (report.state == "Finished" and ',
    ),
    Mutant(
        "last-words-know-best",
        "progress",
        "    epoch = told.epoch or base.epoch\n",
        "    epoch = told.epoch\n",
    ),
    # Retries.
    Mutant(
        "no-back-off",
        "decide.ends",
        "            not_before=_after(draft, failures - 1),\n",
        "            not_before=None,\n",
    ),
    Mutant(
        "back-off-is-not-waited-for",
        "decide.ends",
        "    if draft.again_at(draft.retry.not_before):\n",
        "    if draft.again_at(draft.retry.not_before) and draft.retry.failures > 1:\n",
    ),
    Mutant(
        "progress-does-not-reset",
        "decide.ends",
        "    failures = 1 if progressed else retry.failures + 1\n",
        "    failures = retry.failures + 1\n",
    ),
    Mutant(
        "interruptions-count",
        "decide.ends",
        "    if ending.outcome in _COUNTED:\n",
        "    if ending.outcome is not Outcome.SUCCEEDED:\n",
    ),
    Mutant(
        "one-retry-too-few",
        "decide.ends",
        "    if failures > limit:\n",
        "    if failures >= limit:\n",
    ),
    Mutant(
        "permanent-errors-are-retried",
        "decide.ends",
        "    if ending.outcome is Outcome.PERMANENT:\n",
        "    if ending.outcome is Outcome.PERMANENT and draft.epoch:\n",
    ),
    # Outcomes.
    Mutant(
        "killed-for-memory-is-an-error",
        "outcome",
        "    if pod.end_reason == OOM_KILLED:\n        return classify(",
        '    if pod.end_reason == "OOM":\n        return classify(',
    ),
    Mutant(
        "deleted-pods-have-failed",
        "outcome",
        "    if pod.deleting or pod.gone:\n",
        "    if pod.gone and pod.disruption:\n",
    ),
    Mutant(
        "evicted-pods-have-failed",
        "outcome",
        "outcome = Outcome.INTERRUPTED if interrupting else Outcome.FAILED",
        "outcome = Outcome.FAILED",
    ),
    Mutant(
        "silence-is-success",
        "outcome",
        'return Ending(Outcome.INTERRUPTED, disrupted or "JobDeleted", words, node=node)',
        'return Ending(Outcome.SUCCEEDED, disrupted or "JobDeleted", words, node=node)',
    ),
    # The store, and what is kept up to date.
    Mutant(
        "deleted-jobs-live-on",
        "store",
        "        del family.children[name]\n",
        "",
    ),
    Mutant(
        "gone-pods-are-not-dropped",
        "observe",
        "            if pod.uid not in found and not pod.gone:\n",
        "            if pod.uid not in found and not pod.gone and pod.exit_code is not None:\n",
    ),
    Mutant(
        "the-dead-tell-nothing",
        "store",
        "        family.pods[pod.name] = replace(pod, gone=True)\n",
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
        "news-during-a-visit-are-lost",
        "work_queue",
        "        if key in self._again:\n",
        "        if key in self._again and key not in self._due:\n",
    ),
    Mutant(
        "failed-visits-are-forgotten",
        "work_queue",
        "        self.add(key, delay)\n        return delay\n",
        "        return delay\n",
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the harness made of one mutant."""

    mutant: Mutant
    caught: bool
    seconds: float
    #: The schedule and the finding that caught it.
    how: str


def try_mutant(mutant: Mutant, schedules: int = SCHEDULES, seed: int = 1) -> Verdict:
    """Run the harness over one mutant, in a process of its own, until it is caught."""
    mutant.mutated(source_of(mutant.module))
    begun = time.perf_counter()
    command = [sys.executable, "-m", "tests.faults", "--stop-at", "1"]
    command += ["--schedules", str(schedules), "--first", str(seed)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {ENVIRONMENT: mutant.name},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in {0, 1} or "failed" not in done.stdout:
        raise RuntimeError(f"mutant {mutant.name}: {done.stdout}{done.stderr}")
    lines = [line.strip() for line in done.stdout.splitlines()]
    how = " | ".join(lines[:2]) if done.returncode else ""
    return Verdict(mutant, done.returncode == 1, time.perf_counter() - begun, how)


def survey(names: Iterable[str] | None = None, schedules: int = SCHEDULES) -> int:
    """Try them all, say what became of each; 0 where enough were caught."""
    chosen = [each for each in MUTANTS if names is None or each.name in set(names)]
    caught = 0
    for mutant in chosen:
        verdict = try_mutant(mutant, schedules)
        caught += verdict.caught
        word = "caught  " if verdict.caught else "SURVIVED"
        print(f"{word} {mutant.name} ({verdict.seconds:.1f} s) {verdict.how[:200]}", flush=True)
    share = caught / len(chosen)
    print(f"{caught} of {len(chosen)} mutants caught: {share:.0%}, {WANTED:.0%} are wanted")
    return 0 if share >= WANTED else 1
