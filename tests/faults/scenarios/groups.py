"""Several workers that train together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.scenarios.acts import delete, suspend_resume
from tests.faults.scenarios.scenario import ERROR, ONE_MORE, TRAINED, Scenario, trained, wait
from tests.faults.trainer import Ended, Mishap

if TYPE_CHECKING:
    from tests.faults.world import World


async def _delete_one_pod_at_1(world: World) -> None:
    await wait(world, trained(world, 1))
    world.delete_pods(at_most=1)


_KILLED, _EVICTED = Ended(137, reason="OOMKilled"), Ended(137, pod_reason="Evicted")


def _names_worker_1(world: World) -> list[str]:
    """The attempt ended by what has happened to worker 1."""
    words = world.status().get("attempts", [{}])[0].get("message", "")
    return [] if words.startswith("worker 1 on node-b: ") else [f"the cause is {words!r}"]


SCENARIOS = (
    Scenario("workers", spec={"workers": 2}),
    Scenario(
        "workers-retry",
        spec={"workers": 2},
        mishaps=(Mishap(1, ERROR, 2),),
        story=f"Failed/TrainerError Failed/TrainerError {TRAINED}",
    ),
    Scenario(
        "workers-interrupted",
        spec={"workers": 2, "maxRetries": 0},
        act=_delete_one_pod_at_1,
        story=f"Interrupted/Interrupted {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario(
        "workers-suspend",
        spec={"workers": 2},
        act=suspend_resume,
        story=f"Interrupted/Suspended {TRAINED}",
        allowed=f"{ONE_MORE}{TRAINED}",
    ),
    Scenario("workers-deleted", epochs=30, spec={"workers": 2}, act=delete, phase=None),
    Scenario(
        "workers-one-fails",
        spec={"workers": 2},
        mishaps=(Mishap(1, ERROR, worker=1),),
        story=f"Failed/TrainerError {TRAINED}",
        also=_names_worker_1,
    ),
    Scenario(
        "workers-one-is-killed",
        spec={"workers": 3},
        mishaps=(Mishap(1, _KILLED, worker=1),),
        story=f"OutOfMemory/OutOfMemory {TRAINED}",
        also=_names_worker_1,
    ),
    Scenario(
        "workers-one-is-evicted",
        spec={"workers": 2, "maxRetries": 0},
        mishaps=(Mishap(1, _EVICTED, worker=1),),
        story=f"Interrupted/Evicted {TRAINED}",
        also=_names_worker_1,
    ),
)
