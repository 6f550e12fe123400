"""Albumentations' serialized form: what of it is taken, and within which bounds.

`albumentations.from_dict` takes any class it knows with any argument; here it is a list of
transforms that keep a picture's size, with limits on what costs time or memory.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.tasks.segmentation.data.images import VOID

FIELD = "spec.training.augmentation.serialized"
MAX_TRANSFORMS = 32
MAX_DEPTH = 4
#: Largest side that a serialized pipeline is tried on, and how often.
_TRIED_SIDE, _TRIES = 512, 3

CONTAINERS = frozenset({"Compose", "Sequential", "OneOf", "SomeOf", "RandomOrder"})
SPATIAL = frozenset(
    "HorizontalFlip VerticalFlip Transpose D4 SquareSymmetry RandomRotate90 Affine "
    "ShiftScaleRotate Rotate SafeRotate Perspective ElasticTransform GridDistortion "
    "OpticalDistortion ThinPlateSpline RandomResizedCrop RandomSizedCrop".split()
)
PIXEL = frozenset(
    "RandomBrightnessContrast RandomGamma HueSaturationValue ColorJitter RGBShift CLAHE "
    "GaussianBlur MotionBlur MedianBlur Blur AdvancedBlur GaussNoise ISONoise ShotNoise "
    "MultiplicativeNoise SaltAndPepper ImageCompression Sharpen UnsharpMask Emboss ToGray ToSepia "
    "ChannelShuffle ChannelDropout Posterize Solarize Equalize AutoContrast InvertImg "
    "RandomToneCurve Downscale CoarseDropout GridDropout PixelDropout Defocus ZoomBlur "
    "RandomShadow Illumination PlanckianJitter".split()
)

#: Bounds of arguments by name, for each number in them; other numbers: `_OTHER`.
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "p": (0, 1),
    "n": (1, MAX_TRANSFORMS),
    "blur_limit": (0, 63),
    "kernel_size": (3, 63),
    "sigma": (0, 100),
    "sigma_limit": (0, 30),
    "sigma_x_limit": (0, 30),
    "sigma_y_limit": (0, 30),
    "radius": (1, 31),
    "alias_blur": (0, 10),
    "max_factor": (1, 2),
    "step_factor": (0.005, 1),
    "tile_grid_size": (1, 64),
    "num_steps": (1, 64),
    "num_control_points": (2, 6),
    "num_holes_range": (1, 256),
    "holes_number_xy": (1, 256),
    "num_shadows_limit": (1, 16),
    "shadow_dimension": (3, 16),
    "translate_px": (-4096, 4096),
    "hole_height_range": (0, 4096),
    "hole_width_range": (0, 4096),
    "unit_size_range": (2, 4096),
    "min_max_height": (1, 4096),
    "temperature_limit": (3000, 15000),
}
_OTHER = (-1000.0, 1000.0)
#: Arguments that have one value here, and why.
_FIXED: Mapping[str, tuple[Any, str]] = {
    "fit_output": (False, "pictures keep their size"),
    "crop_border": (False, "pictures keep their size"),
    "keep_size": (True, "pictures keep their size"),
    "bbox_params": (None, "there are no boxes"),
    "keypoint_params": (None, "there are no keypoints"),
    "seed": (None, "spec.training.seed is the seed"),
}
#: Nearest: anything else would mix labels into others.
_NEAREST = (0, 6)


def parse(text: str, side: int) -> list[Any]:
    """The transforms in the JSON `text`, for pictures of `side` pixels.

    ConfigurationError where it is none, or goes beyond what is taken.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{FIELD}: must be JSON as albumentations.to_dict gives it: {error}"
        ) from error
    node = document.get("transform") if isinstance(document, dict) else None
    if not isinstance(node, dict):
        raise ConfigurationError(
            f"{FIELD}: must be an object with `transform`, as albumentations.to_dict gives it"
        )
    return [_Builder(side).build(node, "transform", 1)]


def leaves(transform: Any) -> Iterator[Any]:
    """The transforms in `transform` that are no containers."""
    import albumentations

    if isinstance(transform, albumentations.BaseCompose):
        for one in transform.transforms:
            yield from leaves(one)
    else:
        yield transform


