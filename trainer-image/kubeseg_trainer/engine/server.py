"""`/progress`, `/metrics` and `/healthz` of a running trainer."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kubeseg_trainer.engine.board import Board
from kubeseg_trainer.errors import ConfigurationError

log = logging.getLogger(__name__)


class BoardCollector(Collector):
    """The board's snapshot as gauges, read when Prometheus asks."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        """All gauges that have a value by now."""
        progress = self._board.progress
        labels = ["namespace", "job"]
        own = [self._board.namespace, progress.job]
        last = progress.last
        values: dict[str, tuple[str, float | None]] = {
            "kubeseg_epoch": ("Epochs finished.", progress.epoch),
            "kubeseg_epochs": ("Epochs wanted.", progress.epochs),
            "kubeseg_step": ("Steps done in the current epoch.", progress.step),
            "kubeseg_samples_per_second": ("Training throughput.", progress.samples_per_second),
            "kubeseg_eta_seconds": ("Seconds left, estimated.", progress.eta_seconds),
        }
        if last is not None:
            values["kubeseg_learning_rate"] = ("At the epoch's last step.", last.learning_rate)
            values["kubeseg_epoch_seconds"] = ("Duration of the last epoch.", last.seconds)
            for part, metrics in (("train", last.train), ("val", last.validation)):
                for name in ("loss", "dice", "iou"):
                    text = f"Mean {name} of the last epoch, part {part}."
                    values[f"kubeseg_{part}_{name}"] = (text, getattr(metrics, name))
        for name, (text, value) in values.items():
            if value is not None:
                family = GaugeMetricFamily(name, text, labels=labels)
                family.add_metric(own, value)
                yield family
        if last is None:
            return
        for name in ("dice", "iou"):
            family = GaugeMetricFamily(
                f"kubeseg_class_{name}",
                f"{name} of the last epoch by class, where the class occurs.",
                labels=[*labels, "part", "class"],
            )
            for part, metrics in (("train", last.train), ("val", last.validation)):
                scores = getattr(metrics, f"class_{name}")
                for label, score in zip(progress.class_names, scores, strict=False):
                    if score is not None:
                        family.add_metric([*own, part, label], score)
            yield family


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

    def __init__(self, address: str, port: int, board: Board) -> None:
        self.board = board
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
