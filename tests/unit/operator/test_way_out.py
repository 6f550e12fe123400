"""What a job says that has failed for good: why, and that a new one is to be made."""

from __future__ import annotations

import pytest

from kubeseg_operator.decide import Ask, Observed
from kubeseg_operator.decide.ends import WAY_OUT
from tests.support.operator_decisions import ended, look, of, standing
from tests.support.operator_objects import (
    at,
    child,
    job,
    last_words,
    running_attempt,
)

RUNS = {"attempts": [running_attempt()]}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("masks/a.png has label 12", "masks/a.png has label 12. "),
        ("there is no data set. Upload it.", "there is no data set. Upload it. "),
        ("lines are left out …", "lines are left out … "),
    ],
)
def test_a_permanent_error_carries_the_trainers_sentence_and_the_way_out(
    words: str, told: str
) -> None:
    decision = look(job(status=RUNS), ended(3, last_words(3, message=words)))
    assert of(decision, "Failed").message == told + WAY_OUT
    assert decision.status.summary is not None
    assert decision.status.summary.why == told + WAY_OUT
    assert decision.status.attempts[-1].message == words, "the attempt's record is the trainer's"


def test_every_failure_for_good_has_it() -> None:
    status = RUNS | {"startTime": at(-100)}
    running = Observed(children=(child(),), confirmed=frozenset({Ask.CHILD}))
    late = look(job(spec={"activeDeadlineSeconds": 10}, status=status), running)
    gone = look(job(spec={"maxRetries": 0}, status=RUNS), ended(1, last_words(1, message="boom")))
    for decision in (late, gone):
        assert standing(decision)[0] == "Failed"
        assert of(decision, "Failed").message.endswith(WAY_OUT)


def test_it_is_not_said_twice() -> None:
    message = of(look(job(spec={"stop": True})), "Failed").message
    assert message.count("new TrainingJob") == 1
    assert WAY_OUT not in message
