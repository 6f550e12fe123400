"""Where several workers find each other: a headless Service for each TrainingJob. Pure."""

from __future__ import annotations

from kubeseg_operator.views import JobView, Raw
from kubeseg_types.names import (
    COORDINATOR_PORT,
    ENV_COORDINATOR,
    ENV_POD_IP,
    ENV_PROCESSES,
    ENV_WORKER_INDEX,
    ENV_WORKERS,
    LABEL_JOB,
    LABEL_MANAGED_BY,
    MANAGED_BY,
)
from kubeseg_types.spec import TrainingJobSpec

#: What the operator, or Kubernetes, says of a pod's place in the group: not for users to set.
RESERVED = frozenset({ENV_POD_IP, ENV_WORKERS, ENV_COORDINATOR, ENV_WORKER_INDEX})


#: Seconds after which workers that have not met have given up, unless they were given longer.
RENDEZVOUS_SECONDS = 900


def service_name(job: str) -> str:
    """Name of a job's Service. A job's own name may begin with a digit, a Service's must not."""
    return f"kubeseg-{job}"


def coordinator(job: str, child: str) -> str:
    """host:port of worker 0 of the child Job `child`."""
    return f"{child}-0.{service_name(job)}:{COORDINATOR_PORT}"


def environment(spec: TrainingJobSpec, job: str, child: str) -> list[Raw]:
    """What a worker must know of the group; nothing where it is alone."""
    own: dict[str, str] = {}
    if spec.workers > 1:
        own |= {ENV_WORKERS: str(spec.workers), ENV_COORDINATOR: coordinator(job, child)}
    if spec.resources.gpus > 1:
        # Said, not found out: what the trainer sees of other vendors' GPUs is no sure count.
        own[ENV_PROCESSES] = str(spec.resources.gpus)
    return [{"name": name, "value": value} for name, value in own.items()]


def service_spec(job: str) -> Raw:
    """The Service's spec: every pod of the job has a name as soon as it has an address."""
    return {
        "clusterIP": "None",
        # A worker is ready once it has met the others: its name must be there before that.
        "publishNotReadyAddresses": True,
        "selector": {LABEL_JOB: job},
        "ports": [{"name": "coordinator", "port": COORDINATOR_PORT, "protocol": "TCP"}],
    }


def headless_service(job: JobView, owner: Raw) -> Raw:
    """The Service of a job with several workers; made once, for all its attempts."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": service_name(job.key.name),
            "namespace": job.key.namespace,
            "labels": {LABEL_JOB: job.key.name, LABEL_MANAGED_BY: MANAGED_BY},
            "ownerReferences": [owner],
        },
        "spec": service_spec(job.key.name),
    }


def as_wished(found: Raw, wanted: Raw) -> bool:
    """Whether a Service does what `wanted` says; what the API server adds counts for nothing."""
    spec, wish = found.get("spec") or {}, wanted["spec"]
    same = all(spec.get(name) == value for name, value in wish.items() if name != "ports")
    ports = {(port.get("port"), port.get("protocol", "TCP")) for port in spec.get("ports") or []}
    return same and {(port["port"], port["protocol"]) for port in wish["ports"]} <= ports
