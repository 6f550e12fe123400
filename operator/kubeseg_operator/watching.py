"""The connection that kopf watches through, and when each watch last told something."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import aiohttp
import kopf

from kubeseg_operator.connection import Connection
from kubeseg_operator.watched import KINDS
from kubeseg_types.names import MANAGED_BY

#: Seconds after which kopf leaves a watch that told nothing. Bookmarks come every minute, so a
#: stream that brings neither them nor events is dead.
INACTIVITY = 90.0
#: Seconds of silence after which a watch counts as standing still: new connections didn't help.
PATIENCE = 240.0


class Watches:
    """When each watch last told something: that it begins, an event, or a bookmark."""

    def __init__(
        self,
        namespaces: Sequence[str | None],
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience, self._clock = patience, clock
        self._of = {
            kind.path(each): (kind.plural, each or "") for kind in KINDS for each in namespaces
        }
        self._told: dict[str, float] = {}

    def begin(self) -> None:
        """Expect all of them from now on."""
        self._told = dict.fromkeys(self._of, self._clock())

    def told(self, path: str) -> None:
        """Something came from the collection at `path`."""
        if path in self._told:
            self._told[path] = self._clock()

    def ages(self) -> Iterator[tuple[str, str, float]]:
        """Resource, namespace ("" for all) and seconds since each watch last told something."""
        now = self._clock()
        for path, since in list(self._told.items()):
            yield *self._of[path], now - since

    def ill(self) -> str | None:
        """A sentence where a watch has stood still."""
        for resource, namespace, age in self.ages():
            if age > self._patience:
                where = f" in {namespace}" if namespace else ""
                return f"the watch of {resource}{where} has told nothing for {age:.0f} s"
        return None


class _Listened:
    """A response's stream that says when something came; it is read as kopf does."""

    def __init__(self, stream: aiohttp.StreamReader, told: Callable[[], None]) -> None:
        self._stream, self._told = stream, told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        async for chunk in self._stream.iter_chunked(size):
            self._told()
            yield chunk


def for_kopf(
    connection: Connection, watches: Watches, observe: Callable[[str, int], None]
) -> kopf.AiohttpSession:
    """A session for kopf's lists and watches; `observe` gets verb and status (0: no answer)."""

    async def watched(
        request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        # Asked at each request, since tokens are renewed.
        request.headers.update(_strings(connection.headers()))
        path = request.url.path
        verb = "WATCH" if "watch" in request.url.query else request.method
        try:
            response = await send(request)
        except (aiohttp.ClientError, TimeoutError):
            observe(verb, 0)
            raise
        observe(verb, response.status)
        if response.status == 200:
            watches.told(path)
            listened = _Listened(response.content, lambda: watches.told(path))
            response.content = listened  # type: ignore[assignment]
        return response

    session = aiohttp.ClientSession(
        # None is used twice: after a silence, the idle ones are as dead as the one that was left.
        connector=aiohttp.TCPConnector(limit=0, ssl=connection.tls, force_close=True),
        headers={"User-Agent": MANAGED_BY},
        middlewares=(watched,),
    )
    return kopf.AiohttpSession(server=connection.server, aiohttp_session=session)


def _strings(headers: Mapping[str, str]) -> dict[str, str]:
    return {str(name): str(value) for name, value in headers.items()}
