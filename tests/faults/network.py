"""Between an operator and the API server: where requests fail, and events get lost.

A `Line` stands in for the HTTP session *beneath* the operator's real client, so that its own
retries (429 and 503, with Retry-After) and its errors are under test, too. A `Feed` stands in for
the watches: they begin with a list and may end at any time. It is worse than the real ones, which
drop what is gone when they list again: of a deletion that happened meanwhile it tells nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import aiohttp

from kubeseg_operator.watched import KINDS, Intake, Kind
from tests.faults.answer import Answer
from tests.faults.api_model import ApiModel, Change, RefusedError
from tests.faults.schedule import Schedule
from tests.faults.streams import as_watched

Raw = dict[str, Any]
LATENCY = 0.005
#: A client that gives up does so after this; a late write lands after the second, in seconds.
TIMEOUT, LATE = 30.0, 36.0
#: How the name of a writer ends whose write is done so late.
BEHIND = "/late"
_REASONS = {
    "409": (409, "Conflict"),
    "410": (410, "Expired"),
    "422": (422, "Invalid"),
    "429": (429, "TooManyRequests"),
    "500": (500, "InternalError"),
    "503": (503, "ServiceUnavailable"),
}
#: A refusal to come again later: for longer than the client itself tries, or not.
_STUBBORN = 5


@dataclass(slots=True)
class Traffic:
    """All requests of all operators: they are counted, and disturbed by their number."""

    api: ApiModel
    schedule: Schedule
    #: Called for each write before it is done.
    inspect: Callable[[str, str, str, Raw], None]
    #: Takes a sentence on what must not be.
    complain: Callable[[str], None]
    writes: int = 0
    reads: int = 0
    limit: int = 4000
    #: Names of the writes that were done, and by whom.
    done: list[str] = field(default_factory=list)
    #: Set once everything must be quiet.
    over: bool = False

    def next_fault(self, verb: str) -> str | None:
        """What happens to the next request."""
        if self.over:
            return None
        if verb == "GET":
            self.reads += 1
            fault = self.schedule.reads.get(self.reads - 1)
        else:
            self.writes += 1
            fault = self.schedule.writes.get(self.writes - 1)
        if self.reads + self.writes == self.limit:
            self.complain(f"turns in circles: {self.limit} calls, the last {self.done[-3:]}")
        return fault

    def do(self, verb: str, path: str, query: Mapping[str, str], body: Raw | None, who: str) -> Any:
        """Carry it out."""
        if verb != "GET":
            assert body is not None
            self.inspect(who, verb, path, body)
        version = self.api.version
        code, answer = self.api.call(verb, path, query, body, who)
        if verb != "GET" and code < 300:
            if version == self.api.version and not self.schedule.disturbed:
                self.complain(f"{verb} {path} changes nothing")
            self.done.append(f"{who} {verb} {path.partition('namespaces/')[2]}")
        return code, {}, answer


class Line:
    """One operator's session. `crash` ends its process; `gate` is closed while it is frozen."""

    def __init__(self, traffic: Traffic, who: str, crash: Callable[[], None]) -> None:
        self.traffic, self.who, self._crash = traffic, who, crash
        self.dead = False
        self.gate = asyncio.Event()
        self.gate.set()
        self._refused: dict[tuple[str, str], tuple[str, int]] = {}

    @asynccontextmanager
    async def request(
        self, verb: str, url: str, *, params: Any = None, data: Any = None, headers: Any = None
    ) -> AsyncIterator[Answer]:
        """As aiohttp's."""
        assert headers is not None
        status, told, body = await self.exchange(verb, url, dict(params or {}), data)
        yield Answer(status, json.dumps(body).encode(), told)

    async def exchange(self, verb: str, url: str, query: Raw, data: bytes | None) -> Any:
        """One request, with whatever happens to it: code, headers, body."""
        path = url.partition("://")[2]
        path = path[path.index("/") :]
        body = json.loads(data) if data else None
        await self._pass()
        fault = self._again(verb, path) or self.traffic.next_fault(verb)
        await asyncio.sleep(LATENCY)
        await self._pass()

        def do(who: str = self.who) -> Any:
            return self.traffic.do(verb, path, query, body, who)

        match fault:
            case None:
                answer = do()
            case "crash-before":
                return await self._die()
            case "crash-after":
                do()
                return await self._die()
            case "dropped":
                raise aiohttp.ClientConnectionError("connection reset")
            case "timeout":
                await asyncio.sleep(TIMEOUT)
                raise TimeoutError
            case "lost":
                do()
                raise aiohttp.ServerDisconnectedError
            case "late":
                asyncio.get_running_loop().call_later(LATE, do, f"{self.who}{BEHIND}")
                await asyncio.sleep(TIMEOUT)
                raise TimeoutError
            case "504-done":
                do()
                answer = 504, {}, RefusedError(504, "Timeout", "timed out").to_dict()
            case _:
                answer = self._refuse(verb, path, fault)
        await asyncio.sleep(LATENCY)
        await self._pass()
        return answer

    def _refuse(self, verb: str, path: str, fault: str) -> Any:
        code, reason = _REASONS[fault.partition("-")[0]]
        if fault.endswith("-long"):
            left = self._refused.pop((verb, path), (fault, _STUBBORN))[1] - 1
            if left:
                self._refused[verb, path] = (fault, left)
        headers = {"Retry-After": "1"} if code == 429 else {}
        return code, headers, RefusedError(code, reason, "as the schedule says").to_dict()

    def _again(self, verb: str, path: str) -> str | None:
        known = self._refused.get((verb, path))
        return known[0] if known else None

    async def _pass(self) -> None:
        """The dead send nothing, the frozen later."""
        await self.gate.wait()
        if self.dead:
            await asyncio.get_running_loop().create_future()

    async def _die(self) -> Any:
        self._crash()
        return await asyncio.get_running_loop().create_future()


