"""The long poll against trainers that behave, lie, hang, flood or are not there."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from kubeseg_operator.poller import Poller, Target, UntrueReportError, read_report, target_of
from kubeseg_operator.progress import MAX_REPORT_BYTES
from kubeseg_operator.views import Key
from kubeseg_types.trainer import Progress
from tests.support.operator_objects import UID, job, pod, report, running_pod

KEY = Key("team", "job")
TARGET = Target(UID, 1, "pod", "127.0.0.1")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Trainer:
    """A trainer on loopback; `handler` answers `/progress`."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.handler: Handler = self.well
        self.told: Progress = report()

    async def well(self, request: web.Request) -> web.StreamResponse:
        """Answer when there is news."""
        async with asyncio.timeout(20):
            while self.told.seq <= int(request.query["seq"]):  # noqa: ASYNC110 - one change
                await asyncio.sleep(0.01)
        return web.Response(body=self.told.model_dump_json(by_alias=True))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """`GET /progress`."""
        self.asked.append(dict(request.query))
        return await self.handler(request)


@pytest.fixture
async def trainer() -> AsyncIterator[tuple[Trainer, Poller, asyncio.Event]]:
    played, changed = Trainer(), asyncio.Event()
    app = web.Application()
    app.router.add_get("/progress", played.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with Poller(lambda _key: changed.set(), port=port) as poller:
        yield played, poller, changed
    await runner.cleanup()


async def news(changed: asyncio.Event, seconds: float = 5) -> None:
    await asyncio.wait_for(changed.wait(), seconds)
    changed.clear()


async def test_a_change_is_told_at_once(trainer: tuple[Trainer, Poller, asyncio.Event]) -> None:
    played, poller, changed = trainer
    poller.aim(KEY, TARGET)
    await news(changed)
    played.told = report(seq=2, epoch=1)
    await news(changed)
    known = poller.report(KEY)
    assert known is not None
    assert known.epoch == 1
    assert played.asked[1]["seq"] == "1"


async def test_no_target_ends_the_asking(trainer: tuple[Trainer, Poller, asyncio.Event]) -> None:
    _, poller, changed = trainer
    poller.aim(KEY, TARGET)
    await news(changed)
    poller.aim(KEY, None)
    assert poller.report(KEY) is None
    assert not poller._tasks


async def bad(kind: str, _request: web.Request) -> web.StreamResponse:
    match kind:
        case "not found":
            return web.Response(status=404)
        case "no json":
            return web.Response(text="<html>")
        case "redirect":
            raise web.HTTPFound("http://169.254.169.254/")
        case "too big":
            return web.Response(body=b" " * (MAX_REPORT_BYTES + 1))
        case "bomb":
            body = gzip.compress(b" " * 50_000_000)
            return web.Response(body=body, headers={"Content-Encoding": "gzip"})
    return web.Response(body=report(uid="another").model_dump_json(by_alias=True))


@pytest.mark.parametrize(
    "kind", ["not found", "no json", "redirect", "too big", "bomb", "of another job"]
)
async def test_what_is_no_report_changes_nothing_and_is_asked_again(
    trainer: tuple[Trainer, Poller, asyncio.Event], kind: str
) -> None:
    played, poller, changed = trainer
    played.handler = lambda request: bad(kind, request)
    poller.aim(KEY, TARGET)
    async with asyncio.timeout(5):
        while not played.asked:  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert poller.report(KEY) is None
    played.handler = played.well
    await news(changed)
    assert poller.report(KEY) is not None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"uid": "another"}, "speaks for another"),
        ({"attempt": 2}, "attempt 2"),
        ({"epoch": 10**9}, "an epoch is out of 0"),
        ({"epoch": -1}, "an epoch is out of 0"),
        ({"start_epoch": 10**30}, "an epoch is out of 0"),
        ({"step": 10**20}, "a count is out of range"),
        ({"generation": -3}, "a count is out of range"),
        ({"eta_seconds": 1e18}, "etaSeconds is out of range"),
        ({"eta_seconds": -1}, "etaSeconds is out of range"),
        ({"checkpoint": {"epoch": -1}}, "an epoch is out of 0"),
        ({"checkpoint": {"epoch": 1, "step": 10**30}}, "a count is out of range"),
    ],
)
def test_reports_that_cant_be_true(change: dict[str, object], sentence: str) -> None:
    text = report(**change).model_dump_json(by_alias=True).encode()
    with pytest.raises(UntrueReportError, match=sentence):
        read_report(text, TARGET)


@pytest.mark.parametrize("text", [b"", b"[]", b"[" * 100_000, b'{"seq": NaN}', b"\xff\xfe"])
def test_garbage(text: bytes) -> None:
    with pytest.raises(UntrueReportError):
        read_report(text, TARGET)


def test_the_target_is_the_running_pod_of_the_attempt() -> None:
    known = job()
    assert target_of(UID, 1, (running_pod(known),)) == Target(
        UID, 1, running_pod(known).uid, "10.0.0.7"
    )
    assert target_of(UID, 2, (running_pod(known),)) is None
    assert target_of(UID, 1, (pod(),)) is None
    assert target_of(UID, 1, ()) is None
