"""kubeseg as a user has it: the chart installed with Helm, kubectl, and calls to the facade."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from PIL import Image

from tests.support.cluster import (
    ROOT,
    KubectlError,
    Namespace,
    NotReachedError,
    TestCluster,
    wait_for,
)

RELEASE = "kubeseg"


class Installation(Namespace):
    """One release of the chart in a namespace of its own, and a user's token for its facade."""

    def __init__(self, cluster: TestCluster, name: str, url: str) -> None:
        super().__init__(cluster, name)
        self.url = url
        self.token = ""
        self._uploaded: set[str] = set()

    def refused(self, *arguments: str, stdin: str | None = None) -> str:
        """What `kubectl` says on refusing; AssertionError where it does not refuse."""
        try:
            said = self.kubectl(*arguments, stdin=stdin)
        except KubectlError as error:
            return str(error)
        raise AssertionError(f"not refused: {said}")

    def status(self, job: str) -> dict[str, Any]:
        """`status` of a TrainingJob, {} at first."""
        status: dict[str, Any] = self.get("tj", job).get("status", {})
        return status

    def condition(self, job: str, kind: str) -> dict[str, Any]:
        """One of a TrainingJob's conditions, {} where it is not there."""
        conditions = self.status(job).get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})

    def wait_status(
        self, job: str, what: str, look: Callable[[dict[str, Any]], Any], seconds: float = 180
    ) -> dict[str, Any]:
        """The status of `job` as soon as `look` finds it so; told in full where it never is."""

        def once() -> dict[str, Any] | None:
            status = self.status(job)
            return status if look(status) else None

        try:
            return wait_for(f"{job}: {what}", once, seconds)
        except NotReachedError as error:
            pods = self.kubectl("get", "pods", "-l", f"kubeseg.dev/job={job}", "-o", "wide")
            try:
                logs = self.kubectl("logs", "--tail=30", "-l", f"kubeseg.dev/job={job}")
            except KubectlError as unreadable:
                logs = str(unreadable)
            told = json.dumps(self.status(job), indent=1)
            raise NotReachedError(f"{error}\n{told}\n{pods}\n{logs}") from None

    def wait_job(self, job: str, phase: str, seconds: float = 180) -> dict[str, Any]:
        """The status of `job` once it is in `phase`."""
        return self.wait_status(job, phase, lambda s: s.get("phase") == phase, seconds)

    def wait_epoch(self, job: str, epoch: int, seconds: float = 180) -> dict[str, Any]:
        """The status of `job` once `epoch` epochs are done."""
        return self.wait_status(
            job,
            f"epoch {epoch}",
            lambda s: s.get("progress", {}).get("epoch", 0) >= epoch,
            seconds,
        )

    @property
    def http(self) -> httpx.Client:
        """A client with the user's token."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def upload(self, name: str, archive: bytes) -> httpx.Response:
        """Put a ZIP up as the data set `name`."""
        with self.http as client:
            return client.put(
                f"/v1/datasets/{name}",
                content=archive,
                headers={"Content-Type": "application/zip"},
            )

    def data_set(self, name: str, archive: Callable[[], bytes] | None = None) -> str:
        """Make sure that the data set is there; returns its name."""
        if name not in self._uploaded:
            reply = self.upload(name, (archive or small_data_set)())
            assert reply.status_code in {200, 201}, reply.text
            self._uploaded.add(name)
        return name

    def workspace(self) -> Path:
        """Where the workspace volume lies on this machine."""
        claim = self.get("pvc", "kubeseg-workspace")
        return Path(self.get("pv", claim["spec"]["volumeName"])["spec"]["hostPath"]["path"])

    def history(self, job: str, uid: str | None = None) -> list[dict[str, Any]]:
        """The newest metrics.jsonl of a job's run."""
        uid = uid or self.get("tj", job)["metadata"]["uid"]
        files = sorted(self.workspace().glob(f"runs/{job}/{uid}/attempts/*/metrics.jsonl"))
        return [json.loads(line) for line in files[-1].read_text().splitlines()] if files else []


