"""What a memory limit does where there are no cgroups: a container above its limit is killed.

Twice a second the memory of each limited container's processes is added up: what is theirs alone
or shared (anonymous and shared memory), not what the kernel could drop and read again (pages of
files). The first sum is cheap and counts what forked processes share once for each; only one above
the limit is looked at again, with each page's share. Files in an `emptyDir` of medium Memory
count as far as they are mapped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from kubeseg_local.runtime.store import RUNNING, Container, Store

log = logging.getLogger(__name__)

#: Seconds between two looks.
INTERVAL = 0.5
REASON = "OOMKilled"
_PROC = Path("/proc")
_OWN = ("RssAnon:", "RssShmem:")
_SHARE = ("Pss_Anon:", "Pss_Shmem:")


def limit_of(container: Container) -> int:
    """Its memory limit in bytes; 0: none."""
    return int(container.config.linux.resources.memory_limit_in_bytes)


def added_up(text: str, names: Iterable[str]) -> int:
    """Bytes of these lines of /proc/<pid>/status or smaps_rollup."""
    lines = (line.split() for line in text.splitlines())
    return 1024 * sum(int(words[1]) for words in lines if words and words[0] in names)


def _read(pid: int, name: str) -> str:
    try:
        return (_PROC / str(pid) / name).read_text()
    except OSError:
        return ""  # it has ended meanwhile, or may not be looked at


def used_by(pids: Iterable[int], limit: int) -> int:
    """Bytes that these processes use together; where that is below `limit`, an upper bound."""
    pids = list(pids)
    rough = {pid: added_up(_read(pid, "status"), _OWN) for pid in pids}
    if sum(rough.values()) <= limit:
        return sum(rough.values())
    return sum(added_up(_read(pid, "smaps_rollup"), _SHARE) or rough[pid] for pid in pids)


def by_namespace() -> dict[str, list[int]]:
    """All processes that can be seen, by their PID namespace; without those of our own."""
    ours = str((_PROC / "self" / "ns" / "pid").readlink())
    found: dict[str, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                space = str((entry / "ns" / "pid").readlink())
            except OSError:
                continue
            if space != ours:
                found.setdefault(space, []).append(int(entry.name))
    return found


class MemoryWatch:
    """Kills containers that use more than their limit."""

    def __init__(self, store: Store, kill: Callable[[Container, str, str], None]) -> None:
        self._store = store
        self._kill = kill

    def run(self) -> None:
        """Watch for ever."""
        while True:
            time.sleep(INTERVAL)
            try:
                self.look()
            except Exception:
                # Containers must not go unwatched for one that is odd.
                log.exception("memory could not be looked at")

    def look(self) -> None:
        """Look once."""
        with self._store.lock:
            limited = [
                each
                for each in self._store.containers.values()
                if each.state == RUNNING and limit_of(each)
            ]
        spaces = by_namespace() if limited else {}
        for container in limited:
            pids = next((pids for pids in spaces.values() if container.pid in pids), [])
            limit = limit_of(container)
            used = used_by(pids, limit)
            if used > limit:
                words = f"it used {used >> 20} MiB of memory, and its limit is {limit >> 20} MiB"
                log.warning("container %s is killed: %s", container.id, words)
                self._kill(container, REASON, words)
