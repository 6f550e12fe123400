"""Nodes that fall silent: some come back, some are given up, some must be waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.faults.scenarios.scenario import (
    ONE_MORE,
    TRAINED,
    Act,
    Scenario,
    expect,
    trained,
    true_reason,
    wait,
)

if TYPE_CHECKING:
    from tests.faults.world import World


#: Seconds after a node's last word until it is named, and until it is given up.
NAMED, GIVEN_UP = 60.0, 720.0


def _ended(world: World) -> bool:
    return world.status().get("phase") in {"Succeeded", "Failed"}


def _goes_on(world: World) -> bool:
    return world.starts() > 1 or _ended(world)


async def _lose(world: World, *, power: bool) -> None:
    await wait(world, trained(world, 1))
    world.lose_node(power=power)

    def named() -> bool:
        return _goes_on(world) or true_reason(world) == "NodeLost"

    await expect(world, "the lost node is named", named, NAMED)


async def _lose_for_good(world: World) -> None:
    """It goes on behind a broken network, and ends once it sees the newer start."""
    await _lose(world, power=True)
    await expect(world, "it is given up", lambda: _goes_on(world), GIVEN_UP)


async def _switch_off(world: World) -> None:
    await _lose(world, power=False)
    await expect(world, "it is given up", lambda: _goes_on(world), GIVEN_UP)


async def _come_back_soon(world: World) -> None:
    """Before its pods are evicted: nothing has happened."""
    await _lose(world, power=True)
    await asyncio.sleep(100)
    world.find_node()
    running = lambda: true_reason(world) != "NodeLost"  # noqa: E731
    await expect(world, "the node that came back is no longer named", running, 30)


async def _come_back_evicted(world: World) -> None:
    """After they are evicted, and before it is given up."""
    await _lose(world, power=True)
    await asyncio.sleep(400)
    world.find_node()


async def _come_back_without_it(world: World) -> None:
    """It was switched off, and on again: its kubelet tells how the pods have ended."""
    await _lose(world, power=False)
    await asyncio.sleep(120)
    world.find_node()


async def _come_back_late(world: World) -> None:
    """When the next attempt trains already."""
    await _lose_for_good(world)
    await asyncio.sleep(2)
    world.find_node()


async def _wait_for_a_person(world: World) -> None:
    """The volume is the node's: only a person may say that it is off."""
    await _lose(world, power=False)
    await asyncio.sleep(1500)
    world.taint_node()


async def _tolerate_it(world: World) -> None:
    """Its pods are never evicted: they may run, until somebody deletes them."""
    world.cluster.tolerant = True
    await _lose(world, power=True)
    await asyncio.sleep(900)
    world.delete_pods()
    await expect(world, "it is given up", lambda: _goes_on(world), 150)


async def _suspend_it(world: World) -> None:
    await _lose(world, power=False)
    world.edit(suspend=True)
    suspended = lambda: world.status().get("phase") == "Suspended" or _ended(world)  # noqa: E731
    await expect(world, "it is suspended without the node", suspended, GIVEN_UP)
    world.edit(suspend=False)


async def _lost_from_the_start(world: World) -> None:
    world.lose_node(power=False)


async def _wait_for_another(world: World) -> None:
    """A pod that no kubelet ever spoke of: it shows when its deletion is not confirmed."""
    goes_on = lambda: world.training() or _ended(world)  # noqa: E731
    await expect(world, "it is given up", goes_on, GIVEN_UP + 500)


async def _delete_it(world: World) -> None:
    await _lose(world, power=False)
    world.delete_job()
    await asyncio.sleep(100)
    world.find_node()


_ENDS = f"{ONE_MORE}{TRAINED}"
_GIVEN_UP = f"Interrupted/NodeLost {TRAINED}"


def _life(name: str, act: Act, story: str = _GIVEN_UP, **fields: Any) -> Scenario:
    """Long enough for the node to be lost while it trains."""
    known: dict[str, Any] = {"epochs": 30, "allowed": _ENDS, "patience": 1500.0}
    return Scenario(name, act=act, story=story, **(known | fields))


SCENARIOS = (
    _life("lost-node", _lose_for_good, epochs=200),
    _life("lost-node-off", _switch_off),
    _life("lost-node-back-soon", _come_back_soon, TRAINED, epochs=80),
    _life(
        "lost-node-back-evicted",
        _come_back_evicted,
        f"Interrupted/Interrupted {TRAINED}",
        epochs=150,
    ),
    _life(
        "lost-node-back-without-it",
        _come_back_without_it,
        f"Failed/TrainerError {TRAINED}",
        allowed=rf"((Interrupted|Failed)/\S+ )*{TRAINED}",
    ),
    _life("lost-node-back-late", _come_back_late, epochs=200),
    _life("lost-node-unshared", _wait_for_a_person, shared=False),
    _life("lost-node-tolerated", _tolerate_it, epochs=280),
    _life("lost-node-suspended", _suspend_it, f"Interrupted/Suspended {TRAINED}"),
    _life(
        "lost-node-before-it-starts",
        _wait_for_another,
        f"Interrupted/DeletionByTaintManager {TRAINED}",
        before=_lost_from_the_start,
    ),
    _life("lost-node-deleted", _delete_it, phase=None),
    _life("lost-node-of-a-worker", _lose_for_good, epochs=200, spec={"workers": 2}),
)
