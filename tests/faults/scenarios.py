"""The life-cycles: what a user writes and does, how the trainings go, and how it must end.

`story` is how the attempts of the undisturbed run end, as "outcome/reason …"; `allowed` a pattern
of what else may come of it where users and operator race.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.faults.trainer import Ended, Mishap

if TYPE_CHECKING:
    from tests.faults.world import World

Raw = dict[str, Any]
Act = Callable[["World"], Awaitable[None]]

TRAINED = "Succeeded/Trained"
_ERROR = Ended(1)
_ONE_MORE = r"(Interrupted/\S+ )*"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One life-cycle. `phase` None: the TrainingJob is gone in the end."""

    name: str
    epochs: int = 3
    spec: Raw = field(default_factory=dict)
    mishaps: tuple[Mishap, ...] = ()
    deaf: bool = False
    has_room: bool = True
    #: How the check of its data set ends, where not well.
    check: int = 0
    act: Act | None = None
    before: Act | None = None
    phase: str | None = "Succeeded"
    #: Reason of the condition that is true in the end; then others, where users and operator race.
    reasons: tuple[str, ...] = ("Trained",)
    story: str = TRAINED
    allowed: str | None = None
    #: Epochs done in the end: exactly, or at least and at most.
    done: int | tuple[int, int] | None = None
    finished_epochs: int | None = None
    #: Reason of the failure that it ends in where no word of a finished epoch has ever reached an
    #: operator: the pod could not be asked, and was gone before its last words were read.
    unheard: str | None = None
    #: How the undisturbed run's events go.
    events: str | None = None


