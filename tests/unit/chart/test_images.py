"""One lock, three images: each gets the part that it needs, whole, and nothing of the others."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.unit.chart.conftest import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMAGES = {"operator": "operator", "api": "api", "trainer-image": "trainer"}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = ROOT / "scripts" / "image_requirements.py"
    spec = importlib.util.spec_from_file_location("image_requirements", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def packages(tool: ModuleType) -> dict[str, str]:
    found: dict[str, str] = tool.blocks((ROOT / "requirements.lock").read_text())
    return found


def installed_closure(roots: set[str], canonical: Any) -> set[str]:
    """What the packages installed here say they need, on this Python and platform."""
    found: set[str] = set()
    waiting = set(roots)
    while waiting:
        name = waiting.pop()
        found.add(name)
        try:
            needed = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for text in needed:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting |= {canonical(requirement.name)} - found
    return found


@pytest.mark.parametrize("extra", sorted({*IMAGES.values(), "hatchling"}))
def test_an_image_gets_all_that_its_packages_need(
    tool: ModuleType, packages: dict[str, str], extra: str
) -> None:
    roots = tool.roots_of([extra], PROJECT)
    locked = set(tool.closure(roots, packages))
    assert installed_closure(roots, tool.canonical) <= locked
    assert all("--hash=sha256:" in packages[name] for name in locked)


@pytest.mark.parametrize(
    ("extra", "absent"),
    [
        ("operator", {"torch", "fastapi", "numpy", "kopf", "pytest"}),
        ("api", {"kopf", "albumentations", "segmentation-models-pytorch", "pytest"}),
        ("trainer", {"kopf", "fastapi", "kubernetes", "pytest"}),
    ],
)
def test_an_image_gets_nothing_of_the_others(
    tool: ModuleType, packages: dict[str, str], extra: str, absent: set[str]
) -> None:
    assert not absent & set(tool.closure(tool.roots_of([extra], PROJECT), packages))


def test_a_package_that_is_not_locked_is_named(tool: ModuleType) -> None:
    with pytest.raises(KeyError, match=r"not in requirements\.lock: nosuch"):
        tool.closure({"nosuch"}, {})


@pytest.mark.parametrize(("folder", "extra"), IMAGES.items())
def test_a_dockerfile_starts_the_program_of_its_image(folder: str, extra: str) -> None:
    text = (ROOT / folder / "Dockerfile").read_text()
    entry = text.rsplit('ENTRYPOINT ["', 1)[1].split('"')[0]
    assert entry in PROJECT["scripts"]
    assert re.search(rf"image_requirements\.py {extra}( \w+)* >", text)
    assert "USER 10001:10001" in text
