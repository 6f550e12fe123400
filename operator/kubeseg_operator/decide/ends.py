"""Ends: of an attempt, and of the job; and what comes after an attempt has ended."""

from __future__ import annotations

from kubeseg_operator.builders import child_name
from kubeseg_operator.clock import add, stamp
from kubeseg_operator.conditions import Standing
from kubeseg_operator.cost import add_up, cost, gpus_of, in_words
from kubeseg_operator.decide import memory
from kubeseg_operator.decide.draft import Draft, starting
from kubeseg_operator.decide.edits import SPEC_CHANGED
from kubeseg_operator.decide.model import Decision
from kubeseg_operator.decide.queued import admitted
from kubeseg_operator.outcome import Ending, clip
from kubeseg_operator.progress import fold_ending
from kubeseg_types.exit_codes import Outcome
from kubeseg_types.status import Attempt, CheckOutcome, Finished, Phase, Retry, RunPointer
from kubeseg_types.workspace import run_dir

KEPT_ATTEMPTS = 10
#: Reasons of interruptions that are this operator's own doing: no sign of a loop.
DELETED = "Deleted"
OWN_REASONS = frozenset({"Suspended", "Stopped", DELETED, SPEC_CHANGED})
#: What ends every message of a job that has failed: whatever is changed, it is not tried again.
WAY_OUT = (
    "This job is not tried again: once that is put right, delete it or choose another name, and "
    "make a new TrainingJob."
)
_COUNTED = {Outcome.FAILED, Outcome.OUT_OF_MEMORY}


def end_attempt(draft: Draft, ending: Ending) -> Attempt:
    """Record how the running attempt ended, and what its trainer said last."""
    told = ending.told
    draft.status = fold_ending(
        draft.status, told, job=draft.job.key.name, uid=draft.job.uid, now=draft.now
    )
    active = draft.active
    assert active is not None
    active = admitted(draft, active)
    done = draft.replace_last(
        start_time=active.start_time or ending.start,
        end_time=ending.time or draft.time,
        outcome=ending.outcome.value,
        reason=ending.reason,
        message=clip(ending.message, 2000) or None,
        exit_code=ending.exit_code,
        epoch=draft.epoch,
        start_epoch=told.start_epoch if told and told.epoch else active.start_epoch,
        node=ending.node or active.node,
    )
    progress = draft.status.progress
    done = draft.replace_last(**cost(done, progress.checkpoint if progress else None))
    draft.update(totals=add_up(draft.status.totals, done))
    return done


def ended(draft: Draft, ending: Ending) -> Decision:
    """The running attempt has ended: the job ends with it, or goes on."""
    attempt = end_attempt(draft, ending)
    if ending.outcome is Outcome.SUCCEEDED:
        return succeed(draft, ending)
    if ending.outcome is Outcome.PERMANENT:
        return fail(draft, ending.reason, ending.message)
    if ending.outcome in _COUNTED:
        return _failed_attempt(draft, attempt, ending)
    draft.update(retry=_after_interruption(draft))
    return next_attempt(draft)


def _failed_attempt(draft: Draft, attempt: Attempt, ending: Ending) -> Decision:
    if ending.outcome is Outcome.OUT_OF_MEMORY:
        smaller = memory.smaller(draft, attempt)
        if smaller is not None:
            # The next attempt differs: that is no failure yet, and there is an end to halving.
            retry = draft.retry.model_copy(update={"not_before": _after(draft, 0)})
            draft.update(batch=smaller, retry=retry)
            return next_attempt(draft)
        if not memory.came_further(attempt):
            words = f"{_failure_words(attempt)}. {memory.at_the_floor(draft, attempt)}"
            return fail(draft, ending.reason, words)
    retry, limit = draft.retry, draft.spec.max_retries
    progressed = draft.epoch > retry.progress_epoch
    failures = 1 if progressed else retry.failures + 1
    if failures > limit:
        draft.update(retry=Retry(failures=failures, progress_epoch=draft.epoch))
        tries = "1 failure" if failures == 1 else f"{failures} failures in a row"
        return fail(
            draft,
            "RetriesExhausted",
            f"{_failure_words(attempt)}. {tries} without progress, and maxRetries is {limit}.",
        )
    draft.update(
        retry=Retry(
            failures=failures,
            progress_epoch=draft.epoch,
            not_before=_after(draft, failures - 1),
        )
    )
    return next_attempt(draft)


def _after(draft: Draft, doublings: int) -> str:
    settings = draft.settings
    delay = min(settings.backoff_seconds * 2**doublings, settings.longest_backoff_seconds)
    return stamp(add(draft.now, delay))


def _failure_words(attempt: Attempt) -> str:
    words = f"attempt {attempt.number} failed ({attempt.reason})"
    return f"{words}: {attempt.message.rstrip('.')}" if attempt.message else words


def _after_interruption(draft: Draft) -> Retry:
    """Interruptions count for nothing; but one after another without progress slow down."""
    in_a_row = 0
    for attempt in reversed(draft.status.attempts):
        if attempt.outcome != Outcome.INTERRUPTED or attempt.epoch != draft.epoch:
            break
        in_a_row += attempt.reason not in OWN_REASONS
    old = draft.retry
    if in_a_row < 2:
        return old.model_copy(update={"not_before": None})
    delay = min(draft.settings.backoff_seconds * 2 ** (in_a_row - 2), 60.0)
    return old.model_copy(update={"not_before": stamp(add(draft.now, delay))})


