"""How the processes of a group find each other: a store at rank 0, where all report.

Everything listens on the address of its own pod alone: pods may share a host's network.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from torch.distributed import (  # type: ignore[attr-defined] # public, but not typed as such
    PrefixStore,
    Store,
    TCPStore,
)

from kubeseg_trainer.engine.distributed import Ranks
from kubeseg_trainer.engine.peers import Loss, Peers
from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.errors import ConfigurationError, PeerError
from kubeseg_trainer.placement import Placement
from kubeseg_types.exit_codes import ExitCode

log = logging.getLogger(__name__)

#: Seconds between two lines on who is still missing.
TELL = 10.0
#: Seconds beyond the time-out that the connections themselves may take.
MARGIN = 20.0
_POLL = 0.2
_ATTEMPT = 2.0


class _Patience:
    """A deadline, with a line in the log now and then, that a signal ends."""

    def __init__(self, place: Placement, stop: StopRequest) -> None:
        self._limit = place.timeout
        self._began = time.monotonic()
        self._told = self._began
        self._stop = stop

    @property
    def left(self) -> timedelta:
        """What is left of it, a second at least."""
        return timedelta(seconds=max(1.0, self._began + self._limit - time.monotonic()))

    def wait(self, what: str) -> None:
        """A moment; PeerError where `what` has taken too long, InterruptionError on a signal."""
        moment = time.monotonic()
        if moment - self._began > self._limit:
            raise PeerError(
                ExitCode.INTERRUPTED, f"{what} after {self._limit:.0f} s: waited for no longer"
            )
        if moment - self._told > TELL:
            self._told = moment
            # Of every rank: where it hangs is what one wants to know.
            log.warning("%s", what)
        self._stop.wait(_POLL)


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address, port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"rank 0 can't listen on {address}, port {port}: {error.strerror}. MASTER_ADDR and "
            f"MASTER_PORT (or KUBESEG_COORDINATOR) must name a free port of its own address"
        ) from error
    listening.listen(512)
    return listening


def _reachable(place: Placement) -> bool:
    try:
        # The name of a pod that is yet to start has no address.
        socket.create_connection((place.host, place.port), timeout=_ATTEMPT).close()
    except OSError:
        return False
    return True


def _store(place: Placement, patience: _Patience) -> Store:
    if place.rank == 0 and place.agent is None:
        listening = _listen(place.address, place.port)
        # torch would listen on every address of the machine.
        return TCPStore(
            place.address,
            place.port,
            is_master=True,
            wait_for_workers=False,
            timeout=patience.left,
            master_listen_fd=listening.detach(),
        )
    while not _reachable(place):
        patience.wait(f"rank {place.rank} waits for rank 0 at {place.host}:{place.port}")
    store: Store = TCPStore(
        place.host, place.port, is_master=False, wait_for_workers=False, timeout=patience.left
    )
    return PrefixStore(place.agent, store) if place.agent else store


def _arrive(place: Placement, store: Store, patience: _Patience) -> None:
    """Report at the store, and wait for all others."""
    shape = f"{place.size} processes, {place.local_size} in each pod"
    if place.rank == 0:
        store.set("shape", shape)
    expected = store.get("shape").decode()
    if expected != shape:
        raise ConfigurationError(
            f"rank {place.rank} was started as one of {shape}, rank 0 as one of {expected}: "
            f"KUBESEG_WORKERS and KUBESEG_PROCESSES must be the same in every pod"
        )
    if store.add(f"rank/{place.rank}", 1) > 1:
        raise ConfigurationError(
            f"two processes say that they are rank {place.rank}: the pods' JOB_COMPLETION_INDEX, "
            f"or the processes' RANK, must differ"
        )
    store.add("arrived", 1)
    while (here := store.add("arrived", 0)) < place.size:
        patience.wait(f"{here} of {place.size} processes are here")


@contextmanager
def _bounded(place: Placement, lost: Callable[[Loss], None]) -> Iterator[None]:
    """Ends the process when this takes far too long: whatever else may listen at the coordinator's
    address, torch waits for its answer for ever.
    """
    text = f"what listens at {place.host}:{place.port} does not answer as a trainer's rank 0"
    timer = threading.Timer(place.timeout + MARGIN, lost, [Loss(0, ExitCode.INTERRUPTED, text)])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _told_as_lost() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        first = str(error).splitlines()[0]
        raise PeerError(
            ExitCode.INTERRUPTED, f"the processes lost each other as they began: {first}"
        ) from error


def join(place: Placement, stop: StopRequest, lost: Callable[[Loss], None]) -> Ranks:
    """Meet the others; returns the group. `lost` is called when one of them ends this one.

    PeerError where they don't come in time, or go again; ConfigurationError where they don't fit.
    """
    patience = _Patience(place, stop)
    peers = Peers(place.rank, lost)
    with _bounded(place, lost), _told_as_lost():
        store = _store(place, patience)
        _arrive(place, store, patience)
        if place.rank == 0:
            token = secrets.token_hex(16)
            listening = _listen(place.address, 0)
            listening.settimeout(patience.left.total_seconds())
            store.set("peers", f"{listening.getsockname()[1]} {token} {place.address}")
            peers.accept(listening, place.size, token)
        else:
            port, token, address = store.get("peers").decode().split()
            peers.connect(address, int(port), token)
        return Ranks(place, store, peers)
