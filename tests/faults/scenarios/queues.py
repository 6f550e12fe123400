"""Attempts that wait for Kueue, which lets them run, and takes their place away again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.faults.scenarios.scenario import (
    ERROR,
    ONE_MORE,
    TRAINED,
    Act,
    Raw,
    Scenario,
    expect,
    trained,
    true_reason,
    wait,
)
from tests.faults.trainer import Mishap

if TYPE_CHECKING:
    from tests.faults.world import World

_QUEUED: Raw = {"queueName": "team-a"}
#: Seconds in which a job that waits says so, and why.
SOON = 20.0
_ENDS = f"{ONE_MORE}{TRAINED}"


async def _full(world: World) -> None:
    world.kueue.room = 0


async def _not_there(world: World) -> None:
    world.kueue.room = None


async def _waits(world: World, reason: str = "WaitingForQuota") -> None:
    """It says that it waits, and why; one that has ended meanwhile does not."""

    def there() -> bool:
        ended = world.status().get("phase") in {"Succeeded", "Failed"}
        return ended or true_reason(world) == reason

    await expect(world, f"it waits: {reason}", there, SOON)


async def _admit(world: World, pause: float = 30) -> None:
    await asyncio.sleep(pause)
    world.kueue.room = 1
    await world.hesitate()


async def _preempt(world: World) -> None:
    world.kueue.room = 0
    # A pod that ignores SIGTERM has its grace period first.
    await _waits(world, "Preempted" if world.scenario.deaf else "WaitingForQuota")


async def _admitted_late(world: World) -> None:
    await _waits(world)
    await _admit(world)


async def _misconfigured(world: World) -> None:
    """What is said of it is kept up to date."""
    await _waits(world, "Misconfigured")
    world.kueue.room = 0
    await _waits(world)
    await _admit(world)


def _preempted(times: int = 1, pause: float = 30) -> Act:
    """After an epoch its place is taken away, and given back."""

    async def act(world: World) -> None:
        for number in range(times):
            await wait(world, trained(world, number + 1))
            await _preempt(world)
            await _admit(world, pause)

    return act


async def _preempted_at_once(world: World) -> None:
    """Before its trainer runs."""
    await wait(world, world.pods)
    await _preempt(world)
    await _admit(world)


async def _hardly_preempted(world: World) -> None:
    """Its place is given back while its pods still end."""
    await wait(world, trained(world, 1))
    world.kueue.room = 0
    await asyncio.sleep(1)
    world.kueue.room = 1


async def _suspend_and_resume(world: World) -> None:
    world.edit(suspend=True)
    await wait(world, lambda: world.status().get("phase") in {"Suspended", "Succeeded"})
    await asyncio.sleep(5)
    world.edit(suspend=False)


async def _suspended_in_the_queue(world: World) -> None:
    await _waits(world)
    await _suspend_and_resume(world)
    await _admit(world)


async def _suspended_when_preempted(world: World) -> None:
    await wait(world, trained(world, 1))
    await _preempt(world)
    await _suspend_and_resume(world)
    await _waits(world)
    await _admit(world)


async def _suspended_while_it_trains(world: World) -> None:
    await wait(world, trained(world, 1))
    await _suspend_and_resume(world)


async def _stopped_in_the_queue(world: World) -> None:
    await _waits(world)
    world.edit(stop=True)


async def _stopped_when_preempted(world: World) -> None:
    """What is there has to be exported: that needs a place, too."""
    await wait(world, trained(world, 1))
    await _preempt(world)
    world.edit(stop=True)
    await _admit(world)


async def _raised_when_preempted(world: World) -> None:
    """The new pod is made from the old template, and is brought the change."""
    await wait(world, trained(world, 1))
    await _preempt(world)
    world.edit(training={"epochs": 5})
    await _admit(world)


async def _waits_for_long(world: World) -> None:
    await _waits(world)
    await _admit(world, 300)
    await wait(world, trained(world, 1))
    await _preempt(world)
    await _admit(world, 300)


async def _deactivated(world: World) -> None:
    await wait(world, trained(world, 1))
    world.kueue.deactivate(active=False)
    await _waits(world, "Deactivated")
    await asyncio.sleep(20)
    world.kueue.deactivate(active=True)


async def _deleted_when_preempted(world: World) -> None:
    await wait(world, trained(world, 1))
    await _preempt(world)
    world.delete_job()


async def _job_deleted_in_the_queue(world: World) -> None:
    await _waits(world)
    world.delete_children()
    await asyncio.sleep(5)
    await _admit(world)


async def _drifts_in_the_queue(world: World) -> None:
    """Its label is put right, its number of pods is Kueue's."""
    await _waits(world)
    world.change_children(metadata={"labels": {"kubeseg.dev/job": None}})
    await asyncio.sleep(5)
    await _admit(world)


