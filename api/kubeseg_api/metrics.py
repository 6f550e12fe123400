"""What Prometheus is told of requests: counts and durations by route, method and status."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("kubeseg_api.access")

_QUIET = {"/healthz", "/readyz"}


class RequestMetrics:
    """ASGI middleware: one line a request in the log, and two metrics in `registry`."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter(
            "kubeseg_api_requests_total",
            "Requests answered.",
            ["method", "route", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "kubeseg_api_request_seconds",
            "Seconds until a request was answered in full.",
            ["method", "route"],
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600),
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        began = time.perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            seconds = time.perf_counter() - began
            # The template, such as /v1/files/{path}: paths would be without end.
            route = getattr(scope.get("route"), "path", None) or "unknown"
            method = scope["method"] if route != "unknown" else "any"
            self._requests.labels(method, route, str(status)).inc()
            self._seconds.labels(method, route).observe(seconds)
            if scope["path"] not in _QUIET:
                # Quoted: a line feed in a path must not make a line of its own.
                log.info(
                    "%s %s %d %.0f ms",
                    scope["method"],
                    quote(scope["path"]),
                    status,
                    seconds * 1000,
                )
