"""How attempts end: well, by errors, for want of memory, by interruptions; and what comes after."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from tests.faults.scenarios.acts import suspend_resume
from tests.faults.scenarios.scenario import (
    ERROR,
    ONE_MORE,
    TRAINED,
    Scenario,
    expect,
    trained,
    wait,
)
from tests.faults.trainer import Ended, Mishap

if TYPE_CHECKING:
    from tests.faults.world import World

_OFTEN = tuple(Mishap(epoch, Ended(75)) for epoch in range(1, 12))


async def _delete_pod_at_1(world: World) -> None:
    await wait(world, trained(world, 1))
    world.delete_pods()


def _started(world: World, times: int) -> bool:
    return world.starts() > times and world.training()


async def _delete_pods_thrice(world: World) -> None:
    for number in range(3):
        await wait(world, partial(_started, world, number))
        world.delete_pods()


async def _delete_child(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Running" and world.epochs())
    world.delete_children()


async def _delete_child_unheard(world: World) -> None:
    """The watch of pods is away while they end: what is not there must be looked for."""
    await wait(world, trained(world, 1))
    world.delete_children()
    world.cut_watches("pods", 30)
    await expect(world, "the next attempt begins", lambda: world.starts() > 1, 30)


async def _orphan_child(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Running" and world.epochs())
    world.delete_children("Orphan")
    await asyncio.sleep(6)
    world.delete_pods()


async def _neighbour(world: World) -> None:
    spec = {"dataset": {"name": "d"}, "training": {"epochs": 2}, "maxRetries": 0}
    world.put_job("job-1", spec)


async def _vandals(world: World) -> None:
    """Somebody deletes whatever the operator makes, a while."""
    for _ in range(4):
        await asyncio.sleep(3.3)
        await world.hesitate()
        world.delete_children()


SCENARIOS = (
    Scenario("train", events="AttemptStarted Succeeded"),
    Scenario("zero-epochs-to-do", epochs=1, done=1),
    Scenario(
        "permanent",
        mishaps=(Mishap(0, Ended(3), 99),),
        phase="Failed",
        reasons=("InvalidDataset",),
        story="Permanent/InvalidDataset",
        done=0,
        events="AttemptStarted Failed",
    ),
    Scenario(
        "permanent-later",
        mishaps=(Mishap(1, Ended(4), 99),),
        phase="Failed",
        reasons=("NonFiniteLoss",),
        story="Permanent/NonFiniteLoss",
        done=1,
    ),
    Scenario(
        "retry",
        mishaps=(Mishap(1, ERROR, 2),),
        story=f"Failed/TrainerError Failed/TrainerError {TRAINED}",
    ),
    Scenario(
        "exhausted",
        spec={"maxRetries": 1},
        mishaps=(Mishap(1, ERROR, 99),),
        phase="Failed",
        reasons=("RetriesExhausted",),
        story="Failed/TrainerError Failed/TrainerError",
        done=1,
    ),
    Scenario(
        "no-retries",
        spec={"maxRetries": 0},
        mishaps=(Mishap(2, Ended(77), 99),),
        phase="Failed",
        reasons=("RetriesExhausted",),
        story="Failed/Stalled",
        done=2,
    ),
    Scenario(
        "progress-between-failures",
        epochs=4,
        spec={"maxRetries": 1},
        mishaps=tuple(Mishap(epoch, ERROR) for epoch in (1, 2, 3)),
        story=f"{'Failed/TrainerError ' * 3}{TRAINED}",
    ),
    Scenario(
        "out-of-memory",
        mishaps=(Mishap(1, Ended(137, reason="OOMKilled")),),
        story=f"OutOfMemory/OutOfMemory {TRAINED}",
    ),
    Scenario(
        "evicted",
        spec={"maxRetries": 0},
        mishaps=(Mishap(1, Ended(137, pod_reason="Evicted")),),
        story=f"Interrupted/Evicted {TRAINED}",
    ),
    Scenario(
        "interrupted",
        spec={"maxRetries": 0},
        act=_delete_pod_at_1,
        story=f"Interrupted/Interrupted {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario(
        "interrupted-deaf",
        epochs=5,
        spec={"maxRetries": 0},
        deaf=True,
        act=_delete_pod_at_1,
        story=f"Interrupted/PodDeleted {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario(
        "interrupted-again-and-again",
        spec={"maxRetries": 0},
        act=_delete_pods_thrice,
        story=f"{'Interrupted/Interrupted ' * 3}{TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario(
        "more-attempts-than-are-kept",
        epochs=12,
        mishaps=_OFTEN,
        story=f"{'Interrupted/Interrupted ' * 9}{TRAINED}",
    ),
    Scenario(
        "child-deleted",
        act=_delete_child,
        story=f"Interrupted/Interrupted {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario(
        "child-deleted-deaf",
        epochs=5,
        deaf=True,
        act=_delete_child,
        story=f"Interrupted/PodDeleted {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario(
        "child-deleted-unheard",
        epochs=30,
        act=_delete_child_unheard,
        story=f"Interrupted/JobDeleted {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario(
        "child-orphaned",
        epochs=5,
        act=_orphan_child,
        story=f"Interrupted/Interrupted {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario(
        "neighbours",
        before=_neighbour,
        act=suspend_resume,
        story=f"Interrupted/Suspended {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario("vandals", act=_vandals, allowed=rf"{ONE_MORE}{TRAINED}", story=""),
)
