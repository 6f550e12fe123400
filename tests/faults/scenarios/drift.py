"""Others change, stop or delete what the operator made: it is put right, or reported."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.faults.objects import finished
from tests.faults.scenarios.scenario import (
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

if TYPE_CHECKING:
    from tests.faults.world import World


#: Seconds in which a change is put right, or reported.
SOON = 20.0
_LABELS = ("kubeseg.dev/job", "kubeseg.dev/attempt")


def _as_made(world: World) -> bool:
    """The attempt's Job has its labels, its owner and its number of pods, as long as it runs."""
    workers = world.job().get("spec", {}).get("workers", 1)
    found = world.api.find("jobs", "team", "job-1")
    if found is None or finished(found):
        return True
    meta = found["metadata"]
    labels = meta.get("labels", {})
    labelled = (labels.get(_LABELS[0]), labels.get(_LABELS[1])) == ("job", "1")
    owned = any(each["uid"] == world.uid() for each in meta.get("ownerReferences", []))
    return labelled and owned and found["spec"]["parallelism"] == workers


def _recorded(world: World) -> bool:
    """Before that nobody can tell the attempt's Job without an owner from a stranger's."""
    return "uid" in world.status().get("attempts", [{}])[0]


def _changed(*, at_once: bool = False, **patch: Raw) -> Act:
    """Somebody changes the running attempt's Job, or one that is just made; it is put right."""

    async def act(world: World) -> None:
        await wait(world, world.children if at_once else trained(world, 1))
        if "ownerReferences" in patch.get("metadata", {}):
            await wait(world, lambda: _recorded(world))
        world.change_children(**patch)
        await expect(world, f"{patch} is put right", lambda: _as_made(world), SOON)

    return act


async def _relabelled(world: World) -> None:
    """Somebody takes the label, and puts it back: to the watch it was gone, and came anew."""
    await wait(world, trained(world, 1))
    for label in (None, "job", "other", None, "job"):
        world.change_children(metadata={"labels": {_LABELS[0]: label}})
    await expect(world, "it is put right", lambda: _as_made(world), SOON)


def _pods_labelled(world: World) -> bool:
    """Its pods that run have their labels."""
    labels = [pod["metadata"].get("labels", {}) for pod in world.pods()]
    return all((one.get(_LABELS[0]), one.get(_LABELS[1])) == ("job", "1") for one in labels)


def _pods_changed(*changes: Raw) -> Act:
    """Somebody changes the labels of a pod that runs; they are put right, and it goes on."""

    async def act(world: World) -> None:
        await wait(world, trained(world, 1))
        for labels in changes:
            world.label_pods(labels)
            await world.hesitate()
        await expect(world, f"{changes} is put right", lambda: _pods_labelled(world), SOON)

    return act


async def _pods_hidden_unheard(world: World) -> None:
    """Nobody watches when it happens: to the next operator there never was a pod."""
    await wait(world, trained(world, 1))
    world.kill_operator()
    world.label_pods({_LABELS[0]: None})
    await expect(world, "it is put right", lambda: _pods_labelled(world), SOON)


async def _pods_hidden_and_suspended(world: World) -> None:
    """A pod without its label is waited for all the same."""
    await wait(world, trained(world, 1))
    world.label_pods({_LABELS[0]: None})
    world.edit(suspend=True)
    await wait(world, lambda: world.status().get("phase") in {"Suspended", "Succeeded"})
    world.edit(suspend=False)


async def _pods_hidden_and_deleted(world: World) -> None:
    """Its Job is deleted, too, and its pod left to itself for its grace period."""
    await wait(world, trained(world, 1))
    world.label_pods({_LABELS[0]: None})
    world.delete_children()


async def _suspend_the_job(world: World) -> None:
    await wait(world, trained(world, 1))
    world.change_children(spec={"suspend": True})
    if any(child["spec"].get("suspend") for child in world.children()):
        # It may have ended in the same moment.
        reported = lambda: true_reason(world) in {"JobSuspended", "Trained"}  # noqa: E731
        await expect(world, "the suspension is reported", reported, SOON)


async def _suspended_by_others(world: World) -> None:
    await _suspend_the_job(world)
    await asyncio.sleep(10)
    world.change_children(spec={"suspend": False})


async def _suspended_twice(world: World) -> None:
    """By others, and then by the user, who wants it back."""
    await _suspend_the_job(world)
    world.edit(suspend=True)
    await wait(world, lambda: world.status().get("phase") in {"Suspended", "Succeeded"})
    world.edit(suspend=False)


async def _flicker(world: World) -> None:
    await wait(world, trained(world, 1))
    for _ in range(4):
        world.change_children(spec={"suspend": True})
        await asyncio.sleep(0.7)
        world.change_children(spec={"suspend": False})
        await asyncio.sleep(2.3)


async def _force_pod(world: World) -> None:
    await wait(world, trained(world, 1))
    world.delete_pods(force=True)


