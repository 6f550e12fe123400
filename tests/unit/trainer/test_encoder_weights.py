"""Pretrained weights: which there are, where they are looked for, what gets into the network."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.tasks.segmentation.network.encoder_weights import (
    expected_names,
    find_weights,
    known_weights,
    load_encoder,
)
from kubeseg_trainer.tasks.segmentation.network.hub import convert
from kubeseg_trainer.tasks.segmentation.network.init_from import adapt_channels
from kubeseg_trainer.tasks.segmentation.network.network import build_network
from kubeseg_trainer.tasks.segmentation.network.preprocessing import IMAGENET, preprocessing_of
from kubeseg_trainer.tasks.segmentation.network.weights_files import read_tensors
from kubeseg_types.spec import Architecture, Model


def wanted(encoder: str, channels: int = 3, architecture: str = "FPN", name: str = "ours") -> Model:
    return Model(
        architecture=Architecture(architecture),
        encoder=encoder,
        in_channels=channels,
        encoder_weights=name,
    )


def network_of(model: Model, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(model, 2, 32)


def encoder_tensors(network: nn.Module) -> dict[str, Tensor]:
    encoder = network.encoder
    assert isinstance(encoder, nn.Module)
    return encoder.state_dict()


def put(root: Path, encoder: str, tensors: dict[str, Tensor], name: str = "ours") -> Path:
    folder = root / "weights" / encoder
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    return file


@pytest.fixture(scope="module")
def resnet() -> dict[str, Tensor]:
    """What torchvision's resnet18 would be, its classifier too."""
    torch.manual_seed(9)
    tensors = dict(smp.encoders.get_encoder("resnet18", weights=None).state_dict())
    return tensors | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}


@pytest.fixture(scope="module")
def tiny() -> dict[str, Tensor]:
    """Timm's own state_dict of a tiny network."""
    torch.manual_seed(9)
    return dict(timm.create_model("test_resnet").state_dict())


@pytest.mark.parametrize(
    ("encoder", "names"),
    [
        ("resnet18", ["imagenet", "ssl", "swsl"]),
        ("dpn68b", ["imagenet+5k"]),
        ("tu-test_resnet", ["r160_in1k"]),
        ("tu-vit_tiny_patch16_224.augreg_in21k", ["augreg_in21k"]),
    ],
)
def test_the_hub_s_weights_are_known_by_name(encoder: str, names: list[str]) -> None:
    assert known_weights(encoder) == names


def test_timm_s_own_choice_comes_first() -> None:
    assert known_weights("tu-resnet18")[0] == "a1_in1k"


@pytest.mark.parametrize(
    ("encoder", "name", "mean"),
    [
        ("resnet34", None, IMAGENET.mean),
        ("resnet34", "imagenet", IMAGENET.mean),
        ("inceptionv4", "imagenet", (0.5,) * 3),
        ("xception", "imagenet", (0.5,) * 3),
        ("efficientnet-b0", "advprop", (0.5,) * 3),
        ("timm-efficientnet-b0", "advprop", (0.5,) * 3),
        ("timm-efficientnet-b0", "noisy-student", IMAGENET.mean),
        ("timm-tf_efficientnet_lite0", "imagenet", (0.5,) * 3),
        ("dpn92", "imagenet+5k", (124 / 255, 117 / 255, 104 / 255)),
        ("tu-vit_tiny_patch16_224", "imagenet", (0.5,) * 3),
        ("tu-resnet18", "a1_in1k", IMAGENET.mean),
        ("tu-test_resnet", "mine", IMAGENET.mean),
    ],
)
def test_normalisation_is_that_of_the_weights(
    encoder: str, name: str | None, mean: tuple[float, ...]
) -> None:
    assert preprocessing_of(Model(encoder=encoder, encoder_weights=name)).mean == mean


def test_an_unknown_name_is_answered_with_those_there_are(tmp_path: Path) -> None:
    put(tmp_path, "resnet18", {"a": torch.zeros(1)}, "cells")
    with pytest.raises(ConfigurationError, match="there are cells, imagenet, ssl, swsl") as caught:
        find_weights(tmp_path, "resnet18", "imagnet")
    assert 'Did you mean "imagenet"?' in str(caught.value)
    assert "weights/resnet18/imagnet.safetensors" in str(caught.value)
    assert find_weights(tmp_path, "resnet18", "imagenet") is None
    assert find_weights(tmp_path, "resnet18", "cells") is not None
    with pytest.raises(ConfigurationError, match="there are r160_in1k"):
        find_weights(tmp_path, "tu-test_resnet", "ssl")


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "backbone."])
def test_smp_s_encoders_take_torchvision_s_names(
    tmp_path: Path, resnet: dict[str, Tensor], prefix: str
) -> None:
    model = wanted("resnet18")
    tensors = {prefix + name: value for name, value in resnet.items()}
    if prefix:
        tensors["other.weight"] = torch.zeros(3)
    network, twin = network_of(model), network_of(model)
    load_encoder(network, model, 32, put(tmp_path, "resnet18", tensors))
    for name, value in encoder_tensors(network).items():
        assert torch.equal(value, resnet[name]), name
    # The rest is what the seed made of it, and so is what is drawn next.
    for name, value in twin.state_dict().items():
        if not name.startswith("encoder."):
            assert torch.equal(value, network.state_dict()[name]), name
    assert torch.equal(torch.rand(3), (network_of(model), torch.rand(3))[1])


