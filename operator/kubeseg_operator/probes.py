"""Our own servers for probes and metrics: they start before the watches, and outlive them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

PROBES_PORT = 8081
METRICS_PORT = 9090
_OPEN_METRICS = "application/openmetrics-text"


class PortTakenError(Exception):
    """A port of probes or metrics can't be had."""


class Servers:
    """`/healthz` and `/readyz` on one port, `/metrics` on another.

    `ill` gives a sentence where the operator has stood still; `ready` tells whether it works or
    stands by, and says which.
    """

    def __init__(
        self,
        host: str,
        *,
        ill: Callable[[], str | None],
        ready: Callable[[], tuple[bool, str]],
        registry: CollectorRegistry,
        probes_port: int = PROBES_PORT,
        metrics_port: int = METRICS_PORT,
    ) -> None:
        self._host, self._ill, self._ready, self._registry = host, ill, ready, registry
        self._ports = (probes_port, metrics_port)
        self._runners: list[web.AppRunner] = []
        #: The answers of `/metrics` that are being made, by content type; one at a time.
        self._making: dict[str, asyncio.Task[bytes]] = {}
        self._one = asyncio.Lock()

    async def __aenter__(self) -> Self:
        probes, metrics = web.Application(), web.Application()
        probes.router.add_get("/healthz", self._healthz)
        probes.router.add_get("/readyz", self._readyz)
        metrics.router.add_get("/metrics", self._metrics)
        for app, port in zip((probes, metrics), self._ports, strict=True):
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            self._runners.append(runner)
            try:
                await web.TCPSite(runner, self._host, port).start()
            except OSError as error:
                await self.__aexit__()
                raise PortTakenError(
                    f"{self._host}:{port} can't be listened on ({error.strerror}): set "
                    "KUBESEG_PROBES_PORT and KUBESEG_METRICS_PORT to free ports"
                ) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        for runner in self._runners:
            await runner.cleanup()
        making = [*self._making.values()]
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)

    async def _healthz(self, _request: web.Request) -> web.Response:
        sentence = self._ill()
        return web.Response(text=sentence or "ok", status=500 if sentence else 200)

    async def _readyz(self, _request: web.Request) -> web.Response:
        ready, text = self._ready()
        return web.Response(text=text, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        # Of what could be asked for, two kinds: each version named would be an answer of its own.
        accepted = request.headers.get("Accept", "")
        encode, kind = choose_encoder(_OPEN_METRICS if _OPEN_METRICS in accepted else "")
        task = self._making.get(kind)
        if task is None:
            task = self._making[kind] = asyncio.create_task(self._encoded(encode))
            task.add_done_callback(lambda _done: self._making.pop(kind))
        # Shielded: others wait for it too.
        text = await asyncio.shield(task)
        return web.Response(body=text, headers={"Content-Type": kind})

    async def _encoded(self, encode: Callable[[Collector], bytes]) -> bytes:
        # In a thread: the series of thousands of jobs must not hold up the Lease's renewal. In one
        # alone, however many ask: twenty that encode would leave the loop little of the time.
        async with self._one:
            return await asyncio.to_thread(encode, self._registry)