class Feed:
    """One operator's watches, one a kind."""

    def __init__(self, api: ApiModel, schedule: Schedule, intake: Intake, random: Random) -> None:
        self._api, self._watching, self._intake = api, schedule.watching, intake
        self._random, self._kinds = random, {kind.plural: kind for kind in KINDS}
        #: Events of each kind that are on their way, in order.
        self._coming: dict[str, list[tuple[float, Change]]] = {plural: [] for plural in self._kinds}
        self._generation = dict.fromkeys(self._kinds, 0)
        self._open = dict.fromkeys(self._kinds, False)
        #: Watches are of different speed: the news of one kind comes before that of another.
        self._slowness = {plural: random.choice((0.0, 0.3, 1.0)) for plural in self._kinds}
        self.held = False
        self.over = False

    def open(self) -> None:
        """Begin with a list of each kind."""
        self._api.listeners.append(self._heard)
        for plural in self._kinds:
            self._list(plural)
            self._cut_later(plural)

    def close(self) -> None:
        """The process is gone."""
        if self._heard in self._api.listeners:
            self._api.listeners.remove(self._heard)
        for plural in self._kinds:
            self._generation[plural] += 1
            self._open[plural] = False

    def relist(self) -> None:
        """All watches end, and begin anew."""
        for plural in self._kinds:
            self._end(plural, 0.1)

    def cut(self, plural: str, seconds: float) -> None:
        """This watch ends, and begins anew after so long."""
        self._end(plural, seconds)

    def _call(self, seconds: float, what: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, what)

    def _cut_later(self, plural: str) -> None:
        if self._watching.cut and not self.over:
            wait = self._watching.cut * self._random.uniform(0.5, 1.5)
            self._call(wait, lambda: self._cut(plural))

    def _cut(self, plural: str) -> None:
        if not self.over and self._open[plural]:
            self._end(plural, self._random.uniform(0.1, 3.0))
            self._cut_later(plural)

    def _end(self, plural: str, pause: float) -> None:
        """What was on its way is lost, as is what happens until the list."""
        self._generation[plural] += 1
        self._coming[plural].clear()
        self._open[plural] = False
        generation = self._generation[plural]

        def again() -> None:
            if generation == self._generation[plural]:
                self._list(plural)

        self._call(pause, again)

    def _list(self, plural: str) -> None:
        kind = self._kinds[plural]
        self._open[plural] = True
        for raw in list(self._api.all(plural)):
            if _carries(kind, raw):
                self._send(Change("ADDED", plural, raw, None, "list"))

    def _heard(self, change: Change) -> None:
        kind = self._kinds.get(change.plural)
        if kind is None or not self._open[change.plural]:
            return
        seen = as_watched(change, partial(_carries, kind))
        if seen is not None:
            self._pass(seen)

    def _pass(self, change: Change) -> None:
        chance, watching = self._random.random, self._watching
        if watching.drop and not self.over and chance() < watching.drop:
            return
        self._send(change)
        if watching.repeat and not self.over and chance() < watching.repeat:
            self._call(self._random.uniform(0.1, 5.0), lambda: self._repeat(change))

    def _repeat(self, change: Change) -> None:
        # A watch may tell old news again, but nothing of what it has told to be gone.
        meta = change.raw["metadata"]
        present = self._api.find(change.plural, meta["namespace"], meta["name"])
        if self._open[change.plural] and (present is not None or change.kind == "DELETED"):
            self._send(change)

    def _send(self, change: Change) -> None:
        coming, loop = self._coming[change.plural], asyncio.get_running_loop()
        lag = self._watching.lag * self._slowness[change.plural] * self._random.random() + LATENCY
        due = max(loop.time() + lag, coming[-1][0] if coming else 0.0)
        if self._watching.merge and self._random.random() < self._watching.merge:
            # A list in between tells only the newest.
            coming[:] = [c for c in coming if not _replaces(change, c[1])]
        coming.append((due, change))
        generation = self._generation[change.plural]
        loop.call_at(due, self._deliver, change.plural, generation)

    def _deliver(self, plural: str, generation: int) -> None:
        if generation != self._generation[plural]:
            return
        now, coming = asyncio.get_running_loop().time(), self._coming[plural]
        if self.held:
            self._call(0.5, lambda: self._deliver(plural, generation))
            return
        while coming and coming[0][0] <= now + 1e-6:
            _, change = coming.pop(0)
            self._intake.take(self._kinds[plural], change.raw, deleted=change.kind == "DELETED")


def _replaces(newer: Change, older: Change) -> bool:
    """True of two versions of one object, in order: old news that is repeated replaces nothing."""
    new, old = newer.raw["metadata"], older.raw["metadata"]
    same = new["uid"] == old["uid"]
    return bool(same and int(new["resourceVersion"]) >= int(old["resourceVersion"]))


def _carries(kind: Kind, raw: Raw) -> bool:
    return kind.selector is None or kind.selector in (raw["metadata"].get("labels") or {})
