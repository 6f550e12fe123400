"""The ONNX export: its decisions as tables, and small networks through the real exporter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor, nn

from kubeseg_trainer.engine.hardware import free_memory
from kubeseg_trainer.tasks.segmentation.data.normalisation import Normalisation
from kubeseg_trainer.tasks.segmentation.network.network import Scaling, build_network, crop, prepare
from kubeseg_trainer.tasks.segmentation.output import deployed, onnx_process
from kubeseg_trainer.tasks.segmentation.output.deployed import Deployed, Padding, pool_to
from kubeseg_trainer.tasks.segmentation.output.model_info import ModelInfo, info_of, metadata_of
from kubeseg_trainer.tasks.segmentation.output.onnx_export import export, sizes_to_check
from kubeseg_types.spec import Architecture, Model

ENCODER = "tu-test_resnet"


def info(architecture: str = "Linknet", *, channels: int = 3, side: int = 48) -> ModelInfo:
    mean, std = (0.485, 0.456, 0.406) * 6, (0.229, 0.224, 0.225) * 6
    return ModelInfo(
        architecture, ENCODER, ("ground", "disc"), ("#000000", "#ff0000"), channels, 3, side,
        "Resize", 0.25, mean[:channels], std[:channels], 8,
    )  # fmt: skip


def files(folder: Path, described: ModelInfo) -> tuple[Path, Path]:
    """A weights file with random weights, and images to compare on."""
    torch.manual_seed(0)
    model = Model(
        architecture=Architecture(described.architecture),
        encoder=described.encoder,
        in_channels=described.in_channels,
    )
    network = build_network(model, len(described.class_names), described.image_size)
    save_file(network.state_dict(), folder / "w.safetensors", metadata_of(described))
    shape = (2, described.in_channels, described.image_size, described.image_size)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.save(folder / "images.npy", pixels)
    return folder / "w.safetensors", folder / "images.npy"


@pytest.mark.parametrize("size", [(1, 1), (6, 6), (7, 13), (24, 18), (5, 40)])
@pytest.mark.parametrize("bins", [(2, 2), (3, 3), (6, 6), (1, 4)])
def test_pooling_by_matrices_equals_torchs(size: tuple[int, int], bins: tuple[int, int]) -> None:
    values = torch.randn(2, 3, *size)
    assert torch.allclose(pool_to(values, *bins), F.adaptive_avg_pool2d(values, bins), atol=1e-6)


@pytest.mark.parametrize(
    ("padding", "size", "target"),
    [(Padding(32, 32), 1, 32), (Padding(32, 32), 32, 32), (Padding(32, 32), 33, 64),
     (Padding(128, 32), 97, 128), (Padding(128, 32), 129, 160), (Padding(224, 224), 225, 448)],
)  # fmt: skip
def test_a_side_is_padded_to_the_next_that_works(padding: Padding, size: int, target: int) -> None:
    assert padding.target(size) == target


@pytest.mark.parametrize("side", [32, 100, 128, 333, 512])
@pytest.mark.parametrize("padding", [Padding(32, 32), Padding(128, 32), Padding(224, 64)])
def test_the_second_size_is_padded_to_another(side: int, padding: Padding) -> None:
    first, second = sizes_to_check(side, padding.target(side), padding.step)
    assert first == (side, side)
    assert padding.target(second[0]) != padding.target(side)
    assert second[0] != second[1]


def test_what_is_deployed_is_what_was_trained() -> None:
    described = info(side=40)
    network = build_network(Model(architecture=Architecture.LINKNET, encoder=ENCODER), 2, 40).eval()
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    with torch.no_grad():
        logits, labels = Deployed(network, described, Padding(32, 32)).eval()(images.float())
        expected = crop(network(prepare(images, 64, Scaling(Normalisation()))), 40, 40)
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.equal(labels, logits.argmax(1).to(torch.uint8))


def test_metadata_comes_back_and_older_files_have_defaults() -> None:
    described = info()
    metadata = metadata_of(described)
    assert info_of(metadata) == described
    old = {key: metadata[key] for key in ("architecture", "encoder", "classes", "epoch")}
    found = info_of(old | {"imageSize": "64"})
    assert (found.in_channels, found.image_mode, found.bits) == (3, "Resize", 8)
    assert found.mean == (0.485, 0.456, 0.406)
    with pytest.raises(ValueError, match="3 means and 3 deviations for 4 channels"):
        info_of(metadata | {"inChannels": "4"})


def check_any_size(folder: Path, described: ModelInfo) -> None:
    weights, images = files(folder, described)
    target = folder / "m.onnx"
    report = export(weights, images, target)
    assert report["file"] == "m.onnx", report
    assert report["dynamic"] == ["batch", "height", "width"]
    assert len(report["checks"]) == 2
    assert info_of({p.key: p.value for p in onnx.load(target).metadata_props}) == described
    # A third size, and another batch, which the exporter has not seen.
    session = onnxruntime.InferenceSession(target)
    pixels = np.random.default_rng(1).integers(0, 256, (3, described.in_channels, 71, 200))
    logits, labels = session.run(None, {"image": pixels.astype(np.float32)})
    model, _ = deployed.load_deployed(weights)
    with torch.no_grad():
        expected, _ = model(torch.from_numpy(pixels).float())
    assert np.abs(logits - expected.numpy()).max() < 1e-3 * max(1, float(expected.abs().max()))
    assert labels.shape == (3, 71, 200)
    assert labels.dtype == np.uint8


@pytest.mark.parametrize(("architecture", "channels"), [("PSPNet", 5), ("FPN", 1)])
def test_any_batch_and_size(tmp_path: Path, architecture: str, channels: int) -> None:
    check_any_size(tmp_path, info(architecture, channels=channels))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", list(Architecture))
def test_each_architecture_at_any_batch_and_size(
    tmp_path: Path, architecture: Architecture
) -> None:
    check_any_size(tmp_path, info(architecture.value))


class Tied(nn.Module):
    """A network whose layers know the size, as some transformers' do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3, 64, 64))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = (images[:, None] * self.weight).sum(dim=2)
        return logits


