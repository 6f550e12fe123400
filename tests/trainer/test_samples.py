"""The pictures that a training leaves."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file

from kubeseg_types.exit_codes import ExitCode
from tests.support.trainings import Place, after_epoch, config_of, terminate


def _drawn(place: Place, job: str) -> dict[str, dict[str, bytes]]:
    """Epoch's folder → file name → content."""
    folder = place.run_folder(job) / "samples"
    return {
        epoch.name: {file.name: file.read_bytes() for file in epoch.iterdir()}
        for epoch in sorted(folder.iterdir())
    }


def test_the_same_samples_each_epoch_after_a_break_too_and_at_no_cost_to_the_weights(
    place: Place,
) -> None:
    more: dict[str, Any] = {"dataset": {"name": "discs", "testSize": 0.6}, "export": {"samples": 2}}
    assert place.train(config_of("whole", **more)) == 0
    with after_epoch(1, terminate):
        assert place.train(config_of(**more)) == ExitCode.INTERRUPTED
    assert len(place.history()) == 1
    assert place.train(config_of(attempt=2, **more)) == 0
    assert place.train(config_of("none", **{**more, "export": {"samples": 0}})) == 0

    drawn = _drawn(place, "tiny")
    assert list(drawn) == ["00001", "00002"]
    assert len(drawn["00001"]) == 2
    assert drawn["00001"].keys() == drawn["00002"].keys()
    assert all(Image.open(BytesIO(d)).format == "JPEG" for d in drawn["00001"].values())
    assert [r.samples for r in place.history()] == [f"runs/tiny/u1/samples/{e}" for e in drawn]
    # They show the very weights that the epoch was measured with.
    assert drawn == _drawn(place, "whole")

    assert not (place.run_folder("none") / "samples").exists()
    assert [record.samples for record in place.history("none")] == [None, None]
    weights = [load_file(place.weights(2, job)) for job in ("tiny", "none")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
