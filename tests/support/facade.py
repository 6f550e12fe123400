"""The facade as a process of its own, on free ports of 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@dataclass
class Facade:
    process: subprocess.Popen[bytes]
    port: int
    metrics_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        self.process.send_signal(with_signal)
        return self.process.wait(30)

    def end(self) -> None:
        """Ends it, however it is."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


async def start_facade(
    kubeconfig: Path,
    workspace: Path,
    running: list[Facade],
    prefix: tuple[str, ...] = (),
    **environment: str,
) -> Facade:
    """A facade that is ready; it is put into `running`, for whoever ends it."""
    port, metrics_port = free_ports(2)
    process = subprocess.Popen(  # noqa: ASYNC220  (it returns at once)
        [*prefix, sys.executable, "-m", "kubeseg_api.main"],
        env=os.environ
        | {
            "KUBECONFIG": str(kubeconfig),
            "KUBESEG_WORKSPACE": str(workspace),
            "KUBESEG_PORT": str(port),
            "KUBESEG_METRICS_PORT": str(metrics_port),
        }
        | environment,
    )
    facade = Facade(process, port, metrics_port)
    running.append(facade)
    await until_ready(facade)
    return facade


async def until_ready(facade: Facade, deadline: float = 60) -> None:
    end = time.monotonic() + deadline
    async with httpx.AsyncClient(base_url=facade.url) as client:
        while time.monotonic() < end:
            assert facade.process.poll() is None, "the facade ended"
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)
    pytest.fail(f"not ready within {deadline} s")
