"""The kubelet's calls: each method takes a request of the protocol and gives its response."""

# The methods bear the protocol's names, and its api.proto says what each is to do.
# ruff: noqa: N802, D102

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubeseg_local import __name__ as package
from kubeseg_local.runtime import images
from kubeseg_local.runtime.containers import Containers
from kubeseg_local.runtime.faults import CallError, NotFoundError, UnsupportedError
from kubeseg_local.runtime.spec import check_sandbox
from kubeseg_local.runtime.store import RUNNING, Container, Sandbox, Store

STREAMS = "kubectl {} is not supported by the embedded cluster: its runtime has no streaming server"


def matches(labels: dict[str, str], selector: dict[str, str]) -> bool:
    """Whether `labels` has all of `selector`."""
    return selector.items() <= labels.items()


class Runtime:
    """The service `runtime.v1.RuntimeService`; `pb` is the module of its messages."""

    def __init__(self, pb: Any, store: Store, containers: Containers, image_map: Path) -> None:
        self._pb = pb
        self._store = store
        self._containers = containers
        self._image_map = image_map

    def methods(self) -> dict[str, Callable[[Any], Any]]:
        """Every call that is answered, by its name in the protocol."""
        return {
            name: getattr(self, name)
            for name in dir(self)
            if name[0].isupper() and callable(getattr(self, name))
        }

    # The runtime itself

    def Version(self, _: Any) -> Any:
        return self._pb.VersionResponse(
            version="0.1.0",
            runtime_name=package,
            runtime_version="0.1.0",
            runtime_api_version="v1",
        )

    def Status(self, _: Any) -> Any:
        conditions = [
            self._pb.RuntimeCondition(type=each, status=True)
            for each in ("RuntimeReady", "NetworkReady")
        ]
        handler = self._pb.RuntimeHandler(name="")
        return self._pb.StatusResponse(
            status=self._pb.RuntimeStatus(conditions=conditions), runtime_handlers=[handler]
        )

    def RuntimeConfig(self, _: Any) -> Any:
        linux = self._pb.LinuxRuntimeConfiguration(cgroup_driver=self._pb.CGROUPFS)
        return self._pb.RuntimeConfigResponse(linux=linux)

    def UpdateRuntimeConfig(self, _: Any) -> Any:
        return self._pb.UpdateRuntimeConfigResponse()

    # Sandboxes

    def RunPodSandbox(self, request: Any) -> Any:
        config = request.config
        check_sandbox(config)
        on_host = config.linux.security_context.namespace_options.network == self._pb.NODE
        with self._store.lock:
            sandbox = Sandbox(
                id=secrets.token_hex(32),
                ip="" if on_host else self._store.new_address(),
                created_at=time.time_ns(),
                config=config,
            )
            self._store.save_sandbox(sandbox)
        return self._pb.RunPodSandboxResponse(pod_sandbox_id=sandbox.id)

    def StopPodSandbox(self, request: Any) -> Any:
        try:
            sandbox = self._store.sandbox(request.pod_sandbox_id)
        except NotFoundError:
            return self._pb.StopPodSandboxResponse()
        for container in self._store.containers_of(sandbox):
            self._containers.stop(container, 0)
        sandbox.ready = False
        self._store.save_sandbox(sandbox)
        return self._pb.StopPodSandboxResponse()

    def RemovePodSandbox(self, request: Any) -> Any:
        try:
            sandbox = self._store.sandbox(request.pod_sandbox_id)
        except NotFoundError:
            return self._pb.RemovePodSandboxResponse()
        for container in self._store.containers_of(sandbox):
            self._remove(container)
        self._store.forget_sandbox(sandbox)
        return self._pb.RemovePodSandboxResponse()

    def _sandbox_state(self, sandbox: Sandbox) -> Any:
        return self._pb.SANDBOX_READY if sandbox.ready else self._pb.SANDBOX_NOTREADY

    def PodSandboxStatus(self, request: Any) -> Any:
        sandbox = self._store.sandbox(request.pod_sandbox_id)
        config = sandbox.config
        options = config.linux.security_context.namespace_options
        status = self._pb.PodSandboxStatus(
            id=sandbox.id,
            metadata=config.metadata,
            state=self._sandbox_state(sandbox),
            created_at=sandbox.created_at,
            network=self._pb.PodSandboxNetworkStatus(ip=sandbox.ip),
            linux=self._pb.LinuxPodSandboxStatus(namespaces=self._pb.Namespace(options=options)),
            labels=config.labels,
            annotations=config.annotations,
        )
        return self._pb.PodSandboxStatusResponse(status=status)

    def ListPodSandbox(self, request: Any) -> Any:
        wanted = request.filter
        with self._store.lock:
            items = [
                self._pb.PodSandbox(
                    id=each.id,
                    metadata=each.config.metadata,
                    state=self._sandbox_state(each),
                    created_at=each.created_at,
                    labels=each.config.labels,
                    annotations=each.config.annotations,
                )
                for each in self._store.sandboxes.values()
                if wanted.id in {"", each.id}
                and (
                    not wanted.HasField("state") or wanted.state.state == self._sandbox_state(each)
                )
                and matches(dict(each.config.labels), dict(wanted.label_selector))
            ]
        return self._pb.ListPodSandboxResponse(items=items)

    # Containers

    def CreateContainer(self, request: Any) -> Any:
        sandbox = self._store.sandbox(request.pod_sandbox_id)
        config = request.config
        image = images.pull(images.load(self._image_map), config.image.image)
        container = Container(
            id=secrets.token_hex(32),
            sandbox=sandbox.id,
            image=config.image.user_specified_image or config.image.image,
            image_id=image.id,
            created_at=time.time_ns(),
            config=config,
        )
        self._store.save_container(container)
        return self._pb.CreateContainerResponse(container_id=container.id)

    def StartContainer(self, request: Any) -> Any:
        container = self._store.container(request.container_id)
        image = images.pull(images.load(self._image_map), container.image_id)
        self._containers.start(container, image)
        return self._pb.StartContainerResponse()

    def StopContainer(self, request: Any) -> Any:
        try:
            container = self._store.container(request.container_id)
        except NotFoundError:
            return self._pb.StopContainerResponse()
        self._containers.stop(container, request.timeout)
        return self._pb.StopContainerResponse()

    def RemoveContainer(self, request: Any) -> Any:
        try:
            self._remove(self._store.container(request.container_id))
        except NotFoundError:
            return self._pb.RemoveContainerResponse()
        return self._pb.RemoveContainerResponse()

    def _remove(self, container: Container) -> None:
        self._containers.stop(container, 0)
        self._store.forget_container(container)

    def ListContainers(self, request: Any) -> Any:
        wanted = request.filter
        with self._store.lock:
            containers = [
                self._pb.Container(
                    id=each.id,
                    pod_sandbox_id=each.sandbox,
                    metadata=each.config.metadata,
                    image=self._pb.ImageSpec(image=each.image),
                    image_ref=each.image_id,
                    image_id=each.image_id,
                    state=each.state,
                    created_at=each.created_at,
                    labels=each.config.labels,
                    annotations=each.config.annotations,
                )
                for each in self._store.containers.values()
                if wanted.id in {"", each.id}
                and wanted.pod_sandbox_id in {"", each.sandbox}
                and (not wanted.HasField("state") or wanted.state.state == each.state)
                and matches(dict(each.config.labels), dict(wanted.label_selector))
            ]
        return self._pb.ListContainersResponse(containers=containers)

    def ContainerStatus(self, request: Any) -> Any:
        each = self._store.container(request.container_id)
        sandbox = self._store.sandbox(each.sandbox)
        with self._store.lock:
            status = self._pb.ContainerStatus(
                id=each.id,
                metadata=each.config.metadata,
                state=each.state,
                created_at=each.created_at,
                started_at=each.started_at,
                finished_at=each.finished_at,
                exit_code=each.exit_code,
                image=self._pb.ImageSpec(image=each.image),
                image_ref=each.image_id,
                image_id=each.image_id,
                reason=each.reason,
                message=each.message,
                labels=each.config.labels,
                annotations=each.config.annotations,
                mounts=each.config.mounts,
                log_path=str(Path(sandbox.config.log_directory) / each.config.log_path),
            )
        return self._pb.ContainerStatusResponse(status=status)

    def UpdateContainerResources(self, _: Any) -> Any:
        # Limits count for scheduling only, so there is nothing to change in the process.
        return self._pb.UpdateContainerResourcesResponse()

    def ReopenContainerLog(self, request: Any) -> Any:
        container = self._store.container(request.container_id)
        if container.state != RUNNING or container.log is None:
            raise CallError(f"container {container.id} isn't running")
        container.log.reopen()
        return self._pb.ReopenContainerLogResponse()

    def ExecSync(self, request: Any) -> Any:
        container = self._store.container(request.container_id)
        out, err, code = self._containers.execute(container, list(request.cmd), request.timeout)
        return self._pb.ExecSyncResponse(stdout=out, stderr=err, exit_code=code)

    # What needs more than processes

    def Exec(self, _: Any) -> Any:
        raise UnsupportedError(STREAMS.format("exec"))

    def Attach(self, _: Any) -> Any:
        raise UnsupportedError(STREAMS.format("attach"))

    def PortForward(self, _: Any) -> Any:
        raise UnsupportedError(STREAMS.format("port-forward"))

    # Statistics: without cgroups there are none

    def ListContainerStats(self, _: Any) -> Any:
        return self._pb.ListContainerStatsResponse()

    def ListPodSandboxStats(self, _: Any) -> Any:
        return self._pb.ListPodSandboxStatsResponse()


