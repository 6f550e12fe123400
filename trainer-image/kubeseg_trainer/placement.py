"""Which of how many processes this one is, from the environment. Light: no torch."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_types.names import (
    COORDINATOR_PORT,
    ENV_COORDINATOR,
    ENV_POD_IP,
    ENV_PROCESSES,
    ENV_RENDEZVOUS_TIMEOUT,
    ENV_WORKER_INDEX,
    ENV_WORKERS,
)

LOOPBACK = "127.0.0.1"
#: Seconds that processes wait for each other at the beginning: pods may start minutes apart.
RENDEZVOUS_TIMEOUT = 600.0


@dataclass(frozen=True)
class Placement:
    """One process of a group."""

    rank: int
    size: int
    #: Which of how many on this machine (in this pod).
    local_rank: int
    local_size: int
    #: Where rank 0 is found.
    host: str
    port: int
    #: What this process listens on and is reached at: its pod's own address, and no other.
    address: str
    #: Seconds to wait for the others at the beginning.
    timeout: float = RENDEZVOUS_TIMEOUT
    #: torchrun's agent listens at host:port already (and restarts under another prefix).
    agent: str | None = None


@dataclass(frozen=True)
class Pod:
    """The processes of one pod, or of one machine."""

    index: int
    workers: int
    processes: int
    host: str
    #: 0: any that is free (a single pod only).
    port: int

    @property
    def size(self) -> int:
        """Processes of all pods."""
        return self.workers * self.processes

    def environment(self, local_rank: int, port: int) -> dict[str, str]:
        """What tells a process where it belongs: torchrun's own variables."""
        return {
            "RANK": str(self.index * self.processes + local_rank),
            "WORLD_SIZE": str(self.size),
            "LOCAL_RANK": str(local_rank),
            "LOCAL_WORLD_SIZE": str(self.processes),
            "MASTER_ADDR": self.host,
            "MASTER_PORT": str(port),
        }


def _number(env: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        raise ConfigurationError(f"{name} must be a whole number from {least} on, not {text!r}")
    return int(text)


def pod_of(env: Mapping[str, str], *, processes: int | None, gpus: int) -> Pod:
    """The pod that this environment describes.

    `processes` is what the command line asks for (None: KUBESEG_PROCESSES, else one a GPU).
    ConfigurationError where the environment contradicts itself.
    """
    if processes is None:
        processes = _number(env, ENV_PROCESSES, max(1, gpus), least=1)
    workers = _number(env, ENV_WORKERS, 1, least=1)
    if workers == 1:
        # An Indexed Job gives its only pod an index, too.
        return Pod(0, 1, processes, env.get(ENV_POD_IP) or LOOPBACK, 0)
    if not env.get(ENV_WORKER_INDEX):
        raise ConfigurationError(
            f"{ENV_WORKERS} is {workers}, so {ENV_WORKER_INDEX} must say which of them this is"
        )
    index = _number(env, ENV_WORKER_INDEX, 0, least=0)
    if index >= workers:
        raise ConfigurationError(f"{ENV_WORKER_INDEX} must be below {workers}, not {index}")
    host, _, port = env.get(ENV_COORDINATOR, "").rpartition(":")
    if not host and port:
        host, port = port, str(COORDINATOR_PORT)
    if not host or not port.isdecimal():
        raise ConfigurationError(
            f"{ENV_WORKERS} is {workers}, so {ENV_COORDINATOR} must be worker 0's host:port, not "
            f"{env.get(ENV_COORDINATOR, '')!r}"
        )
    return Pod(index, workers, processes, host.strip("[]"), int(port))


def launched(env: Mapping[str, str]) -> bool:
    """Whether a launcher (ours, torchrun) has given this process its place."""
    return "RANK" in env and "WORLD_SIZE" in env


def placement_of(env: Mapping[str, str]) -> Placement | None:
    """The place that a launcher has given this process; None where it is the only one."""
    size = _number(env, "WORLD_SIZE", 1, least=1)
    rank = _number(env, "RANK", 0, least=0)
    if size == 1:
        return None
    if rank >= size:
        raise ConfigurationError(f"RANK must be below WORLD_SIZE ({size}), not {rank}")
    local_size = _number(env, "LOCAL_WORLD_SIZE", 1, least=1)
    host = env.get("MASTER_ADDR", "")
    port = _number(env, "MASTER_PORT", 0, least=1)
    if not host or not port:
        raise ConfigurationError("MASTER_ADDR and MASTER_PORT must say where rank 0 is found")
    agent = None
    if env.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        agent = f"/kubeseg/{env.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    return Placement(
        rank=rank,
        size=size,
        local_rank=_number(env, "LOCAL_RANK", 0, least=0),
        local_size=local_size,
        host=host,
        port=port,
        address=env.get(ENV_POD_IP) or _address_towards(host),
        timeout=_number(env, ENV_RENDEZVOUS_TIMEOUT, int(RENDEZVOUS_TIMEOUT), least=1),
        agent=agent,
    )


def _address_towards(host: str) -> str:
    """The address of this machine that `host` sees; no packet is sent for it."""
    try:
        kind, _, _, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.connect(target)
            address = str(probe.getsockname()[0])
    except OSError as error:
        raise ConfigurationError(
            f"no way to {host} (MASTER_ADDR) was found: {error}. Set {ENV_POD_IP} to the address "
            f"that the other processes reach this one at"
        ) from error
    return LOOPBACK if ipaddress.ip_address(address).is_loopback else address


def visible_gpus() -> int:
    """GPUs that this container may use; torch is asked only where there may be several."""
    from pathlib import Path

    nodes = [n for n in Path("/dev").glob("nvidia*") if n.name.removeprefix("nvidia").isdecimal()]
    if len(nodes) < 2:
        return len(nodes)
    import torch

    return torch.cuda.device_count()
