"""torch.compile that can't be had: the run goes on without, and says so."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from kubeseg_trainer.engine import compiling
from tests.support.trainings import Place, config_of

CONFIG = config_of(training={"epochs": 1, "batchSize": 4, "compile": True})


def test_without_a_compiler_a_run_is_not_compiled(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "missing_compiler", lambda _: "there is no compiler here")
    assert place.train(CONFIG) == 0
    assert place.record().notes == ["runs without torch.compile: there is no compiler here"]


@pytest.mark.slow
def test_a_compiler_that_fails_is_done_without(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is really traced; only what would make machine code of it is broken."""
    real = nn.Module.compile

    def broken(*_: Any) -> None:
        raise ValueError("no such instruction")

    monkeypatch.setattr(compiling, "missing_compiler", lambda _: None)
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, **more: real(self, backend=broken, **more)
    )
    assert place.train(CONFIG) == 0
    (note,) = place.record().notes
    assert note.startswith("goes on without torch.compile, which failed: ")
    assert "no such instruction" in note
    assert place.history()[0].train.samples + place.history()[0].validation.samples == 9