class Images:
    """The service `runtime.v1.ImageService`."""

    def __init__(self, pb: Any, image_map: Path, file_system: Path) -> None:
        self._pb = pb
        self._image_map = image_map
        self._file_system = file_system

    def methods(self) -> dict[str, Callable[[Any], Any]]:
        """Every call that is answered, by its name in the protocol."""
        return {
            name: getattr(self, name)
            for name in dir(self)
            if name[0].isupper() and callable(getattr(self, name))
        }

    def _message(self, image: images.Image, reference: str) -> Any:
        return self._pb.Image(
            id=image.id,
            repo_tags=[reference],
            size=images.NOMINAL_SIZE,
            uid=self._pb.Int64Value(value=image.uid),
            spec=self._pb.ImageSpec(image=reference),
        )

    def ImageStatus(self, request: Any) -> Any:
        reference = request.image.image
        image = images.find(images.load(self._image_map), reference)
        if image is None:
            return self._pb.ImageStatusResponse()
        return self._pb.ImageStatusResponse(image=self._message(image, reference))

    def PullImage(self, request: Any) -> Any:
        image = images.pull(images.load(self._image_map), request.image.image)
        return self._pb.PullImageResponse(image_ref=image.id)

    def ListImages(self, _: Any) -> Any:
        known = images.load(self._image_map).values()
        return self._pb.ListImagesResponse(
            images=[self._message(each, f"{each.name}:latest") for each in known]
        )

    def RemoveImage(self, _: Any) -> Any:
        return self._pb.RemoveImageResponse()  # they are this checkout: nothing to remove

    def ImageFsInfo(self, _: Any) -> Any:
        used = shutil.disk_usage(self._file_system).used
        usage = self._pb.FilesystemUsage(
            timestamp=time.time_ns(),
            fs_id=self._pb.FilesystemIdentifier(mountpoint=str(self._file_system)),
            used_bytes=self._pb.UInt64Value(value=used),
            inodes_used=self._pb.UInt64Value(value=0),
        )
        return self._pb.ImageFsInfoResponse(
            image_filesystems=[usage], container_filesystems=[usage]
        )
