"""The dashboards ask for metrics that exist, and are laid out without overlaps."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest

from tests.unit.chart.conftest import CHART, ROOT, Render

DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in (CHART / "dashboards").glob("*.json")
}
QUERIES = [
    target["expr"]
    for dashboard in DASHBOARDS.values()
    for panel in dashboard["panels"]
    for target in panel.get("targets", [])
]
each_dashboard = pytest.mark.parametrize("name", sorted(DASHBOARDS))
_METRIC = re.compile(r"\bkubeseg_[a-z_]+")


def documented() -> dict[str, set[str]]:
    """Metric → its labels, from the table of docs/interfaces.md."""
    table = (ROOT / "docs" / "interfaces.md").read_text().split("## Metrics")[1].split("\n## ")[0]
    found: dict[str, set[str]] = {}
    for line in table.splitlines():
        if line.startswith("| `"):
            metric_cell, labels = line.split("|")[1:3]
            words = set(re.findall(r"[a-z]+", re.sub(r"\(.*?\)", "", labels)))
            found |= dict.fromkeys(_METRIC.findall(metric_cell), words)
    return found


def base_name(metric: str) -> str:
    """A histogram's series bear its name and a suffix."""
    return re.sub(r"_(sum|count|bucket)$", "", metric)


def test_every_metric_asked_for_is_documented() -> None:
    asked = {base_name(m) for q in QUERIES for m in _METRIC.findall(q)}
    assert asked
    assert asked <= documented().keys()


def test_every_metric_is_shown() -> None:
    asked = {base_name(m) for q in QUERIES for m in _METRIC.findall(q)}
    assert documented().keys() - asked == set()


def test_queries_use_labels_that_the_metric_has() -> None:
    for query in QUERIES:
        for metric, inside in re.findall(r"(kubeseg_[a-z_]+)\{([^}]*)\}", query):
            labels = set(re.findall(r"([a-z]+)(?:=~|!~|=|!=)", inside))
            assert labels <= documented()[base_name(metric)], query


@each_dashboard
def test_variables_used_are_defined(name: str) -> None:
    dashboard = DASHBOARDS[name]
    variables = {v["name"]: v for v in dashboard["templating"]["list"]}
    queries = [t["expr"] for p in dashboard["panels"] for t in p.get("targets", [])]
    text = " ".join(queries + [str(v.get("definition", "")) for v in variables.values()])
    used = set(re.findall(r"\$(?!__)([a-z]+)", text))
    assert used <= variables.keys()
    assert variables.keys() - {"datasource"} <= used, "none without use"


def test_a_training_is_looked_at_by_namespace_job_and_class() -> None:
    names = {v["name"] for v in DASHBOARDS["training"]["templating"]["list"]}
    assert {"datasource", "namespace", "job", "class"} <= names


@each_dashboard
def test_panels_lie_beside_each_other(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    for a, b in combinations([p["gridPos"] for p in panels], 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in panels)


def test_every_dashboard_is_in_the_chart(render: Render) -> None:
    maps = [m for m in render() if m["kind"] == "ConfigMap"]
    assert {json.loads(text)["uid"] for m in maps for text in m["data"].values()} == {
        f"kubeseg-{name}" for name in DASHBOARDS
    }
