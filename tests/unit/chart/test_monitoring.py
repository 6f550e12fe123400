"""Scrape configuration, alerts and the pages of docs/ speak of what the chart makes."""

from __future__ import annotations

import re
from typing import Any

import yaml

from kubeseg_types.status import Phase
from tests.unit.chart.conftest import CHART, ROOT, Render

MONITORING = ROOT / "deploy" / "monitoring"
INTERFACES = (ROOT / "docs" / "interfaces.md").read_text()


def test_alerts_name_metrics_and_phases_that_exist() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
    for rule in rules:
        for metric in re.findall(r"kubeseg_[a-z_]+", rule["expr"]):
            assert f"`{metric}`" in INTERFACES, rule["alert"]
        for phase in re.findall(r'phase="([^"]+)"', rule["expr"]):
            assert phase in set(Phase), rule["alert"]


def test_a_job_that_no_kueue_will_ever_admit_alerts_too() -> None:
    """Its phase is Queued, as that of one that only waits its turn."""
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
    (rule,) = (r["expr"] for r in rules if r["alert"] == "KubesegTrainingBlocked")
    (reasons,) = re.findall(r'kubeseg_job_blocked{reason=~"([^"]+)"}', rule)
    assert {"NoKueue", "Deactivated", "Inadmissible", "Misconfigured"} == set(reasons.split("|"))


def test_both_ways_of_scraping_find_the_same_pods(render: Render) -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    kept = {
        job["job_name"]: next(r["regex"] for r in job["relabel_configs"] if r["action"] == "keep")
        for job in config["scrape_configs"]
    }
    manifests = render("--values", f"{CHART}/ci/monitoring-values.yaml")
    monitors = {m["metadata"]["name"]: m for m in manifests if m["kind"] == "PodMonitor"}
    trainer = monitors["kubeseg-trainer"]["spec"]
    name = trainer["selector"]["matchLabels"]["app.kubernetes.io/name"]
    assert kept["kubeseg-trainer"] == f"{name};{trainer['podMetricsEndpoints'][0]['port']}"
    for component in ("operator", "api"):
        monitor = monitors[f"kubeseg-{component}"]["spec"]
        pods = next(
            m["spec"]["template"]
            for m in manifests
            if m["kind"] == "Deployment" and m["metadata"]["name"] == f"kubeseg-{component}"
        )
        labels = pods["metadata"]["labels"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        port = monitor["podMetricsEndpoints"][0]["port"]
        assert port in {p["name"] for p in pods["spec"]["containers"][0]["ports"]}
        assert kept["kubeseg"] == f"{labels['app.kubernetes.io/part-of']};{port}"


def test_pages_name_values_that_exist() -> None:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    tops = "|".join(values)
    for page in ("install.md", "monitoring.md"):
        text = (ROOT / "docs" / page).read_text()
        for path in re.findall(rf"(?<![\w./-])((?:{tops})(?:\.(?!md\b)[A-Za-z]+)+)(?![\w/])", text):
            node: Any = values
            for key in path.split("."):
                # Below a free-form map (labels …) anything may be named.
                if not node:
                    break
                assert key in node, f"{page}: {path}"
                node = node[key]
