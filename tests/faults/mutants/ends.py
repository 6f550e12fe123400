"""Ends, and what comes after them: terminal means terminal; outcomes, retries."""

from tests.faults.mutate import Mutant

MUTANTS = (
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
        "[*found[:AT_A_TIME]]",
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
)
