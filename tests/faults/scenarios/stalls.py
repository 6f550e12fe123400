"""Trainings in which no step ends any more, and pods that only cannot be asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kubeseg_types.exit_codes import ExitCode
from tests.faults.scenarios.scenario import TRAINED, Raw, Scenario, trained, true_reason, wait
from tests.faults.trainer import Ended, Mishap

if TYPE_CHECKING:
    from tests.faults.world import World


_WORDS = "no step ended for 30s; reading batch 17 | waiting for worker 2"
STALLED = Ended(ExitCode.STALLED)
#: It could not leave words of its own: these are the last lines of its log.
SPEECHLESS = Ended(ExitCode.STALLED, "reading batch 17\n\nwaiting for worker 2\n")
#: Frozen as a whole, its own watchdog, too.
FROZEN = Ended(137, "reading batch 17\n\nwaiting for worker 2\n", "Error", unresponsive=True)


def _patience(epochs: int) -> Raw:
    return {"training": {"epochs": epochs, "stallTimeout": "30s"}}


def _quotes(world: World) -> list[str]:
    """The condition says what was going on when it stalled."""
    why = [c for c in world.status().get("conditions", []) if c["status"] == "True"]
    words = "reading batch 17 | waiting for worker 2"
    return [] if any(words in c["message"] for c in why) else [f"{words!r} is not in {why}"]


async def _hide(world: World) -> None:
    """Its pod cannot be asked for longer than it may stall."""
    await wait(world, trained(world, 1))
    world.cluster.unreachable = True
    await asyncio.sleep(70)
    world.cluster.unreachable = False


async def _hide_for_good(world: World) -> None:
    await wait(world, trained(world, 1))
    world.cluster.unreachable = True


async def _suspend_while_stalled(world: World) -> None:
    await wait(world, trained(world, 1))
    await asyncio.sleep(10)
    world.edit(suspend=True)
    await wait(world, lambda: true_reason(world) == "Suspended")
    world.edit(suspend=False)


SCENARIOS = (
    Scenario(
        "stalled",
        spec=_patience(3),
        mishaps=(Mishap(1, STALLED, stalls=True, words=_WORDS),),
        story=f"Failed/Stalled {TRAINED}",
    ),
    Scenario(
        "stalled-for-good",
        spec=_patience(3) | {"maxRetries": 1},
        mishaps=(Mishap(1, STALLED, 99, stalls=True, words=_WORDS),),
        phase="Failed",
        reasons=("RetriesExhausted",),
        story="Failed/Stalled Failed/Stalled",
        done=1,
        also=_quotes,
    ),
    Scenario(
        "stalled-without-words",
        spec=_patience(3) | {"maxRetries": 0},
        mishaps=(Mishap(0, SPEECHLESS, 99, stalls=True),),
        phase="Failed",
        reasons=("RetriesExhausted",),
        story="Failed/Stalled",
        done=0,
        also=_quotes,
    ),
    Scenario(
        "frozen",
        spec=_patience(3),
        mishaps=(Mishap(1, FROZEN, stalls=True),),
        story=f"Failed/Stalled {TRAINED}",
    ),
    Scenario(
        "frozen-for-good",
        spec=_patience(3) | {"maxRetries": 0},
        mishaps=(Mishap(0, FROZEN, 99, stalls=True),),
        phase="Failed",
        reasons=("RetriesExhausted",),
        story="Failed/Stalled",
        done=0,
        also=_quotes,
    ),
    Scenario(
        "stalled-and-suspended",
        spec=_patience(3),
        mishaps=(Mishap(1, STALLED, stalls=True, words=_WORDS),),
        act=_suspend_while_stalled,
        story=f"Interrupted/Suspended {TRAINED}",
        allowed=rf"((Interrupted/\S+|Failed/Stalled) )*{TRAINED}",
    ),
    Scenario("hidden", spec=_patience(30), epochs=30, act=_hide),
    Scenario("hidden-for-good", spec=_patience(30), epochs=30, act=_hide_for_good),
)
