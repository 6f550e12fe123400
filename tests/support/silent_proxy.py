"""A network that falls silent: connections stay open, and nothing comes through any more."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

CHUNK = 1 << 16


class SilentProxy:
    """Forwards 127.0.0.1:`port` to `target`, until it is told to fall silent.

    No end is told of it, as where a firewall has forgotten a connection: no reset, no end.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        #: Connections of an earlier generation than this are silent.
        self._generation = 0
        self._closed_to_new = asyncio.Event()
        self.opened = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def silence(self, *, new_ones_too: bool = False) -> None:
        """All connections there are fall silent; where it is asked, all to come too."""
        self._generation += 1
        if new_ones_too:
            self._closed_to_new.set()

    def mend(self) -> None:
        """New connections work again. The silent ones stay so."""
        self._closed_to_new.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self._writers.append(writer)
        self.opened += 1
        generation = -1 if self._closed_to_new.is_set() else self._generation
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.append(there[1])
            await asyncio.gather(
                self._pump(reader, there[1], generation), self._pump(there[0], writer, generation)
            )
        finally:
            self._tasks.discard(task)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, generation: int
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(CHUNK):
                if generation == self._generation:
                    target.write(chunk)
                    await target.drain()
            if generation == self._generation:
                target.close()
