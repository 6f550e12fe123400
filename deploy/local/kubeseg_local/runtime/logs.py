"""Container logs in the format that the kubelet reads: `<time> <stream> <P or F> <text>`."""

from __future__ import annotations

import os
import selectors
import threading
import time
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 16
#: Longer lines are cut into parts, as other runtimes do.
MAX_LINE = 16 * 1024


def timestamp(now_ns: int) -> str:
    """RFC 3339 with nanoseconds, UTC."""
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"


class LineCutter:
    """Cuts a stream of bytes into (tag, text): F ends a line, P goes on in the next."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """What `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        parts = []
        for line in lines:
            parts += [*_long(line[: _last_cut(line)]), ("F", line[_last_cut(line) :])]
        cut = _last_cut(self._rest)
        parts += _long(self._rest[:cut])
        self._rest = self._rest[cut:]
        return parts

    def end(self) -> list[tuple[str, bytes]]:
        """What is left at the stream's end: part of a line whose end never came."""
        rest, self._rest = self._rest, b""
        return [("P", rest)] if rest else []


def _last_cut(line: bytes) -> int:
    """Where the last part of a line begins that is cut every MAX_LINE bytes."""
    return (len(line) - 1) // MAX_LINE * MAX_LINE if line else 0


def _long(data: bytes) -> list[tuple[str, bytes]]:
    return [("P", data[i : i + MAX_LINE]) for i in range(0, len(data), MAX_LINE)]


class LogPump:
    """Copies a container's output to its log file until all its processes have closed it."""

    def __init__(self, path: Path, stdout: int, stderr: int) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._open()
        self._streams = {stdout: ("stdout", LineCutter()), stderr: ("stderr", LineCutter())}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _open(self) -> BinaryIO:
        return self._path.open("ab", buffering=0)

    def reopen(self) -> None:
        """The kubelet has moved the file away: begin a new one."""
        with self._lock:
            self._file.close()
            self._file = self._open()

    def join(self, timeout_s: float) -> None:
        """Wait until everything is written."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for each in self._streams:
                selector.register(each, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, CHUNK)
                    stream, cutter = self._streams[key.fd]
                    self._write(stream, cutter.feed(data) if data else cutter.end())
                    if not data:
                        selector.unregister(key.fd)
                        os.close(key.fd)
        self._file.close()

    def _write(self, stream: str, parts: list[tuple[str, bytes]]) -> None:
        if parts:
            start = f"{timestamp(time.time_ns())} {stream} ".encode()
            with self._lock:
                self._file.write(b"".join(start + f"{t} ".encode() + p + b"\n" for t, p in parts))
