"""What users do in several life-cycles."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.faults.scenarios.scenario import trained, wait

if TYPE_CHECKING:
    from tests.faults.world import World


async def suspend_resume(world: World) -> None:
    """Suspend after the first epoch; resume some seconds after it has ended."""
    await wait(world, trained(world, 1))
    world.edit(suspend=True)
    await wait(world, lambda: world.status().get("phase") in {"Suspended", "Succeeded"})
    await asyncio.sleep(8)
    world.edit(suspend=False)


async def toggle(world: World) -> None:
    """Suspend and resume while it starts, three times."""
    for _ in range(3):
        await asyncio.sleep(1.4)
        world.edit(suspend=True)
        await world.hesitate()
        await asyncio.sleep(1.1)
        world.edit(suspend=False)
        await world.hesitate()


async def room_later(world: World) -> None:
    """A node has room once the job has been blocked for a while."""
    await wait(world, lambda: world.status().get("phase") == "Blocked")
    await asyncio.sleep(20)
    world.cluster.has_room = True


async def stop_while_blocked(world: World) -> None:
    """Stop what has a pod and never ran."""
    await wait(world, world.pods)
    world.edit(stop=True)


async def delete(world: World) -> None:
    """Delete the TrainingJob after its first epoch."""
    await wait(world, trained(world, 1))
    world.delete_job()


async def delete_foreground(world: World) -> None:
    """Delete it in the foreground after its first epoch."""
    await wait(world, trained(world, 1))
    world.delete_job("Foreground")
