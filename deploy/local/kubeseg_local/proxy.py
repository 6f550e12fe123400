"""Listen on the addresses of Services and hand each connection to a pod."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

from kubeseg_local.addressing import Backend, Listen

CHUNK = 1 << 16
CONNECT_S = 5.0
log = logging.getLogger(__name__)


class ServiceProxy:
    """One listening socket for each (address, port) that is wanted."""

    def __init__(self) -> None:
        self._servers: dict[Listen, asyncio.Server] = {}
        self._backends: dict[Listen, list[Backend]] = {}
        self.refused: dict[Listen, str] = {}

    async def update(self, wanted: dict[Listen, list[Backend]]) -> None:
        """Listen on exactly `wanted`; connections that exist go on."""
        self._backends = wanted
        for gone in self._servers.keys() - wanted.keys():
            self._servers.pop(gone).close()
        for gone in self.refused.keys() - wanted.keys():
            del self.refused[gone]
        for listen in wanted.keys() - self._servers.keys():
            try:
                self._servers[listen] = await self._listen(listen)
                self.refused.pop(listen, None)
            except OSError as error:
                # Ports below 1024 are refused to an ordinary user; others may be taken.
                self.refused[listen] = error.strerror or str(error)

    async def _listen(self, listen: Listen) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._forward(listen, reader, writer)

        return await asyncio.start_server(accept, listen[0], listen[1], limit=CHUNK)

    async def _forward(
        self, listen: Listen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        backends = list(self._backends.get(listen, ()))
        random.shuffle(backends)
        for backend in backends:
            try:
                async with asyncio.timeout(CONNECT_S):
                    there = await asyncio.open_connection(
                        backend.address, backend.port, limit=CHUNK
                    )
            except OSError as error:  # TimeoutError is one: try the next pod
                log.info("%s:%d: %s", backend.address, backend.port, error)
                continue
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
            return
        writer.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy until the source ends, then end the target's side of the connection."""
    # A connection that breaks is no event here: both ends see it.
    with contextlib.suppress(OSError):
        while chunk := await source.read(CHUNK):
            target.write(chunk)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()
            return
    target.close()
