"""What the environment asks of the operator."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from dataclasses import dataclass

from kubeseg_operator import lease
from kubeseg_operator.decide import Settings
from kubeseg_operator.probes import METRICS_PORT, PROBES_PORT
from kubeseg_types.names import ENV_POD_IP, ENV_POD_NAME, ENV_TRAINER_IMAGE

log = logging.getLogger("kubeseg_operator")

ENV_NAMESPACES = "KUBESEG_NAMESPACES"
ENV_BACKOFF = "KUBESEG_BACKOFF_SECONDS"
ENV_LOST_NODE = "KUBESEG_LOST_NODE_SECONDS"
ENV_PROBES_PORT = "KUBESEG_PROBES_PORT"
ENV_METRICS_PORT = "KUBESEG_METRICS_PORT"
ENV_LEASE = "KUBESEG_LEASE"
ENV_LOG_LEVEL = "KUBESEG_LOG_LEVEL"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
DEFAULT_IMAGE = "kubeseg-trainer:latest"


@dataclass(frozen=True, slots=True)
class Environment:
    """All of it."""

    settings: Settings
    #: Empty: all.
    namespaces: list[str]
    #: Namespace and name of the Lease; None: none is taken.
    lease: tuple[str, str] | None
    #: Who we are in it.
    identity: str
    #: Address and ports of probes and metrics.
    host: str
    probes_port: int
    metrics_port: int


def read(in_cluster_namespace: str) -> Environment:
    """What is set, in a pod of this namespace ("": outside of a cluster). Raises SystemExit."""
    return Environment(
        settings=_settings(),
        namespaces=_namespaces(),
        lease=_lease(in_cluster_namespace),
        identity=_identity(),
        host=os.environ.get(ENV_POD_IP) or "127.0.0.1",
        probes_port=_port(ENV_PROBES_PORT, PROBES_PORT),
        metrics_port=_port(ENV_METRICS_PORT, METRICS_PORT),
    )


def _namespaces() -> list[str]:
    named = [name.strip() for name in os.environ.get(ENV_NAMESPACES, "").split(",")]
    return [name for name in dict.fromkeys(named) if name]


def _port(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise SystemExit(f"{name} must be a port between 1 and 65535, not {text!r}")
    return int(text)


def log_level() -> str:
    """The level of the log. Raises SystemExit."""
    level = (os.environ.get(ENV_LOG_LEVEL) or "INFO").upper()
    if level not in _LEVELS:
        raise SystemExit(f"{ENV_LOG_LEVEL} must be one of {', '.join(_LEVELS)}, not {level!r}")
    return level


def _settings() -> Settings:
    image = os.environ.get(ENV_TRAINER_IMAGE) or DEFAULT_IMAGE
    text = os.environ.get(ENV_BACKOFF) or "10"
    try:
        backoff = float(text)
    except ValueError:
        backoff = -1.0
    if not 0 < backoff <= 300:
        raise SystemExit(f"{ENV_BACKOFF} must be a number above 0 and at most 300, not {text!r}")
    return Settings(image=image, backoff_seconds=backoff, lost_node_seconds=_lost_node_seconds())


def _lost_node_seconds() -> float:
    text = os.environ.get(ENV_LOST_NODE) or "600"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e9:
        raise SystemExit(f"{ENV_LOST_NODE} must be a number of seconds, 0 or more, not {text!r}")
    return seconds


def _lease(in_cluster_namespace: str) -> tuple[str, str] | None:
    try:
        place = lease.place(os.environ.get(ENV_LEASE, ""), in_cluster_namespace)
    except ValueError as error:
        raise SystemExit(f"{ENV_LEASE} {error}") from error
    if place is None:
        log.info("no Lease is taken (%s): run one operator only", ENV_LEASE)
    return place


def _identity() -> str:
    """A pod's name, else something nobody else has.

    A pod's containers run one after another, so a new one need not wait until its predecessor's
    Lease has run out.
    """
    return os.environ.get(ENV_POD_NAME) or f"{socket.gethostname()}_{secrets.token_hex(4)}"
