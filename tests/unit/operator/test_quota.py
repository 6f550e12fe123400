"""A pod that the namespace's quota refuses: whether waiting helps, and what does."""

from __future__ import annotations

from typing import Any

import pytest

from kubeseg_operator.decide import Ask, Observed
from kubeseg_operator.obstacles import no_pod
from kubeseg_operator.quota import amount, refused
from tests.support.operator_decisions import look, of
from tests.support.operator_objects import CHILD_UID, at, child, job
from tests.support.operator_obstacles import spec

GPU = "requests.nvidia.com/gpu"


def words(asked: str, used: str, limited: str) -> str:
    """As the API server says it."""
    return (
        f'pods "job-1-0-abcde" is forbidden: exceeded quota: team, requested: {asked}, '
        f"used: {used}, limited: {limited}"
    )


@pytest.mark.parametrize(
    ("message", "wish", "told"),
    [
        (
            words(f"{GPU}=2", f"{GPU}=3", f"{GPU}=4"),
            {},
            (
                f'the namespace\'s quota "team" is used up: it allows {GPU}=4, of which 3 are '
                "used, "
                "and the pod asks for 2. Wait for other jobs to end, or ask for less in "
                "spec.resources."
            ),
        ),
        (
            words("requests.memory=2Gi", "requests.memory=0", "requests.memory=1Gi"),
            {},
            (
                'the namespace\'s quota "team" is too small for the pod: it allows '
                "requests.memory=1Gi, "
                "and it asks for 2Gi. Waiting does not help: ask for less in spec.resources, or "
                "have the quota raised."
            ),
        ),
        (
            words(f"{GPU}=1", f"{GPU}=0", f"{GPU}=0"),
            {},
            (
                f'the namespace\'s quota "team" allows no {GPU}. Waiting does not help: have '
                "the quota "
                "raised."
            ),
        ),
        (  # two fit, and the third never does
            words("requests.cpu=2", "requests.cpu=4", "requests.cpu=5"),
            {"workers": 3},
            (
                "it allows requests.cpu=5, and each of 3 workers asks for 2. Waiting does not "
                "help: ask "
                "for less in spec.resources, or make a new TrainingJob with fewer workers, or "
                "have the quota "
                "raised."
            ),
        ),
        (
            words("pods=1", "pods=5", "pods=5"),
            {},
            (
                "it allows pods=5, of which 5 are used, and the pod asks for 1. Wait for other "
                "jobs to "
                "end, or have the quota raised."
            ),
        ),
        (  # of several, the one that waiting doesn't help
            words("cpu=1,memory=2Gi", "cpu=3500m,memory=0", "cpu=4,memory=1Gi"),
            {},
            "it allows memory=1Gi, and it asks for 2Gi",
        ),
        (
            "exceeded quota: cpu",
            {},
            (
                "the namespace's quota is used up: exceeded quota: cpu. Ask for less in "
                "spec.resources, "
                "wait for other jobs to end, or have the quota raised."
            ),
        ),
        (
            words("cpu=?", "cpu=1", "cpu=1"),
            {},
            "the namespace's quota is used up: ",
        ),
    ],
)
def test_whether_waiting_helps_is_said(message: str, wish: dict[str, Any], told: str) -> None:
    found = refused(message, wish.get("workers", 1))
    assert found.reason == "Quota"
    assert told in found.message


def test_a_checks_request_is_not_the_users_to_lower() -> None:
    check = child(name="job-check1", started=at(-60))
    record = {"number": 1, "jobName": "job-check1", "reservedTime": at(-60), "uid": CHILD_UID}
    known = job(spec={"resources": {"gpus": 1}}, status={"preflight": record})
    message = words("cpu=500m", "cpu=0", "cpu=400m")
    seen = Observed(
        children=(check,),
        events=({"reason": "FailedCreate", "message": message},),
        confirmed=frozenset({Ask.CHILD_EVENTS}),
    )
    told = of(look(known, seen), "Blocked").message
    assert "Waiting does not help: have the quota raised. A new TrainingJob with" in told
    assert told.endswith("with preflight: Never has no check.")
    assert "spec.resources" not in told


def test_a_quota_for_what_the_pod_does_not_say() -> None:
    message = "pods is forbidden: failed quota: team: must specify limits.cpu for: trainer"
    found = no_pod([{"reason": "FailedCreate", "message": message}], spec())
    assert found is not None
    assert found.reason == "Quota"
    assert "must specify limits.cpu for: trainer. Have a LimitRange give it a default." in (
        found.message
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("500m", 0.5),
        ("2Gi", 2 * 2**30),
        ("1k", 1000),
        ("1.5", 1.5),
        ("2e3", 2000),
        ("", None),
        ("many", None),
        ("1Xi", None),
    ],
)
def test_quantities(text: str, value: float | None) -> None:
    assert amount(text) == value