async def _scaled_in_the_queue(world: World) -> None:
    """How many pods a queued Job has is not the operator's to say."""
    await _waits(world)
    world.change_children(spec={"parallelism": 0})
    await asyncio.sleep(20)
    world.change_children(spec={"parallelism": 1})
    await _admit(world)


def _was_preempted(world: World) -> list[str]:
    """Status says so; where an operator was away meanwhile, nobody has seen it."""
    attempts = world.status().get("attempts", [])
    times = sum(attempt.get("preemptions", 0) for attempt in attempts)
    if times == 1 or (world.schedule.disturbed and times == 0):
        return []
    if times and world.schedule.late_writers:
        return []  # Of two who work at once, each may have seen it.
    return [f"{times} preemptions, not 1"]


SCENARIOS = (
    Scenario("queue", spec=_QUEUED, events="AttemptStarted Succeeded"),
    Scenario("queue-full", spec=_QUEUED, before=_full, act=_admitted_late),
    Scenario("queue-not-there", spec=_QUEUED, before=_not_there, act=_misconfigured),
    Scenario("queue-preempted", spec=_QUEUED, act=_preempted(), also=_was_preempted),
    Scenario("queue-preempted-often", epochs=5, spec=_QUEUED, act=_preempted(4)),
    Scenario(
        "queue-preempted-deaf",
        epochs=5,
        spec=_QUEUED,
        deaf=True,
        act=_preempted(pause=1),
        also=_was_preempted,
        events="AttemptStarted Preempted Readmitted Succeeded",
    ),
    Scenario("queue-preempted-at-once", spec=_QUEUED, act=_preempted_at_once),
    Scenario("queue-hardly-preempted", spec=_QUEUED, act=_hardly_preempted),
    Scenario(
        "queue-hardly-preempted-deaf", epochs=5, spec=_QUEUED, deaf=True, act=_hardly_preempted
    ),
    Scenario(
        "queue-preempted-retry",
        epochs=4,
        spec=_QUEUED,
        mishaps=(Mishap(2, ERROR),),
        act=_preempted(),
        story=f"Failed/TrainerError {TRAINED}",
        # A trainer that fails while its place is taken away has not failed.
        allowed=f"(Failed/TrainerError )?{TRAINED}",
    ),
    Scenario(
        "queue-preempted-workers",
        spec=_QUEUED | {"workers": 2},
        act=_preempted(),
        also=_was_preempted,
    ),
    Scenario(
        "queue-suspended",
        spec=_QUEUED,
        before=_full,
        act=_suspended_in_the_queue,
        story=f"Interrupted/Suspended {TRAINED}",
        allowed=_ENDS,
    ),
    Scenario(
        "queue-preempted-and-suspended",
        spec=_QUEUED,
        act=_suspended_when_preempted,
        story=f"Interrupted/Suspended {TRAINED}",
        allowed=_ENDS,
    ),
    Scenario(
        "queue-running-and-suspended",
        spec=_QUEUED,
        act=_suspended_while_it_trains,
        story=f"Interrupted/Suspended {TRAINED}",
        allowed=_ENDS,
    ),
    Scenario(
        "queue-stopped",
        spec=_QUEUED,
        before=_full,
        act=_stopped_in_the_queue,
        phase="Failed",
        reasons=("StoppedBeforeFirstEpoch",),
        story="Interrupted/StoppedBeforeFirstEpoch",
        allowed=r"(Interrupted/\S+)?",
    ),
    Scenario(
        "queue-preempted-and-stopped",
        epochs=30,
        spec=_QUEUED,
        act=_stopped_when_preempted,
        reasons=("Stopped", "Trained"),
        done=(1, 30),
        unheard="StoppedBeforeFirstEpoch",
    ),
    Scenario(
        "queue-more-epochs",
        spec=_QUEUED,
        act=_raised_when_preempted,
        allowed=f"({TRAINED} )?{TRAINED}",
        done=5,
        finished_epochs=5,
    ),
    Scenario(
        "queue-deadline",
        spec=_QUEUED | {"activeDeadlineSeconds": 120},
        before=_full,
        act=_waits_for_long,
        events="Queued AttemptStarted Preempted Queued Readmitted Succeeded",
    ),
    Scenario("queue-deactivated", spec=_QUEUED, act=_deactivated, also=_was_preempted),
    Scenario("queue-deleted", epochs=30, spec=_QUEUED, act=_deleted_when_preempted, phase=None),
    Scenario(
        "queue-job-deleted",
        spec=_QUEUED,
        before=_full,
        act=_job_deleted_in_the_queue,
        story=f"Interrupted/JobDeleted {TRAINED}",
        allowed=_ENDS,
    ),
    Scenario("queue-scaled", spec=_QUEUED, before=_full, act=_scaled_in_the_queue),
    Scenario("queue-drift", spec=_QUEUED, before=_full, act=_drifts_in_the_queue),
    Scenario(
        "queue-without-kueue",
        spec=_QUEUED,
        kueue=False,
        phase="Queued",
        reasons=("NoKueue",),
        story="None/None",
    ),
)
