"""The API server, as far as the operator needs it: raw dicts in and out, nothing else."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
import orjson
from aiohttp.connector import Connection

from kubeseg_operator.json_reading import loads
from kubeseg_operator.views import Raw
from kubeseg_types.names import MANAGED_BY

log = logging.getLogger(__name__)

#: Seconds that an answer may take in all, and a connection to be there.
TOTAL, CONNECT = 30.0, 10.0
#: Objects that are read at a time: each may have a megabyte, and all of them are in memory at once.
PAGE = 100
_TRIES = 4
#: Answers that say "not now": the request was not carried out.
_LATER = frozenset({429, 503})
_LONGEST_WAIT = 10.0
#: Bytes of a list beyond which fewer objects are asked for: Python's take a dozen times as much.
LARGEST = 4_000_000
#: Characters of what the API server says that are kept: of some refusals it has megabytes.
_SAID = 4096
_HEADERS = {
    "Accept": "application/json",
    # Within a cluster compression costs both sides more than it saves.
    "Accept-Encoding": "identity",
    "User-Agent": MANAGED_BY,
}


class ApiError(Exception):
    """The API server said no. `code` is the HTTP status, `message` its own sentence."""

    def __init__(self, code: int, reason: str, message: str, verb: str, path: str) -> None:
        super().__init__(f"{verb} {path}: {code} {reason}: {message}")
        self.code, self.reason, self.message = code, reason, message


class ApiUnreachableError(Exception):
    """No answer came: whether a write was carried out is not known."""


class _TooLargeError(Exception):
    """The answer is larger than was asked for; nothing of it is kept."""


class FencedError(ApiUnreachableError):
    """A write was not sent, since this process may not write (any more)."""


class _FencedConnector(aiohttp.TCPConnector):
    """Asks the fence once a connection is there, so right before the bytes go."""

    def __init__(
        self,
        fence: Callable[[], str | None],
        *,
        limit: int,
        tls: ssl.SSLContext | bool,
        once: bool,
    ) -> None:
        super().__init__(limit=limit, ssl=tls, force_close=once)
        self._fence = fence

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        why = None if req.method == "GET" else self._fence()
        if why is not None:
            connection.release()
            raise FencedError(f"{req.method} {req.url.path}: not sent: {why}")
        return connection


class Client:
    """One connection pool. `headers` is asked at every call, since tokens are renewed.

    `fence` is asked before each write; where it gives a sentence, nothing is sent. With `once` no
    connection serves two requests: after a silence, the idle ones are as dead as the one that was
    left. Any answer but a watch has `total` seconds.
    """

    def __init__(
        self,
        server: str,
        *,
        headers: Callable[[], Mapping[str, str]],
        tls: ssl.SSLContext | None,
        connections: int = 64,
        observe: Callable[[str, int], None] = lambda _verb, _code: None,
        fence: Callable[[], str | None] = lambda: None,
        once: bool = False,
        total: float = TOTAL,
    ) -> None:
        self._server, self._headers, self._observe = server.rstrip("/"), headers, observe
        self._tls: ssl.SSLContext | bool = tls if tls is not None else True
        self._connections, self._fence, self._once = connections, fence, once
        self._timeout = aiohttp.ClientTimeout(total=total, connect=CONNECT)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = _FencedConnector(
            # Each watch holds one for itself.
            self._fence,
            limit=0 if self._once else self._connections,
            tls=self._tls,
            once=self._once,
        )
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    async def get(self, path: str, **query: str) -> Raw:
        """Read one object."""
        return await self._call("GET", path, query=query)

    async def list(
        self, path: str, *, selector: str | None = None, fields: str | None = None, page: int = PAGE
    ) -> AsyncIterator[Raw]:
        """Read all objects of a collection, a page at a time."""
        async for answer in self.pages(path, selector=selector, fields=fields, page=page):
            for item in answer.get("items") or []:
                yield item

    async def pages(
        self, path: str, *, selector: str | None = None, fields: str | None = None, page: int = PAGE
    ) -> AsyncIterator[Raw]:
        """The lists that make up a collection. All are of one version, which each of them names."""
        token, size = "", page
        while True:
            asked = {"limit": str(size)}
            asked |= {"labelSelector": selector} if selector else {}
            asked |= {"fieldSelector": fields} if fields else {}
            asked |= {"continue": token} if token else {}
            try:
                answer = await self._call("GET", path, query=asked, most=LARGEST if size > 1 else 0)
            except _TooLargeError:
                size = max(1, size // 4)
                continue
            # A few large ones must not make thousands of requests of all that come after them.
            size = min(page, 2 * size)
            yield answer
            token = (answer.get("metadata") or {}).get("continue", "")
            if not token:
                return

    async def watch(
        self,
        path: str,
        version: str,
        *,
        told: Callable[[], None],
        silence: float,
        selector: str | None = None,
    ) -> AsyncIterator[Raw]:
        """What happens to a collection after `version`, until the API server ends the stream.

        Bookmarks are among the events. `told` is called when it begins, and whenever something
        comes. Raises ApiError, 410 where `version` is too old, and ApiUnreachableError, also after
        `silence` seconds without a word.
        """
        assert self._session, "Client is an async context manager"
        asked = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        asked |= {"labelSelector": selector} if selector else {}
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_read=silence)
        try:
            async with self._session.request(
                "GET",
                self._server + path,
                params=asked,
                headers={**_HEADERS, **self._headers()},
                timeout=limits,
            ) as answer:
                self._observe("WATCH", answer.status)
                if answer.status != 200:
                    await _read(answer, "WATCH", path)
                told()
                async for line in _lines(answer.content):
                    told()
                    yield _event(line, path)
        except (aiohttp.ClientError, TimeoutError) as error:
            self._observe("WATCH", 0)
            said = "silence" if isinstance(error, TimeoutError) else str(error) or "no answer"
            raise ApiUnreachableError(f"WATCH {path}: {said}") from error

    async def create(self, path: str, body: Raw) -> Raw:
        """Create an object."""
        return await self._call("POST", path, body=body)

    async def replace(self, path: str, body: Raw) -> Raw:
        """Replace an object, or its status, of the version that `body` names."""
        return await self._call("PUT", path, body=body)

    async def merge(self, path: str, body: Raw) -> Raw:
        """Change parts of an object (JSON merge patch)."""
        return await self._call("PATCH", path, body=body, kind="application/merge-patch+json")

    async def delete(self, path: str, options: Raw) -> Raw:
        """Delete an object; `options` are the DeleteOptions."""
        return await self._call("DELETE", path, body=options)

    async def _call(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Raw | None = None,
        kind: str = "application/json",
        most: int = 0,
    ) -> Raw:
        """One request. Raises _TooLargeError for an answer of more than `most` bytes; 0: any."""
        assert self._session, "Client is an async context manager"
        data = None if body is None else orjson.dumps(body)
        for last in range(1, _TRIES + 1):
            headers = {**_HEADERS, **self._headers(), "Content-Type": kind}
            try:
                async with self._session.request(
                    verb, self._server + path, params=query, data=data, headers=headers
                ) as answer:
                    self._observe(verb, answer.status)
                    if answer.status not in _LATER or last == _TRIES:
                        return await _read(answer, verb, path, most)
                    wait = _retry_after(answer, last)
            except (aiohttp.ClientError, TimeoutError) as error:
                self._observe(verb, 0)
                raise ApiUnreachableError(f"{verb} {path}: {str(error) or 'no answer'}") from error
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")


def _retry_after(answer: aiohttp.ClientResponse, tried: int) -> float:
    told = answer.headers.get("Retry-After", "")
    wait = float(told) if told.isdecimal() else 0.25 * 2**tried
    return min(wait, _LONGEST_WAIT)


async def _read(answer: aiohttp.ClientResponse, verb: str, path: str, most: int = 0) -> Raw:
    text = await _whole(answer, most) if most and answer.status == 200 else await answer.read()
    try:
        content: Any = loads(text)
    except ValueError:
        content = None
    if answer.status >= 400:
        said = content if isinstance(content, dict) else {"message": _start(text)}
        raise ApiError(
            answer.status,
            str(said.get("reason", "")),
            str(said.get("message", ""))[:_SAID],
            verb,
            path,
        )
    if not isinstance(content, dict):
        # Whoever said this is not the API server: as a list, it would be one without objects.
        raise ApiUnreachableError(f"{verb} {path}: no object: {_start(text)!r}")
    return content


async def _whole(answer: aiohttp.ClientResponse, most: int) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > most:
            # The rest is not waited for.
            answer.close()
            raise _TooLargeError
        parts.append(part)
    return b"".join(parts)


def _start(text: bytes) -> str:
    return text[:500].decode(errors="replace").strip()


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length, without their ends; the reader's own know a limit."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


def _event(line: bytes, path: str) -> Raw:
    """One event of a watch. Raises ApiError where it tells of an error."""
    try:
        event: Raw = loads(line)
        told = event["object"]
        if event["type"] != "ERROR":
            str(told["metadata"]["resourceVersion"])
            return event
        code = int(told.get("code") or 500)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ApiUnreachableError(f"WATCH {path}: no event: {line[:200]!r}") from error
    raise ApiError(code, str(told.get("reason", "")), str(told.get("message", "")), "WATCH", path)


class TokenFile:
    """A service account's token, read again now and then: the kubelet renews it."""

    def __init__(self, path: Path, lifetime: float = 60.0) -> None:
        self._path, self._lifetime = path, lifetime
        self._read_at, self._token = -lifetime, ""

    def headers(self) -> dict[str, str]:
        """The Authorization header. Raises ApiUnreachableError where there was never a token."""
        now = time.monotonic()
        if now - self._read_at >= self._lifetime:
            try:
                self._token = self._path.read_text().strip()
            except (OSError, ValueError) as error:
                if not self._token:
                    raise ApiUnreachableError(f"the token can't be read: {error}") from error
                log.warning("the token can't be read again, the last one is used: %s", error)
            self._read_at = now
        return {"Authorization": f"Bearer {self._token}"}
