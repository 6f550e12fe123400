from __future__ import annotations

import json
from typing import Any

import albumentations
import numpy as np
import pytest

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.tasks.segmentation.data.augment import (
    Augmentation,
    transforms_for,
    transforms_of,
)
from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_trainer.tasks.segmentation.data.serialized import (
    CONTAINERS,
    FIELD,
    PIXEL,
    SPATIAL,
    parse,
    try_out,
)
from kubeseg_types import training
from tests.support.datasets import make_pair


def text_of(*transforms: Any) -> str:
    """What a user has: albumentations' own form."""
    return json.dumps(albumentations.to_dict(albumentations.Compose(list(transforms))))


def with_node(**node: Any) -> str:
    """A pipeline of one transform, written by hand."""
    return json.dumps({"transform": {"__class_fullname__": "Compose", "transforms": [node]}})


def _default(name: str) -> Any:
    more: dict[str, Any] = {
        "RandomResizedCrop": {"size": (32, 32)},
        "RandomSizedCrop": {"size": (32, 32), "min_max_height": (8, 32)},
    }
    return getattr(albumentations, name)(**more.get(name, {}))


@pytest.mark.parametrize("name", sorted(SPATIAL | PIXEL))
def test_each_listed_transform_is_taken_with_its_defaults(name: str) -> None:
    transforms = parse(text_of(_default(name)), 32)
    try_out(transforms, side=32, channels=3, bits=8)
    image, mask = make_pair((32, 32), 1)
    out, labels = Augmentation(transforms, seed=1)(image, mask, epoch=1, index=1)
    assert (out.shape, labels.shape) == (image.shape, mask.shape)
    assert set(np.unique(labels)) <= {*np.unique(mask), VOID}


@pytest.mark.parametrize("preset", ["Light", "Medium", "Strong"])
def test_a_preset_survives_the_way_through_its_serialized_form(preset: Any) -> None:
    image, mask = make_pair((32, 32), 3)
    direct = Augmentation(transforms_of(preset), seed=5)
    wanted = training.Augmentation(serialized=text_of(*transforms_of(preset)))
    parsed = Augmentation(transforms_for(wanted, 32), seed=5)
    for index in range(10):
        assert direct(image, mask, epoch=1, index=index)[1].shape == (32, 32)
        out, labels = parsed(image, mask, epoch=1, index=index)
        again, again_labels = parsed(image, mask, epoch=1, index=index)
        assert np.array_equal(out, again)
        assert np.array_equal(labels, again_labels)


def test_what_comes_in_from_outside_never_counts() -> None:
    shift = albumentations.Affine(translate_px=(20, 20), fill_mask=0, p=1)
    image, mask = make_pair((32, 32), 1)
    _, labels = Augmentation(parse(text_of(shift), 32), seed=0)(image, mask, epoch=1, index=0)
    assert (labels[:, :18] == VOID).all()
    # A dropped-out part keeps its labels unless they are asked away.
    hole = albumentations.CoarseDropout(p=1)
    _, labels = Augmentation(parse(text_of(hole), 32), seed=0)(image, mask, epoch=1, index=0)
    assert np.array_equal(labels, mask)
    hole = albumentations.CoarseDropout(p=1, fill_mask=2)
    _, labels = Augmentation(parse(text_of(hole), 32), seed=0)(image, mask, epoch=1, index=0)
    assert set(np.unique(labels[labels != mask])) == {VOID}


def _deep(depth: int) -> str:
    node: dict[str, Any] = {"__class_fullname__": "HorizontalFlip", "p": 0.5}
    for _ in range(depth):
        node = {"__class_fullname__": "Sequential", "p": 1, "transforms": [node]}
    return json.dumps({"transform": node})


