"""What a channel's values are shifted and scaled by before the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Means and deviations of ImageNet's RGB channels, which encoders' weights expect.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
#: Below it a channel is as good as constant: dividing by less would blow up its noise.
_LEAST = 1e-3


@dataclass(frozen=True)
class Normalisation:
    """Mean and deviation of each channel, where the type's full range is 0 to 1."""

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD


def choose_normalisation(
    channels: int,
    bits: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    *,
    expected: Normalisation = Normalisation(),
) -> Normalisation:
    """What the encoder's weights expect for RGB of 8 bits; else that of the training part (`mean`
    and `std`, 0 to 1).

    Where the part was not measured, the former, repeated: as smp repeats an encoder's weights.
    """
    if mean is None or std is None or (channels == len(MEAN) and bits == 8):
        return Normalisation(
            tuple(expected.mean[i % 3] for i in range(channels)),
            tuple(expected.std[i % 3] for i in range(channels)),
        )
    if len(mean) != channels or len(std) != channels:
        raise ValueError(f"{len(mean)} means and {len(std)} deviations for {channels} channels")
    return Normalisation(tuple(mean), tuple(max(value, _LEAST) for value in std))
