"""Beneath the operator's client, where it reads: lists and watches as an API server answers them.

A `Wire` stands in for the HTTP session. Lists come in small pages, all of one version, while the
objects change; a watch tells every change since the version that it is asked for, unless that is
forgotten, and then what happens.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from kubeseg_operator.client import TOTAL
from tests.faults.answer import Answer
from tests.faults.api_model import ApiModel
from tests.faults.streams import PLURALS, Asked, History, Stream, refusal
from tests.faults.weather import Weather

Raw = dict[str, Any]


class Wire:
    """The session of a client that only reads."""

    def __init__(self, api: ApiModel, weather: Weather) -> None:
        self.api, self.weather = api, weather
        self.history = History(api)
        #: Each request: when, what, from which version or page, and what became of it.
        self.calls: list[str] = []
        #: Lists that were begun.
        self.lists = 0
        #: What is left of the lists whose first pages were given, by token.
        self._left: dict[str, tuple[int, list[Raw]]] = {}

    @asynccontextmanager
    async def request(
        self, verb: str, url: str, *, params: Any = None, data: Any = None,
        headers: Any = None, timeout: aiohttp.ClientTimeout | None = None,
    ) -> AsyncIterator[Answer]:  # fmt: skip
        """As aiohttp's."""
        assert (verb, data) == ("GET", None)
        assert headers is not None
        path = url.partition("://")[2]
        silence = timeout.sock_read if timeout else TOTAL
        asked = Asked(path[path.index("/") :], dict(params or {}), silence)
        status, body, stream = await self.answer(asked)
        try:
            yield Answer(status, body, content=stream)
        finally:
            if stream:
                stream.close()

    async def forget(self) -> None:
        """For ever: what has been for a while can't be told any more."""
        while True:
            version = self.api.version
            await asyncio.sleep(self.weather.until_forgotten())
            self.history.forgotten = version

    async def answer(self, asked: Asked) -> tuple[int, bytes, Stream | None]:
        """One request, with whatever happens to it: code, body, and the events of a watch."""
        query, now = asked.query, asyncio.get_running_loop().time()
        fault = self.weather.of_request(now)
        verb = "watch" if asked.watches else "read"
        place = query.get("resourceVersion") or query.get("continue") or ""
        self.calls.append(f"{now:.3f} {verb} {asked.path} {place} {fault or 'well'}")
        await asyncio.sleep(self.weather.until_answered())
        if fault == "refused":
            raise aiohttp.ClientConnectionError("connection refused")
        if fault == "mute":
            await _wait(asked.silence)
            raise aiohttp.SocketTimeoutError
        if fault == "410" and not asked.watches and "continue" not in query:
            fault = None  # Only what names a version can be too old.
        if fault and fault.isdecimal():
            return self._refuse(int(fault))
        if asked.watches:
            return self._watch(asked, fault)
        code, answer = self._list(asked) if asked.plural in PLURALS else self._get(asked)
        await asyncio.sleep(self.weather.until_answered())
        if fault == "reset":
            raise aiohttp.ServerDisconnectedError
        if fault == "garbage":
            return 200, self.weather.garbage(), None
        return code, json.dumps(answer).encode(), None

    def _refuse(self, code: int) -> tuple[int, bytes, None]:
        return code, json.dumps(refusal(code)).encode(), None

    def _get(self, asked: Asked) -> tuple[int, Raw]:
        return self.api.call("GET", asked.path, asked.query, None, "")

    def _list(self, asked: Asked) -> tuple[int, Raw]:
        token = asked.query.get("continue")
        if token is None:
            self.lists += 1
            selectors = {"labelSelector": asked.query.get("labelSelector", "")}
            _, everything = self.api.call("GET", asked.path, selectors, None, "")
            version, left = self.api.version, everything["items"]
        else:
            version, left = self._left[token]
            if version < self.history.forgotten:
                return 410, refusal(410)
        end = self.weather.page(int(asked.query["limit"]))
        meta = {"resourceVersion": str(version)}
        if left[end:]:
            meta["continue"] = f"{version}/{len(self._left)}"
            self._left[meta["continue"]] = version, left[end:]
        return 200, {"kind": "List", "metadata": meta, "items": left[:end]}

    def _watch(self, asked: Asked, ends: str | None) -> tuple[int, bytes, Stream | None]:
        version = int(asked.query["resourceVersion"] or "0")
        if version > self.api.version:
            return self._refuse(504)  # "Too large resource version"
        too_old = 0 < version < self.history.forgotten
        if too_old and not self.weather.answers_with_an_event():
            return self._refuse(410)
        stream = Stream(self.history, self.weather, asked, version)
        if too_old:
            ends = "410"
        if ends:
            stream.end(ends)
        return 200, b"", stream


async def _wait(seconds: float | None) -> None:
    """So long; None: for ever."""
    if seconds is None:
        await asyncio.get_running_loop().create_future()
    else:
        await asyncio.sleep(seconds)
