"""An API server and its etcd, as the embedded cluster starts them, and nothing else.

No controllers: what is measured is what a client and the API server do. Each contender gets a
fresh one, so that no one inherits another's objects.
"""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import ROOT
from kubeseg_local import build, certificates, configuration
from kubeseg_local.components import Component, all_components
from kubeseg_local.layout import NODE, Layout, Ports, Settings
from kubeseg_local.processes import port_is_free

CRD = ROOT / "charts" / "kubeseg" / "files" / "trainingjobs.yaml"
#: Beside the demo's and the tests' clusters.
FIRST_PORT, PORTS_APART = 36443, 400
DEADLINE = 60.0


@dataclass(frozen=True)
class Plane:
    """A control plane that answers."""

    layout: Layout
    settings: Settings

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        """Who did what."""
        return self.layout.audit_log

    def kubectl(self, *arguments: str) -> str:
        """Output of kubectl. Raises CalledProcessError."""
        return subprocess.run(
            [f"{self.settings.bin_dir}/kubectl", *arguments],
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout


@contextlib.contextmanager
def control_plane(*, controllers: bool = False) -> Iterator[Plane]:
    """A fresh one with the CRD in it; ended and removed after use.

    With `controllers` the controller manager runs beside it and makes pods, which nobody places.
    """
    wanted = {"etcd", "kube-apiserver"} | ({"kube-controller-manager"} if controllers else set())
    with tempfile.TemporaryDirectory(prefix="kubeseg-bench-") as folder:
        layout = Layout(Path(folder))
        settings = Settings(_free_ports(), gpus=0, rootless=False, bin_dir=str(build.ensure()))
        for each in layout.folders():
            each.mkdir(parents=True, exist_ok=True)
        certificates.write_all(layout.pki, NODE, settings.ports.api_service_address)
        configuration.write_all(layout, settings)
        plane = Plane(layout, settings)
        parts = [part for part in all_components(layout, settings) if part.name in wanted]
        with contextlib.ExitStack() as running:
            for part in parts:
                if part.needs_api:
                    _until_ready(plane)
                running.enter_context(_run(layout, part))
            _until_ready(plane)
            plane.kubectl("apply", "--server-side", "-f", str(CRD))
            plane.kubectl("wait", "--for=condition=Established", "-f", str(CRD), "--timeout=60s")
            yield plane


def _free_ports() -> int:
    for number in range(8):
        base = FIRST_PORT + PORTS_APART * number
        if all(map(port_is_free, Ports(base).named())):
            return base
    raise SystemExit(f"all ports from {FIRST_PORT} are taken: end what listens there")


@contextlib.contextmanager
def _run(layout: Layout, part: Component) -> Iterator[None]:
    with layout.component_log(part.name).open("ab") as output:
        process = subprocess.Popen(part.command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_ready(plane: Plane) -> None:
    pki = plane.layout.pki
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    url = f"https://127.0.0.1:{plane.settings.ports.api}/readyz"
    until = time.monotonic() + DEADLINE
    while True:
        try:
            with urllib.request.urlopen(url, context=context, timeout=5):
                return
        except OSError:
            if time.monotonic() > until:
                log = plane.layout.component_log("kube-apiserver").read_text()[-2000:]
                raise SystemExit(f"the API server does not start:\n{log}") from None
            time.sleep(0.1)
