"""The hosts file of each container: the kubelet's lines and the names of Services.

The supervisor keeps one file of names for each namespace; a change of it reaches the containers
that run, within a moment.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from kubeseg_local.runtime.store import Container, Sandbox

POLL_S = 0.2


def compose(kubelets: str, names: str) -> str:
    """The text of a hosts file."""
    return f"{kubelets.rstrip()}\n# Services and their pods, kept up to date\n{names}"


@dataclass
class _Entry:
    names: Path
    kubelets: str
    target: Path
    written: str = ""


class HostsFiles:
    """The hosts files of the containers that run."""

    def __init__(self, names: Path) -> None:
        self._names = names
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def add(self, sandbox: Sandbox, container: Container, target: Path) -> None:
        """Write the container's file and keep it up to date; mounting it is the caller's part."""
        kubelets = ""
        for each in container.config.mounts:
            if each.container_path == "/etc/hosts":
                kubelets = Path(each.host_path).read_text()
        names = self._names / sandbox.config.metadata.namespace
        entry = _Entry(names, kubelets, target)
        with self._lock:
            self._entries[container.id] = entry
            self._write(entry)

    def drop(self, container: Container) -> None:
        """Forget the container's file."""
        with self._lock:
            self._entries.pop(container.id, None)

    def run(self) -> None:
        """Keep all up to date, for ever."""
        while True:
            time.sleep(POLL_S)
            with self._lock:
                for entry in self._entries.values():
                    self._write(entry)

    def _write(self, entry: _Entry) -> None:
        try:
            names = entry.names.read_text()
        except FileNotFoundError:
            names = ""  # a namespace that the supervisor hasn't met yet
        text = compose(entry.kubelets, names)
        if text == entry.written:
            return
        # In place: the file is mounted, and a new one wouldn't be seen.
        with entry.target.open("r+" if entry.target.exists() else "w") as file:
            file.write(text)
            file.truncate()
        entry.written = text
