"""`/progress`, `/metrics` and `/healthz` of a running trainer."""

from __future__ import annotations

import errno
import logging
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from kubeseg_trainer.engine.board import Board
from kubeseg_trainer.engine.gauges import BoardCollector
from kubeseg_trainer.errors import ConfigurationError

log = logging.getLogger(__name__)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 75

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        url = urlsplit(self.path)
        match url.path:
            case "/healthz":
                self._reply(HTTPStatus.OK, "text/plain", b"ok\n")
            case "/metrics" | "/progress" if self.server.probe_only:
                text = b"rank 0 tells: ask the pod with index 0\n"
                self._reply(HTTPStatus.NOT_FOUND, "text/plain", text)
            case "/metrics":
                body = generate_latest(self.server.registry)
                self._reply(HTTPStatus.OK, CONTENT_TYPE_LATEST, body)
            case "/progress":
                self._progress(parse_qs(url.query))
            case _:
                self._reply(HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")

    def _progress(self, query: dict[str, list[str]]) -> None:
        try:
            seq = int(query.get("seq", ["-1"])[-1])
            wait = float(query.get("wait", ["0"])[-1])
        except ValueError:
            text = b"seq must be a whole number, wait a number of seconds\n"
            self._reply(HTTPStatus.BAD_REQUEST, "text/plain", text)
            return
        progress = self.server.board.wait(seq, wait)
        body = progress.model_dump_json(by_alias=True, exclude_none=True).encode()
        self._reply(HTTPStatus.OK, "application/json", body)

    def _reply(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Probes and polls are no news."""
        log.debug(format, *args)


class Server(ThreadingHTTPServer):
    """The trainer's HTTP server, in threads of its own."""

    daemon_threads = True

    def __init__(self, address: str, port: int, board: Board, *, probe_only: bool = False) -> None:
        self.board = board
        #: Answer /healthz alone: in the pods that only help.
        self.probe_only = probe_only
        self.registry = CollectorRegistry()
        self.registry.register(BoardCollector(board))
        try:
            super().__init__((address, port), _Handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigurationError(
                    f"port {port} of {address} is taken by another process: choose one with "
                    f"--port, let one be found with --port 0, or go without with --no-server"
                ) from error
            raise ConfigurationError(
                f"can't listen on {address}, port {port}: {error.strerror}"
            ) from error

    @property
    def url(self) -> str:
        """Where it listens."""
        address, port = self.server_address[:2]
        return f"http://{address!s}:{port}"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that went away is no news either."""
        log.debug("a request of %s was broken off", client_address)

    def start(self) -> None:
        """Serve, in the background."""
        threading.Thread(target=self.serve_forever, name="http", daemon=True).start()

    def stop(self) -> None:
        """Answer those who wait, then end."""
        self.board.drain(1.0)
        self.shutdown()
        self.server_close()
