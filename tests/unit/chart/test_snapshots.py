"""What each feature renders, kept: `UPDATE_SNAPSHOTS=1` writes it anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

SNAPSHOTS = Path(__file__).parent / "snapshots"


def shortened(manifest: dict[str, Any]) -> dict[str, Any]:
    """`manifest` without the two long documents that have tests of their own."""
    if manifest["kind"] == "CustomResourceDefinition":
        return manifest | {"spec": "files/trainingjobs.yaml"}
    if manifest["kind"] == "ConfigMap":
        return manifest | {"data": sorted(manifest["data"])}
    return manifest


def test_rendered_manifests_are_those_kept(case: str, rendered: list[dict[str, Any]]) -> None:
    text = yaml.safe_dump_all([shortened(m) for m in rendered], width=100)
    file = SNAPSHOTS / f"{case}.yaml"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file.write_text(text)
    assert text == file.read_text(), f"{case}: meant? then run with UPDATE_SNAPSHOTS=1"


def test_every_snapshot_has_its_case() -> None:
    values = Path(__file__).resolve().parents[3] / "charts" / "kubeseg" / "ci"
    kept = {p.stem for p in SNAPSHOTS.glob("*.yaml")}
    assert kept == {p.name.removesuffix("-values.yaml") for p in values.iterdir()}