class _Builder:
    def __init__(self, side: int) -> None:
        self._side = side
        self._count = 0

    def build(self, node: Any, where: str, depth: int) -> Any:
        """The transform that `node` describes."""
        import albumentations

        name = node.get("__class_fullname__") if isinstance(node, dict) else None
        if not isinstance(name, str):
            raise ConfigurationError(f"{FIELD}: {where}: must be an object with __class_fullname__")
        name = name.rpartition(".")[2]
        if name not in CONTAINERS | SPATIAL | PIXEL:
            raise ConfigurationError(
                f"{FIELD}: {where}: {name} is not taken. Those that are: "
                f"{', '.join(sorted(CONTAINERS | SPATIAL | PIXEL))}"
            )
        where = f"{where} ({name})"
        self._count += 1
        if self._count > MAX_TRANSFORMS:
            raise ConfigurationError(f"{FIELD}: at most {MAX_TRANSFORMS} transforms, with groups")
        if depth > MAX_DEPTH:
            raise ConfigurationError(f"{FIELD}: {where}: groups may be {MAX_DEPTH} deep at most")
        kind = getattr(albumentations, name)
        known = inspect.signature(kind.__init__).parameters
        # Some classes write down what only their base takes; albumentations skips that, too.
        given = {
            key: value
            for key, value in node.items()
            if key != "__class_fullname__" and (key in known or not _of_base(kind, key))
        }
        arguments = self._arguments(given, known, where)
        if name in CONTAINERS:
            inner = arguments.get("transforms")
            if not isinstance(inner, list) or not inner:
                raise ConfigurationError(f"{FIELD}: {where}.transforms: must be a list, not empty")
            arguments["transforms"] = [
                self.build(one, f"{where}.transforms[{number}]", depth + 1)
                for number, one in enumerate(inner)
            ]
        try:
            with warnings.catch_warnings():
                # Its hints on arguments; what it can't take it raises.
                warnings.simplefilter("ignore")
                return kind(**arguments)
        except Exception as error:  # whatever the library makes of wrong arguments
            raise ConfigurationError(f"{FIELD}: {where}: {_first_line(error)}") from error

    def _arguments(
        self, given: Mapping[str, Any], known: Mapping[str, inspect.Parameter], where: str
    ) -> dict[str, Any]:
        """The arguments `given`, each within its bounds."""
        arguments = dict(given)
        for key, value in arguments.items():
            if key not in known or key == "self":
                raise ConfigurationError(
                    f"{FIELD}: {where}: {key!r} is no argument of it in albumentations "
                    f"{importlib.metadata.version('albumentations')}: remove it"
                )
            if key != "transforms":
                self._check(key, value, f"{where}.{key}")
        # What comes in from outside the picture is neither trained on nor counted. Only where
        # the mask is left as it is (dropout) labels stay.
        for fill in ("fill_mask", "mask_drop_value"):
            default = known[fill].default if fill in known else None
            if default is not None or arguments.get(fill) is not None:
                arguments[fill] = VOID
        return arguments

    def _check(self, key: str, value: Any, where: str) -> None:
        if key in _FIXED and value != _FIXED[key][0]:
            wanted, why = _FIXED[key]
            raise ConfigurationError(f"{FIELD}: {where}: must be {json.dumps(wanted)}: {why}")
        if key == "additional_targets" and value:
            raise ConfigurationError(f"{FIELD}: {where}: must be empty: there is image and mask")
        if key == "mask_interpolation" and value not in (None, *_NEAREST):
            raise ConfigurationError(
                f"{FIELD}: {where}: must be 0 (nearest), not {value!r}: labels can't be mixed"
            )
        if key == "size":
            if value != [self._side, self._side]:
                raise ConfigurationError(
                    f"{FIELD}: {where}: must be [{self._side}, {self._side}] "
                    f"(spec.training.imageSize), not {value!r}"
                )
            return
        low, high = _BOUNDS.get(key, _OTHER)
        for number in _numbers(value):
            if not low <= number <= high:
                raise ConfigurationError(
                    f"{FIELD}: {where}: must be {low:g} to {high:g}, not {number!r}"
                )


def _of_base(kind: type, argument: str) -> bool:
    return any(
        argument in inspect.signature(vars(base)["__init__"]).parameters
        for base in kind.__mro__[1:-1]
        if base.__module__.startswith("albumentations.") and "__init__" in vars(base)
    )


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # pydantic's first line is only a count.
    return " ".join(lines[:3])[:300] or type(error).__name__


def try_out(transforms: list[Any], *, side: int, channels: int, bits: int) -> None:
    """Apply each of the transforms alone to a picture of noise, as training would.

    ConfigurationError where one can't take pictures of so many channels and bits, or changes their
    size.
    """
    import albumentations

    own_size = any(hasattr(leaf, "size") for one in transforms for leaf in leaves(one))
    side = side if own_size else min(side, _TRIED_SIDE)
    noise = np.random.default_rng(0)
    mask = np.zeros((side, side), np.uint8)
    pixels: Any = noise.integers(0, 256, (side, side, channels)).astype(np.uint8)
    if bits == 16:
        pixels = (pixels / 255).astype(np.float32)
    kind = f"images of {bits} bits with {channels} channel{'s' * (channels != 1)}"
    for leaf in (leaf for one in transforms for leaf in leaves(one)):
        name, chance = type(leaf).__name__, leaf.p
        leaf.p = 1.0
        try:
            alone = albumentations.Compose([leaf])
            for _ in range(_TRIES):
                image = alone(image=pixels, mask=mask)["image"]
                if image.shape != pixels.shape or image.dtype != pixels.dtype:
                    raise ConfigurationError(  # noqa: TRY301 - said in the same words as the rest
                        f"{FIELD}: {name} makes {image.shape} {image.dtype} of {pixels.shape} "
                        f"{pixels.dtype}: use another transform, one that keeps size and channels"
                    )
        except ConfigurationError:
            raise
        except Exception as error:  # whatever the library or OpenCV raises
            raise ConfigurationError(
                f"{FIELD}: {name} can't be applied to {kind}: {_first_line(error)}. Remove it, or "
                f"change its arguments"
            ) from error
        finally:
            leaf.p = chance
