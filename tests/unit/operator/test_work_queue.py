"""The queue: once in line, never two at a time, later, and again after failures."""

from __future__ import annotations

import asyncio

import pytest

from kubeseg_operator.work_queue import WorkQueue


async def taken(queue: WorkQueue[str], seconds: float = 1.0) -> str:
    return await asyncio.wait_for(queue.get(), seconds)


async def is_empty(queue: WorkQueue[str]) -> bool:
    try:
        await taken(queue, 0.02)
    except TimeoutError:
        return True
    return False


async def test_a_key_waits_at_most_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(3):
        queue.add("a")
    queue.add("b")
    assert [await taken(queue), await taken(queue)] == ["a", "b"]
    assert await is_empty(queue)


async def test_a_key_in_work_is_handed_out_again_only_when_done() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await taken(queue)
    queue.add("a")
    queue.add("a")
    assert await is_empty(queue)
    queue.done("a")
    assert await taken(queue) == "a"
    queue.done("a")
    assert await is_empty(queue)


async def test_a_delayed_key_comes_at_its_time_and_the_earlier_wish_wins() -> None:
    queue: WorkQueue[str] = WorkQueue()
    begun = asyncio.get_running_loop().time()
    queue.add("late", 30)
    queue.add("a", 30)
    queue.add("a", 0.05)
    queue.add("a", 20)
    assert await taken(queue) == "a"
    assert asyncio.get_running_loop().time() - begun >= 0.04
    assert await is_empty(queue)


async def test_failures_back_off_and_success_forgives() -> None:
    queue: WorkQueue[str] = WorkQueue(first_delay=1, longest_delay=5)
    assert [queue.fail("a") for _ in range(5)] == [1, 2, 4, 5, 5]
    queue.succeed("a")
    assert queue.fail("a") == 1


async def test_a_new_event_does_not_wait_for_the_back_off() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.fail("a")
    queue.add("a")
    assert await taken(queue) == "a"


async def test_a_cancelled_worker_hands_its_wake_up_on() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first = asyncio.create_task(queue.get())
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await asyncio.wait_for(second, 1) == "a"


async def test_the_age_of_the_oldest_key() -> None:
    now = [100.0]
    queue: WorkQueue[str] = WorkQueue(clock=lambda: now[0])
    assert queue.oldest_wait() == 0
    queue.add("a")
    now[0] = 107.0
    queue.add("b")
    assert (queue.oldest_wait(), len(queue)) == (7.0, 2)


async def test_many_workers_share_many_keys_without_overlap() -> None:
    queue: WorkQueue[str] = WorkQueue()
    busy: set[str] = set()
    worked: list[str] = []
    idle = asyncio.Event()

    async def work() -> None:
        while True:
            key = await queue.get()
            assert key not in busy
            busy.add(key)
            await asyncio.sleep(0)
            worked.append(key)
            busy.discard(key)
            queue.done(key)
            if not (busy or len(queue)):
                idle.set()

    workers = [asyncio.create_task(work()) for _ in range(8)]
    for turn in range(200):
        queue.add(f"k{turn % 7}")
        if turn % 5 == 0:
            await asyncio.sleep(0)
    idle.clear()
    queue.add("k0")
    async with asyncio.timeout(2):
        await idle.wait()
    assert set(worked) == {f"k{n}" for n in range(7)}
    assert not any(worker.done() for worker in workers)
    for worker in workers:
        worker.cancel()
