"""The long poll against trainers that behave, lie, hang, flood or are not there."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from pydantic import ValidationError

from kubeseg_operator.poller import Poller, Target, UntrueReportError, read_report, target_of
from kubeseg_operator.progress import MAX_REPORT_BYTES
from kubeseg_operator.views import Key
from kubeseg_types.trainer import Progress
from tests.support.operator_objects import (
    CHILD_UID,
    UID,
    at,
    job,
    pod,
    record,
    report,
    running_pod,
)

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
        case "cookies":
            return web.Response(headers={"Set-Cookie": "(" * 4000 + "=1"})
        case "bomb":
            body = gzip.compress(b" " * 50_000_000)
            return web.Response(body=body, headers={"Content-Encoding": "gzip"})
    return web.Response(body=report(uid="another").model_dump_json(by_alias=True))


@pytest.mark.parametrize(
    "kind", ["not found", "no json", "redirect", "too big", "cookies", "bomb", "of another job"]
)
async def test_what_is_no_report_changes_nothing_and_is_asked_again(
    trainer: tuple[Trainer, Poller, asyncio.Event], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    played, poller, changed = trainer
    played.handler = lambda request: bad(kind, request)
    poller.aim(KEY, TARGET)
    async with asyncio.timeout(5):
        while not played.asked:  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert poller.report(KEY) is None
    assert not [told for told in caplog.records if told.levelno >= logging.WARNING]
    played.handler = played.well
    await news(changed)
    assert poller.report(KEY) is not None


async def test_a_pod_that_never_comes_to_the_point_costs_one_poll() -> None:
    asked, again = 0, asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            again.set()
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
                await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Poller(lambda _key: None, server.sockets[0].getsockname()[1]) as poller:
        poller.aim(KEY, TARGET)
        await news(again)


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


@pytest.mark.parametrize(
    ("where", "entry"), [("classNames", "0"), ("notes", "{}"), ("last", "0"), (None, "0")]
)
def test_what_is_wrong_is_told_in_short(where: str | None, entry: str) -> None:
    """Each error would quote what was sent: 24 MB for a line that nobody reads."""
    listed = "[" + ",".join([entry] * 80_000) + "]"
    with pytest.raises(UntrueReportError) as raised:
        read_report((f'{{"{where}":{listed}}}' if where else listed).encode(), TARGET)
    assert len(str(raised.value)) < 200
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("name", ["class_dice", "class_iou", "class_precision", "class_recall"])
def test_lists_that_are_too_long_are_one_error(name: str) -> None:
    told = report(last=record(1)).model_dump(by_alias=False)
    told["last"]["train"][name] = ["x"] * 10_000
    with pytest.raises(ValidationError) as raised:
        Progress.model_validate(told)
    assert raised.value.error_count() == 1


def test_256_classes_are_reported() -> None:
    every = [0.5] * 256
    of_each = dict.fromkeys(("class_dice", "class_iou", "class_precision", "class_recall"), every)
    part = record(1).train.model_copy(update=of_each)
    full = record(1).model_copy(update={"train": part, "validation": part})
    names = [f"{number:>063}" for number in range(256)]
    told = report(class_names=names, last=full.model_dump(), best=full.model_dump())
    assert read_report(told.model_dump_json(by_alias=True).encode(), TARGET) == told


def test_the_target_is_the_running_pod_of_the_attempt() -> None:
    ours = running_pod(job())
    found = Target(UID, 1, ours.uid, "10.0.0.7")
    assert target_of(UID, 1, (ours,), child=CHILD_UID) == found
    assert target_of(UID, 2, (ours,), child=CHILD_UID) is None
    assert target_of(UID, 1, (pod(),), child=CHILD_UID) is None
    assert target_of(UID, 1, (), child=CHILD_UID) is None


def test_a_younger_pod_with_the_attempts_labels_is_not_asked() -> None:
    ours = running_pod(job())
    other = running_pod(job(), uid="other", child_uid="another", creationTimestamp=at(-1))
    found = target_of(UID, 1, (ours, other), child=CHILD_UID)
    assert found == Target(UID, 1, ours.uid, "10.0.0.7")
    assert target_of(UID, 1, (other,), child=CHILD_UID) is None
    assert target_of(UID, 1, (ours, other), child=None) is None  # the Job is not noted yet
