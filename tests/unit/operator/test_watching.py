"""The watches over real streams on loopback: where they begin and go on, and how old they are."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kubeseg_operator import watching
from kubeseg_operator.client import Client
from kubeseg_operator.store import Store
from kubeseg_operator.views import Key
from kubeseg_operator.watched import JOBS, Intake
from kubeseg_operator.watching import Watch, Watches
from tests.support.operator_objects import raw_job

Raw = dict[str, Any]
TEAM = "team"


def a_job(name: str, version: int, **more: Any) -> Raw:
    made = raw_job(**more)
    made["metadata"] |= {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return made


def event(kind: str, raw: Raw) -> bytes:
    return json.dumps({"type": kind, "object": raw}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    return event("BOOKMARK", {"kind": "TrainingJob", "metadata": {"resourceVersion": str(version)}})


def gone(code: int) -> Raw:
    return {"kind": "Status", "code": code, "reason": "Expired", "message": "too old"}


END = b""


@dataclass
class ApiServer:
    """Lists what it has, and streams what a test puts into `stream`; END ends a stream."""

    jobs: list[Raw] = field(default_factory=list)
    version: int = 100
    stream: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    #: What was asked: "list", or the version that a watch began at.
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    #: Codes to answer the next requests with.
    refusals: deque[int] = field(default_factory=deque)
    refuses_watches: bool = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        watch = "watch" in request.query
        self.asked.append(request.query["resourceVersion"] if watch else "list")
        self.tokens.append(request.headers["Authorization"])
        if self.refusals or (watch and self.refuses_watches):
            code = self.refusals.popleft() if self.refusals else 403
            return web.json_response(gone(code), status=code)
        if not watch:
            meta = {"resourceVersion": str(self.version)}
            return web.json_response({"metadata": meta, "items": self.jobs})
        answer = web.StreamResponse()
        await answer.prepare(request)
        while part := await self.stream.get():
            await answer.write(part)
        return answer

    def tell(self, *parts: bytes) -> None:
        for part in parts:
            self.stream.put_nowait(part)


@dataclass
class Watching:
    """A watch at work."""

    api: ApiServer
    store: Store
    watch: Watch
    counted: list[tuple[str, int]]
    task: asyncio.Task[None]

    def knows(self, name: str, version: int) -> bool:
        known = self.store.job(Key(TEAM, name))
        return known is not None and known.version == str(version)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                assert not self.task.done(), self.task
                await asyncio.sleep(0.005)


@asynccontextmanager
async def watching_it(
    api: ApiServer | None = None, *, silence: float = 30, clock: Callable[[], float] = lambda: 0.0
) -> AsyncIterator[Watching]:
    api = api or ApiServer()
    store, counted, tokens = Store(), list[tuple[str, int]](), iter(range(1000))
    app = web.Application()
    app.router.add_get(JOBS.path(TEAM), api.handle)
    async with (
        TestServer(app) as server,
        Client(
            str(server.make_url("")),
            headers=lambda: {"Authorization": f"Bearer {next(tokens)}"},
            tls=ssl.create_default_context(),
            observe=lambda verb, code: counted.append((verb, code)),
            once=True,
        ) as client,
    ):
        watch = Watch(
            client, Intake(store, lambda _: None), JOBS, TEAM, silence=silence, clock=clock
        )
        task = asyncio.create_task(watch.run())
        try:
            yield Watching(api, store, watch, counted, task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            api.tell(END)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.01)


async def test_it_lists_and_follows_from_there() -> None:
    async with watching_it(ApiServer(jobs=[a_job("a", 7), a_job("b", 8)])) as it:
        await it.until(lambda: it.api.asked == ["list", "100"])
        assert it.watch.listed.is_set()
        assert it.knows("a", 7)
        it.api.tell(
            event("MODIFIED", a_job("a", 101)),
            event("ADDED", a_job("c", 102)),
            event("DELETED", a_job("b", 103)),
        )
        await it.until(lambda: it.store.job(Key(TEAM, "b")) is None)
        assert it.knows("a", 101)
        assert it.knows("c", 102)
        assert it.counted == [("GET", 200), ("WATCH", 200)]


async def test_after_an_end_it_goes_on_where_it_was() -> None:
    async with watching_it() as it:
        it.api.tell(event("ADDED", a_job("a", 101)), END)
        await it.until(lambda: it.api.asked == ["list", "100", "101"])
        # A bookmark moves it on too.
        it.api.tell(bookmark(500), END)
        await it.until(lambda: it.api.asked[-1] == "500")
        assert it.api.asked.count("list") == 1
        assert it.api.tokens == [f"Bearer {number}" for number in range(4)], "tokens are renewed"


@pytest.mark.parametrize("told", ["as an answer", "as an event"])
@pytest.mark.parametrize("code", [410, 400])
async def test_an_error_has_it_begin_anew_and_what_is_gone_is_noticed(told: str, code: int) -> None:
    async with watching_it(ApiServer(jobs=[a_job("a", 7), a_job("b", 8)])) as it:
        await it.until(lambda: it.api.asked == ["list", "100"])
        it.api.jobs, it.api.version = [a_job("b", 150)], 200
        if told == "as an answer":
            it.api.refusals.append(code)
            it.api.tell(END)
        else:
            it.api.tell(event("ERROR", gone(code)))
        await it.until(lambda: it.api.asked[-2:] == ["list", "200"])
        assert it.store.job(Key(TEAM, "a")) is None
        assert it.knows("b", 150)


@pytest.mark.parametrize("code", [401, 403, 429, 500, 503])
async def test_what_passes_costs_no_list(code: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "kubeseg_operator")
    api = ApiServer()
    async with watching_it(api) as it:
        await it.until(lambda: it.api.asked == ["list", "100"])
        api.refusals += [code] * 3
        api.tell(event("ADDED", a_job("a", 101)), END)
        await it.until(lambda: it.api.asked == ["list", "100", "101", "101", "101", "101"])
        await it.until(lambda: it.watch.trouble is None)
    # Said once, however often it was tried, and that it is over.
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("kubeseg")]
    assert [text.partition(": ")[0] for text in ours] == [
        "the watch of trainingjobs in team does not work, and is tried again",
        "the watch of trainingjobs in team works again",
    ]
    assert f"{JOBS.path(TEAM)}: {code}" in ours[0]


async def test_where_lists_work_and_watches_do_not_it_slows_down_and_grows_old() -> None:
    now = [100.0]
    api = ApiServer(refuses_watches=True)
    async with watching_it(api, clock=lambda: now[0]) as it:
        await it.until(lambda: len(it.api.asked) >= 8)
        now[0] += 300
        await it.until(lambda: len(it.api.asked) >= 10)
        assert it.watch.age == 300
        # 0.01, 0.02, … 0.64 s between them, and lists only now and then.
        assert it.watch._failures >= 7
        assert it.api.asked.count("list") <= 2
        assert "403" in (it.watch.trouble or "")
        api.refuses_watches = False
        await it.until(lambda: it.watch.age == 0)


async def test_a_list_that_is_refused_is_asked_for_again() -> None:
    api = ApiServer(jobs=[a_job("a", 7)])
    api.refusals += [500, 403]
    async with watching_it(api) as it:
        await it.until(lambda: it.api.asked == ["list", "list", "list", "100"])
        assert it.knows("a", 7)


async def test_silence_has_it_leave_for_a_new_connection() -> None:
    async with watching_it(silence=0.2) as it:
        it.api.tell(event("ADDED", a_job("a", 101)))
        await it.until(lambda: it.api.asked[:3] == ["list", "100", "101"])
        assert it.counted[:3] == [("GET", 200), ("WATCH", 200), ("WATCH", 0)]


async def test_events_come_in_pieces_of_any_size() -> None:
    large = a_job("large", 101)
    large["metadata"]["annotations"] = {"note": "ä" * 400_000}
    text = event("ADDED", large) + event("ADDED", a_job("a", 102)) + event("ADDED", a_job("b", 103))
    async with watching_it() as it:
        half = len(text) - 300
        it.api.tell(text[:100_001], text[100_001:half], text[half:])
        await it.until(lambda: it.knows("b", 103))
        assert it.knows("large", 101)
        assert it.knows("a", 102)


@pytest.mark.parametrize(
    "text",
    [
        b'{"type": "ADDED", "obj\n', b"<html>\n", b"{}\n", b"[1]\n",
        b'{"type": "ADDED", "object": {}}\n', b'{"type": "ERROR", "object": null}\n',
    ],
)  # fmt: skip
async def test_what_is_no_event_breaks_the_connection_only(text: bytes) -> None:
    async with watching_it() as it:
        it.api.tell(event("ADDED", a_job("a", 101)), text, END)
        await it.until(lambda: it.api.asked == ["list", "100", "101"])


async def test_an_object_that_cannot_be_read_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    odd = a_job("odd", 101)
    odd["metadata"]["finalizers"] = 3
    async with watching_it() as it:
        it.api.tell(event("ADDED", odd), event("ADDED", a_job("a", 102)))
        await it.until(lambda: it.knows("a", 102))
        assert it.store.job(Key(TEAM, "odd")) is None
    assert "trainingjobs 'odd' can't be read" in caplog.text


async def test_whatever_comes_makes_it_young() -> None:
    now = [100.0]
    async with watching_it(clock=lambda: now[0]) as it:
        await it.until(lambda: it.api.asked == ["list", "100"])
        for text in (bookmark(150), event("ADDED", a_job("a", 151)), END):
            now[0] += 50
            assert it.watch.age == 50
            it.api.tell(text)
            await it.until(lambda: it.watch.age == 0)


async def test_there_are_connections_for_as_many_watches_as_there_are_namespaces() -> None:
    api = ApiServer()
    names = [f"team-{number}" for number in range(40)]
    app = web.Application()
    app.router.add_get("/{path:.*}", api.handle)
    async with (
        TestServer(app) as server,
        Client(
            str(server.make_url("")), headers=lambda: {"Authorization": ""}, tls=None, once=True
        ) as client,
    ):
        watches = Watches(client, Intake(Store(), lambda _: None), [*names])
        assert watches.waits_for().startswith("waits for the lists of trainingjobs, ")
        task = asyncio.create_task(watches.run())
        async with asyncio.timeout(20):
            await watches.listed()
            while len(api.asked) < 2 * 3 * len(names):  # noqa: ASYNC110 - of a plain attribute
                await asyncio.sleep(0.01)
        assert watches.waits_for() == ""
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for _ in range(3 * len(names)):
            api.tell(END)


async def test_a_watch_that_stands_still_is_named() -> None:
    now = [100.0]
    async with Client("http://127.0.0.1:1", headers=dict, tls=None) as client:
        watches = Watches(
            client, Intake(Store(), lambda _: None), [None], patience=60, clock=lambda: now[0]
        )
        assert watches.ill() is None, "a standby does not watch"
        assert list(watches.ages()) == []
        task = asyncio.create_task(watches.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert {resource for resource, _, _ in watches.ages()} == {"trainingjobs", "jobs", "pods"}
        assert watches.ill() is None
        # Nobody answers.
        now[0] += 70
        said = watches.ill() or ""
        assert said.startswith("the watch of trainingjobs has told nothing for 70 s")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