async def _unlabelled_and_deleted(world: World) -> None:
    """The watch tells nothing of what happens to a Job without its label."""
    await wait(world, trained(world, 1))
    world.change_children(metadata={"labels": {_LABELS[0]: None}})
    world.delete_children()


async def _orphan_and_suspend(world: World) -> None:
    """A Job that has lost its owner is still the attempt's."""
    await wait(world, trained(world, 1))
    await wait(world, lambda: _recorded(world))
    world.change_children(metadata={"ownerReferences": None, "labels": {_LABELS[0]: None}})
    world.edit(suspend=True)
    await wait(world, lambda: world.status().get("phase") in {"Suspended", "Succeeded"})
    world.edit(suspend=False)


async def _after_the_end(world: World) -> None:
    await wait(world, lambda: world.status().get("phase") == "Succeeded")
    for child in world.children():
        body = {"metadata": {"labels": dict.fromkeys(_LABELS), "ownerReferences": None}}
        world.api.patch("jobs", "team", child["metadata"]["name"], body, who="user")


_NAMED_OTHERWISE: Raw = {"labels": {_LABELS[0]: "other"}}
_NO_NUMBER: Raw = {"labels": {_LABELS[1]: None}}
_NO_LABEL: Raw = {"labels": {_LABELS[0]: None}}
_INTERRUPTED, _ENDS = f"Interrupted/Suspended {TRAINED}", f"{ONE_MORE}{TRAINED}"

SCENARIOS = (
    Scenario("drift-label", epochs=10, act=_changed(metadata=_NO_LABEL)),
    Scenario("drift-attempt-label", epochs=10, act=_changed(metadata=_NO_NUMBER)),
    Scenario("drift-other-label", epochs=10, act=_changed(metadata={"labels": {_LABELS[1]: "7"}})),
    Scenario("drift-label-of-another", epochs=10, act=_changed(metadata=_NAMED_OTHERWISE)),
    Scenario("drift-relabelled", epochs=10, act=_relabelled),
    Scenario("drift-label-at-once", epochs=10, act=_changed(at_once=True, metadata=_NO_NUMBER)),
    Scenario("drift-owner", epochs=10, act=_changed(metadata={"ownerReferences": None})),
    Scenario(
        "drift-owner-and-label",
        epochs=10,
        act=_changed(metadata=_NO_LABEL | {"ownerReferences": None}),
    ),
    Scenario("drift-pod-label", epochs=10, act=_pods_changed({_LABELS[0]: None})),
    Scenario("drift-pod-number", epochs=10, act=_pods_changed({_LABELS[1]: None})),
    Scenario("drift-pod-of-another", epochs=10, act=_pods_changed({_LABELS[0]: "other"})),
    Scenario(
        "drift-pod-relabelled",
        epochs=10,
        act=_pods_changed(*({_LABELS[0]: name} for name in (None, "job", "other", None, "job"))),
    ),
    Scenario("drift-pod-unheard", epochs=10, act=_pods_hidden_unheard),
    Scenario(
        "drift-pods-labels",
        epochs=10,
        spec={"workers": 2},
        act=_pods_changed(dict.fromkeys(_LABELS)),
    ),
    Scenario(
        "drift-pod-hidden-and-suspended",
        act=_pods_hidden_and_suspended,
        story=_INTERRUPTED,
        allowed=_ENDS,
    ),
    Scenario(
        "drift-pod-hidden-and-deleted",
        act=_pods_hidden_and_deleted,
        story=f"Interrupted/JobDeleted {TRAINED}",
        allowed=_ENDS,
    ),
    Scenario("drift-no-pods", epochs=10, act=_changed(spec={"parallelism": 0})),
    Scenario("drift-more-pods", epochs=10, act=_changed(spec={"parallelism": 2, "completions": 2})),
    Scenario(
        "drift-fewer-workers",
        epochs=10,
        spec={"workers": 2},
        act=_changed(spec={"parallelism": 1, "completions": 1}),
    ),
    Scenario("drift-suspended", act=_suspended_by_others, allowed=_ENDS),
    Scenario("drift-suspended-twice", act=_suspended_twice, story=_INTERRUPTED, allowed=_ENDS),
    Scenario("drift-flicker", epochs=5, act=_flicker, allowed=_ENDS),
    Scenario(
        "drift-pod-forced",
        act=_force_pod,
        story=f"Interrupted/PodDeleted {TRAINED}",
        allowed=_ENDS,
    ),
    Scenario(
        "drift-unlabelled-and-deleted",
        act=_unlabelled_and_deleted,
        story=f"Interrupted/Interrupted {TRAINED}",
        allowed=_ENDS,
    ),
    Scenario(
        "drift-orphaned-and-suspended", act=_orphan_and_suspend, story=_INTERRUPTED, allowed=_ENDS
    ),
    Scenario("drift-after-the-end", act=_after_the_end),
)
