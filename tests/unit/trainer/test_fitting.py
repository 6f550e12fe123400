"""Which networks can be built, at which size, and what batches of one do in them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.tasks.segmentation.network import fitting
from kubeseg_trainer.tasks.segmentation.network.batches_of_one import make_batches_of_one_honest
from kubeseg_trainer.tasks.segmentation.network.network import build_network, padded_side
from kubeseg_types.spec import Architecture, Model


def model(architecture: str, encoder: str = "tu-test_resnet", channels: int = 3) -> Model:
    return Model(architecture=Architecture(architecture), encoder=encoder, in_channels=channels)


def test_the_contract_knows_every_architecture_of_smp() -> None:
    known = {name.value.lower() for name in Architecture}
    assert known == set(smp.MODEL_ARCHITECTURES_MAPPING)


@pytest.mark.parametrize(
    ("architecture", "encoder", "size", "padded"),
    [
        ("Unet", "tu-test_resnet", 32, 32),
        ("Unet", "tu-test_resnet", 112, 128),
        ("FPN", "tu-test_resnet", 333, 352),
        ("DeepLabV3", "tu-test_resnet", 1048, 1056),
        ("PAN", "tu-test_resnet", 32, 128),
        ("PAN", "tu-test_resnet", 112, 128),
        ("PAN", "tu-test_resnet", 256, 256),
        ("UPerNet", "tu-test_resnet", 112, 128),
        ("UPerNet", "tu-test_resnet", 333, 352),
        ("Segformer", "mit_b0", 1048, 1056),
        ("Segformer", "tu-test_resnet", 33, 64),
        ("DPT", "tu-test_vit", 112, 128),
        ("DPT", "tu-test_vit", 333, 352),
        ("DPT", "tu-vit_tiny_patch16_224", 333, 352),
        ("Unet", "tu-swin_tiny_patch4_window7_224", 112, 128),
        ("DPT", "tu-beit_base_patch16_224", 112, 128),
    ],
)
def test_sizes_are_padded_to_what_the_network_takes(
    architecture: str, encoder: str, size: int, padded: int
) -> None:
    assert padded_side(model(architecture, encoder), size) == padded


@pytest.mark.parametrize(
    ("architecture", "encoder", "settings"),
    [
        ("Unet", "resnet18", {}),
        ("DPT", "tu-vit_tiny_patch16_224", {"dynamic_img_size": True}),
        ("DPT", "tu-beit_base_patch16_224", {"img_size": 128}),
    ],
)
def test_transformers_are_told_the_size(
    architecture: str, encoder: str, settings: dict[str, object]
) -> None:
    assert fitting.fit(model(architecture, encoder), 100).settings == settings


@pytest.mark.parametrize(
    ("architecture", "encoder", "sentence"),
    [
        ("Unet", "resnet81", "must be an encoder of smp or timm, not 'resnet81': .*resnet18"),
        ("Unet", "resnet19", "not 'resnet19': resnet18, resnet34, "),
        ("Unet", "tu-resnet19", "must be an encoder of smp or timm.*tu-resnet18"),
        ("Unet", "tu-resnet18.nothing", "Invalid pretrained tag"),
        ("UnetPlusPlus", "mit_b0", "mit_b0. Choose another encoder: resnet34 and mobilenet_v2"),
        ("DeepLabV3", "vgg11", "dilated mode.*Choose another encoder"),
        ("DPT", "resnet34", "must start with 'tu-'.*tu-vit_tiny_patch16_224"),
        ("Unet", "tu-vit_tiny_patch16_224", "Unsupported model downsampling pattern.*DPT, which"),
        ("DPT", "tu-vit_small_patch14_dinov2", "Choose another encoder"),
    ],
)
def test_what_cannot_be_built_is_refused(architecture: str, encoder: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        build_network(model(architecture, encoder), 2, 64)


#: One encoder of each of smp's families, with those of timm that are unlike the others.
FAMILIES = [
    "resnet18", "dpn68", "vgg11_bn", "se_resnet50", "densenet121", "inceptionresnetv2",
    "inceptionv4", "efficientnet-b0", "mobilenet_v2", "xception", "timm-efficientnet-b0",
    "timm-skresnet18", "mit_b0", "mobileone_s0", "tu-convnext_atto", "tu-test_vit",
]  # fmt: skip
#: What of these can't work, and is refused.
DILATED = {Architecture.DEEPLABV3, Architecture.DEEPLABV3_PLUS, Architecture.PAN}
REFUSED: dict[str, set[Architecture]] = {
    "vgg11_bn": DILATED,
    "densenet121": DILATED,
    "inceptionresnetv2": DILATED,
    "inceptionv4": DILATED,
    "xception": DILATED,
    "mit_b0": {Architecture.UNET_PLUS_PLUS, Architecture.LINKNET},
    "tu-test_vit": set(Architecture) - {Architecture.DPT},
}


def works(architecture: Architecture, encoder: str, channels: int, side: int) -> bool:
    """Whether our code takes the pair; what it takes has to do a forward pass."""
    wanted = model(architecture, encoder, channels)
    try:
        fitted = fitting.fit(wanted, side)
    except ConfigurationError as error:
        text = str(error)
        assert text.startswith(f"spec.model: {architecture.value} can't be built on")
        assert fitting.GO_WITH_ALL in text
        return False
    network = fitting.meta_network(wanted, fitted.settings).eval()
    with torch.no_grad():
        out = network(torch.empty(2, channels, fitted.side, fitted.side, device="meta"))
    assert out.shape == (2, 2, fitted.side, fitted.side)
    return True


@pytest.mark.parametrize("encoder", FAMILIES)
def test_each_family_of_encoders_with_some_architectures(encoder: str) -> None:
    refused = set(REFUSED.get(encoder, set()))
    if not encoder.startswith("tu-"):
        refused.add(Architecture.DPT)
    # One that works and one that doesn't, others for each family: each has its turn.
    able = [architecture for architecture in Architecture if architecture not in refused]
    turn = FAMILIES.index(encoder)
    assert works(able[turn % len(able)], encoder, 3, 64)
    for architecture in sorted(refused)[turn % max(len(refused), 1) :][:1]:
        assert not works(architecture, encoder, 3, 64)


@pytest.mark.soak
@pytest.mark.parametrize("encoder", smp.encoders.get_encoder_names())
def test_the_whole_grid(encoder: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    lines = [
        f"{architecture.value},{encoder},{side},{channels},"
        f"{'works' if works(architecture, encoder, channels, side) else 'refused'}\n"
        for side, channels in ((32, 3), (333, 4))
        for architecture in Architecture
    ]
    table = tmp_path_factory.getbasetemp() / "grid.csv"
    with Path(table).open("a") as file:
        file.writelines(lines)


@pytest.mark.parametrize(
    ("encoder", "channels"),
    [("resnet18", 1), ("mobileone_s0", 16), ("mit_b0", 4), ("tu-test_resnet", 2)],
)
def test_other_numbers_of_channels(encoder: str, channels: int) -> None:
    assert works(Architecture.FPN, encoder, channels, 64)


def test_what_was_tried_before_does_not_change_the_random_weights() -> None:
    wanted = model("Unet")
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(build_network(wanted, 2, 48).state_dict())
        fitting.fit(model("FPN"), 48)
    fitting.fit_once.cache_clear()
    torch.manual_seed(3)
    weights.append(build_network(wanted, 2, 48).state_dict())
    for name, value in weights[0].items():
        assert all(torch.equal(value, other[name]) for other in weights[1:])


@pytest.mark.slow
def test_a_network_that_was_told_its_size_opens_with_smp(tmp_path: Path) -> None:
    wanted = model("Unet", "tu-efficientformerv2_s0")
    assert fitting.fit(wanted, 64).settings == {"img_size": 64}
    network = build_network(wanted, 2, 64).eval()
    assert isinstance(network, smp.Unet)
    network.save_pretrained(tmp_path)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(smp.from_pretrained(str(tmp_path)).eval()(image), network(image))


def test_a_layer_that_sees_one_value_uses_its_running_statistics() -> None:
    layer = torch.nn.BatchNorm2d(4).train()
    make_batches_of_one_honest(layer)
    many = torch.randn(1, 4, 8, 8) * 3 + 5
    layer(many)
    assert layer.running_mean is not None
    learnt = layer.running_mean.clone()
    assert learnt.abs().sum() > 0
    single = torch.randn(1, 4, 1, 1)
    out = layer(single)
    expected = torch.nn.functional.batch_norm(
        single, layer.running_mean, layer.running_var, layer.weight, layer.bias
    )
    assert torch.equal(out, expected)
    assert torch.equal(layer.running_mean, learnt)
    assert layer.training
    out.sum().backward()
    assert layer.weight.grad is not None
    with pytest.raises(RuntimeError):
        layer(torch.randn(1, 3, 1, 1))
    assert layer.training, "an error must not leave it in evaluation mode"


@pytest.mark.parametrize("layer", ["timm", "synchronised"])
def test_other_kinds_of_batch_norm_see_single_values_too(layer: str) -> None:
    norm: nn.Module = BatchNormAct2d(4) if layer == "timm" else nn.SyncBatchNorm(4)
    network = nn.Sequential(norm).train()
    make_batches_of_one_honest(network)
    if layer == "timm":
        assert network(torch.randn(1, 4, 1, 1)).shape == (1, 4, 1, 1)
    else:
        # It wants a GPU or a process group to train; that it's ours already is what counts here.
        norm.training = True
        with pytest.raises(ValueError, match="expected"):
            norm(torch.randn(4))
    assert norm.training


@pytest.mark.parametrize("name", list(Architecture))
def test_a_batch_of_one_at_the_smallest_size_trains_in_each_architecture(name: str) -> None:
    encoder = "tu-test_vit" if name == Architecture.DPT else "tu-test_resnet"
    wanted = model(name, encoder)
    network = build_network(wanted, 2, 32).train()
    make_batches_of_one_honest(network)
    side = padded_side(wanted, 32)
    network(torch.randn(1, 3, side, side)).square().mean().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert all(module.training for module in network.modules())


def test_compiled_batches_of_one_are_the_same() -> None:
    torch.manual_seed(0)
    network = build_network(model("DeepLabV3"), 2, 32).train()
    make_batches_of_one_honest(network)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    twin = copy.deepcopy(network)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(compiled(image), twin(image))
    for name, value in twin.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name
