"""What kopf calls: each handler takes an object in, and does nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from kubeseg_operator.watched import KINDS, Intake, Kind
from kubeseg_operator.watching import INACTIVITY


def registry(intake: Intake, session: Callable[[], kopf.AiohttpSession]) -> kopf.OperatorRegistry:
    """Handlers for everything that is watched; kopf gets a new `session` at each log-in."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return session()

    for kind in KINDS:
        _watch(handlers, intake, kind)
    return handlers


def _watch(handlers: kopf.OperatorRegistry, intake: Intake, kind: Kind) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=handlers, id=kind.plural)
    async def event(event: Any, **_: Any) -> None:
        intake.take(kind, event["object"], deleted=event["type"] == "DELETED")


class _NoEssence(kopf.DiffBaseStorage):
    """No object is compared with what it was.

    Kopf does so at each event, whether or not a handler asks: copies of all that an object holds
    took a third of the operator's time.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        raise NotImplementedError("only `on.event` is used, which keeps nothing")


def settings(inactivity: float = INACTIVITY) -> kopf.OperatorSettings:
    """Kopf watches, and leaves no trace: no events, no annotations, no finalizers, no peering."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.persistence.diffbase_storage = _NoEssence()
    # No CRDs or namespaces are listed or watched: what is needed is there before kopf starts.
    chosen.scanning.disabled = True
    chosen.watching.inactivity_timeout = inactivity
    # A list comes before each watch, and can fall silent just as well. Kopf's default is 5 minutes,
    # longer than the probe waits.
    chosen.networking.request_timeout = inactivity
    chosen.networking.connect_timeout = 10
    chosen.queueing.idle_timeout = 1
    chosen.queueing.exit_timeout = 1
    chosen.process.ultimate_exiting_timeout = 20
    for kind in KINDS:
        if kind.selector:
            chosen.watching.label_selectors[kind.group, kind.version, kind.plural] = kind.selector
    return chosen
