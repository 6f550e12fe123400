"""The loop against an API server in memory: crashes, conflicts, stale stores, who owns what.

The in-memory server knows versions, UIDs and preconditions, and nothing else; the same behaviour on
a real API server is tested in tests/integration.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from kubeseg_operator.client import ApiError, ApiUnreachableError
from kubeseg_operator.poller import Poller
from tests.support.fake_api import Fault
from tests.support.operator_objects import last_words, raw_child, raw_job
from tests.support.operator_world import KEY, World, on, writes


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with Poller(lambda _key: None, port=9) as poller:
        yield World(poller)


async def test_two_writes_start_a_job_and_none_follow(world: World) -> None:
    await world.visit()
    assert writes(world) == ["status trainingjobs", "create jobs"]
    await world.settle()
    world.restart()
    await world.settle()
    assert len(world.api.writes) == 2


async def test_the_whole_life_takes_at_most_two_writes_a_step(world: World) -> None:
    await world.settle()
    world.run_pod()
    before = len(world.api.writes)
    await world.settle()
    assert writes(world, before) == ["status trainingjobs"]
    assert world.status["attempts"][0]["uid"]
    world.end_pod(0, message=last_words(0, epoch=12))
    before = len(world.api.writes)
    await world.settle()
    assert writes(world, before) == ["status trainingjobs"]
    assert world.status["phase"] == "Succeeded"
    assert world.events() == ["AttemptStarted", "Succeeded"]


async def test_interrupted_is_one_step_into_the_next_attempt(world: World) -> None:
    await world.settle()
    world.run_pod()
    await world.settle()
    world.end_pod(75, message=last_words(75, epoch=3))
    before = len(world.api.writes)
    await world.settle()
    assert writes(world, before) == ["status trainingjobs", "create jobs"]
    assert world.jobs == ["job-1", "job-2"]


FAULTS = [("PUT", "status"), ("POST", "jobs")]


@pytest.mark.parametrize(("verb", "part"), FAULTS)
@pytest.mark.parametrize("how", ["before", "after", 500, 409])
@pytest.mark.parametrize("restart", [False, True])
async def test_a_crash_around_any_write_of_a_start_leads_to_the_same_end(
    world: World, verb: str, part: str, how: str | int, restart: bool
) -> None:
    world.api.faults.append(Fault(on(verb, part), how))
    with contextlib.suppress(ApiError, ApiUnreachableError):
        await world.visit()
    if restart:
        world.restart()
    await world.settle()
    assert world.jobs == ["job-1"]
    assert [a["number"] for a in world.status["attempts"]] == [1]


@pytest.mark.parametrize("how", ["before", "after", 500, 409])
@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(("verb", "part"), FAULTS)
async def test_a_crash_around_any_write_of_a_retry_leads_to_the_same_end(
    world: World, verb: str, part: str, how: str | int, restart: bool
) -> None:
    await world.settle()
    world.run_pod()
    await world.settle()
    world.end_pod(1)
    await world.settle()
    assert world.status["phase"] == "Retrying"
    world.now += timedelta(seconds=11)
    world.api.faults.append(Fault(on(verb, part), how))
    with contextlib.suppress(ApiError, ApiUnreachableError):
        await world.visit()
    if restart:
        world.restart()
    await world.settle()
    assert world.jobs == ["job-1", "job-2"]
    assert [a["number"] for a in world.status["attempts"]] == [1, 2]


async def test_a_stale_store_of_jobs_makes_no_second_attempt(world: World) -> None:
    """The operator restarts, and the list of Jobs has not come yet."""
    await world.settle()
    world.run_pod()
    await world.settle()
    world.restart()
    world.api.untold = [news for news in world.api.untold if news[0].plural == "trainingjobs"]
    await world.visit()
    assert len(world.status["attempts"]) == 1
    assert world.jobs == ["job-1"]


async def test_a_stale_store_of_the_job_writes_nothing_wrong(world: World) -> None:
    await world.settle()
    world.api.change("trainingjobs", *KEY, spec={"suspend": True}, metadata={"generation": 2})
    await world.visit(told=False)
    await world.settle()
    assert world.status["observedGeneration"] == 2


async def test_two_operators_at_once_make_one_attempt(world: World) -> None:
    first = world.reconciler
    world.api.tell(world.intake)
    stale_store = world.store
    world.restart()
    await world.settle()
    assert stale_store.job(KEY) is not None
    await first.visit(KEY)  # from before the other one has begun
    assert world.jobs == ["job-1"]
    assert len(world.status["attempts"]) == 1


async def test_a_finished_job_stays_finished_when_its_children_vanish(world: World) -> None:
    await world.settle()
    world.run_pod()
    world.end_pod(0)
    await world.settle()
    world.api.remove("pods", "team", "job-1-0-x")
    world.api.remove("jobs", "team", "job-1")
    before = len(world.api.writes)
    for _ in range(2):
        await world.settle()
        world.restart()
    assert len(world.api.writes) == before
    assert world.status["phase"] == "Succeeded"


@pytest.mark.parametrize("how", [None, "before", "after", 409, 500])
async def test_what_others_took_from_a_job_is_given_back(
    world: World, how: str | int | None
) -> None:
    """Its label, and with it the watch, and its owner: it is known by name and UID."""
    await world.settle()
    world.run_pod()
    await world.settle()
    made = copy.deepcopy(world.api.objects["jobs", "team", "job-1"]["metadata"])
    bare: dict[str, object] = {"labels": {}, "ownerReferences": []}
    world.api.change("jobs", "team", "job-1", metadata=bare)
    world.api.untold.clear()  # a watch with a selector tells that it is gone
    version = world.api.objects["jobs", "team", "job-1"]["metadata"]["resourceVersion"]
    world.store.drop_child(KEY, "job-1", made["uid"], version)
    if how is not None:
        world.api.faults.append(Fault(on("PATCH", "jobs"), how))
        with contextlib.suppress(ApiError, ApiUnreachableError):
            await world.visit()
    await world.settle()
    now = world.api.objects["jobs", "team", "job-1"]["metadata"]
    assert {key: now[key] for key in bare} == {key: made[key] for key in bare}
    assert [a["number"] for a in world.status["attempts"]] == [1]
    before = len(world.api.writes)
    await world.settle()
    assert len(world.api.writes) == before


async def test_a_job_that_somebody_else_owns_by_now_is_left_alone(world: World) -> None:
    await world.settle()
    world.run_pod()
    await world.settle()
    owner = {"kind": "Other", "apiVersion": "x/v1", "uid": "x", "controller": True}
    world.api.change("jobs", "team", "job-1", metadata={"ownerReferences": [owner]})
    await world.settle()
    assert world.api.objects["jobs", "team", "job-1"]["metadata"]["ownerReferences"] == [owner]
    assert "delete jobs" not in world.api.writes


async def test_a_job_in_the_place_of_one_that_was_changed_is_left_alone(world: World) -> None:
    """The store does not know yet; a patch of another UID is no conflict, but invalid."""
    await world.settle()
    world.run_pod()
    await world.settle()
    spec = world.api.objects["jobs", "team", "job-1"]["spec"]
    world.api.change("jobs", "team", "job-1", spec=spec | {"parallelism": 3})
    world.api.tell(world.intake)
    foreign = raw_child(owner=None, uid="foreign")
    world.api.objects["jobs", "team", "job-1"] = foreign
    await world.visit()
    assert world.api.objects["jobs", "team", "job-1"] == foreign
    assert not world.store.children(KEY)


async def test_a_job_deleted_by_hand_is_followed_by_the_next_attempt(world: World) -> None:
    await world.settle()
    world.run_pod()
    await world.settle()
    world.api.remove("jobs", "team", "job-1")
    assert await world.visit() == 5  # its pod still ends
    assert world.jobs == []
    world.api.remove("pods", "team", "job-1-0-x")
    await world.settle()
    assert world.jobs == ["job-2"]
    assert world.status["attempts"][0]["outcome"] == "Interrupted"


async def test_a_foreign_job_of_the_same_name_is_never_touched(world: World) -> None:
    world.api.put("jobs", raw_child(owner=None, uid="foreign"))
    await world.settle()
    assert (world.status["phase"], world.jobs) == ("Blocked", ["job-1"])
    assert "isn't this TrainingJob's" in world.status["summary"]["why"]
    before = len(world.api.writes)
    assert await world.visit() == 15
    assert len(world.api.writes) == before  # nothing new to say
    world.api.remove("jobs", "team", "job-1")
    await world.settle()
    assert world.status["phase"] == "Starting"


async def test_the_job_of_a_deleted_predecessor_is_waited_for(world: World) -> None:
    world.api.put("jobs", raw_child(owner="predecessor", uid="old"))
    await world.settle()
    assert world.status["phase"] == "Blocked"
    assert "deleted TrainingJob of the same name" in world.status["summary"]["why"]
    assert "delete jobs" not in world.api.writes


@pytest.mark.parametrize("code", [403, 422])
async def test_a_job_that_the_api_server_refuses_is_said(world: World, code: int) -> None:
    world.api.faults += [Fault(on("POST", "jobs"), code) for _ in range(9)]
    await world.visit()
    assert world.status["phase"] == "Blocked"
    assert "as the test wanted" in world.status["summary"]["why"]
    world.api.faults.clear()
    await world.settle()
    assert world.jobs == ["job-1"]


async def test_a_webhook_that_cant_be_asked_is_said(world: World) -> None:
    """As of Kueue, while its manager is down: nothing is made, and the API server says 500."""
    words = 'Internal error occurred: failed calling webhook "mjob.kb.io": connection refused'
    world.api.faults += [Fault(on("POST", "jobs"), 500, words) for _ in range(9)]
    assert await world.visit() == 15
    assert world.status["phase"] == "Blocked"
    assert "mjob.kb.io" in world.status["summary"]["why"]
    assert "Ask who runs it" in world.status["summary"]["why"]
    world.api.faults.clear()
    await world.settle()
    assert world.jobs == ["job-1"]


async def test_suspend_and_resume(world: World) -> None:
    await world.settle()
    world.run_pod()
    await world.settle()
    world.api.change("trainingjobs", *KEY, spec={"suspend": True}, metadata={"generation": 2})
    await world.settle()
    assert world.api.writes.count("delete jobs") == 1
    world.end_pod(75, message=last_words(75, epoch=5))
    world.api.remove("pods", "team", "job-1-0-x")
    world.api.remove("jobs", "team", "job-1")
    await world.settle()
    assert (world.status["phase"], world.status["progress"]["epoch"]) == ("Suspended", 5)
    world.api.change("trainingjobs", *KEY, spec={"suspend": False}, metadata={"generation": 3})
    await world.settle()
    assert world.jobs == ["job-2"]
    assert world.events() == ["AttemptStarted", "Suspended", "Resumed"]


async def test_a_changed_configuration_reaches_the_pod_once(world: World) -> None:
    await world.settle()
    world.run_pod()
    await world.settle()
    training = world.api.objects["trainingjobs", *KEY]["spec"]["training"] | {"epochs": 30}
    world.api.change("trainingjobs", *KEY, spec={"training": training}, metadata={"generation": 2})
    before = len(world.api.writes)
    await world.settle()
    assert writes(world, before) == ["patch pods", "status trainingjobs"]
    annotation = world.api.objects["pods", "team", "job-1-0-x"]["metadata"]["annotations"]
    assert '"epochs":30' in annotation["kubeseg.dev/config"]


async def test_ttl_deletes_the_trainingjob_and_then_nothing_is_left_to_do(world: World) -> None:
    world.api.change("trainingjobs", *KEY, spec={"ttlSecondsAfterFinished": 60})
    await world.settle()
    world.run_pod()
    world.end_pod(0)
    await world.settle()
    assert await world.visit() == 60
    world.now += timedelta(seconds=60)
    await world.visit()
    assert world.api.all("trainingjobs") == []
    assert await world.visit() is None


async def test_a_job_deleted_while_status_is_written_is_forgotten(world: World) -> None:
    world.api.tell(world.intake)
    world.api.remove("trainingjobs", *KEY)
    assert await world.visit(told=False) is None
    assert (len(world.store), world.jobs) == (0, [])


async def test_the_same_name_applied_again_starts_anew(world: World) -> None:
    await world.settle()
    world.run_pod()
    await world.settle()
    world.api.remove("trainingjobs", *KEY)
    world.api.put("trainingjobs", raw_job(uid="another"))
    await world.visit()
    assert world.status["phase"] == "Blocked"  # its predecessor's Job has to go first
    world.api.remove("pods", "team", "job-1-0-x")
    world.api.remove("jobs", "team", "job-1")
    await world.settle()
    assert [a["number"] for a in world.status["attempts"]] == [1]
    owner = world.api.objects["jobs", "team", "job-1"]["metadata"]["ownerReferences"][0]
    assert owner["uid"] == "another"


async def test_a_lost_event_is_no_failure(world: World) -> None:
    await world.settle()
    world.run_pod()
    world.api.faults.append(Fault(on("POST", "events"), 500))
    await world.settle()
    assert world.status["phase"] == "Running"
    assert world.events() == []


async def test_a_pod_that_is_another_by_now_is_let_be(world: World) -> None:
    """A patch that names another UID is no conflict to the API server, but invalid."""
    await world.settle()
    world.run_pod()
    await world.settle()
    world.api.objects["pods", "team", "job-1-0-x"]["metadata"]["uid"] = "another"
    world.api.change("trainingjobs", *KEY, spec={"stop": True}, metadata={"generation": 2})
    await world.visit()
    assert world.status["observedGeneration"] == 2


async def test_several_workers_get_their_service_first_and_once(world: World) -> None:
    world.api.put("trainingjobs", raw_job(spec={"workers": 2}))
    await world.visit()
    assert writes(world) == ["status trainingjobs", "create services", "create jobs"]
    await world.settle()
    world.restart()
    await world.settle()
    assert len(writes(world)) == 3


@pytest.mark.parametrize("how", ["before", "after", 500, 409])
@pytest.mark.parametrize("restart", [False, True])
async def test_a_crash_around_the_service_leads_to_the_same_end(
    world: World, how: str | int, restart: bool
) -> None:
    world.api.put("trainingjobs", raw_job(spec={"workers": 2}))
    world.api.faults.append(Fault(on("POST", "services"), how))
    with contextlib.suppress(ApiError, ApiUnreachableError):
        await world.visit()
    if restart:
        world.restart()
    await world.settle()
    assert world.jobs == ["job-1"]
    assert len(world.api.all("services")) == 1


async def test_no_job_is_made_while_another_has_the_services_name(world: World) -> None:
    world.api.put("trainingjobs", raw_job(spec={"workers": 2}))
    theirs = {"metadata": {"name": "kubeseg-job", "namespace": "team"}, "spec": {"ports": []}}
    world.api.put("services", theirs)
    await world.settle()
    assert world.status["phase"] == "Blocked"
    assert "isn't this TrainingJob's" in world.status["summary"]["why"]
    assert (world.jobs, world.api.all("services")[0]["spec"]) == ([], {"ports": []})
    world.api.remove("services", "team", "kubeseg-job")
    await world.settle()
    assert world.jobs == ["job-1"]
