"""What the sessions beneath the operator's client give."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol


class Chunks(Protocol):
    """The body of a watch, as aiohttp's StreamReader."""

    def iter_any(self) -> AsyncIterator[bytes]:
        """The chunks, as they come."""
        ...


@dataclass(frozen=True, slots=True)
class _Piece:
    body: bytes

    async def iter_any(self) -> AsyncIterator[bytes]:
        """All of it."""
        yield self.body


@dataclass(slots=True)
class Answer:
    """As aiohttp's ClientResponse."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content: Chunks | None = None

    def __post_init__(self) -> None:
        """What is no watch comes in one piece."""
        if self.content is None:
            self.content = _Piece(self.body)

    def close(self) -> None:
        """The rest is not wanted."""

    async def read(self) -> bytes:
        """The body."""
        return self.body
