"""After a kill for memory: the next attempt computes each batch in twice as many, smaller parts.

`training.batchSize` stays, and with it what is learnt; half as many images are in memory at once.
The trainer does the same by itself where it gets the chance (CUDA); a kill gives it none.
"""

from __future__ import annotations

from math import ceil

from kubeseg_operator.decide.draft import Draft
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.status import Attempt, Batch
from kubeseg_types.training import MAX_ACCUMULATE


def smaller(draft: Draft, attempt: Attempt) -> Batch | None:
    """The batch of the attempt after `attempt`, or None where a part can't get smaller.

    Begins with what was in force: the parts that the trainer last reported, since it may have
    halved them itself, or those of the spec.
    """
    share, least = _share(draft)
    parts = min(_parts(draft), least)
    if parts >= least:
        return None
    parts = min(2 * parts, least)
    return Batch(accumulate=parts, images_at_once=ceil(share / parts), after_attempt=attempt.number)


def came_further(attempt: Attempt) -> bool:
    """True where it has finished an epoch before it was killed."""
    return attempt.start_epoch is not None and (attempt.epoch or 0) > attempt.start_epoch


def from_now_on(draft: Draft, attempt: Attempt) -> str:
    """What the attempt after `attempt` does otherwise, in words."""
    batch = draft.status.batch
    assert batch is not None
    words = (
        f"From now on at most {images(batch.images_at_once)} at once: each batch of "
        f"{draft.spec.training.batch_size} is computed in {batch.accumulate} parts, with the same "
        "result"
    )
    if _reported(attempt) or attempt.exit_code == ExitCode.OUT_OF_MEMORY:
        # What it said itself stands before this; it may be a GPU's memory.
        return words
    return (
        f"{words}. It had not reported a step: should the next attempt end like this, raise "
        f"spec.resources.memory ({draft.spec.resources.memory}), which may be done at once"
    )


def since_a_kill(draft: Draft) -> str:
    """What to add to the words about a running attempt that computes smaller parts."""
    batch = draft.status.batch
    if batch is None:
        return ""
    return (
        f", with at most {images(batch.images_at_once)} at once since attempt "
        f"{batch.after_attempt} ran out of memory"
    )


def at_the_floor(draft: Draft, attempt: Attempt) -> str:
    """That nothing smaller is left, and what to do."""
    if attempt.exit_code == ExitCode.OUT_OF_MEMORY:
        # Its own words name the remedy; it may be a GPU's memory.
        return "A batch can't be computed in smaller parts."
    training, resources = draft.spec.training, draft.spec.resources
    share, least = _share(draft)
    words = (
        f"Memory ran out with {images(ceil(share / least))} at once, and a batch can't be "
        "computed in smaller parts"
    )
    raised = f"Raise spec.resources.memory ({resources.memory}) and make a new TrainingJob with it"
    if not _reported(attempt):
        return f"{words}; no step was reported, so the start alone may not fit. {raised}."
    return (
        f"{words}. {raised}, or one with a smaller training.imageSize ({training.image_size}) or "
        "a smaller network."
    )


def _reported(attempt: Attempt) -> bool:
    """False where it was killed before it told where it began. It may have come to a first step
    that nobody heard of, so smaller parts are tried all the same.
    """
    return attempt.start_epoch is not None


def images(count: int) -> str:
    """So many images, in words."""
    return "1 image" if count == 1 else f"{count} images"


def _parts(draft: Draft) -> int:
    """Parts of a batch that were in force."""
    progress, batch = draft.status.progress, draft.status.batch
    told = progress.accumulate if progress and progress.accumulate else 1
    return max(draft.spec.training.accumulate, batch.accumulate if batch else 1, told)


def _share(draft: Draft) -> tuple[int, int]:
    """Images of a batch that one process computes, and the most parts that these make."""
    spec = draft.spec
    ranks = spec.workers * max(1, spec.resources.gpus)
    share = ceil(spec.training.batch_size / ranks)
    return share, min(share, MAX_ACCUMULATE)
