"""Which samples are drawn, how, and whose pictures stay."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from kubeseg_trainer.engine.pictures import EVENLY, kept_pictures
from kubeseg_trainer.tasks.segmentation.data.colours import NEUTRAL, WRONG, colour_table, distinct
from kubeseg_trainer.tasks.segmentation.data.images import VOID
from kubeseg_trainer.tasks.segmentation.output.pictures import (
    PANEL,
    choose,
    compose,
    errors_of,
    picture_names,
    viewable,
)
from kubeseg_types.spec import ClassName

NAMES = [f"{i:03d}.jpg" for i in range(200)]


def _none(_: int) -> frozenset[int]:
    return frozenset({0})


def test_the_choice_is_a_function_of_names_and_seed() -> None:
    first = choose(NAMES, 4, seed=1, classes_of=_none)
    assert first == choose(NAMES, 4, seed=1, classes_of=_none)
    assert first != choose(NAMES, 4, seed=2, classes_of=_none)
    backwards = choose(NAMES[::-1], 4, seed=1, classes_of=_none)
    assert {NAMES[i] for i in first} == {NAMES[::-1][i] for i in backwards}


def test_samples_added_later_move_few_of_them() -> None:
    before = {NAMES[i] for i in choose(NAMES[:150], 8, seed=0, classes_of=_none)}
    after = {NAMES[i] for i in choose(NAMES, 8, seed=0, classes_of=_none)}
    added = set(NAMES[150:])
    assert after - before <= added


def test_rare_classes_come_in_where_a_look_finds_them() -> None:
    looked: list[int] = []

    def classes(index: int) -> frozenset[int]:
        looked.append(index)
        return frozenset({0, 7} if index == rare else {0})

    order = choose(NAMES, 16, seed=3, classes_of=_none)
    four = choose(NAMES, 4, seed=3, classes_of=_none)
    rare = next(i for i in order if i not in four)
    chosen = choose(NAMES, 4, seed=3, classes_of=classes)
    assert rare in chosen
    assert len(set(chosen)) == 4
    assert len(looked) <= 16


def test_few_samples_are_all_drawn_and_none_is_none() -> None:
    assert choose(NAMES[:3], 4, seed=0, classes_of=_none) == [0, 1, 2]
    assert choose(NAMES, 0, seed=0, classes_of=_none) == []


def test_files_bear_the_stem_without_harm() -> None:
    names = ["a.jpg", "b/a.png", "../x y.png", ".png", "Straße.tif"]
    assert picture_names(names) == ["a.jpg", "a-2.jpg", "x_y.jpg", "png.jpg", "Straße.jpg"]


@pytest.mark.parametrize("newest", [1, 2, 31, 32, 33, 64, 65, 100, 1000, 100_000])
def test_few_epochs_keep_their_pictures_evenly_spread(newest: int) -> None:
    kept = kept_pictures(newest, best=max(1, newest - 3))
    assert len(kept) <= EVENLY + 3
    assert {1, newest, max(1, newest - 3)} <= kept
    assert all(1 <= epoch <= newest for epoch in kept)
    if newest > 3:
        spread = np.diff(sorted(kept))
        assert spread.max() <= max(1, 2 * newest // EVENLY)


def test_what_is_kept_later_has_been_kept_before() -> None:
    kept = {1}
    for newest in range(2, 1200):
        wanted = kept_pictures(newest, best=1)
        assert wanted <= kept | {newest}
        kept = wanted


def test_colours_are_unlike_each_other_and_stay_when_classes_come() -> None:
    colours = distinct(64).astype(int)
    assert len({tuple(c) for c in colours}) == 64
    assert (distinct(5) == distinct(64)[:5]).all()
    for index, colour in enumerate(colours[:20]):
        others = np.vstack([colours[:index], np.array([NEUTRAL])])
        assert np.abs(others - colour).sum(axis=1).min() > 60
    assert len(distinct(254)) == 254


def test_the_class_map_has_the_word_on_colours() -> None:
    table = colour_table([ClassName(name="a", color="#0a0B0c"), ClassName(name="b")], 2)
    assert tuple(table[0]) == (10, 11, 12)
    assert tuple(table[1]) == tuple(distinct(2)[1])
    assert tuple(table[VOID]) == tuple(table[2]) == NEUTRAL


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, "uint8"), (2, "uint8"), (3, "uint8"), (7, "uint16"), (1, "uint16")]
)
def test_any_image_can_be_looked_at(channels: int, dtype: str) -> None:
    image = np.arange(channels * 12).reshape(channels, 3, 4).astype(dtype)
    shown = viewable(image)
    assert shown.shape == (3, 4, 3)
    assert shown.dtype == np.uint8
    if channels < 3:
        assert (shown[..., 0] == shown[..., 1]).all()
    elif dtype == "uint8":
        assert (shown == image.transpose(1, 2, 0)).all()
    if dtype == "uint16":
        assert (shown.min(), shown.max()) == (0, 255)


def test_an_even_image_of_16_bits_divides_by_nothing() -> None:
    assert (viewable(np.full((1, 2, 2), 900, np.uint16)) == 0).all()


def test_errors_are_red_and_what_does_not_count_is_neutral() -> None:
    image = np.zeros((1, 3, 3), np.uint8)
    panel = errors_of(image, np.array([[1, 1, VOID]], np.uint8), np.array([[1, 0, 0]], np.uint8))
    assert [tuple(p) for p in panel[0][1:]] == [WRONG, NEUTRAL]
    assert tuple(panel[0][0]) == (160, 160, 160)


@pytest.mark.parametrize(
    ("height", "width", "panel"), [(512, 512, 256), (300, 600, 256), (200, 200, 200), (32, 32, 128)]
)
def test_a_picture_is_four_panels_side_by_side(height: int, width: int, panel: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, height, width)).astype(np.uint8)
    truth = np.zeros((height, width), np.uint8)
    truth[: height // 4] = VOID
    prediction = np.zeros((height, width), np.uint8)
    prediction[:, : width // 2] = 1
    table = colour_table(None, 2)
    data = compose(
        image, truth, prediction, table=table, class_names=["a", "b"], caption="epoch 3  x.png"
    )
    assert len(data) < 400_000
    sheet = Image.open(BytesIO(data))
    assert sheet.format == "JPEG"
    assert sheet.width == 4 * panel + 12
    assert panel <= PANEL
    pixels = np.asarray(sheet).astype(int)
    tall = round(panel * height / width)
    low = 36 + tall // 2

    def at(number: int, across: float) -> list[int]:
        colour: list[int] = pixels[low, number * (panel + 4) + round(across * panel)].tolist()
        return colour

    # JPEG moves colours a little.
    assert np.abs(np.subtract(at(1, 0.25), table[0].tolist())).max() < 20
    assert np.abs(np.subtract(at(2, 0.25), table[1].tolist())).max() < 20
    assert np.abs(np.subtract(at(3, 0.25), WRONG)).max() < 20
    assert np.abs(pixels[36 + tall // 8, 3 * (panel + 4) + panel // 4] - NEUTRAL).max() < 20


def test_many_classes_with_long_names_get_more_lines() -> None:
    image = np.zeros((3, 64, 64), np.uint8)
    labels = (np.arange(64 * 64) % 40).reshape(64, 64).astype(np.uint8)
    names = [f"class number {i}" for i in range(40)]
    table = colour_table(None, 40)
    data = compose(image, labels, labels, table=table, class_names=names, caption="x")
    assert Image.open(BytesIO(data)).height > 36 + 128 + 5 * 18
