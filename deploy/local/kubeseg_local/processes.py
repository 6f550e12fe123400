"""Find and end a cluster's processes, and say who holds a port.

Everything of a cluster lives in one PID namespace, whose first process is the supervisor. So to
end that one is to end them all, whatever they forked: the kernel sees to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from kubeseg_local.layout import LOOPBACK

SUPERVISOR = "kubeseg_local.supervisor"
PROC = Path("/proc")
LISTENING = "0A"


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket of this machine."""

    address: str
    port: int
    inode: str


def _command(pid: str) -> list[str]:
    try:
        raw = (PROC / pid / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
    return raw.decode(errors="replace").split("\0")[:-1]


def supervisors(root: Path) -> list[int]:
    """Pids of the supervisor of the cluster in `root`, and of the `unshare` that waits for it."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            command = _command(entry.name)
            if SUPERVISOR in command and command[-1] == str(root):
                found.append(int(entry.name))
    return sorted(found)


def _has_ended(pid: str) -> bool:
    try:
        stat = (PROC / pid / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rsplit(")", 1)[1].split()[0] in {"Z", "X"}


def end_cluster(root: Path, deadline_s: float = 20.0) -> int:
    """Kill the supervisor of `root`, and with it every process of the cluster; how many it was.

    Returns when all are gone. Raises TimeoutError when one isn't (stuck in the kernel), and
    PermissionError when the cluster is another user's.
    """
    until = time.monotonic() + deadline_s
    found = set[int]()
    while left := supervisors(root) or [pid for pid in found if not _has_ended(str(pid))]:
        for pid in set(left) - found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # A dying process has no command line any more, and its namespace may live for a moment:
        # its first process becomes a zombie only after all others are gone.
        found.update(left)
        if time.monotonic() > until:
            raise TimeoutError(f"processes {left} don't end, {deadline_s:.0f} s after SIGKILL")
        time.sleep(0.01)
    return len(found)


def listeners() -> list[Listener]:
    """Every listening TCP socket, IPv4 and IPv6."""
    found = []
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without IPv6
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENING:
                address, port = fields[1].split(":")
                found.append(Listener(_address(address), int(port, 16), fields[9]))
    return found


def _address(text: str) -> str:
    """The address in /proc/net/tcp's notation: 32-bit words in the machine's byte order."""
    words = [int(text[i : i + 8], 16).to_bytes(4, "little") for i in range(0, len(text), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, b"".join(words))


def socket_inodes(pid: int) -> set[str]:
    """Inodes of the sockets that the process has open; empty when it may not be looked at."""
    found = set()
    try:
        for entry in (PROC / str(pid) / "fd").iterdir():
            target = str(entry.readlink())
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return found
    return found


def port_is_free(port: int) -> bool:
    """Whether 127.0.0.1:`port` can be listened on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the components do: a connection that lingers after its end is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def port_owner(port: int) -> str:
    """Who listens on `port`, in words."""
    inodes = {each.inode for each in listeners() if each.port == port}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and inodes & socket_inodes(int(entry.name)):
            command = " ".join(_command(entry.name))
            return f"process {entry.name} ({command[:120]})"
    return "a process that this user may not look at"
