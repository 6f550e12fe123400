"""What the supervisor tells of the cluster: one JSON file, replaced whole."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Phase = Literal["Starting", "Ready", "Failed"]


@dataclass
class ComponentState:
    """One component, now."""

    running: bool = False
    healthy: bool = False
    #: pid inside the cluster's PID namespace.
    pid: int = 0
    restarts: int = 0


@dataclass
class Crash:
    """One crash of a component."""

    component: str
    at: str
    exit: str
    last_lines: list[str]
    outcome: str


@dataclass
class ClusterState:
    """All of it."""

    phase: Phase = "Starting"
    doing: str = ""
    components: dict[str, ComponentState] = field(default_factory=dict)
    crashes: list[Crash] = field(default_factory=list)
    #: What went wrong outside of any component: a Service's port that can't be listened on.
    warnings: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Replace `path` at one stroke."""
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=1))
        os.replace(temporary, path)  # noqa: PTH105 - the verb that says it

    @staticmethod
    def load(path: Path) -> ClusterState | None:
        """What `save` wrote, or None where there is nothing yet."""
        try:
            raw = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        raw["components"] = {k: ComponentState(**v) for k, v in raw["components"].items()}
        raw["crashes"] = [Crash(**each) for each in raw["crashes"]]
        return ClusterState(**raw)

    def problems(self) -> list[str]:
        """What is wrong now, one line each; nothing when the cluster is well."""
        if self.phase == "Starting":
            return [self.doing or "starting"]
        found = [
            f"{name} " + ("does not answer its health check" if state.running else "is down")
            for name, state in self.components.items()
            if not (state.running and state.healthy)
        ]
        if self.phase == "Failed":
            found.insert(0, f"failed: {self.doing}")
        return found


def crash_text(crash: Crash) -> str:
    """A crash in words, with the last lines of its log."""
    lines = "\n".join(f"    {line}" for line in crash.last_lines)
    return f"{crash.component} ended with {crash.exit} at {crash.at}: {crash.outcome}\n{lines}"