def next_attempt(draft: Draft) -> Decision:
    """No attempt runs: reserve the next one, or say why not."""
    draft.end_strays(keep=None)
    spec = draft.spec
    if spec.stop and (spec.suspend or draft.epoch == 0):
        return _stop_without_trainer(draft)
    if spec.suspend:
        draft.update(start_time=None)
        return draft.decided(Standing(Phase.SUSPENDED, "Suspended", _suspended_words(draft)))
    if draft.again_at(draft.retry.not_before):
        return draft.decided(_waiting(draft))
    return _reserve(draft)


def _suspended_words(draft: Draft) -> str:
    if not draft.status.attempts:
        return "spec.suspend is true: no attempt has begun"
    pointer = draft.status.progress.checkpoint if draft.status.progress else None
    if pointer is None:
        return "spec.suspend is true: no checkpoint yet, the next attempt begins from scratch"
    return f"spec.suspend is true: the next attempt goes on from epoch {pointer.epoch}"


def _waiting(draft: Draft) -> Standing:
    last, retry = draft.last, draft.retry
    assert last is not None
    if last.outcome == Outcome.INTERRUPTED:
        words = (
            f"attempt {last.number} was interrupted again without progress ({last.reason}: "
            f"{last.message}); the next one starts at {retry.not_before}"
        )
        return Standing(Phase.RETRYING, "InterruptedAgain", words)
    words = _failure_words(last)
    if last.outcome == Outcome.OUT_OF_MEMORY and draft.status.batch is not None:
        words += f". {memory.from_now_on(draft, last)}"
    if retry.failures:
        words += (
            f"; failure {retry.failures} without progress, of {draft.spec.max_retries} that are "
            "retried"
        )
    words += f"; the next attempt starts at {retry.not_before}"
    return Standing(Phase.RETRYING, last.reason or "Failed", words)


def _reserve(draft: Draft) -> Decision:
    """An attempt exists in status before its Job does: a create can carry no precondition."""
    last = draft.last
    number = last.number + 1 if last else 1
    attempt = Attempt(
        number=number,
        job_name=child_name(draft.job.key.name, number),
        reserved_time=draft.time,
        gpus=gpus_of(draft.spec),
    )
    draft.update(
        attempts=[*draft.status.attempts, attempt][-KEPT_ATTEMPTS:],
        start_time=draft.status.start_time or draft.time,
        retry=draft.retry.model_copy(update={"not_before": None}) if draft.status.retry else None,
        run=draft.status.run or RunPointer(path=run_dir(draft.job.key.name, draft.job.uid)),
    )
    return draft.decided(starting(attempt))


def _stop_without_trainer(draft: Draft) -> Decision:
    """`stop` with no trainer that could end gracefully."""
    if draft.epoch == 0:
        return fail(
            draft,
            "StoppedBeforeFirstEpoch",
            "spec.stop is true, and no epoch has been finished: there is no model. Make a new "
            "TrainingJob to train.",
        )
    return succeed(draft, None)


def succeed(draft: Draft, ending: Ending | None) -> Decision:
    """The job is complete; what was in force decides on what would reopen it."""
    told = ending.told if ending else None
    wanted = draft.spec.training.epochs
    if told and 0 < told.generation < draft.job.generation and told.epochs > 0:
        # It ended by an older configuration: epochs raised since then are still to be trained.
        wanted = min(told.epochs, wanted)
    draft.update(
        completion_time=draft.time,
        finished=Finished(epochs=wanted, generation=draft.job.generation),
        retry=None,
    )
    best = draft.status.metrics.best if draft.status.metrics else None
    total = (draft.status.progress.epochs if draft.status.progress else 0) or wanted
    words = f"trained {draft.epoch} of {total} epochs"
    if draft.epoch > total:
        words = f"trained {draft.epoch} epochs (epochs was lowered to {total})"
    if best and best.val_iou is not None:
        words += f"; best validation IoU {best.val_iou:.3f} at epoch {best.epoch}"
    if ending is None:
        words += (
            "; stopped while suspended, so no folder for smp.from_pretrained was made: the best "
            "weights are in status.run.bestWeights"
        )
    elif draft.spec.stop:
        words += "; stopped by spec.stop"
    words += in_words(draft.status.totals)
    reason = "Stopped" if draft.spec.stop else "Trained"
    return draft.decided(Standing(Phase.SUCCEEDED, reason, words))


def fail(draft: Draft, reason: str, message: str) -> Decision:
    """The job has failed; a Job that still runs is ended after status says so."""
    if draft.active:
        end_attempt(draft, Ending(Outcome.INTERRUPTED, reason, f"ended by the operator: {reason}"))
    check = draft.status.preflight
    if check and check.outcome is None:
        closed = {"outcome": CheckOutcome.INTERRUPTED, "reason": reason, "end_time": draft.time}
        draft.update(preflight=check.model_copy(update=closed))
    draft.update(completion_time=draft.time)
    return draft.decided(Standing(Phase.FAILED, reason, _with_way_out(message or reason)))


def _with_way_out(message: str) -> str:
    """Some messages name a better one."""
    if "new TrainingJob" in message:
        return message
    end = "" if message.endswith((".", "!", "?", "…")) else "."
    return f"{message}{end} {WAY_OUT}"
