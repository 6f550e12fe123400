"""Meeting the others: what ends the wait."""

from __future__ import annotations

import threading

import pytest

from kubeseg_trainer.engine import rendezvous
from kubeseg_trainer.engine.peers import Loss
from kubeseg_trainer.placement import Placement
from kubeseg_types.exit_codes import ExitCode


def test_a_stranger_at_the_coordinators_address_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In torch's own code, where no signal is looked at."""
    monkeypatch.setattr(rendezvous, "MARGIN", 0.01)
    place = Placement(1, 2, 0, 1, "127.0.0.1", 5, "127.0.0.1", timeout=0)
    told: list[Loss] = []
    known = threading.Event()

    def lost(loss: Loss) -> None:
        told.append(loss)
        known.set()

    with rendezvous._bounded(place, lost):
        assert known.wait(60)
    assert told[0].code == ExitCode.INTERRUPTED
    assert "127.0.0.1:5 does not answer as a trainer's rank 0" in told[0].sentence