def values(namespace: str, node_port: int) -> dict[str, Any]:
    """The demo's values; what differs lets this release live beside others, and train fast."""
    chosen: dict[str, Any] = yaml.safe_load((ROOT / "deploy/samples/demo-values.yaml").read_text())
    chosen["operator"]["namespaces"] = [namespace]
    chosen["operator"]["extraEnv"] = [{"name": "KUBESEG_BACKOFF_SECONDS", "value": "1"}]
    chosen["api"]["service"]["nodePort"] = node_port
    chosen["api"]["studyTemplate"] = {
        "model": {"encoder": "tu-lcnet_050"},
        "resources": {"cpu": "500m", "memory": "2Gi", "sharedMemory": "64Mi"},
    }
    return chosen


@contextlib.contextmanager
def installed(
    cluster: TestCluster, namespace: str, chosen: dict[str, Any], folder: Path
) -> Iterator[Installation]:
    """The chart installed with these values, with a user's token and a facade that answers."""
    url = f"http://127.0.0.1:{chosen['api']['service']['nodePort']}"
    installation = Installation(cluster, namespace, url)
    cluster.kubectl("create", "namespace", namespace)
    labels = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", namespace, labels)
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(chosen))
    # Other tests may have applied the CRD by hand.
    cluster.helm(
        "upgrade", "--install", RELEASE, str(ROOT / "charts/kubeseg"), "--take-ownership",
        "--namespace", namespace, "--values", str(file), "--wait", "--timeout", "120s",
    )  # fmt: skip
    installation.kubectl("create", "serviceaccount", "engineer")
    installation.kubectl(
        "create", "rolebinding", "engineer", f"--clusterrole={RELEASE}-user",
        f"--serviceaccount={namespace}:engineer",
    )  # fmt: skip
    installation.token = installation.kubectl("create", "token", "engineer").strip()
    wait_for("the facade is ready", lambda: _ready(installation.url))
    yield installation
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def small_picture(generator: np.random.Generator, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture with a disc (1) and a square (2): (H × W × 3, H × W), uint8."""
    mask = np.zeros((side, side), np.uint8)
    rows, columns = np.mgrid[:side, :side]
    y, x, radius = generator.integers(10, side - 10, 3)
    mask[(rows - y) ** 2 + (columns - x) ** 2 < (4 + radius % 6) ** 2] = 1
    y, x = generator.integers(4, side - 14, 2)
    mask[y : y + 10, x : x + 10] = 2
    image = generator.normal(90, 30, (side, side, 3))
    image[mask == 1] += (60, 0, 20)
    image[mask == 2] += (0, 50, -30)
    return image.clip(0, 255).astype(np.uint8), mask


def png(array: np.ndarray) -> bytes:
    """A picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    """A ZIP of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def small_files(count: int = 20, seed: int = 0) -> dict[str, bytes]:
    """Files of a small data set, images/ and masks/."""
    generator = np.random.default_rng(seed)
    files = {}
    for number in range(count):
        image, mask = small_picture(generator)
        files[f"images/{number:03d}.png"] = png(image)
        files[f"masks/{number:03d}.png"] = png(mask)
    return files


def small_data_set(count: int = 20, seed: int = 0) -> bytes:
    """A small data set as ZIP."""
    return zipped(small_files(count, seed))


def training_job(name: str, *, epochs: int, dataset: str = "small", **spec: Any) -> dict[str, Any]:
    """A TrainingJob of a tiny network: a second an epoch, and less."""
    training = {
        "epochs": epochs, "batchSize": 8, "imageSize": 64, "learningRate": 0.005,
        **spec.pop("training", {}),
    }  # fmt: skip
    return {
        "apiVersion": "kubeseg.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"architecture": "Linknet", "encoder": "tu-lcnet_050"},
            "dataset": {"name": dataset},
            "training": training,
            "resources": {"cpu": "500m", "memory": "2Gi", "sharedMemory": "64Mi"},
            # Seconds for each job; the one of test_applied_trained_downloaded has it.
            "export": {"onnx": False},
            **spec,
        },
    }
