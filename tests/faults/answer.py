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


@dataclass(slots=True)
class Answer:
    """As aiohttp's ClientResponse."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content: Chunks | None = None

    async def read(self) -> bytes:
        """The body."""
        return self.body
