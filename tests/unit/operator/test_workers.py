"""The workers: outcomes are counted, failures come again, and a standstill is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kubeseg_operator.client import ApiError
from kubeseg_operator.metrics import OperatorMetrics
from kubeseg_operator.views import Key
from kubeseg_operator.work_queue import WorkQueue
from kubeseg_operator.workers import LONGEST_VISIT, PATIENCE, WORKERS, Workers


@dataclass
class Visits:
    """A reconciler: visits wait for `go`, and may fail once."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    began: list[Key] = field(default_factory=list)
    trouble: dict[Key, Exception] = field(default_factory=dict)

    async def visit(self, key: Key) -> float | None:
        self.began.append(key)
        await self.go.wait()
        if error := self.trouble.pop(key, None):
            raise error
        return None


@dataclass
class World:
    visits: Visits
    queue: WorkQueue[Key]
    workers: Workers
    metrics: OperatorMetrics
    now: list[float]

    def outcome(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value(
            "kubeseg_operator_reconciles_total", {"outcome": name}
        )
        assert value is not None
        return value

    async def soon(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - of plain attributes
                await asyncio.sleep(0.001)


@asynccontextmanager
async def at_work() -> AsyncIterator[World]:
    now, visits, metrics = [1000.0], Visits(), OperatorMetrics()
    queue: WorkQueue[Key] = WorkQueue(clock=lambda: now[0])
    workers = Workers(queue, visits, metrics, clock=lambda: now[0])  # type: ignore[arg-type]
    task = asyncio.create_task(workers.run())
    yield World(visits, queue, workers, metrics, now)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def keys(count: int) -> list[Key]:
    return [Key("team", f"job-{number}") for number in range(count)]


async def test_keys_that_wait_while_no_visit_ends_are_a_standstill() -> None:
    async with at_work() as world:
        for key in keys(WORKERS + 1):
            world.queue.add(key)
        await world.soon(lambda: len(world.visits.began) == WORKERS)
        world.now[0] += PATIENCE - 1
        assert world.workers.ill() is None
        world.now[0] += 2
        assert world.workers.ill() == "reconciles have stood still: a key waits for 121 s"
        world.visits.go.set()
        await world.soon(lambda: world.outcome("ok") == WORKERS + 1)
        assert world.workers.ill() is None


async def test_a_visit_that_never_ends_is_told_though_nothing_waits() -> None:
    async with at_work() as world:
        world.queue.add(keys(1)[0])
        await world.soon(lambda: len(world.visits.began) == 1)
        world.now[0] += LONGEST_VISIT
        assert world.workers.ill() is None
        world.now[0] += 1
        assert world.workers.ill() == "the reconcile of team/job-0 does not end: 901 s"
        world.visits.go.set()
        await world.soon(lambda: world.workers.ill() is None)


async def test_an_idle_operator_is_well() -> None:
    async with at_work() as world:
        world.now[0] += 10_000
        assert world.workers.ill() is None


async def test_a_failed_visit_comes_again_and_is_counted() -> None:
    refused, surprise = keys(2)
    async with at_work() as world:
        world.visits.go.set()
        world.visits.trouble = {
            refused: ApiError(500, "InternalError", "etcd is away", "GET", "/x"),
            surprise: RuntimeError("not foreseen"),
        }
        world.queue.add(refused)
        world.queue.add(surprise)
        await world.soon(lambda: world.outcome("error") == 2)
        assert sorted(world.visits.began) == [refused, surprise]
        world.now[0] += 60
        await world.soon(lambda: world.outcome("ok") == 2)
        assert sorted(world.visits.began) == [refused, refused, surprise, surprise]
