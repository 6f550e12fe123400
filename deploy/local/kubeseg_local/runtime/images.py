"""What an image's name means here: an entry point and an environment of this checkout.

The names are in the cluster's `images.json`, by the last part of the repository, so any registry
and any tag will do; the tag `missing` never exists, to try out what happens then.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from kubeseg_local.runtime.faults import NotFoundError

MISSING_TAG = "missing"
# The kubelet wants one; there is nothing to collect.
NOMINAL_SIZE = 1 << 20


@dataclass(frozen=True)
class Image:
    """A runnable image."""

    name: str
    #: What runs unless the container names a command.
    entrypoint: list[str] = field(default_factory=list)
    #: Arguments unless the container names some.
    command: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    uid: int = 0

    @property
    def id(self) -> str:
        """A digest, as the kubelet expects an image to have."""
        return "sha256:" + hashlib.sha256(self.name.encode()).hexdigest()


def parse_reference(reference: str) -> tuple[str, str]:
    """(last part of the repository, tag) of an image's reference; the tag is "latest" if absent."""
    path = reference.split("@", 1)[0].rsplit("/", 1)[-1]
    name, _, tag = path.partition(":")
    return name, tag or "latest"


def load(path: Path) -> dict[str, Image]:
    """The images in the file at `path`, by name. Raises OSError or ValueError."""
    listed = json.loads(path.read_text())["images"]
    return {name: Image(name, **fields) for name, fields in listed.items()}


def find(images: dict[str, Image], reference: str) -> Image | None:
    """The image that `reference` (or an image's id) means, or None."""
    for image in images.values():
        if image.id == reference:
            return image
    name, tag = parse_reference(reference)
    return None if tag == MISSING_TAG else images.get(name)


def pull(images: dict[str, Image], reference: str) -> Image:
    """Like `find`. Raises NotFoundError, which becomes ErrImagePull."""
    image = find(images, reference)
    if image is None:
        raise NotFoundError(
            f"image {reference!r} not found: this cluster pulls nothing, and knows only "
            f"{', '.join(sorted(images))} (any registry, any tag but {MISSING_TAG!r})"
        )
    return image


def command_line(image: Image, command: list[str], args: list[str]) -> list[str]:
    """What a container runs: `command` replaces the entry point, `args` its arguments."""
    if command:
        return [*command, *args]
    return [*image.entrypoint, *(args or image.command)]
