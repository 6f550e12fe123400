"""Two candidates and one Lease, in memory: who leads, who notices that it doesn't any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from kubeseg_operator.client import ApiError, ApiUnreachableError
from kubeseg_operator.leader import Leadership, LeadershipLostError
from kubeseg_operator.lease import DEADLINE, DURATION

PATH = "/apis/coordination.k8s.io/v1/namespaces/ml/leases"
QUICK = 0.01


@dataclass
class LeaseServer:
    """One Lease, with versions and preconditions; `trouble` may stand before or after write."""

    lease: dict[str, Any] | None = None
    version: int = 0
    calls: list[str] = field(default_factory=list)
    trouble: Callable[[str], None] = lambda _when: None

    async def get(self, path: str) -> dict[str, Any]:
        assert path == f"{PATH}/op"
        self.calls.append("get")
        self.trouble("read")
        if self.lease is None:
            raise ApiError(404, "NotFound", "", "GET", path)
        return self.lease

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == PATH
        self.calls.append("create")
        self.trouble("before")
        if self.lease is not None:
            raise ApiError(409, "AlreadyExists", "", "POST", path)
        return self._store(body)

    async def replace(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == f"{PATH}/op"
        self.calls.append(f"replace by {body['spec']['holderIdentity']}")
        self.trouble("before")
        if self.lease is None:
            raise ApiError(404, "NotFound", "", "PUT", path)
        if body["metadata"]["resourceVersion"] != str(self.version):
            raise ApiError(409, "Conflict", "", "PUT", path)
        return self._store(body)

    def _store(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        meta = {"name": "op", "namespace": "ml", "resourceVersion": str(self.version)}
        self.lease = body | {"metadata": meta}
        self.trouble("after")
        return self.lease

    @property
    def holder(self) -> str:
        assert self.lease
        return str(self.lease["spec"]["holderIdentity"])


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and renewals every hundredth of a second; what runs out does so by the test's clock."""
    monkeypatch.setattr("kubeseg_operator.leader.INTERVAL", QUICK)


@pytest.fixture
def server() -> LeaseServer:
    return LeaseServer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def candidate(server: LeaseServer, clock: Clock, me: str) -> Leadership:
    return Leadership(server, ("ml", "op"), me, clock=clock)  # type: ignore[arg-type]


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - of plain attributes
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(work)
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def renewals(server: LeaseServer) -> int:
    return server.calls.count("replace by a")


async def test_the_first_leads_and_the_second_takes_over_what_is_given_back(
    server: LeaseServer, clock: Clock
) -> None:
    first, second = candidate(server, clock, "a"), candidate(server, clock, "b")
    assert first.standing()[0] is False, "nothing is known yet"
    await first.acquire()
    assert first.fence() is None
    async with running(second.acquire()) as waiting:
        await soon(lambda: second.standing()[0])
        assert second.standing() == (True, "standby: a leads")
        assert "not held" in (second.fence() or "")
        assert not waiting.done()
        await first.release()
        assert first.fence() is not None
        assert server.holder in {"", "b"}
        await asyncio.wait_for(waiting, 5)
    assert second.fence() is None
    assert server.holder == "b"


async def test_a_leader_that_was_paused_past_its_lease_changes_nothing(
    server: LeaseServer, clock: Clock
) -> None:
    first, second = candidate(server, clock, "a"), candidate(server, clock, "b")
    await first.acquire()
    async with running(second.acquire()) as waiting:
        await soon(lambda: second.standing()[0])
        clock.now += DURATION - 0.1
        assert first.fence(), "it stops before anybody may take over"
        clock.now += 0.2
        await asyncio.wait_for(waiting, 5)
    assert first.fence() is not None
    before = renewals(server)
    with pytest.raises(LeadershipLostError, match="not renewed for 7 s"):
        await first.keep()
    await first.release()
    assert renewals(server) == before
    assert server.holder == "b"


async def test_it_renews_and_its_standby_waits(server: LeaseServer, clock: Clock) -> None:
    first, second = candidate(server, clock, "a"), candidate(server, clock, "b")
    await first.acquire()
    async with running(first.keep()) as keeping, running(second.acquire()) as waiting:
        for _ in range(6):
            clock.now += DEADLINE - 1
            before = renewals(server)
            await soon(lambda before=before: renewals(server) >= before + 2)  # type: ignore[misc]
        assert first.fence() is None
        assert not keeping.done()
        assert not waiting.done()


async def test_a_lost_answer_is_found_to_be_ours(server: LeaseServer, clock: Clock) -> None:
    leader = candidate(server, clock, "a")
    await leader.acquire()
    lost: list[str] = []

    def lose(when: str) -> None:
        if when == "after" and not lost:
            lost.append(when)
            raise ApiUnreachableError("the answer was lost")

    server.trouble = lose
    async with running(leader.keep()) as keeping:
        await soon(lambda: bool(lost) and renewals(server) >= 3)
        assert not keeping.done()
    assert leader.fence() is None


async def test_what_others_do_to_the_object_takes_no_lead_away(
    server: LeaseServer, clock: Clock
) -> None:
    leader = candidate(server, clock, "a")
    await leader.acquire()
    async with running(leader.keep()) as keeping:
        await soon(lambda: renewals(server) >= 1)
        server.version += 1  # a label
        assert server.lease
        server.lease["metadata"]["resourceVersion"] = str(server.version)
        at = renewals(server)
        await soon(lambda: renewals(server) >= at + 2)
        server.lease = None  # kubectl delete lease
        await soon(lambda: server.lease is not None)
        assert not keeping.done()
    assert leader.fence() is None


async def test_it_ends_where_somebody_else_has_it(server: LeaseServer, clock: Clock) -> None:
    leader, other = candidate(server, clock, "a"), candidate(server, clock, "b")
    await leader.acquire()
    server.lease = None
    await other.acquire()
    with pytest.raises(LeadershipLostError, match="b has taken it"):
        await leader.keep()
    assert leader.fence()
    assert server.holder == "b"


@pytest.mark.parametrize("error", [ApiUnreachableError("no route"), TimeoutError()])
async def test_it_ends_where_it_can_renew_no_more(
    server: LeaseServer, clock: Clock, error: Exception
) -> None:
    leader = candidate(server, clock, "a")
    await leader.acquire()

    def cut(_when: str) -> None:
        clock.now += 1
        raise error

    server.trouble = cut
    with pytest.raises(LeadershipLostError, match=r"ml/op: not renewed for 7 s: no (route|answer)"):
        await leader.keep()
    assert leader.fence() is not None


async def test_a_candidate_waits_for_an_api_server_that_is_away(
    server: LeaseServer, clock: Clock
) -> None:
    def cut(_when: str) -> None:
        raise ApiError(403, "Forbidden", "leases is forbidden", "GET", PATH)

    server.trouble = cut
    waiting = candidate(server, clock, "a")
    async with running(waiting.acquire()) as task:
        await soon(lambda: len(server.calls) > 3)
        # Without its role a new pod never becomes Ready, and the old one stays.
        assert waiting.standing() == (False, "the Lease could not be read yet")
        server.trouble = lambda _when: None
        await asyncio.wait_for(task, 5)
    assert waiting.fence() is None


async def test_a_pods_next_container_does_not_wait_for_its_predecessor(
    server: LeaseServer, clock: Clock
) -> None:
    await candidate(server, clock, "pod-1").acquire()
    clock.now += 0.5
    async with asyncio.timeout(1):
        await candidate(server, clock, "pod-1").acquire()
    assert server.lease
    assert server.lease["spec"]["leaseTransitions"] == 0
