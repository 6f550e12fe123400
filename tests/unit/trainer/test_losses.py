"""The loss: each term's value, what is left out, class weights, and how parts add up."""

from __future__ import annotations

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F  # noqa: N812 - everyone's name for it
from torch import Tensor

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.tasks.segmentation.data.class_weights import class_weights, weights_for
from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_trainer.tasks.segmentation.network.losses import TERMS, TVERSKY, SegmentationLoss
from kubeseg_types.training import Loss, LossTerm

WEIGHTS = [0.5, 1.0, 4.0, 2.0]


def _loss(*names: Any, weights: list[float] | None = None) -> SegmentationLoss:
    return SegmentationLoss(Loss(terms=[LossTerm(name=name) for name in names]), weights)


def _batch(*, void: bool = True, samples: int = 3) -> tuple[Tensor, Tensor]:
    """Logits of 4 classes; the last never occurs in the mask."""
    torch.manual_seed(samples)
    logits = 3 * torch.randn(samples, 4, 9, 7)
    mask = torch.randint(0, 3, (samples, 9, 7))
    if void:
        mask[torch.rand(mask.shape) < 0.3] = VOID
    return logits, mask


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("Dice", smp.losses.DiceLoss),
        ("Jaccard", smp.losses.JaccardLoss),
        ("Tversky", lambda *a, **k: smp.losses.TverskyLoss(*a, **k, alpha=0.3, beta=0.7)),
    ],
)
def test_overlaps_equal_smps_in_value_and_gradient(
    name: str, theirs: Any, weights: list[float] | None
) -> None:
    logits, mask = _batch()
    mine, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = _loss(name, weights=weights)(mine, mask)
    expected = theirs("multiclass", ignore_index=VOID, class_weights=weights)(other, mask)
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.autograd.backward([value, expected])
    assert mine.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(mine.grad, other.grad, atol=1e-6, rtol=1e-4)
    assert TVERSKY == (0.3, 0.7)


def test_lovasz_equals_smps_in_value_and_gradient() -> None:
    logits, mask = _batch()
    mine, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = _loss("Lovasz")(mine, mask)
    expected = smp.losses.LovaszLoss("multiclass", ignore_index=VOID)(other, mask)
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.autograd.backward([value, expected])
    assert mine.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(mine.grad, other.grad, atol=1e-6, rtol=1e-4)


def test_lovasz_weighs_the_classes_that_occur() -> None:
    logits, mask = _batch()
    alone = []
    for label in range(3):
        only = [1e-9] * 4
        only[label] = 1.0
        alone.append(_loss("Lovasz", weights=only)(logits, mask).item())
    expected = sum(w * v for w, v in zip(WEIGHTS, alone, strict=False)) / sum(WEIGHTS[:3])
    assert _loss("Lovasz", weights=WEIGHTS)(logits, mask).item() == pytest.approx(expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_the_mean_over_samples_of_torchs(weights: list[float] | None) -> None:
    logits, mask = _batch()
    table = torch.ones(4) if weights is None else torch.tensor(weights)
    each = [
        F.cross_entropy(
            logits[i : i + 1], mask[i : i + 1], table, ignore_index=VOID, reduction="sum"
        )
        / (mask[i] != VOID).sum()
        for i in range(len(mask))
    ]
    value = _loss("CrossEntropy", weights=weights)(logits, mask)
    assert value.item() == pytest.approx(torch.stack(each).mean().item())


def test_focal_is_cross_entropy_that_looks_away_from_easy_pixels() -> None:
    logits, mask = _batch(void=False)
    entropy = F.cross_entropy(logits, mask, reduction="none")
    expected = ((1 - (-entropy).exp()) ** 2 * entropy).mean()
    assert _loss("Focal")(logits, mask).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", ["CrossEntropy", "Focal"])
def test_means_over_samples_add_up_however_a_batch_is_split(
    name: str, weights: list[float] | None
) -> None:
    logits, mask = _batch(samples=5)
    loss = _loss(name, weights=weights)
    whole = loss(logits, mask).item()
    for cut in (1, 2, 4):
        first, second = loss(logits[:cut], mask[:cut]), loss(logits[cut:], mask[cut:])
        assert first.item() * cut / 5 + second.item() * (5 - cut) / 5 == pytest.approx(whole)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", TERMS)
def test_void_pixels_have_no_part_in_a_loss(name: str, weights: list[float] | None) -> None:
    loss = _loss(name, weights=weights)
    logits, mask = _batch(void=False)
    mask[:, :4] = VOID
    logits.requires_grad_()
    value = loss(logits, mask)
    torch.autograd.backward(value)
    assert logits.grad is not None
    assert torch.all(logits.grad[:, :, :4] == 0)
    assert torch.any(logits.grad[:, :, 4:] != 0)
    other = logits.detach().clone()
    other[:, :, :4] = torch.randn(other[:, :, :4].shape)
    assert loss(other, mask).item() == pytest.approx(value.item())


@pytest.mark.parametrize("name", TERMS)
def test_a_loss_is_small_where_the_network_is_right(name: Any) -> None:
    loss = SegmentationLoss(Loss(terms=[LossTerm(name=name, weight=2)]))
    mask = torch.randint(0, 3, (1, 8, 8))
    right = torch.nn.functional.one_hot(mask, 3).permute(0, 3, 1, 2).float() * 20 - 10
    assert loss(right, mask) < 0.01
    assert loss(-right, mask) > 0.5


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", TERMS)
def test_no_pixel_that_counts_is_no_loss_and_no_gradient(
    name: str, weights: list[float] | None
) -> None:
    logits = torch.randn(1, 4, 4, 4, requires_grad=True)
    value = _loss(name, weights=weights)(logits, torch.full((1, 4, 4), VOID))
    torch.autograd.backward(value)
    assert value.item() == 0
    assert logits.grad is not None
    assert torch.all(logits.grad == 0)


@pytest.mark.parametrize("name", TERMS)
def test_extreme_logits_give_finite_losses_and_gradients(name: str) -> None:
    logits, mask = _batch()
    logits = (logits * 1e4).requires_grad_()
    value = _loss(name)(logits, mask)
    torch.autograd.backward(value)
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.all(torch.isfinite(logits.grad))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        # Equal classes weigh the same; sqrt(median / count) elsewhere, before scaling to mean 1.
        ((10, 10, 10), [1.0, 1.0, 1.0]),
        ((400, 100), [(250 / 400) ** 0.5 / 0.948683, (250 / 100) ** 0.5 / 0.948683]),
        # Bounded: a class of one pixel among millions, and one that doesn't occur.
        ((10**9, 1, 0), None),
    ],
)
def test_class_weights(pixels: tuple[int, ...], expected: list[float] | None) -> None:
    weights = class_weights(pixels)
    assert sum(w * n for w, n in zip(weights, pixels, strict=True)) == pytest.approx(sum(pixels))
    assert max(weights) / min(weights) <= 100 + 1e-9
    if expected is not None:
        assert weights == pytest.approx(expected, rel=1e-5)


def test_auto_without_a_pixel_is_refused() -> None:
    assert weights_for(Loss(), (0, 0)) is None
    with pytest.raises(ConfigurationError, match=r"spec\.training\.loss\.classWeights"):
        weights_for(Loss(class_weights="Auto"), (0, 0))
