"""The dashboard asks for metrics that exist, and is laid out without overlaps."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

from tests.unit.chart.conftest import CHART, ROOT

DASHBOARD: dict[str, Any] = json.loads((CHART / "dashboards" / "training.json").read_text())
QUERIES = [t["expr"] for p in DASHBOARD["panels"] for t in p.get("targets", [])]
VARIABLES = {v["name"]: v for v in DASHBOARD["templating"]["list"]}
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


def test_every_metric_of_a_training_is_shown() -> None:
    asked = {base_name(m) for q in QUERIES for m in _METRIC.findall(q)}
    assert documented().keys() - asked == set()


def test_queries_use_labels_that_the_metric_has() -> None:
    for query in QUERIES:
        for metric, inside in re.findall(r"(kubeseg_[a-z_]+)\{([^}]*)\}", query):
            labels = set(re.findall(r"([a-z]+)=~", inside))
            assert labels <= documented()[base_name(metric)], query


def test_variables_used_are_defined() -> None:
    text = " ".join(QUERIES + [str(v.get("definition", "")) for v in VARIABLES.values()])
    used = set(re.findall(r"\$(?!__)([a-z]+)", text))
    assert used <= VARIABLES.keys()
    assert {"datasource", "namespace", "job", "class"} <= VARIABLES.keys()


def test_panels_lie_beside_each_other() -> None:
    assert len({p["id"] for p in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for a, b in combinations([p["gridPos"] for p in DASHBOARD["panels"]], 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in DASHBOARD["panels"])
