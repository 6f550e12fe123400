"""Our own servers for probes and metrics: they start before the watches, and outlive them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

PROBES_PORT = 8081
METRICS_PORT = 9090


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

    async def _healthz(self, _request: web.Request) -> web.Response:
        sentence = self._ill()
        return web.Response(text=sentence or "ok", status=500 if sentence else 200)

    async def _readyz(self, _request: web.Request) -> web.Response:
        ready, text = self._ready()
        return web.Response(text=text, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        # In a thread: the series of thousands of jobs must not hold up the Lease's renewal.
        text = await asyncio.to_thread(encode, self._registry)
        return web.Response(body=text, headers={"Content-Type": kind})
