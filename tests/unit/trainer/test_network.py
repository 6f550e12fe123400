from __future__ import annotations

import numpy as np
import pytest
import torch

from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_trainer.tasks.segmentation.data.normalisation import MEAN, STD, Normalisation
from kubeseg_trainer.tasks.segmentation.metrics import confusion, part_of
from kubeseg_trainer.tasks.segmentation.network.network import Scaling, crop, prepare


def test_padding_and_cropping_fit() -> None:
    images = torch.randint(0, 256, (2, 3, 45, 45), dtype=torch.uint8)
    values = prepare(images, 64, Scaling(Normalisation()))
    assert values.shape == (2, 3, 64, 64)
    inner = crop(values, 45, 45)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    assert torch.allclose(inner, (images / 255 - mean) / std, atol=1e-5)
    assert torch.equal(values[:, :, 0, 0], inner[:, :, 0, 0])


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