@pytest.mark.parametrize("architecture", ["FPN", "PSPNet", "DeepLabV3", "DPT"])
def test_timm_s_encoders_take_timm_s_names(
    tmp_path: Path, tiny: dict[str, Tensor], architecture: str
) -> None:
    model = wanted("tu-test_resnet", architecture=architecture)
    network = network_of(model)
    load_encoder(network, model, 32, put(tmp_path, "tu-test_resnet", tiny))
    flat = {name.replace(".", "_"): value for name, value in tiny.items()}
    for name, value in encoder_tensors(network).items():
        assert torch.equal(value, flat[name.removeprefix("model.").replace(".", "_")]), name


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_resnet"])
@pytest.mark.parametrize("channels", [1, 2, 7])
def test_the_first_convolution_is_adapted_to_the_channels(
    tmp_path: Path, request: pytest.FixtureRequest, encoder: str, channels: int
) -> None:
    fixture, first, own_name = {
        "resnet18": ("resnet", "conv1.weight", "conv1.weight"),
        "tu-test_resnet": ("tiny", "conv1.0.weight", "model.conv1.0.weight"),
    }[encoder]
    given = request.getfixturevalue(fixture)
    model = wanted(encoder, channels)
    network = network_of(model)
    load_encoder(network, model, 32, put(tmp_path, encoder, given))
    weight, found = given[first], encoder_tensors(network)[own_name]
    assert found.shape[1] == channels
    if channels == 1:
        assert torch.allclose(found[:, 0], weight.sum(dim=1), atol=1e-6)
        return
    for channel in range(channels):
        expected = weight[:, channel % 3] * 3 / channels
        assert torch.allclose(found[:, channel], expected, atol=1e-6)
    assert torch.allclose(found, adapt_channels(weight, channels), atol=1e-6)


def test_files_of_torch_are_read_without_running_anything(
    tmp_path: Path, resnet: dict[str, Tensor]
) -> None:
    model = wanted("resnet18")
    file = tmp_path / "ours.pth"
    torch.save({"epoch": 3, "state_dict": resnet}, file)
    network = network_of(model)
    load_encoder(network, model, 32, file)
    name = "layer1.0.conv1.weight"
    assert torch.equal(encoder_tensors(network)[name], resnet[name])
    file.write_bytes(pickle.dumps(Path("anything")))
    with pytest.raises(ConfigurationError, match=r"ours\.pth.*(more than tensors|can't be read)"):
        load_encoder(network, model, 32, file)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_resnet"])
@pytest.mark.parametrize("kind", ["other", "cut", "empty"])
def test_weights_of_another_encoder_are_refused(tmp_path: Path, encoder: str, kind: str) -> None:
    model = wanted(encoder)
    file = put(tmp_path, encoder, {"a.weight": torch.zeros(3)})
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:-5])
    if kind == "empty":
        file.write_bytes(b"")
    network = network_of(model)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ConfigurationError, match=r"ours\.safetensors (doesn't fit|can't be read)"):
        load_encoder(network, model, 32, file)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_converted_file_holds_what_the_library_calls_it(
    tmp_path: Path, tiny: dict[str, Tensor]
) -> None:
    source = tmp_path / "checkpoint.pth"
    torch.save({"model": {f"module.{name}": value for name, value in tiny.items()}}, source)
    path = convert(tmp_path / "ws", "tu-test_resnet", "mine", source)
    assert path == tmp_path / "ws/weights/tu-test_resnet/mine.safetensors"
    assert find_weights(tmp_path / "ws", "tu-test_resnet", "mine") == path
    model = wanted("tu-test_resnet", name="mine")
    load_encoder(network_of(model), model, 32, path)
    torch.save({"fc.weight": torch.zeros(2)}, source)
    with pytest.raises(ConfigurationError, match="are missing"):
        convert(tmp_path / "ws", "tu-test_resnet", "mine", source)


@pytest.mark.parametrize("encoder", ["resnet18", "densenet121", "mit_b0", "tu-convnext_atto"])
def test_the_names_of_an_encoder_are_known_without_building_it(encoder: str) -> None:
    assert len(expected_names(encoder)) > 50


@pytest.mark.parametrize("name", ["notes.pth", "model.safetensors"])
def test_a_file_that_is_no_weights_is_said_to_be_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"hello hello")
    with pytest.raises(ConfigurationError, match=f"{name} can't be read as weights"):
        read_tensors(tmp_path / name)
