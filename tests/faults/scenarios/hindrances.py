"""What stands in the way: taken names, strangers, quota, no room, a spec from the future."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.faults import strangers
from tests.faults.scenarios.acts import room_later, suspend_resume
from tests.faults.scenarios.scenario import ONE_MORE, TRAINED, Scenario, trained, wait

if TYPE_CHECKING:
    from tests.faults.world import World


async def _take_name(world: World) -> None:
    strangers.put_foreign_job(world)


async def _give_name_back(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Blocked")
    await asyncio.sleep(5)
    strangers.remove_foreign_job(world)


async def _strangers(world: World) -> None:
    strangers.put_strangers(world)


async def _full_quota(world: World) -> None:
    world.refuse_jobs('jobs.batch "job-1" is forbidden: exceeded quota: small')


async def _more_quota(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Blocked")
    await asyncio.sleep(5)
    world.refuse_jobs(None)


async def _asks_for_less(world: World) -> None:
    """The pod that waits can't be changed: another one is made."""
    await wait(world, lambda: world.status().get("phase") == "Blocked")
    await asyncio.sleep(5)
    world.edit(priorityClassName="modest")


async def _edited_while_it_trains(world: World) -> None:
    await wait(world, trained(world, 1))
    world.edit(priorityClassName="modest")


async def _never_room(world: World) -> None:
    world.cluster.never_room_for = "greedy"


SCENARIOS = (
    Scenario("name-taken", before=_take_name, act=_give_name_back),
    Scenario(
        "name-taken-for-good",
        before=_take_name,
        phase="Blocked",
        reasons=("NameTaken",),
        story="None/None",
    ),
    Scenario(
        "deadline-while-the-name-is-taken",
        spec={"activeDeadlineSeconds": 60},
        before=_take_name,
        phase="Failed",
        reasons=("DeadlineExceeded",),
        story="Interrupted/DeadlineExceeded",
        done=0,
    ),
    Scenario("strangers", before=_strangers),
    Scenario(
        "strangers-suspend",
        before=_strangers,
        act=suspend_resume,
        story=f"Interrupted/Suspended {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario("blocked-for-a-while", has_room=False, act=room_later),
    Scenario(
        "asks-for-less",
        spec={"priorityClassName": "greedy"},
        before=_never_room,
        act=_asks_for_less,
        story=f"Interrupted/SpecChanged {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
        events="Blocked AttemptStarted Succeeded",
    ),
    Scenario("edited-while-it-trains", act=_edited_while_it_trains),
    Scenario(
        "check-asks-for-less",
        spec={
            "priorityClassName": "greedy",
            "preflight": "Auto",
            "resources": {"gpus": 1},
        },
        before=_never_room,
        act=_asks_for_less,
    ),
    Scenario("quota", before=_full_quota, act=_more_quota),
    Scenario(
        "invalid",
        spec={"fromTheFuture": True},
        phase="Blocked",
        reasons=("InvalidSpec",),
        story="",
    ),
)