class Refused(Tied):
    """A network with an operation that ONNX doesn't have."""

    def forward(self, images: Tensor) -> Tensor:
        values: Tensor = torch.linalg.eigvalsh(images[:, 0])
        return super().forward(images) + values.sum()


class Untrue(Tied):
    """A network that a trace gets wrong: it decides by what it sees."""

    def forward(self, images: Tensor) -> Tensor:
        sign = 1.0 if torch.onnx.is_in_onnx_export() else -1.0
        return sign * super().forward(images)


@pytest.mark.parametrize(
    ("network", "reason"),
    [(Tied, None), (Refused, "eigvalsh"), (Untrue, "logits differ from PyTorch's by")],
)
def test_what_does_not_hold_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Callable[[], Tied], reason: str | None
) -> None:
    tied = network()
    model = Deployed(tied, info(side=64), Padding(64, 64)).eval()
    monkeypatch.setattr(deployed, "load_deployed", lambda _: (model, info(side=64)))
    np.save(tmp_path / "i.npy", np.ones((2, 3, 64, 64), np.uint8))
    report = export(tmp_path / "none", tmp_path / "i.npy", tmp_path / "m.onnx")
    if reason is None:
        assert report["dynamic"] == ["batch"]
        assert report["size"] == [64, 64]
        assert report["tried"][0]["dynamic"] == ["batch", "height", "width"]
    else:
        assert report["file"] is None
        assert reason in report["reason"]
        assert not (tmp_path / "m.onnx").exists()


def _nothing(_: str) -> None:
    pass


def test_an_export_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    weights, images = files(tmp_path, info())
    report = onnx_process.export_onnx(
        weights, images, tmp_path / "m.onnx", alive=_nothing, seconds=0.2
    )
    assert report == {"file": None, "reason": "took longer than 0 s"}


def test_an_export_without_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_process, "free_memory", lambda: 60 << 20)
    weights, images = files(tmp_path, info())
    report = onnx_process.export_onnx(weights, images, tmp_path / "m.onnx", alive=_nothing)
    assert report == {"file": None, "reason": "needs more memory than the 54 MiB that are free"}


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit('broken')", "exit code 1: broken"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
    ],
)
def test_how_its_process_ends_is_no_concern_of_the_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    monkeypatch.setattr(onnx_process, "_command", lambda *_: [sys.executable, "-c", program])
    found = onnx_process.export_onnx(
        tmp_path / "w", tmp_path / "i", tmp_path / "m.onnx", alive=_nothing
    )
    assert found["file"] is None
    assert reason in found["reason"]


def test_a_request_to_stop_ends_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(*args: object, **more: object) -> subprocess.Popen[bytes]:
        started.append(real(*args, **more))  # type: ignore[call-overload]
        return started[-1]

    def stop(_: str) -> None:
        raise InterruptedError

    wait = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(onnx_process, "_command", lambda *_: wait)
    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(InterruptedError):
        onnx_process.export_onnx(tmp_path / "w", tmp_path / "i", tmp_path / "m", alive=stop)
    assert started[0].returncode == -9
    assert list(tmp_path.iterdir()) == []


def _write(root: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("content", "free"),
    [
        ({}, 5 << 30),
        ({"memory.max": "max\n", "memory.current": "1"}, 5 << 30),
        ({"memory.max": "3000", "memory.current": "1000"}, 2000),
        (
            {"memory.max": "3000", "memory.current": "1000",
             "memory.stat": "anon 1\ninactive_file 500\n"},
            2500,
        ),
        (
            {"memory/memory.limit_in_bytes": "900", "memory/memory.usage_in_bytes": "1000"},
            0,
        ),
    ],
)  # fmt: skip
def test_free_memory(tmp_path: Path, content: dict[str, str], free: int) -> None:
    _write(tmp_path, content | {"meminfo": f"MemTotal: 9 kB\nMemAvailable: {5 << 20} kB\n"})
    assert free_memory(tmp_path, tmp_path / "meminfo") == free
    assert free_memory(tmp_path / "none", tmp_path / "none") is None
