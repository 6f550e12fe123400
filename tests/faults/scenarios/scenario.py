"""What a life-cycle consists of.

`story` is how the attempts of the undisturbed run end, as "outcome/reason …"; `allowed` a pattern
of what else may come of it where users and operator race.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.faults.trainer import Ended, Mishap

if TYPE_CHECKING:
    from tests.faults.world import World

Raw = dict[str, Any]
Act = Callable[["World"], Awaitable[None]]

TRAINED = "Succeeded/Trained"
#: How a trainer ends that meets an error, and a pattern of more interruptions than were caused.
ERROR, ONE_MORE = Ended(1), r"(Interrupted/\S+ )*"


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
    #: Seconds in which it has converged once the user has done everything; 0: as most have.
    patience: float = 0.0
    #: Kueue is there.
    kueue: bool = True
    #: The workspace can be mounted by several nodes at once.
    shared: bool = True
    #: What else is not as it must be in the end.
    also: Callable[[World], list[str]] | None = None


async def wait(world: World, what: Callable[[], Any], limit: float = 600) -> bool:
    """Until it is so; a user who waits in vain goes on after `limit` seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + limit
    while not (so := what()) and loop.time() < until:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0.2)
    await world.hesitate()
    return bool(so)


async def expect(world: World, words: str, what: Callable[[], Any], limit: float) -> None:
    """It must be so within `limit` seconds; where something goes wrong, some time later."""
    patience = limit + (1500 if world.schedule.disturbed else 0)
    if not await wait(world, what, patience) and world.job():
        world.dog.say(f"never so: {words}")


def true_reason(world: World) -> str:
    """Reason of the condition that is true, or of Running where none is."""
    conditions: list[dict[str, str]] = world.status().get("conditions", [])
    true = [c["reason"] for c in conditions if c["status"] == "True"]
    return (true or [c["reason"] for c in conditions if c["type"] == "Running"] or [""])[0]


def trained(world: World, epoch: int) -> Callable[[], bool]:
    """So many epochs are in the workspace."""
    return lambda: world.epochs() >= epoch
