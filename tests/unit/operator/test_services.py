"""The Service of several workers: made once, never somebody else's, put right where it changed."""

from __future__ import annotations

from typing import Any

import pytest

from kubeseg_operator.builders import owner_reference
from kubeseg_operator.client import ApiError, ApiUnreachableError
from kubeseg_operator.obstacle import MAX_WORDS, Obstacle
from kubeseg_operator.rendezvous import headless_service
from kubeseg_operator.services import ensure_service
from tests.support.fake_api import FakeApi, Fault
from tests.support.operator_objects import job

KNOWN = job(spec={"workers": 2})
WANTED = headless_service(KNOWN, owner_reference(KNOWN))


async def ensure(api: FakeApi) -> Obstacle | None:
    return await ensure_service(api, KNOWN, WANTED)  # type: ignore[arg-type]


def there(api: FakeApi, *, spec: dict[str, Any] | None = None, **meta: Any) -> None:
    """A Service of that name is there: ours, but for what is said."""
    api.put(
        "services",
        WANTED | {"metadata": WANTED["metadata"] | meta, "spec": WANTED["spec"] | (spec or {})},
    )


def spec_of(api: FakeApi) -> dict[str, Any]:
    (service,) = api.all("services")
    spec: dict[str, Any] = service["spec"]
    return spec


async def test_it_is_made_once() -> None:
    api = FakeApi()
    for _ in range(3):
        assert await ensure(api) is None
    assert api.writes == ["create services"]
    assert api.reads == ["GET services"] * 3


async def test_one_that_was_changed_is_put_right() -> None:
    api = FakeApi()
    there(api, spec={"selector": {"app": "other"}, "clusterIPs": ["None"]})
    assert await ensure(api) is None
    assert spec_of(api)["selector"] == {"kubeseg.dev/job": "job"}
    assert api.writes == ["replace services"]


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"ownerReferences": []}, "NameTaken"),
        (
            {"ownerReferences": [{**WANTED["metadata"]["ownerReferences"][0], "uid": "before"}]},
            "PredecessorLeaving",
        ),
        ({"deletionTimestamp": "2026-01-02T03:04:05Z"}, "PredecessorLeaving"),
    ],
)
async def test_one_that_isnt_ours_is_never_touched(meta: dict[str, Any], reason: str) -> None:
    api = FakeApi()
    there(api, spec={"selector": {"app": "other"}}, **meta)
    obstacle = await ensure(api)
    assert obstacle is not None
    assert obstacle.reason == reason
    assert "kubeseg-job" in obstacle.message
    assert (api.writes, spec_of(api)["selector"]) == ([], {"app": "other"})


async def test_one_made_since_it_was_looked_for_is_kept() -> None:
    api = FakeApi()

    def just_made(verb: str, _path: str) -> bool:
        if verb == "POST" and not api.all("services"):
            there(api)
        return False

    api.faults.append(Fault(just_made, "before"))
    assert await ensure(api) is None
    assert api.writes == []


@pytest.mark.parametrize(("code", "refused"), [(403, True), (422, True), (500, False)])
async def test_a_refusal_is_said_and_trouble_is_tried_again(code: int, refused: bool) -> None:
    api = FakeApi(faults=[Fault(lambda verb, _: verb == "POST", code)])
    if refused:
        obstacle = await ensure(api)
        assert obstacle is not None
        assert obstacle.reason == "ServiceRefused"
    else:
        with pytest.raises(ApiError):
            await ensure(api)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ('services "job" is forbidden: exceeded quota: few', "Remove a Service of the namespace"),
        ('User "x" cannot create resource "services"', "Whoever runs the operator must give it"),
        (1000 * "no", "Ask who runs the cluster; the job goes on by itself."),
    ],
)
async def test_a_refusal_comes_with_a_remedy(words: str, remedy: str) -> None:
    obstacle = await ensure(FakeApi(faults=[Fault(lambda verb, _: verb == "POST", 403, words)]))
    assert obstacle is not None
    assert remedy in obstacle.message
    assert len(obstacle.message) < MAX_WORDS


async def test_who_may_not_look_at_it_says_so() -> None:
    words = 'services "job" is forbidden: User "x" cannot get resource "services"'
    obstacle = await ensure(FakeApi(faults=[Fault(lambda verb, _: verb == "GET", 403, words)]))
    assert obstacle is not None
    assert "Whoever runs the operator must give it this right" in obstacle.message


async def test_a_lost_answer_does_no_harm() -> None:
    api = FakeApi(faults=[Fault(lambda verb, _: verb == "POST", "after")])
    with pytest.raises(ApiUnreachableError):
        await ensure(api)
    assert await ensure(api) is None
    assert api.writes == ["create services"]


@pytest.mark.parametrize("code", [404, 409])
async def test_one_changed_while_it_is_put_right_is_left_to_the_next_visit(code: int) -> None:
    api = FakeApi(faults=[Fault(lambda verb, _: verb == "PUT", code)])
    there(api, spec={"ports": []})
    assert await ensure(api) is None
    assert await ensure(api) is None
    assert spec_of(api)["ports"] == WANTED["spec"]["ports"]
