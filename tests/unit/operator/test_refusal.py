"""A Job that the API server refuses, in words of the TrainingJob's fields."""

from __future__ import annotations

import pytest

from kubeseg_operator.client import ApiError
from kubeseg_operator.refusal import of_job

JOB = 'Job.batch "job-1" is invalid: '


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            f'{JOB}spec.template.labels: Invalid value: "bad key!": name part must be …',
            (
                'spec.podLabels: Invalid value: "bad key!": name part must be …. Edit '
                "spec.podLabels of "
                "the TrainingJob: that is taken up at once."
            ),
        ),
        (
            (
                f"{JOB}[spec.template.spec.nodeSelector: Invalid value: 1, spec.template.spec."
                "tolerations[0].operator: Invalid value: 2]"
            ),
            (
                "[spec.nodeSelector: Invalid value: 1, spec.tolerations[0].operator: Invalid "
                "value: "
                "2]. "
                "Edit spec.nodeSelector and spec.tolerations of the TrainingJob"
            ),
        ),
        (
            f"{JOB}spec.template.annotations: Too long",
            "spec.podAnnotations: Too long. Edit spec.podAnnotations",
        ),
        (
            f"{JOB}spec.template.spec.affinity.nodeAffinity.x: Required value",
            "Edit spec.affinity of",
        ),
        (f"{JOB}spec.template.spec.imagePullSecrets[0].name: y", "Edit spec.imagePullSecrets of"),
        (f"{JOB}spec.template.spec.resourceClaims[0]: y", "Edit spec.resourceClaims of"),
        # Some are before the user's own.
        (
            f"{JOB}spec.template.spec.containers[0].env[3].name: x",
            ": spec.env: x. Edit spec.env of",
        ),
        (
            f"{JOB}spec.template.spec.containers[0].resources.requests[cpu]: x",
            "Edit spec.resources of",
        ),
        (f"{JOB}spec.template.spec.containers[0].image: Required value", "Edit spec.image of"),
        (
            f"{JOB}spec.template.spec.containers[0].imagePullPolicy: x",
            "Edit spec.imagePullPolicy of",
        ),
        (
            f"{JOB}spec.template.spec.volumes[0].persistentVolumeClaim.claimName: Invalid value",
            "Make a new TrainingJob with another spec.workspace.claimName.",
        ),
        (
            f"{JOB}metadata.labels: Invalid value",
            "Make a new TrainingJob with another spec.queueName.",
        ),
        (
            f"{JOB}spec.template.spec.surprise: Invalid value",
            "Look at what the TrainingJob's spec adds to the pod, or ask who runs the cluster.",
        ),
        (
            'jobs.batch is forbidden: User "x" cannot create resource "jobs"',
            "Whoever runs the operator must give it this right.",
        ),
        (
            'admission webhook "policy.example.com" denied the request: no',
            "Ask who runs it, or change what it names in the TrainingJob's spec.",
        ),
    ],
)
def test_it_names_the_trainingjobs_fields_and_the_remedy(message: str, told: str) -> None:
    found = of_job(ApiError(422, "Invalid", message, "POST", "/jobs"))
    assert found.reason == "JobRefused"
    assert found.message.startswith("the API server refuses the Job: ")
    assert told in found.message
    assert "spec.template" not in found.message or "surprise" in message


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("Forbidden", "exceeded quota: small", "Quota"),
        ("Forbidden", "namespace is being terminated", "NamespaceLeaving"),
        ("NotFound", "namespaces not found", "NamespaceLeaving"),
    ],
)
def test_other_causes(reason: str, message: str, expected: str) -> None:
    assert of_job(ApiError(403, reason, message, "POST", "/jobs")).reason == expected


def test_long_words_leave_the_remedy() -> None:
    message = f"{JOB}spec.template.labels: {'x' * 3000}"
    found = of_job(ApiError(422, "Invalid", message, "POST", "/jobs"))
    assert found.message.endswith(
        "…. Edit spec.podLabels of the TrainingJob: that is taken up at once."
    )
