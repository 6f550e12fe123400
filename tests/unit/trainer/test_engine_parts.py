"""The engine's parts: optimizer, average, feed, compilation."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kubeseg_trainer.engine.compiling import Compiled, about_compilation, missing_compiler
from kubeseg_trainer.engine.ema import Average, decay_at
from kubeseg_trainer.engine.feed import Feed
from kubeseg_trainer.engine.loading import split_step
from kubeseg_trainer.engine.optimizer import make_optimizer, parameter_groups
from kubeseg_trainer.session import stall_words
from kubeseg_types.training import Optimizer, Training

CPU = torch.device("cpu")


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def _training(**optimizer: Any) -> Training:
    return Training(epochs=1, optimizer=Optimizer(**optimizer))


def test_norms_and_biases_do_not_decay() -> None:
    network = _network()
    decayed, free = parameter_groups(network, 0.1)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) == 2  # type: ignore[arg-type]
    assert len(free["params"]) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [
        ({"name": "AdamW"}, torch.optim.AdamW),
        ({"name": "Adam"}, torch.optim.Adam),
        ({"name": "SGD", "nesterov": True}, torch.optim.SGD),
    ],
)
def test_optimizers_are_what_was_asked_for_and_fused(optimizer: Any, kind: type) -> None:
    made = make_optimizer(_network(), _training(**optimizer))
    assert type(made) is kind
    assert made.defaults["fused"]
    assert made.defaults.get("nesterov", False) == optimizer.get("nesterov", False)


def test_a_device_without_fused_optimizers_gets_a_plain_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Complex parameters, which no device can."""
    made = make_optimizer(nn.Linear(2, 2, dtype=torch.complex64), _training())
    assert not made.defaults["fused"]
    assert "the optimizer is not fused" in caplog.text


@pytest.mark.parametrize(("step", "expected"), [(1, 2 / 11), (10, 11 / 20), (10**6, 0.999)])
def test_the_average_forgets_its_beginning_soon(step: int, expected: float) -> None:
    assert decay_at(step, 0.999) == pytest.approx(expected)


def test_the_average_takes_the_networks_place_and_gives_it_back() -> None:
    network = _network()
    average = Average(network, 0.5)
    weight = next(network.parameters())
    before = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1.0)
    average.update(step=100)
    trained = weight.detach().clone()
    within = None
    with contextlib.suppress(KeyboardInterrupt), average.in_place():
        within = weight.detach().clone()
        raise KeyboardInterrupt
    torch.testing.assert_close(within, before + 0.5)
    assert torch.equal(weight, trained)


@pytest.mark.parametrize("planned", [1, 2, 3])
@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 7, 9])
def test_parts_cut_anew_are_those_that_would_have_been_planned(planned: int, wanted: int) -> None:
    samples = [50, 10, 40, 20, 30, 60, 0]
    parts = split_step(samples, planned)
    loaded = iter([{"image": torch.tensor(part)} for part in parts])
    feed = Feed(loaded, parts)
    # Broken off in the first part, as where memory runs out.
    next(feed.parts(planned))
    found = [(part, batch["image"].tolist()) for part, batch in feed.parts(wanted)]
    assert [part for part, _ in found] == split_step(samples, wanted)
    assert all(part == values for part, values in found)


def test_an_error_of_the_loader_is_told_from_one_of_the_step() -> None:
    feed = Feed(iter([{"image": torch.zeros(1)}]), [[0], [1]])
    parts = feed.parts(2)
    next(parts)
    assert not feed.failed
    with pytest.raises(RuntimeError):
        next(parts)
    assert feed.failed


def test_no_compiler_is_said_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert "no compiler (g++ or clang++)" in (missing_compiler(CPU) or "")
    monkeypatch.setenv("CXX", "mine")
    assert "no compiler (mine)" in (missing_compiler(CPU) or "")
    (tmp_path / "mine").touch(mode=0o755)
    assert missing_compiler(CPU) is None


@pytest.mark.slow
def test_only_whole_batches_are_compiled_and_names_stay() -> None:
    if missing_compiler(CPU):
        pytest.skip("no C++ compiler")
    from torch._dynamo.utils import counters

    network, plain = _network().eval(), _network().eval()
    plain.load_state_dict(network.state_dict())
    compiled = Compiled(network, {2})
    counters.clear()
    for size in (2, 1, 3, 2):
        images = torch.randn(size, 3, 8, 8)
        with compiled.running(size), torch.no_grad():
            torch.testing.assert_close(network(images), plain(images))
    assert counters["stats"]["unique_graphs"] == 1
    assert list(network.state_dict()) == list(plain.state_dict())
    compiled.undo()
    assert network(images).shape == (2, 2, 6, 6)


def test_what_comes_from_compilation() -> None:
    from torch._inductor.exc import InductorError

    assert about_compilation(InductorError(ValueError("no"), None))
    assert not about_compilation(RuntimeError("no"))


def test_a_stall_before_the_first_step_names_the_remedy() -> None:
    assert stall_words(12.3, "10s", begun=False) == (
        "stalled before the first step: nothing happened for 12 s, and spec.training.stallTimeout "
        "is 10s. Raise it if the start takes longer than that"
    )
    words = stall_words(12.3, "10s", begun=True)
    assert words == "no step ended for 12 s; spec.training.stallTimeout is 10s"
