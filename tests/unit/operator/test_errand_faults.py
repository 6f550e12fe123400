"""The loop around a check and a clean-up: each write lost, refused or in doubt leads to one end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from kubeseg_operator.client import ApiError, ApiUnreachableError
from kubeseg_operator.poller import Poller
from kubeseg_types.names import FINALIZER_ARTIFACTS
from tests.support.fake_api import NOW, Fault
from tests.support.operator_objects import last_words
from tests.support.operator_world import KEY, World, on, writes

HOWS = ["before", "after", 500, 409]


def change(world: World, **spec: Any) -> None:
    known = world.api.objects["trainingjobs", *KEY]
    world.api.change("trainingjobs", *KEY, spec={**known["spec"], **spec})


@pytest.fixture
async def gpu() -> AsyncIterator[World]:
    """A TrainingJob that asks for a GPU."""
    async with Poller(lambda _key: None, port=9) as poller:
        world = World(poller)
        resources = world.api.objects["trainingjobs", *KEY]["spec"]["resources"]
        change(world, resources=resources | {"gpus": 1})
        yield world


@pytest.fixture
async def mortal() -> AsyncIterator[World]:
    """A TrainingJob whose run goes with it."""
    async with Poller(lambda _key: None, port=9) as poller:
        world = World(poller)
        change(world, artifacts={"onDelete": "Delete"})
        yield world


async def disturbed(world: World, fault: Fault, restart: bool) -> None:
    """A visit in which a call fails, then others until all is quiet."""
    world.api.faults.append(fault)
    with contextlib.suppress(ApiError, ApiUnreachableError):
        await world.visit()
    if restart:
        world.restart()
    await world.settle()


# --- the check


async def test_a_check_takes_two_writes_a_transition_and_then_the_attempt_comes(gpu: World) -> None:
    await gpu.settle()
    assert writes(gpu) == ["status trainingjobs", "create jobs", "status trainingjobs"]
    assert (gpu.jobs, gpu.status["phase"]) == (["job-check1"], "Checking")
    before = len(gpu.api.writes)
    gpu.run_pod("check1")
    await gpu.settle()
    assert writes(gpu, before) == ["status trainingjobs"]
    gpu.end_pod(0, "check1", message=last_words(0, message="all is well"))
    before = len(gpu.api.writes)
    await gpu.settle()
    assert writes(gpu, before) == ["status trainingjobs", "create jobs"]
    assert gpu.jobs == ["job-check1", "job-1"]
    assert gpu.events() == ["Checked"]


async def test_a_bad_data_set_fails_the_job_and_no_attempt_is_made(gpu: World) -> None:
    await gpu.settle()
    gpu.run_pod("check1")
    gpu.end_pod(3, "check1", message=last_words(3, message="masks/a.png has label 12"))
    await gpu.settle()
    assert (gpu.status["phase"], gpu.jobs) == ("Failed", ["job-check1"])
    assert gpu.status["summary"]["why"].startswith("masks/a.png has label 12. ")
    assert "attempts" not in gpu.status or gpu.status["attempts"] == []


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("verb", "part"), [("PUT", "status"), ("POST", "jobs")])
async def test_a_crash_around_any_write_of_a_check_leads_to_the_same_end(
    gpu: World, verb: str, part: str, how: str | int, restart: bool
) -> None:
    await disturbed(gpu, Fault(on(verb, part), how), restart)
    assert gpu.jobs == ["job-check1"]
    gpu.run_pod("check1")
    await disturbed(gpu, Fault(on(verb, part), how), restart)
    gpu.end_pod(0, "check1")
    await disturbed(gpu, Fault(on(verb, part), how), restart)
    assert gpu.jobs == ["job-check1", "job-1"]
    assert gpu.status["preflight"]["outcome"] == "Passed"


async def test_a_stale_store_makes_no_second_check(gpu: World) -> None:
    await gpu.settle()
    gpu.restart()
    gpu.api.untold = [news for news in gpu.api.untold if news[0].plural == "trainingjobs"]
    await gpu.visit()
    assert (gpu.jobs, gpu.status["preflight"]["number"]) == (["job-check1"], 1)


async def test_a_check_that_is_always_deleted_is_given_up(gpu: World) -> None:
    for number in range(1, 6):
        await gpu.settle()
        assert gpu.jobs == [f"job-check{number}"]
        gpu.api.remove("jobs", "team", f"job-check{number}")
    await gpu.settle()
    assert gpu.jobs == ["job-1"]
    assert gpu.status["preflight"]["outcome"] == "Skipped"


async def test_a_check_of_somebody_else_is_never_touched(gpu: World) -> None:
    foreign = {"metadata": {"name": "job-check1", "namespace": "team", "uid": "foreign"}}
    gpu.api.put("jobs", foreign)
    await gpu.settle()
    assert (gpu.status["phase"], gpu.jobs) == ("Blocked", ["job-check1"])
    gpu.api.remove("jobs", "team", "job-check1")
    await gpu.settle()
    assert gpu.api.objects["jobs", "team", "job-check1"]["metadata"]["uid"] != "foreign"


# --- the finalizer, and the clean-up


def finalizers(world: World) -> list[str]:
    found: list[str] = world.api.objects["trainingjobs", *KEY]["metadata"].get("finalizers", [])
    return found


async def run_and_delete(world: World) -> None:
    """An attempt runs, and the TrainingJob is deleted."""
    await world.settle()
    world.run_pod()
    await world.settle()
    world.api.change("trainingjobs", *KEY, metadata={"deletionTimestamp": NOW})


async def test_the_finalizer_follows_the_wish(mortal: World) -> None:
    await mortal.settle()
    assert finalizers(mortal) == [FINALIZER_ARTIFACTS]
    assert writes(mortal) == ["patch trainingjobs", "status trainingjobs", "create jobs"]
    change(mortal, artifacts={"onDelete": "Retain"})
    await mortal.settle()
    assert finalizers(mortal) == []
    mortal.api.change("trainingjobs", *KEY, metadata={"finalizers": ["other.example/x"]})
    change(mortal, artifacts={"onDelete": "Delete"})
    await mortal.settle()
    assert finalizers(mortal) == ["other.example/x", FINALIZER_ARTIFACTS]
    before = len(mortal.api.writes)
    mortal.restart()
    await mortal.settle()
    assert len(mortal.api.writes) == before


async def test_a_finalizer_that_somebody_takes_away_at_once_is_no_endless_loop(
    mortal: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unchanged(path: str, _body: Any) -> dict[str, Any]:
        mortal.api.writes.append("patch trainingjobs")
        return await mortal.api.get(path)

    monkeypatch.setattr(type(mortal.api), "merge", lambda _self, path, body: unchanged(path, body))
    assert await mortal.visit() == 15
    assert mortal.api.writes == ["patch trainingjobs"]


async def end_to_end(world: World) -> None:
    """Play everyone else until the TrainingJob is gone."""
    for _ in range(30):
        world.collect()
        for job in world.api.all("jobs"):
            name = job["metadata"]["name"]
            made = job.get("status") is None and "deletionTimestamp" not in job["metadata"]
            if made and name.startswith("job-cleanup"):
                world.run_pod(name.removeprefix("job-"))
                world.end_pod(0, name.removeprefix("job-"))
        await world.settle()
        if not world.api.all("trainingjobs"):
            world.collect()
            return
    raise AssertionError(f"it is still there: {world.status}")


async def test_a_deletion_takes_two_writes_a_transition_and_leaves_nothing(mortal: World) -> None:
    await run_and_delete(mortal)
    before = len(mortal.api.writes)
    await mortal.settle()
    assert writes(mortal, before) == ["delete jobs", "status trainingjobs"]
    assert mortal.jobs == ["job-1"]
    mortal.collect()
    before = len(mortal.api.writes)
    await mortal.settle()
    # Reserved, made; its UID.
    assert writes(mortal, before) == ["status trainingjobs", "create jobs", "status trainingjobs"]
    mortal.run_pod("cleanup1")
    mortal.end_pod(0, "cleanup1")
    before = len(mortal.api.writes)
    await mortal.settle()
    assert writes(mortal, before) == ["status trainingjobs", "delete jobs", "patch trainingjobs"]
    mortal.collect()
    assert (mortal.jobs, mortal.api.all("trainingjobs")) == ([], [])
    assert mortal.events()[-1] == "ArtifactsRemoved"
    assert await mortal.visit() is None


CALLS = [("PUT", "status"), ("POST", "jobs"), ("DELETE", "jobs"), ("PATCH", "trainingjobs")]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("verb", "part"), CALLS)
@pytest.mark.parametrize("step", range(4))
async def test_a_crash_around_any_write_of_a_deletion_leads_to_the_same_end(  # noqa: PLR0917
    mortal: World, verb: str, part: str, how: str | int, restart: bool, step: int
) -> None:
    fault = Fault(on(verb, part), how)
    if step == 0:
        await disturbed(mortal, fault, restart)
    await run_and_delete(mortal)
    if step == 1:
        await disturbed(mortal, fault, restart)
    await mortal.settle()
    mortal.collect()
    if step == 2:
        await disturbed(mortal, fault, restart)
    await mortal.settle()
    assert mortal.jobs == ["job-cleanup1"]
    mortal.run_pod("cleanup1")
    mortal.end_pod(0, "cleanup1")
    if step == 3:
        mortal.api.faults.append(fault)
        with contextlib.suppress(ApiError, ApiUnreachableError):
            await mortal.visit()
        if restart:
            mortal.restart()
    await end_to_end(mortal)
    assert mortal.jobs == []


async def test_a_stale_store_starts_no_clean_up_beside_a_running_attempt(mortal: World) -> None:
    await run_and_delete(mortal)
    mortal.restart()
    mortal.api.untold = [news for news in mortal.api.untold if news[0].plural == "trainingjobs"]
    await mortal.visit()
    assert "job-cleanup1" not in mortal.jobs
    assert "cleanup" not in mortal.status
    assert "delete jobs" in mortal.api.writes


async def test_ttl_takes_the_same_way(mortal: World) -> None:
    change(mortal, ttlSecondsAfterFinished=60)
    await mortal.settle()
    mortal.run_pod()
    mortal.end_pod(0)
    await mortal.settle()
    mortal.now += timedelta(seconds=60)
    await mortal.settle()
    assert mortal.status["phase"] == "Succeeded"
    assert mortal.status["cleanup"]["number"] == 1
    await end_to_end(mortal)
    assert mortal.jobs == ["job-1"]  # the garbage collector's, with its owner


async def test_a_namespace_that_is_being_deleted_is_not_held_up(mortal: World) -> None:
    await run_and_delete(mortal)
    await mortal.settle()
    mortal.collect()

    def refuse(verb: str, path: str) -> bool:
        return verb == "POST" and "trainingjobs" not in path

    mortal.api.faults += [Fault(refuse, 403) for _ in range(9)]
    for fault in mortal.api.faults:
        fault.message = "forbidden: namespace team is being terminated"
    await mortal.settle()
    assert (mortal.jobs, mortal.api.all("trainingjobs")) == ([], [])
