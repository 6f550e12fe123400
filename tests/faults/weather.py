"""What goes wrong between the watches and the API server, by seed."""

from __future__ import annotations

from itertools import pairwise
from random import Random

#: What may become of a request. A number is the code of its answer.
OF_REQUESTS = (
    "refused", "reset", "mute", "garbage", "401", "403", "410", "429", "500", "503", "504",
)  # fmt: skip
#: How a watch may end: "half" in the middle of a line, "410" and "500" by an event, "mute" never,
#: but nothing comes any more.
OF_STREAMS = ("end", "reset", "half", "garbage", "410", "500", "mute")
#: Seconds for which an API server knows what was.
_REMEMBERS = 180.0
_GARBAGE = (b"<html>bad gateway</html>", b'{"kind": "List", "ite', b"null", b"[]", b"\xff", b"")
_NO_EVENTS = (
    b'{"type": "MODIFIED"}',
    b'{"type": "ADDED", "object": {}}',
    b'{"type": "ERROR", "object": null}',
)


class Weather:
    """Some seeds know few kinds of faults, and rare ones; there are outages of minutes as well."""

    def __init__(self, random: Random, seconds: float) -> None:
        self._random = random
        #: Set once nothing goes wrong any more.
        self.over = False
        self._rate = random.choice((0.0, 0.05, 0.2, 0.5))
        self._requests = random.sample(OF_REQUESTS, random.randint(1, len(OF_REQUESTS)))
        self._streams = random.sample(OF_STREAMS, random.randint(1, len(OF_STREAMS)))
        #: Seconds that a stream lasts, about.
        self._life = random.choice((2.0, 15.0, 60.0))
        #: Seconds that answers, and events, need at most.
        self._slow, self._late = random.choice((0.1, 1.0, 5.0)), random.choice((0.01, 0.5, 4.0))
        #: Seconds between bookmarks, at most.
        self._marks = random.choice((10.0, 60.0))
        #: The share of chunks that are cut into smaller ones.
        self._cut = random.choice((0.0, 0.5, 1.0))
        #: Seconds for which history is remembered.
        self._remembers = random.choice((_REMEMBERS, 5.0, 40.0))
        self._outages = [
            (begin, begin + random.uniform(3, 90), random.choice(OF_REQUESTS))
            for begin in (random.uniform(0, seconds) for _ in range(random.choice((0, 1, 2))))
        ]

    def of_request(self, now: float) -> str | None:
        """What becomes of the next request; None: it is answered as it should be."""
        if self.over:
            return None
        for begin, end, fault in self._outages:
            if begin <= now < end:
                return fault
        return self._random.choice(self._requests) if self._chance(self._rate) else None

    def of_stream(self) -> tuple[float, str]:
        """After how many seconds a watch ends, and how."""
        return self._life * self._random.uniform(0.1, 2), self._random.choice(self._streams)

    def until_answered(self) -> float:
        """Seconds that the next request needs for each way."""
        return 0.001 + self._random.random() * self._slow

    def until_told(self) -> float:
        """Seconds that the next event needs."""
        return 0.001 + self._random.random() * self._late

    def until_bookmark(self) -> float:
        """Seconds until the next bookmark."""
        return self._random.uniform(0.5, 1) * self._marks

    def until_forgotten(self) -> float:
        """Seconds after which what has been is forgotten."""
        return _REMEMBERS if self.over else self._remembers

    def until_closed(self) -> float:
        """Seconds after which an API server ends a watch that nothing else has ended."""
        return self._random.uniform(300, 600)

    def page(self, limit: int) -> int:
        """How many objects the next page has."""
        return min(limit, self._random.choice((2, 3)))

    def pieces(self, data: bytes) -> list[bytes]:
        """A chunk as it comes: cut anywhere, or not."""
        if not self._chance(self._cut):
            return [data]
        places = sorted(self._random.randrange(len(data) + 1) for _ in range(3))
        edges = [0, *places, len(data)]
        parts = [data[a:b] for a, b in pairwise(edges)]
        return [part for part in parts if part]

    def half(self, data: bytes) -> bytes:
        """What comes of a chunk before the connection ends."""
        return data[: self._random.randrange(1, len(data))]

    def garbage(self) -> bytes:
        """A body that is no object, or a line that is no event."""
        return self._random.choice(_GARBAGE)

    def line(self) -> bytes:
        """A line that is no event, though it may be an object."""
        return self._random.choice((*_GARBAGE, *_NO_EVENTS)) + b"\n"

    def answers_with_an_event(self) -> bool:
        """Whether a watch that can't be is answered with 200 and an event that says so."""
        return self._chance(0.5)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share