async def wait(world: World, what: Callable[[], Any], limit: float = 600) -> None:
    """Until it is so; a user who waits in vain goes on after `limit` seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + limit
    while not what() and loop.time() < until:  # noqa: ASYNC110 - virtual time, any condition
        await asyncio.sleep(0.2)
    await world.hesitate()


def _trained(world: World, epoch: int) -> Callable[[], bool]:
    return lambda: world.epochs() >= epoch


async def _delete_pod_at_1(world: World) -> None:
    await wait(world, _trained(world, 1))
    world.delete_pods()


async def _delete_one_pod_at_1(world: World) -> None:
    await wait(world, _trained(world, 1))
    world.delete_pods(at_most=1)


def _started(world: World, times: int) -> bool:
    return world.starts() > times and world.training()


async def _delete_pods_thrice(world: World) -> None:
    for number in range(3):
        await wait(world, partial(_started, world, number))
        world.delete_pods()


async def _delete_child(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Running" and world.epochs())
    world.delete_children()


async def _orphan_child(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Running" and world.epochs())
    world.delete_children("Orphan")
    await asyncio.sleep(6)
    world.delete_pods()


async def _neighbour(world: World) -> None:
    spec = {"dataset": {"name": "d"}, "training": {"epochs": 2}, "maxRetries": 0}
    world.put_job("job-1", spec)


async def _suspend_resume(world: World) -> None:
    await wait(world, _trained(world, 1))
    world.edit(suspend=True)
    await wait(world, lambda: world.status().get("phase") in {"Suspended", "Succeeded"})
    await asyncio.sleep(8)
    world.edit(suspend=False)


async def _suspend_for_good(world: World) -> None:
    await wait(world, _trained(world, 1))
    world.edit(suspend=True)


async def _toggle(world: World) -> None:
    for _ in range(3):
        await asyncio.sleep(1.4)
        world.edit(suspend=True)
        await world.hesitate()
        await asyncio.sleep(1.1)
        world.edit(suspend=False)
        await world.hesitate()


async def _suspend_while_starting(world: World) -> None:
    await wait(world, world.pods)
    world.edit(suspend=True)
    await wait(world, lambda: world.status().get("phase") == "Suspended")
    world.cluster.has_room = True
    world.edit(suspend=False)


async def _room_later(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Blocked")
    await asyncio.sleep(20)
    world.cluster.has_room = True


async def _resume_later(world: World) -> None:
    await asyncio.sleep(10)
    world.edit(suspend=False)


async def _stop_at_1(world: World) -> None:
    await wait(world, _trained(world, 1))
    world.edit(stop=True)


async def _stop_in_the_first_epoch(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Running")
    world.edit(stop=True)


async def _stop_while_blocked(world: World) -> None:
    await wait(world, world.pods)
    world.edit(stop=True)


async def _stop_while_suspended(world: World) -> None:
    await _suspend_for_good(world)
    await wait(world, lambda: world.status().get("phase") in {"Suspended", "Succeeded"})
    world.edit(stop=True)


async def _raise_running(world: World) -> None:
    await wait(world, _trained(world, 1))
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
    await wait(world, _trained(world, 1))
    world.edit(suspend=True)
    await wait(world, lambda: world.status().get("phase") in {"Suspended", "Succeeded", "Failed"})
    await asyncio.sleep(400)
    world.edit(suspend=False)


async def _delete(world: World) -> None:
    await wait(world, _trained(world, 1))
    world.delete_job()


async def _delete_foreground(world: World) -> None:
    await wait(world, _trained(world, 1))
    world.delete_job("Foreground")


async def _delete_and_apply(world: World) -> None:
    await wait(world, _trained(world, 1))
    world.delete_job()
    await asyncio.sleep(1.2)  # a creation's time has whole seconds
    world.apply()


async def _take_name(world: World) -> None:
    world.put_foreign_job()


async def _give_name_back(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Blocked")
    await asyncio.sleep(5)
    world.remove_foreign_job()


async def _strangers(world: World) -> None:
    world.put_strangers()


async def _full_quota(world: World) -> None:
    world.refuse_jobs('jobs.batch "job-1" is forbidden: exceeded quota: small')


async def _more_quota(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Blocked")
    await asyncio.sleep(5)
    world.refuse_jobs(None)


async def _interrupt_check(world: World) -> None:
    await wait(world, world.pods)
    world.delete_pods()


async def _delete_with_a_pod(world: World) -> None:
    await wait(world, world.pods)
    world.delete_job()


async def _clean_up(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Succeeded")
    world.delete_children()


async def _vandals(world: World) -> None:
    """Somebody deletes whatever the operator makes, a while."""
    for _ in range(4):
        await asyncio.sleep(3.3)
        await world.hesitate()
        world.delete_children()


_CHECKED: Raw = {"preflight": "Auto", "resources": {"gpus": 1}}
_GOES: Raw = {"artifacts": {"onDelete": "Delete"}}
_OFTEN = tuple(Mishap(epoch, Ended(75)) for epoch in range(1, 12))

SCENARIOS = {
    one.name: one
    for one in (
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
            mishaps=(Mishap(1, _ERROR, 2),),
            story=f"Failed/TrainerError Failed/TrainerError {TRAINED}",
        ),
        Scenario(
            "exhausted",
            spec={"maxRetries": 1},
            mishaps=(Mishap(1, _ERROR, 99),),
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
            mishaps=tuple(Mishap(epoch, _ERROR) for epoch in (1, 2, 3)),
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
            allowed=f"{_ONE_MORE}{TRAINED}",
        ),
        Scenario(
            "interrupted-deaf",
            epochs=5,
            spec={"maxRetries": 0},
            deaf=True,
            act=_delete_pod_at_1,
            story=f"Interrupted/PodDeleted {TRAINED}",
            allowed=f"{_ONE_MORE}{TRAINED}",
        ),
        Scenario(
            "interrupted-again-and-again",
            spec={"maxRetries": 0},
            act=_delete_pods_thrice,
            story=f"{'Interrupted/Interrupted ' * 3}{TRAINED}",
            allowed=f"{_ONE_MORE}{TRAINED}",
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
            allowed=f"{_ONE_MORE}{TRAINED}",
        ),
        Scenario(
            "child-deleted-deaf",
            epochs=5,
            deaf=True,
            act=_delete_child,
            story=f"Interrupted/PodDeleted {TRAINED}",
            allowed=f"{_ONE_MORE}{TRAINED}",
        ),
        Scenario(
            "child-orphaned",
            epochs=5,
            act=_orphan_child,
            story=f"Interrupted/Interrupted {TRAINED}",
            allowed=f"{_ONE_MORE}{TRAINED}",
        ),
        Scenario("neighbours", before=_neighbour, act=_suspend_resume,
                 story=f"Interrupted/Suspended {TRAINED}", allowed=f"{_ONE_MORE}{TRAINED}"),
        Scenario("vandals", act=_vandals, allowed=rf"{_ONE_MORE}{TRAINED}", story=""),
        Scenario(
            "suspend-resume",
            act=_suspend_resume,
            story=f"Interrupted/Suspended {TRAINED}",
            allowed=f"{_ONE_MORE}{TRAINED}",
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
            allowed=f"{_ONE_MORE}{TRAINED}",
        ),
        Scenario("toggled", act=_toggle, story="", allowed=f"{_ONE_MORE}{TRAINED}"),
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
            act=_stop_while_blocked,
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
            allowed=f"{_ONE_MORE}{TRAINED}",
        ),
        Scenario("ttl", spec={"ttlSecondsAfterFinished": 30}, phase=None),
        Scenario(
            "ttl-edited", spec={"ttlSecondsAfterFinished": 30}, act=_edit_before_its_ttl, phase=None
        ),
        Scenario("ttl-at-once", spec={"ttlSecondsAfterFinished": 0}, phase=None),
        Scenario("deleted", epochs=30, act=_delete, phase=None),
        Scenario("deleted-in-the-foreground", epochs=30, act=_delete_foreground, phase=None),
        Scenario("applied-again", act=_delete_and_apply),
        Scenario("name-taken", before=_take_name, act=_give_name_back),
        Scenario(
            "name-taken-for-good",
            before=_take_name,
            phase="Blocked",
            reasons=("NameTaken",),
            story="None/None",
        ),
        Scenario("strangers", before=_strangers),
        Scenario("strangers-suspend", before=_strangers, act=_suspend_resume,
                 story=f"Interrupted/Suspended {TRAINED}", allowed=f"{_ONE_MORE}{TRAINED}"),
        Scenario("blocked-for-a-while", has_room=False, act=_room_later),
        Scenario("quota", before=_full_quota, act=_more_quota),
        Scenario(
            "invalid",
            spec={"fromTheFuture": True},
            phase="Failed",
            reasons=("InvalidSpec",),
            story="",
        ),
        Scenario("cleaned-up", act=_clean_up),
        Scenario("workers", spec={"workers": 2}),
        Scenario(
            "workers-retry",
            spec={"workers": 2},
            mishaps=(Mishap(1, _ERROR, 2),),
            story=f"Failed/TrainerError Failed/TrainerError {TRAINED}",
        ),
        Scenario(
            "workers-interrupted",
            spec={"workers": 2, "maxRetries": 0},
            act=_delete_one_pod_at_1,
            story=f"Interrupted/Interrupted {TRAINED}",
            allowed=f"{_ONE_MORE}{TRAINED}",
        ),
        Scenario("workers-suspend", spec={"workers": 2}, act=_suspend_resume,
                 story=f"Interrupted/Suspended {TRAINED}", allowed=f"{_ONE_MORE}{TRAINED}"),
        Scenario("workers-deleted", epochs=30, spec={"workers": 2}, act=_delete, phase=None),
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
        Scenario("checked-and-suspended", spec=_CHECKED, act=_toggle, story="",
                 allowed=f"{_ONE_MORE}{TRAINED}"),
        Scenario("run-goes-with-it", epochs=30, spec=_GOES, act=_delete, phase=None),
        Scenario(
            "run-goes-with-it-in-the-foreground",
            epochs=30,
            spec=_GOES,
            act=_delete_foreground,
            phase=None,
        ),
        Scenario("run-goes-with-its-ttl", spec=_GOES | {"ttlSecondsAfterFinished": 5}, phase=None),
        Scenario("run-goes-with-it-deaf", epochs=30, spec=_GOES, deaf=True, act=_delete,
                 phase=None),
        Scenario("run-goes-with-its-check", spec=_GOES | _CHECKED, act=_delete_with_a_pod,
                 phase=None),
        Scenario("check-interrupted", spec=_CHECKED, act=_interrupt_check,
                 allowed=f"{_ONE_MORE}{TRAINED}"),
        Scenario("check-without-room", spec=_CHECKED, has_room=False, act=_room_later),
        Scenario(
            "check-stopped",
            spec=_CHECKED,
            has_room=False,
            act=_stop_while_blocked,
            phase="Failed",
            reasons=("StoppedBeforeFirstEpoch",),
            story="",
        ),
    )
}  # fmt: skip
