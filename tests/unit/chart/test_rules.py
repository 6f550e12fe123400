"""Promises that hold whatever the values: no wildcards, Pod Security, names and labels."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kubeseg_types import crd, names
from tests.support.operator_rights import EVERYTHING, EXERCISED, Right, granted
from tests.unit.chart.conftest import CHART, ROOT, Helm, Render

Manifests = list[dict[str, Any]]


def of_kind(manifests: Manifests, *kinds: str) -> Manifests:
    return [m for m in manifests if m["kind"] in kinds]


def test_lint_finds_nothing(helm: Helm, case: str) -> None:
    done = helm("lint", "--strict", str(CHART), "--values", f"{CHART}/ci/{case}-values.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_roles_have_no_wildcard_and_no_secrets(rendered: Manifests) -> None:
    for role in of_kind(rendered, "Role", "ClusterRole"):
        for rule in role["rules"]:
            words = [word for key in ("apiGroups", "resources", "verbs") for word in rule[key]]
            assert not [w for w in words if "*" in w], role["metadata"]["name"]
            assert "secrets" not in rule["resources"], role["metadata"]["name"]
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_pods_pass_pod_security_restricted(rendered: Manifests) -> None:
    for deployment in of_kind(rendered, "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["fsGroup"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
        allowed = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected"}
        kinds = {key for volume in pod["volumes"] for key in volume if key != "name"}
        assert kinds <= allowed


def test_every_probe_and_service_names_a_port_that_is_there(rendered: Manifests) -> None:
    for deployment in of_kind(rendered, "Deployment"):
        template = deployment["spec"]["template"]
        ports = {p["name"] for c in template["spec"]["containers"] for p in c["ports"]}
        for container in template["spec"]["containers"]:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["port"] in ports
        selected = deployment["spec"]["selector"]["matchLabels"].items()
        assert selected <= template["metadata"]["labels"].items()
        for service in of_kind(rendered, "Service"):
            if service["spec"]["selector"].items() <= template["metadata"]["labels"].items():
                assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports


def test_every_object_says_whose_it_is(rendered: Manifests) -> None:
    for manifest in rendered:
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "kubeseg"
        assert labels["app.kubernetes.io/instance"] == "kubeseg"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_a_token_is_mounted_only_where_one_is_used(rendered: Manifests, case: str) -> None:
    for account in of_kind(rendered, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    for deployment in of_kind(rendered, "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        is_operator = deployment["metadata"]["name"].endswith("-operator")
        assert pod["automountServiceAccountToken"] is is_operator
        sources = [s for v in pod["volumes"] for s in v.get("projected", {}).get("sources", [])]
        tokens = [s for s in sources if "serviceAccountToken" in s]
        assert bool(tokens) is (case == "anonymous" and not is_operator)


def test_the_rendered_crd_is_the_generated_one(render: Render) -> None:
    rendered = of_kind(render(), "CustomResourceDefinition")[0]
    assert rendered["spec"] == crd.crd()["spec"]
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize(
    ("case_name", "kinds"),
    [
        ("default", {"ClusterRole", "ClusterRoleBinding"}),
        ("namespaces", {"Role", "RoleBinding"}),
    ],
)
def test_the_operator_has_rights_in_its_namespaces_only(
    render: Render, case_name: str, kinds: set[str]
) -> None:
    manifests = render("--values", f"{CHART}/ci/{case_name}-values.yaml")
    mine = [m for m in manifests if m["metadata"]["name"] == "kubeseg-operator"]
    found = {m["kind"] for m in mine if "Role" in m["kind"]}
    assert found == kinds
    if "Role" in kinds:
        spaces = {m["metadata"]["namespace"] for m in mine if m["kind"] == "RoleBinding"}
        assert spaces == {"team-a", "team-b"}


def test_roles_for_people_name_the_virtual_resources(render: Render) -> None:
    for role in of_kind(render(), "ClusterRole"):
        if role["metadata"]["name"] == "kubeseg-operator":
            continue
        named = {r for rule in role["rules"] for r in rule["resources"]}
        assert {names.PLURAL, names.VIRTUAL_DATASETS, names.VIRTUAL_MODELS} <= named


def test_studies_name_a_claim_that_is_not_the_default(render: Render) -> None:
    manifests = render("--values", f"{CHART}/ci/workspace-values.yaml")
    api = next(m for m in of_kind(manifests, "Deployment") if m["metadata"]["name"].endswith("api"))
    env = {
        e["name"]: e.get("value") for e in api["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert yaml.safe_load(env["KUBESEG_STUDY_TEMPLATE"]) == {
        "workspace": {"claimName": "shared"},
        "resources": {"gpus": 1, "memory": "16Gi"},
    }


def test_the_default_claim_is_the_contracts(render: Render) -> None:
    claim = of_kind(render(), "PersistentVolumeClaim")[0]
    assert claim["metadata"]["name"] == names.DEFAULT_CLAIM
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_large_numbers_are_written_out(render: Render) -> None:
    manifests = render("--set", "api.maxUploadBytes=4398046511104")
    text = yaml.safe_dump(of_kind(manifests, "Deployment"))
    assert "'4398046511104'" in text


@pytest.mark.parametrize("scope", [(), ("--set", "operator.namespaces={team-a,team-b}")])
def test_every_right_of_the_operator_is_exercised_by_a_test(
    render: Render, scope: tuple[str, ...]
) -> None:
    """tests/integration/test_operator_roles.py compares it with what the API server saw."""
    # A Role of one namespace can't give a right to nodes.
    beyond = {Right("", "nodes", "list")} if scope else set()
    assert granted(render(*scope, *EVERYTHING)) == set(EXERCISED) - beyond
    for node in set(EXERCISED.values()):
        file, _, name = node.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(), node


def test_the_lease_is_the_operators_own(render: Render) -> None:
    manifests = render("--set", "operator.namespaces={team-a}")
    role = next(m for m in manifests if m["metadata"]["name"] == "kubeseg-operator-lease")
    assert (role["kind"], role["metadata"]["namespace"]) == ("Role", "ml")
    for rule in role["rules"]:
        assert rule["resources"] == ["leases"]
        assert rule.get("resourceNames") == (
            None if rule["verbs"] == ["create"] else ["kubeseg-operator"]
        )
    env = {
        e["name"]: e.get("value")
        for m in of_kind(manifests, "Deployment")
        if m["metadata"]["name"] == "kubeseg-operator"
        for e in m["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert env["KUBESEG_LEASE"] == "kubeseg-operator"
    assert "POD_NAME" in env


def test_the_operators_role_is_what_its_page_says(render: Render) -> None:
    page = (ROOT / "docs" / "operator.md").read_text().split("## Permissions")[1]
    rows = [line.split("|")[1:4] for line in page.split("\n## ")[0].splitlines() if "|" in line]
    wanted = {
        (group.strip().replace("(core)", ""), resource.strip(), frozenset(verbs.split(", ")))
        for group, resource, verbs in ((g, r, v.strip()) for g, r, v in rows[2:])
    }
    said = {Right(group, resource, verb) for group, resource, verbs in wanted for verb in verbs}
    assert said == granted(render())
