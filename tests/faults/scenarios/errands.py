"""The check before the first attempt, and the clean-up after the last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.scenarios.acts import (
    delete,
    delete_foreground,
    room_later,
    stop_while_blocked,
    toggle,
)
from tests.faults.scenarios.scenario import ONE_MORE, TRAINED, Raw, Scenario, wait

if TYPE_CHECKING:
    from tests.faults.world import World

_CHECKED: Raw = {"preflight": "Auto", "resources": {"gpus": 1}}
_GOES: Raw = {"artifacts": {"onDelete": "Delete"}}


async def _interrupt_check(world: World) -> None:
    await wait(world, world.pods)
    world.delete_pods()


async def _delete_with_a_pod(world: World) -> None:
    await wait(world, world.pods)
    world.delete_job()


SCENARIOS = (
    Scenario("checked", spec=_CHECKED),
    Scenario("checked-in-vain", spec=_CHECKED, check=1),
    Scenario(
        "checked-and-refused",
        spec=_CHECKED,
        check=3,
        phase="Failed",
        reasons=("InvalidDataset",),
        story="",
    ),
    Scenario(
        "checked-and-suspended", spec=_CHECKED, act=toggle, story="", allowed=f"{ONE_MORE}{TRAINED}"
    ),
    Scenario("run-goes-with-it", epochs=30, spec=_GOES, act=delete, phase=None),
    Scenario(
        "run-goes-with-it-in-the-foreground",
        epochs=30,
        spec=_GOES,
        act=delete_foreground,
        phase=None,
    ),
    Scenario("run-goes-with-its-ttl", spec=_GOES | {"ttlSecondsAfterFinished": 5}, phase=None),
    Scenario("run-goes-with-it-deaf", epochs=30, spec=_GOES, deaf=True, act=delete, phase=None),
    Scenario("run-goes-with-its-check", spec=_GOES | _CHECKED, act=_delete_with_a_pod, phase=None),
    Scenario(
        "check-interrupted", spec=_CHECKED, act=_interrupt_check, allowed=f"{ONE_MORE}{TRAINED}"
    ),
    Scenario("check-without-room", spec=_CHECKED, has_room=False, act=room_later),
    Scenario(
        "check-stopped",
        spec=_CHECKED,
        has_room=False,
        act=stop_while_blocked,
        phase="Failed",
        reasons=("StoppedBeforeFirstEpoch",),
        story="",
    ),
)
