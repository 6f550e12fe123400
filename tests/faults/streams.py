"""The API server's watches: what each tells, in which order, how it comes and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from kubeseg_operator.watched import KINDS
from tests.faults.api_model import ApiModel, Change, RefusedError, selected
from tests.faults.weather import Weather

Raw = dict[str, Any]
PLURALS = frozenset(kind.plural for kind in KINDS)


def as_watched(change: Change, carries: Callable[[Raw], bool]) -> Change | None:
    """What a watch tells of a change, that only sees what `carries` lets through."""
    was = change.before is not None and carries(change.before)
    if carries(change.raw):
        return change if was or change.kind == "DELETED" else replace(change, kind="ADDED")
    if not was:
        return None
    # What has lost the label is gone to it: as it was, in the new version.
    assert change.before is not None
    version = {"resourceVersion": change.raw["metadata"]["resourceVersion"]}
    last = change.before | {"metadata": change.before["metadata"] | version}
    return replace(change, kind="DELETED", raw=last)


class History:
    """All changes, by kind; those up to version `forgotten` can't be told any more."""

    def __init__(self, api: ApiModel) -> None:
        self.api = api
        self.changes: dict[str, list[Change]] = {plural: [] for plural in PLURALS}
        self.forgotten = 0
        self.watched: list[Stream] = []
        api.listeners.append(self._heard)

    def _heard(self, change: Change) -> None:
        if change.plural in self.changes:
            self.changes[change.plural].append(change)
            for stream in self.watched:
                stream.heard(change)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: which collection or object, and of which version."""

    path: str
    query: Mapping[str, str]
    #: Seconds without a word after which the client gives it up; None: never.
    silence: float | None

    @property
    def watches(self) -> bool:
        """True of a watch."""
        return "watch" in self.query

    @property
    def plural(self) -> str:
        """The kind of a collection."""
        return self.path.rpartition("/")[2]

    def carries(self, raw: Raw) -> bool:
        """Whether an object of this kind is in the collection."""
        namespace = self.path.partition("/namespaces/")[2].partition("/")[0]
        return namespace in {"", raw["metadata"]["namespace"]} and selected(raw, self.query)


class Stream:
    """One watch. `iter_any` gives its chunks, as aiohttp's StreamReader does."""

    def __init__(self, history: History, weather: Weather, asked: Asked, version: int) -> None:
        self._history, self._weather, self._asked = history, weather, asked
        self._loop = asyncio.get_running_loop()
        self._coming: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        #: When the last chunk that is on its way comes.
        self._due = self._loop.time()
        #: The client has left; or nothing comes any more; or only half of what comes next.
        self._closed = self._mute = self._breaks = False
        changes = history.changes[asked.plural]
        if version:
            self._told = sum(int(_meta(each)["resourceVersion"]) <= version for each in changes)
        else:
            # Asked for no version: what is there, and then what happens.
            self._told = len(changes)
            there = history.api.all(asked.plural)
            self._send(b"".join(_line("ADDED", raw) for raw in there if asked.carries(raw)))
        history.watched.append(self)
        self._later(weather.until_told(), self._tell)
        self._later(weather.until_bookmark(), self._mark)
        self._later(weather.until_closed(), self.end)
        seconds, how = weather.of_stream()
        self._later(seconds, lambda: None if weather.over else self.end(how))

    async def iter_any(self) -> AsyncIterator[bytes]:
        """The chunks; SocketTimeoutError after a silence."""
        while True:
            try:
                async with asyncio.timeout(self._asked.silence):
                    chunk = await self._coming.get()
            except TimeoutError as error:
                raise aiohttp.SocketTimeoutError from error
            if isinstance(chunk, Exception):
                raise chunk
            if not chunk:
                return
            yield chunk

    def close(self) -> None:
        """The client has left."""
        self._closed = True
        if self in self._history.watched:
            self._history.watched.remove(self)

    def heard(self, change: Change) -> None:
        """Something has happened, perhaps to this collection."""
        if change.plural == self._asked.plural:
            self._later(self._weather.until_told(), self._tell)

    def end(self, how: str = "end") -> None:
        """No more events after those that are on their way, but what is said of it last."""
        if how == "mute":
            self._mute = True
        elif how == "half":
            self._breaks = True
        elif how == "reset":
            self._put(aiohttp.ClientConnectionResetError("connection reset by peer"))
        else:
            if how == "garbage":
                self._put(self._weather.line())
            elif how != "end":
                self._put(_line("ERROR", refusal(int(how))))
            self._put(b"")
            self._mute = True

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._loop.call_later(seconds, lambda: None if self._closed else what())

    def _tell(self) -> None:
        """All that has happened and was not told yet."""
        changes = self._history.changes[self._asked.plural]
        new, self._told = changes[self._told :], len(changes)
        seen = (as_watched(change, self._asked.carries) for change in new)
        self._send(b"".join(_line(each.kind, each.raw) for each in seen if each))

    def _mark(self) -> None:
        self._tell()
        version = {"resourceVersion": str(self._history.api.version)}
        self._send(_line("BOOKMARK", {"metadata": version}))
        self._later(self._weather.until_bookmark(), self._mark)

    def _send(self, data: bytes) -> None:
        if data and self._breaks:
            self._put(self._weather.half(data))
            self._put(b"")
            self._mute = True
        elif data:
            for piece in self._weather.pieces(data):
                self._put(piece)

    def _put(self, what: bytes | Exception) -> None:
        """Chunks stay in order."""
        if not self._mute:
            self._due = max(self._due, self._loop.time()) + 0.001
            self._loop.call_at(self._due, self._coming.put_nowait, what)


def refusal(code: int) -> Raw:
    """The `Status` of a refusal."""
    return RefusedError(code, "Expired" if code == 410 else "", "as the seed says").to_dict()


def _meta(change: Change) -> Raw:
    meta: Raw = change.raw["metadata"]
    return meta


def _line(kind: str, raw: Raw) -> bytes:
    return json.dumps({"type": kind, "object": raw}).encode() + b"\n"
