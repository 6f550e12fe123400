"""Reading what Kueue keeps of a queued Job."""

from __future__ import annotations

from typing import Any

import pytest

from kubeseg_operator.admission import Found
from kubeseg_operator.client import ApiError
from kubeseg_operator.workloads import Workloads
from tests.support.operator_objects import at


class Server:
    """Answers of an API server, by path; each call is noted."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {
            "/apis/kueue.x-k8s.io": {"preferredVersion": {"version": "v1beta2"}},
            WORKLOADS: {"items": []},
        } | answers
        self.calls: list[str] = []

    async def get(self, path: str, **query: str) -> Any:
        self.calls.append(path)
        if path == WORKLOADS:
            assert query["labelSelector"] == "kueue.x-k8s.io/job-uid=u1"
        answer = self.answers[path]
        if isinstance(answer, int):
            raise ApiError(answer, "No", "no", "GET", path)
        return answer


WORKLOADS = "/apis/kueue.x-k8s.io/v1beta2/namespaces/team/workloads"


def owned(uid: str, created: str) -> dict[str, Any]:
    owner = {"kind": "Job", "uid": uid, "controller": True}
    return {"metadata": {"name": uid, "creationTimestamp": created, "ownerReferences": [owner]}}


async def test_the_jobs_own_newest_workload_is_found() -> None:
    newest = owned("u1", at(5)) | {"spec": {"active": True, "podSets": ["x" * 1000]}}
    items = [owned("u1", at(0)), newest, owned("u2", at(9)), {"metadata": {}}]
    server = Server(**{WORKLOADS: {"items": items}})
    found = await Workloads(server).of("team", "u1")  # type: ignore[arg-type]
    assert found.workload is not None
    assert found.workload["spec"] == {"active": True}, "ten thousand are remembered"


async def test_a_flood_of_visits_asks_once_and_the_version_is_remembered() -> None:
    server, times = Server(), iter((0.0, 0.0, 1.0, 9.0, 11.0, 11.0, 12.0))
    reader = Workloads(server, clock=lambda: next(times))  # type: ignore[arg-type]
    for _ in range(5):
        await reader.of("team", "u1")
    assert next(times, None) is None
    assert server.calls == ["/apis/kueue.x-k8s.io", WORKLOADS, WORKLOADS]


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"/apis/kueue.x-k8s.io": 404}, 404),
        ({"/apis/kueue.x-k8s.io": {}}, 404),
        ({WORKLOADS: 404}, 404),
        ({WORKLOADS: 403}, 403),
    ],
)
async def test_no_kueue_and_no_right_to_ask_are_answers(answers: Any, code: int) -> None:
    assert await Workloads(Server(**answers)).of("team", "u1") == Found(code=code)  # type: ignore[arg-type]


async def test_a_version_that_is_served_no_more_is_asked_for_anew() -> None:
    now = 0.0
    server = Server(**{WORKLOADS: 404})
    reader = Workloads(server, clock=lambda: now)  # type: ignore[arg-type]
    assert (await reader.of("team", "u1")).code == 404
    server.answers |= {
        "/apis/kueue.x-k8s.io": {"preferredVersion": {"version": "v1"}},
        WORKLOADS.replace("v1beta2", "v1"): {"items": []},
    }
    now = 11.0
    assert await reader.of("team", "u1") == Found()


async def test_trouble_is_passed_on() -> None:
    with pytest.raises(ApiError):
        await Workloads(Server(**{WORKLOADS: 500})).of("team", "u1")  # type: ignore[arg-type]
