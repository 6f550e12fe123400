"""The architectures on offer: all that the contract knows, unless someone took some away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from kubeseg_api.errors import ApiError, BadRequestError, NotFoundError
from kubeseg_api.storage.files import locked, write_atomic
from kubeseg_types import workspace
from kubeseg_types.spec import Architecture

#: All that the trainer knows; POST /modeles puts any of them on offer.
ALL = [architecture.value for architecture in Architecture]
#: On offer until someone changes it: the list of the Study contract.
INITIAL = [
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus",
    "PAN",
]  # fmt: skip


def offered(root: Path) -> list[str]:
    """Names of the architectures on offer, in the contract's order."""
    file = root / workspace.CATALOGUE_MODELS
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return list(INITIAL)
    try:
        kept = json.loads(content)["models"]
        return [name for name in ALL if name in kept]
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError(
            f'{workspace.CATALOGUE_MODELS} must be {{"models": [names]}}: {error}. Remove the file '
            "to offer all architectures again.",
            kind="catalogue-unreadable",
        ) from error


def offer(root: Path, name: str) -> None:
    """Puts `name` on offer. Raises BadRequestError for what the trainer doesn't know."""
    if name not in ALL:
        raise BadRequestError(
            f"Unknown architecture {name!r}: it must be one of {', '.join(ALL)}",
            kind="unknown-architecture",
        )
    _change(root, lambda names: {*names, name})


def withdraw(root: Path, name: str) -> None:
    """Takes `name` off the offer. Raises NotFoundError where it isn't on it."""

    def without(names: set[str]) -> set[str]:
        if name not in names:
            shown = ", ".join(sorted(names)) or "none"
            raise NotFoundError(f"Model {name!r} is not on offer; those that are: {shown}")
        return names - {name}

    _change(root, without)


def _change(root: Path, change: Callable[[set[str]], set[str]]) -> None:
    file = root / workspace.CATALOGUE_MODELS
    with locked(file.parent):
        names = change(set(offered(root)))
        content = {"models": [name for name in ALL if name in names]}
        write_atomic(file, (json.dumps(content) + "\n").encode())
