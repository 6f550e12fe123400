"""The client against a web server on loopback: retries, errors, pages, tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kubeseg_operator.client import (
    LARGEST,
    ApiError,
    ApiUnreachableError,
    Client,
    FencedError,
    TokenFile,
)

Answer = Callable[[web.Request], web.Response]


@asynccontextmanager
async def serving(
    *answers: Answer, fence: Callable[[], str | None] = lambda: None
) -> AsyncIterator[tuple[Client, list[web.Request], list[Any]]]:
    """A server that gives these answers in turn (the last one for ever), and a client of it."""
    requests: list[web.Request] = []
    counted: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        requests.append(request)
        return answers[min(len(requests), len(answers)) - 1](request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = Client(
        f"http://127.0.0.1:{port}",
        headers=lambda: {"Authorization": "Bearer t"},
        tls=None,
        observe=lambda verb, code: counted.append((verb, code)),
        fence=fence,
    )
    async with client:
        yield client, requests, counted
    await runner.cleanup()


def say(content: Any, status: int = 200, **headers: str) -> Answer:
    return lambda _request: web.json_response(content, status=status, headers=headers)


async def test_who_asks_and_what_is_sent() -> None:
    async with serving(say({"a": 1})) as (client, requests, counted):
        assert await client.merge("/x", {"metadata": {}}) == {"a": 1}
    (request,) = requests
    assert request.headers["Authorization"] == "Bearer t"
    assert request.headers["User-Agent"] == "kubeseg-operator"
    assert request.headers["Content-Type"] == "application/merge-patch+json"
    assert counted == [("PATCH", 200)]


@pytest.mark.parametrize("status", [429, 503])
async def test_not_now_is_tried_again_after_the_stated_time(status: int) -> None:
    later = say({"message": "slow down"}, status, **{"Retry-After": "0"})
    async with serving(later, later, say({"ok": True})) as (client, requests, counted):
        assert await client.create("/x", {}) == {"ok": True}
    assert len(requests) == 3
    assert counted == [("POST", status), ("POST", status), ("POST", 200)]


async def test_not_now_for_ever_is_an_error() -> None:
    later = say({"message": "slow down", "reason": "TooManyRequests"}, 429, **{"Retry-After": "0"})
    async with serving(later) as (client, requests, _):
        with pytest.raises(ApiError) as raised:
            await client.get("/x")
    assert (raised.value.code, raised.value.reason, len(requests)) == (429, "TooManyRequests", 4)


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 500])
async def test_a_refusal_is_told_once_with_the_servers_words(status: int) -> None:
    async with serving(say({"message": "no such thing"}, status)) as (client, requests, _):
        with pytest.raises(ApiError) as raised:
            await client.delete("/x", {"preconditions": {"uid": "u"}})
    assert (raised.value.code, raised.value.message) == (status, "no such thing")
    assert len(requests) == 1


async def test_an_answer_that_is_no_json_is_an_error_with_its_text() -> None:
    async with serving(lambda _r: web.Response(text="gateway", status=502)) as (client, _, _):
        with pytest.raises(ApiError, match="gateway"):
            await client.get("/x")


@pytest.mark.parametrize("text", ["<html>log in", '{"items": [', "[]", "null", ""])
async def test_a_success_that_is_no_object_is_none(text: str) -> None:
    """Taken for a list it would be an empty one: everything would be dropped."""
    async with serving(lambda _r: web.Response(text=text)) as (client, _, _):
        with pytest.raises(ApiUnreachableError, match="no object"):
            await client.get("/x")


async def test_no_answer_is_told_apart_from_a_refusal() -> None:
    """Whether a write was carried out is then not known."""
    async with serving(say({})) as (client, _, counted):
        pass
    async with client:
        with pytest.raises(ApiUnreachableError):
            await client.replace("/x", {})
    assert counted[-1] == ("PUT", 0)


async def test_what_the_fence_refuses_is_never_sent() -> None:
    """Reads go on. The fence is asked when a connection is there: a new one can take seconds."""
    why: list[str | None] = [None]
    asked: list[str] = []

    def fence() -> str | None:
        asked.append("asked")
        return why[0]

    async with serving(say({"ok": True}), fence=fence) as (client, requests, counted):
        assert await client.get("/x") == {"ok": True}
        assert asked == []
        assert await client.create("/x", {}) == {"ok": True}
        why[0] = "the Lease is lost"
        for write in (
            client.create("/x", {}),
            client.replace("/x", {}),
            client.merge("/x", {}),
            client.delete("/x", {}),
        ):
            with pytest.raises(FencedError, match="not sent: the Lease is lost"):
                await write
        assert await client.get("/x") == {"ok": True}
        assert [request.method for request in requests] == ["GET", "POST", "GET"]
        # Its connections are given back: with 64 refusals more there would be none left.
        for _ in range(65):
            with pytest.raises(FencedError):
                await client.replace("/x", {})
        why[0] = None
        assert await client.replace("/x", {}) == {"ok": True}
    assert all(code for _, code in counted), "what wasn't sent is no request"


async def test_a_pause_while_connecting_is_noticed() -> None:
    """The process is stopped after the request has begun, and before it is sent."""
    held = [True]
    async with serving(say({}), fence=lambda: None if held[0] else "paused") as (client, sent, _):
        real = aiohttp.TCPConnector.connect

        async def slow(self: Any, *arguments: Any) -> Any:
            connection = await real(self, *arguments)
            held[0] = False
            return connection

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aiohttp.TCPConnector, "connect", slow)
            with pytest.raises(FencedError):
                await client.create("/x", {})
    assert sent == []


async def test_a_list_is_read_in_pages() -> None:
    first = say({"items": [{"n": 1}, {"n": 2}], "metadata": {"continue": "more"}})
    async with serving(first, say({"items": [{"n": 3}]})) as (client, requests, _):
        found = [item["n"] async for item in client.list("/x", selector="a=b", page=2)]
    assert found == [1, 2, 3]
    assert [dict(request.query) for request in requests] == [
        {"limit": "2", "labelSelector": "a=b"},
        {"limit": "2", "labelSelector": "a=b", "continue": "more"},
    ]


async def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones() -> None:
    """Whoever makes a hundred objects of a megabyte each must not cost a gigabyte."""
    large = [{"n": n, "text": "x" * (LARGEST // 5 if n < 8 else 1)} for n in range(24)]

    def answer(request: web.Request) -> web.Response:
        begin, size = int(request.query.get("continue", "0")), int(request.query["limit"])
        more = {"continue": str(begin + size)} if begin + size < len(large) else {}
        return web.json_response({"items": large[begin : begin + size], "metadata": more})

    async with serving(answer) as (client, requests, _):
        found = [item["n"] async for item in client.list("/x", page=8)]
    assert found == list(range(24))
    sizes = [int(request.query["limit"]) for request in requests]
    assert sizes == [8, 2, 4, 8, 8, 8], "and larger again where they are small"


async def test_a_single_object_is_read_however_large() -> None:
    async with serving(say({"items": [{"text": "x" * 2 * LARGEST}]})) as (client, requests, _):
        (found,) = [item async for item in client.list("/x", page=1)]
    assert (len(found["text"]), len(requests)) == (2 * LARGEST, 1)


async def test_what_the_api_server_says_is_cut() -> None:
    async with serving(say({"reason": "Invalid", "message": "no " * 10_000}, 422)) as (client, *_):
        with pytest.raises(ApiError) as caught:
            await client.create("/x", {})
    assert len(caught.value.message) == 4096


def test_a_renewed_token_is_read(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    kept, fresh = TokenFile(file, lifetime=3600), TokenFile(file, lifetime=0)
    assert (kept.headers(), fresh.headers()) == ({"Authorization": "Bearer one"},) * 2
    file.write_text("two")
    assert kept.headers() == {"Authorization": "Bearer one"}
    assert fresh.headers() == {"Authorization": "Bearer two"}


async def test_a_token_that_cannot_be_read_again_goes_on_counting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    token = TokenFile(file, lifetime=0)
    async with Client("http://127.0.0.1:1", headers=token.headers, tls=None) as client:
        # There was never one: no call crashes of it.
        with pytest.raises(ApiUnreachableError, match=r"the token can't be read: .*No such file"):
            await client.get("/x")
        with pytest.raises(ApiUnreachableError, match="the token can't be read"):
            await anext(client.watch("/x", "1", told=lambda: None, silence=1))
    file.write_text("one")
    assert token.headers() == {"Authorization": "Bearer one"}
    file.unlink()
    assert token.headers() == {"Authorization": "Bearer one"}
    assert "can't be read again, the last one is used" in caplog.text
