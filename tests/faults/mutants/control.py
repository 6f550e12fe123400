"""What users ask for: suspend, stop, live edits; what trainers report."""

from tests.faults.mutate import Mutant

MUTANTS = (
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
        "        if known or not meaningful(draft.before, after):\n",
        "        if begun:\n",
    ),
    Mutant(
        "suspended-before-its-uid-is-known",
        "decide.attempt",
        "        if known or not meaningful(draft.before, after):\n",
        "        if True:\n",
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
        "    _bring_config(draft, attempt, live)\n",
        "    pass\n",
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
)