FLIP = {"__class_fullname__": "HorizontalFlip", "p": 0.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["must be JSON", "to_dict"]),
        ("[" * 30_000, ["must be JSON"]),
        ("[]", ["`transform`"]),
        ('{"transform": 3}', ["`transform`"]),
        ('{"transform": {}}', ["__class_fullname__"]),
        (with_node(__class_fullname__="Resize", height=10**6), ["Resize is not taken", "Affine"]),
        (with_node(__class_fullname__="Lambda"), ["Lambda is not taken"]),
        (with_node(__class_fullname__="os.system"), ["system is not taken"]),
        (with_node(__class_fullname__="HorizontalFlip", p=1.5), [".p: must be 0 to 1, not 1.5"]),
        (with_node(__class_fullname__="HorizontalFlip", p=float("nan")), ["not nan"]),
        (with_node(__class_fullname__="HorizontalFlip", p="often"), ["HorizontalFlip"]),
        (with_node(__class_fullname__="HorizontalFlip", q=1), ["'q' is no argument", "remove it"]),
        (with_node(__class_fullname__="Blur", blur_limit=[3, 9999]), ["0 to 63, not 9999"]),
        (
            with_node(__class_fullname__="Affine", scale={"x": [1, 1e9]}),
            ["Affine", ".scale: must be -1000 to 1000"],
        ),
        (with_node(__class_fullname__="Affine", fit_output=True), ["false", "keep their size"]),
        (with_node(__class_fullname__="Affine", mask_interpolation=1), ["0 (nearest), not 1"]),
        (with_node(__class_fullname__="RandomResizedCrop", size=[9, 9]), ["[32, 32]", "imageSize"]),
        (with_node(__class_fullname__="RandomResizedCrop", size=10**9), ["[32, 32]"]),
        (with_node(__class_fullname__="OneOf", transforms=[]), ["must be a list, not empty"]),
        (with_node(__class_fullname__="OneOf", transforms=[{**FLIP, "p": 0}]), ["OneOf"]),
        (_deep(4), ["4 deep"]),
        (
            with_node(__class_fullname__="Sequential", transforms=[FLIP] * 40),
            ["at most 32 transforms"],
        ),
    ],
)
def test_the_rest_is_refused_with_field_transform_and_remedy(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, 32)
    assert str(caught.value).startswith(FIELD)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("transform", "channels", "bits", "word"),
    [
        (albumentations.ToGray(), 5, 8, "ToGray can't be applied to images of 8 bits with 5"),
        (albumentations.HueSaturationValue(), 4, 8, "HueSaturationValue"),
        (albumentations.ISONoise(), 1, 16, "images of 16 bits with 1 channel"),
        (albumentations.ChannelDropout(), 1, 16, "ChannelDropout"),
        (
            albumentations.OneOf([albumentations.CLAHE(), albumentations.Blur()], p=0.01),
            5,
            8,
            "CLAHE",
        ),
    ],
)
def test_a_transform_that_cannot_take_the_images_is_refused_before_training(
    transform: Any, channels: int, bits: int, word: str
) -> None:
    transforms = parse(text_of(transform), 32)
    with pytest.raises(ConfigurationError, match="Remove it") as caught:
        try_out(transforms, side=32, channels=channels, bits=bits)
    assert word in str(caught.value)


@pytest.mark.parametrize("preset", ["None", "Light", "Medium", "Strong"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 16])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_presets_take_any_image(preset: Any, channels: int, kind: type) -> None:
    random = np.random.default_rng(0)
    full = np.iinfo(kind).max
    image: np.ndarray = random.integers(0, full + 1, (32, 32, channels)).astype(kind)
    mask = random.integers(0, 3, (32, 32)).astype(np.uint8)
    augmentation = Augmentation(transforms_of(preset), seed=1)
    for index in range(20):
        out, labels = augmentation(image, mask, epoch=1, index=index)
        assert (out.shape, labels.shape) == (image.shape, mask.shape)
        assert out.dtype == np.dtype(kind)


def test_16_bits_lose_nothing_where_nothing_is_changed() -> None:
    image: np.ndarray = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    mask = np.zeros((256, 256), np.uint8)
    flip = Augmentation([albumentations.HorizontalFlip(p=1)], seed=0)
    assert np.array_equal(flip(image, mask, epoch=1, index=0)[0], image[:, ::-1])


def test_the_lists_name_what_there_is() -> None:
    assert all(hasattr(albumentations, name) for name in CONTAINERS | SPATIAL | PIXEL)
