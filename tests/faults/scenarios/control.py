"""What users ask of a job: to wait, go on, stop, train longer, keep to a time, go away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.faults.api_model import Change
from tests.faults.objects import deleting
from tests.faults.scenarios.acts import (
    delete,
    delete_foreground,
    stop_while_blocked,
    suspend_resume,
    toggle,
)
from tests.faults.scenarios.scenario import ONE_MORE, TRAINED, Scenario, trained, wait
from tests.faults.trainer import Ended, Mishap

if TYPE_CHECKING:
    from tests.faults.world import World


async def _suspend_for_good(world: World) -> None:
    await wait(world, trained(world, 1))
    world.edit(suspend=True)


async def _suspend_while_starting(world: World) -> None:
    await wait(world, world.pods)
    world.edit(suspend=True)
    await wait(world, lambda: world.status().get("phase") == "Suspended")
    world.cluster.has_room = True
    world.edit(suspend=False)


async def _kill_as_it_suspends(world: World) -> None:
    """The operator dies as soon as it has deleted the Job; the user wants it back by then."""
    killed: list[str] = []

    def heard(change: Change) -> None:
        gone = change.kind == "DELETED" or deleting(change.raw)
        if change.plural == "jobs" and change.who.startswith("op-") and gone and not killed:
            killed.append(change.who)
            world.kill_operator()

    world.api.listeners.append(heard)
    await wait(world, world.children)
    world.edit(suspend=True)
    await wait(world, lambda: killed, 5)
    world.edit(suspend=False)


async def _resume_later(world: World) -> None:
    await asyncio.sleep(10)
    world.edit(suspend=False)


async def _stop_at_1(world: World) -> None:
    await wait(world, trained(world, 1))
    world.edit(stop=True)


async def _stop_in_the_first_epoch(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Running")
    world.edit(stop=True)


async def _stop_while_suspended(world: World) -> None:
    await _suspend_for_good(world)
    await wait(world, lambda: world.status().get("phase") in {"Suspended", "Succeeded"})
    world.edit(stop=True)


async def _raise_running(world: World) -> None:
    await wait(world, trained(world, 1))
    world.edit(training={"epochs": 5})


async def _raise_finished(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Succeeded")
    world.edit(training={"epochs": 5})


async def _lower_finished(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Succeeded")
    world.edit(training={"epochs": 2})


async def _raise_failed(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Failed")
    world.edit(training={"epochs": 9})


async def _edit_before_its_ttl(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Succeeded")
    for _ in range(5):
        await asyncio.sleep(5)
        world.edit(maxRetries=world.job().get("spec", {}).get("maxRetries", 0) + 1)


async def _pause_against_the_deadline(world: World) -> None:
    await wait(world, trained(world, 1))
    world.edit(suspend=True)
    await wait(world, lambda: world.status().get("phase") in {"Suspended", "Succeeded", "Failed"})
    await asyncio.sleep(400)
    world.edit(suspend=False)


async def _delete_and_apply(world: World) -> None:
    await wait(world, trained(world, 1))
    world.delete_job()
    await asyncio.sleep(1.2)  # a creation's time has whole seconds
    world.apply()


async def _clean_up(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Succeeded")
    world.delete_children()


SCENARIOS = (
    Scenario(
        "suspend-resume",
        act=suspend_resume,
        story=f"Interrupted/Suspended {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
        events="AttemptStarted Suspended Resumed AttemptStarted Succeeded",
    ),
    Scenario(
        "suspended-for-good",
        act=_suspend_for_good,
        # Longer than an audit takes to hear what a watch has not told.
        epochs=150,
        phase="Suspended",
        reasons=("Suspended",),
        story="Interrupted/Suspended",
        done=(1, 150),
    ),
    Scenario("suspended-first", spec={"suspend": True}, act=_resume_later),
    Scenario(
        "suspend-while-starting",
        has_room=False,
        act=_suspend_while_starting,
        story=f"Interrupted/Suspended {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario(
        "suspended-by-one-that-dies",
        act=_kill_as_it_suspends,
        story=f"Interrupted/JobDeleted {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario("toggled", act=toggle, story="", allowed=f"{ONE_MORE}{TRAINED}"),
    Scenario(
        "stop",
        epochs=30,
        act=_stop_at_1,
        reasons=("Stopped", "Trained"),
        story=TRAINED,
        done=(2, 30),
        unheard="StoppedBeforeFirstEpoch",
    ),
    Scenario(
        "stop-in-the-first-epoch",
        epochs=30,
        act=_stop_in_the_first_epoch,
        reasons=("Stopped", "Trained"),
        done=(1, 30),
    ),
    Scenario(
        "stop-before-the-first-epoch",
        has_room=False,
        act=stop_while_blocked,
        phase="Failed",
        reasons=("StoppedBeforeFirstEpoch",),
        story="Interrupted/StoppedBeforeFirstEpoch",
        allowed=r"(Interrupted/\S+)?",
    ),
    Scenario(
        "stop-while-suspended",
        epochs=150,
        act=_stop_while_suspended,
        reasons=("Stopped", "Trained"),
        story="Interrupted/Suspended",
        done=(1, 150),
        unheard="StoppedBeforeFirstEpoch",
    ),
    Scenario(
        "more-epochs",
        act=_raise_running,
        allowed=f"({TRAINED} )?{TRAINED}",
        done=5,
        finished_epochs=5,
    ),
    Scenario(
        "more-epochs-afterwards",
        act=_raise_finished,
        story=f"{TRAINED} {TRAINED}",
        done=5,
        finished_epochs=5,
        events="AttemptStarted Succeeded Reopened AttemptStarted Succeeded",
    ),
    Scenario("fewer-epochs-afterwards", act=_lower_finished, done=3, finished_epochs=3),
    Scenario(
        "more-epochs-for-a-failed-job",
        mishaps=(Mishap(1, Ended(2), 99),),
        act=_raise_failed,
        phase="Failed",
        reasons=("InvalidConfiguration",),
        story="Permanent/InvalidConfiguration",
    ),
    Scenario(
        "deadline",
        epochs=900,
        spec={"activeDeadlineSeconds": 25},
        phase="Failed",
        reasons=("DeadlineExceeded",),
        story="Interrupted/DeadlineExceeded",
    ),
    Scenario("deadline-met", spec={"activeDeadlineSeconds": 120}),
    Scenario(
        "deadline-stands-still",
        spec={"activeDeadlineSeconds": 300},
        act=_pause_against_the_deadline,
        story=f"Interrupted/Suspended {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario("ttl", spec={"ttlSecondsAfterFinished": 30}, phase=None),
    Scenario(
        "ttl-edited", spec={"ttlSecondsAfterFinished": 30}, act=_edit_before_its_ttl, phase=None
    ),
    Scenario("ttl-at-once", spec={"ttlSecondsAfterFinished": 0}, phase=None),
    Scenario("deleted", epochs=30, act=delete, phase=None),
    Scenario("deleted-in-the-foreground", epochs=30, act=delete_foreground, phase=None),
    Scenario("applied-again", act=_delete_and_apply),
    Scenario("cleaned-up", act=_clean_up),
)
