"""What the runtime knows of pods and containers, kept on disk for when it is started again."""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from kubeseg_local.runtime.faults import CallError, NotFoundError
from kubeseg_local.runtime.logs import LogPump

CREATED, RUNNING, EXITED = 0, 1, 2
LAST_HOST_NUMBER = (1 << 16) - 2


@dataclass
class Sandbox:
    """A pod's: its address, and the configuration that the kubelet gave."""

    id: str
    ip: str
    created_at: int
    config: Any
    ready: bool = True


@dataclass
class Container:
    """A container, from its creation to its removal."""

    id: str
    sandbox: str
    image: str
    image_id: str
    created_at: int
    config: Any
    state: int = CREATED
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    pid: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    log: LogPump | None = None


SANDBOX_FIELDS = ("id", "ip", "created_at", "ready")
CONTAINER_FIELDS = (
    "id",
    "sandbox",
    "image",
    "image_id",
    "created_at",
    "state",
    "started_at",
    "finished_at",
    "exit_code",
    "reason",
    "message",
    "pid",
)


def next_address(prefix: str, taken: set[str], last: int) -> tuple[str, int]:
    """A free address below `prefix` (its first two numbers), after number `last`; and its number.

    Addresses go round: one isn't given to another pod at once. Raises CallError when all are
    taken.
    """
    for step in range(1, LAST_HOST_NUMBER + 1):
        number = (last + step - 1) % LAST_HOST_NUMBER + 1
        address = f"{prefix}.{number >> 8}.{number & 255}"
        if address not in taken:
            return address, number
    raise CallError(f"no address is free below {prefix}.0.0/16")


class Store:
    """Sandboxes and containers by id. Its lock guards both, and the fields of their values."""

    def __init__(self, root: Path, pod_prefix: str, messages: Any) -> None:
        self._sandboxes_dir = root / "sandboxes"
        self._containers_dir = root / "containers"
        self._prefix = pod_prefix
        self._messages = messages
        self._last_address = 0
        self.lock = threading.RLock()
        self.sandboxes: dict[str, Sandbox] = {}
        self.containers: dict[str, Container] = {}
        for folder in (self._sandboxes_dir, self._containers_dir):
            folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> None:
        """Read what an earlier runtime left."""
        for path in self._sandboxes_dir.glob("*.json"):
            raw = json.loads(path.read_text())
            config = json_format.ParseDict(raw.pop("config"), self._messages.PodSandboxConfig())
            self.sandboxes[raw["id"]] = Sandbox(config=config, **raw)
        for path in self._containers_dir.glob("*/container.json"):
            raw = json.loads(path.read_text())
            config = json_format.ParseDict(raw.pop("config"), self._messages.ContainerConfig())
            self.containers[raw["id"]] = Container(config=config, **raw)

    def new_address(self) -> str:
        """An address for a new sandbox."""
        with self.lock:
            taken = {each.ip for each in self.sandboxes.values()}
            address, self._last_address = next_address(self._prefix, taken, self._last_address)
            return address

    def container_dir(self, container: Container) -> Path:
        """Folder of the container's own files."""
        return self._containers_dir / container.id

    def save_sandbox(self, sandbox: Sandbox) -> None:
        """Add or update it."""
        with self.lock:
            self.sandboxes[sandbox.id] = sandbox
            _write(self._sandboxes_dir / f"{sandbox.id}.json", sandbox, SANDBOX_FIELDS)

    def save_container(self, container: Container) -> None:
        """Add or update it."""
        with self.lock:
            self.containers[container.id] = container
            folder = self.container_dir(container)
            folder.mkdir(exist_ok=True)
            _write(folder / "container.json", container, CONTAINER_FIELDS)

    def forget_sandbox(self, sandbox: Sandbox) -> None:
        """Remove it and its file."""
        with self.lock:
            self.sandboxes.pop(sandbox.id, None)
            (self._sandboxes_dir / f"{sandbox.id}.json").unlink(missing_ok=True)

    def forget_container(self, container: Container) -> None:
        """Remove it and its files."""
        with self.lock:
            self.containers.pop(container.id, None)
        shutil.rmtree(self.container_dir(container), ignore_errors=False)

    def sandbox(self, id_: str) -> Sandbox:
        """The sandbox; raises NotFoundError."""
        with self.lock:
            if id_ not in self.sandboxes:
                raise NotFoundError(f"sandbox {id_!r} not found")
            return self.sandboxes[id_]

    def container(self, id_: str) -> Container:
        """The container; raises NotFoundError."""
        with self.lock:
            if id_ not in self.containers:
                raise NotFoundError(f"container {id_!r} not found")
            return self.containers[id_]

    def containers_of(self, sandbox: Sandbox) -> list[Container]:
        """The containers of a sandbox."""
        with self.lock:
            return [each for each in self.containers.values() if each.sandbox == sandbox.id]


def _write(path: Path, thing: Sandbox | Container, fields: tuple[str, ...]) -> None:
    content = {name: getattr(thing, name) for name in fields}
    content["config"] = json_format.MessageToDict(thing.config)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)  # noqa: PTH105 - the verb that says it
