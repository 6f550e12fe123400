from __future__ import annotations

import numpy as np
import pytest
import torch

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.tasks.segmentation.images import VOID
from kubeseg_trainer.tasks.segmentation.losses import SegmentationLoss
from kubeseg_trainer.tasks.segmentation.metrics import confusion, part_of
from kubeseg_trainer.tasks.segmentation.network import (
    MEAN,
    STD,
    build_network,
    crop,
    make_batches_of_one_honest,
    padded_side,
    prepare,
)
from kubeseg_types.spec import Architecture, Model
from kubeseg_types.training import Loss, LossTerm


def model(architecture: str, encoder: str = "tu-test_resnet") -> Model:
    return Model(architecture=Architecture(architecture), encoder=encoder)


@pytest.mark.parametrize(
    ("architecture", "size", "padded"),
    [
        ("Unet", 32, 32),
        ("Unet", 112, 128),
        ("FPN", 333, 352),
        ("DeepLabV3", 1048, 1056),
        ("PAN", 32, 128),
        ("PAN", 112, 128),
        ("PAN", 256, 256),
    ],
)
def test_sizes_are_padded_to_what_the_network_takes(
    architecture: str, size: int, padded: int
) -> None:
    wanted = model(architecture)
    assert padded_side(build_network(wanted, 2), size, wanted) == padded


@pytest.mark.parametrize(
    ("architecture", "encoder", "word"),
    [
        ("Unet", "resnet81", "resnet18"),
        ("Unet", "tu-nothing", "can't be built"),
        ("UnetPlusPlus", "mit_b0", "Choose another encoder"),
        ("DeepLabV3", "vgg11", "Choose another encoder"),
    ],
)
def test_what_cannot_be_built_is_refused(architecture: str, encoder: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        build_network(model(architecture, encoder), 2)


def test_padding_and_cropping_fit() -> None:
    images = torch.randint(0, 256, (2, 3, 45, 45), dtype=torch.uint8)
    values = prepare(images, 64)
    assert values.shape == (2, 3, 64, 64)
    inner = crop(values, 45, 45)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    assert torch.allclose(inner, (images / 255 - mean) / std, atol=1e-5)
    assert torch.equal(values[:, :, 0, 0], inner[:, :, 0, 0])


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


@pytest.mark.parametrize("side", [5, 17])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_a_plain_count(side: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, (2, side, side))
    truth[random.random(truth.shape) < 0.2] = VOID
    logits = torch.from_numpy(random.normal(size=(2, 4, side, side)))
    guess = logits.argmax(1).numpy()
    counts = confusion(logits[:1], torch.from_numpy(truth[:1]))
    counts = counts + confusion(logits[1:], torch.from_numpy(truth[1:]))
    part = part_of(3.0, counts, 2, None)
    assert part.loss == 1.5
    for label in range(4):
        true, hit = (truth == label), (guess == label) & (truth != VOID)
        union = (true | hit).sum()
        assert part.class_iou[label] == pytest.approx((true & hit).sum() / union)
        assert part.class_dice[label] == pytest.approx(
            2 * (true & hit).sum() / (true.sum() + hit.sum())
        )
    assert part.iou == pytest.approx(np.mean([iou for iou in part.class_iou if iou is not None]))


def test_an_absent_class_and_the_ignored_one_have_no_value() -> None:
    counts = torch.tensor([[5, 1, 0], [0, 4, 0], [0, 0, 0]])
    part = part_of(1.0, counts, 1, None)
    assert part.class_iou[2] is None
    assert part.iou == pytest.approx((5 / 6 + 4 / 5) / 2)
    ignored = part_of(1.0, counts, 1, 0)
    assert ignored.class_iou[0] is None
    assert ignored.iou == pytest.approx(4 / 5)
    nothing = part_of(1.0, torch.zeros(3, 3, dtype=torch.int64), 1, None)
    assert nothing.iou == 0.0


TERMS = ["CrossEntropy", "Dice", "Focal", "Jaccard", "Lovasz", "Tversky"]


@pytest.mark.parametrize("name", TERMS)
def test_void_pixels_have_no_part_in_a_loss(name: str) -> None:
    loss = SegmentationLoss(Loss(terms=[LossTerm(name=name)]))
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    mask = torch.randint(0, 3, (2, 8, 8))
    mask[:, :4] = VOID
    value = loss(logits, mask, any_counts=True)
    torch.autograd.backward(value)
    assert logits.grad is not None
    assert torch.all(logits.grad[:, :, :4] == 0)
    assert torch.any(logits.grad[:, :, 4:] != 0)
    other = logits.detach().clone()
    other[:, :, :4] = torch.randn(2, 3, 4, 8)
    assert loss(other, mask, any_counts=True) == pytest.approx(value.item())


@pytest.mark.parametrize("name", TERMS)
def test_a_loss_is_small_where_the_network_is_right(name: str) -> None:
    loss = SegmentationLoss(Loss(terms=[LossTerm(name=name, weight=2)]))
    mask = torch.randint(0, 3, (1, 8, 8))
    right = torch.nn.functional.one_hot(mask, 3).permute(0, 3, 1, 2).float() * 20 - 10
    assert loss(right, mask, any_counts=True) < 0.01
    assert loss(-right, mask, any_counts=True) > 0.5


def test_no_pixel_that_counts_is_no_loss_and_no_gradient() -> None:
    loss = SegmentationLoss(Loss())
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((1, 4, 4), VOID), any_counts=False)
    torch.autograd.backward(value)
    assert value.item() == 0
    assert logits.grad is not None
    assert torch.all(logits.grad == 0)
