"""A change of the spec on its way to a trainer that runs."""

from __future__ import annotations

from kubeseg_operator.decide.draft import Draft
from kubeseg_types.status import Attempt


def on_its_way(draft: Draft, attempt: Attempt) -> str:
    """What to add to the words about a running trainer until it has taken up the newest spec."""
    if attempt.start_epoch is None:
        # It has reported nothing yet: what is known is of the attempt before.
        return ""
    progress, generation = draft.status.progress, draft.job.generation
    seen = progress.trainer_generation if progress else None
    if seen is None or seen >= generation:
        return ""
    return (
        f"; it has been sent generation {generation} of the spec, and takes it up at the end of "
        "this epoch"
    )
