"""Helm itself, the binary that also serves the embedded cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeseg_local import build

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "kubeseg"

Manifests = list[dict[str, Any]]
Helm = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., Manifests]


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Run helm with arguments; the caller looks at the exit code."""
    binary = build.ensure() / "helm"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(binary), *arguments], capture_output=True, text=True, check=False, timeout=60
        )

    return run


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """The manifests that the chart renders with these arguments."""

    def run(*arguments: str) -> Manifests:
        done = helm("template", "kubeseg", str(CHART), "--namespace", "ml", *arguments)
        assert done.returncode == 0, done.stderr
        return [m for m in yaml.safe_load_all(done.stdout) if m]

    return run


def cases() -> list[str]:
    """The features that have values of their own under ci/."""
    return sorted(p.name.removesuffix("-values.yaml") for p in CHART.glob("ci/*-values.yaml"))


@pytest.fixture(scope="session", params=cases())
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def rendered(render: Render, case: str) -> Manifests:
    """What each case under ci/ renders."""
    return render("--values", str(CHART / "ci" / f"{case}-values.yaml"))
