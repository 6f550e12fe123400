"""Serve the runtime of the cluster in FOLDER: `python -m kubeseg_local.runtime FOLDER`."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from kubeseg_local.layout import CRI_SOCKET, Layout, Settings
from kubeseg_local.runtime import stubs
from kubeseg_local.runtime.containers import Containers
from kubeseg_local.runtime.faults import CallError
from kubeseg_local.runtime.hosts import HostsFiles
from kubeseg_local.runtime.memory import MemoryWatch
from kubeseg_local.runtime.service import Images, Runtime
from kubeseg_local.runtime.spec import Host, shown_folders
from kubeseg_local.runtime.store import Store

PR_SET_CHILD_SUBREAPER = 36
# A call that waits for a grace period to pass holds one.
THREADS = 128
log = logging.getLogger("kubeseg_local.runtime")


def adopt_orphans() -> None:
    """Become the parent of the containers' first processes, whose launchers leave at once."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def handler(
    pb: Any, service: str, methods: dict[str, Callable[[Any], Any]]
) -> grpc.GenericRpcHandler:
    """Serve `methods` as the protocol's `service`."""
    described = pb.DESCRIPTOR.services_by_name[service].methods_by_name

    def answering(method: Callable[[Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return method(request)
            except CallError as error:
                context.abort(error.code, str(error))
            except Exception as error:  # the kubelet must learn of it, and go on
                log.exception("%s", method.__name__)
                context.abort(grpc.StatusCode.INTERNAL, f"{method.__name__}: {error!r}")

        return answer

    handlers = {}
    for name, method in methods.items():
        asked, replied = (
            getattr(pb, kind.name)
            for kind in (described[name].input_type, described[name].output_type)
        )
        handlers[name] = grpc.unary_unary_rpc_method_handler(
            answering(method),
            request_deserializer=asked.FromString,
            response_serializer=replied.SerializeToString,
        )
    return grpc.method_handlers_generic_handler(f"runtime.v1.{service}", handlers)


def describe_host(layout: Layout, settings: Settings) -> Host:
    """What containers share of this machine."""
    resolv_conf = Path("/etc/resolv.conf")
    shown = shown_folders()
    hidden = [f"{folder}/{name}" for folder in shown for name in (".kubeseg", ".git")] + [
        str(layout.root)
    ]
    return Host(
        rootless=settings.rootless,
        api_port=settings.ports.api,
        shown=shown,
        hidden=hidden,
        resolv_conf=resolv_conf.read_text() if resolv_conf.exists() else "",
    )


def main() -> int:
    """Serve until killed."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    layout = Layout(Path(sys.argv[1]))
    settings = Settings.load(layout.settings)
    if settings is None:
        log.error("%s is missing", layout.settings)
        return 1
    adopt_orphans()
    pb = stubs.load(layout.stubs)
    store = Store(layout.runtime, settings.ports.pod_prefix, pb)
    store.load()
    hosts = HostsFiles(layout.names)
    containers = Containers(store, describe_host(layout, settings), hosts)
    containers.recover()
    threading.Thread(target=hosts.run, daemon=True).start()
    threading.Thread(target=MemoryWatch(store, containers.kill).run, daemon=True).start()
    server = grpc.server(futures.ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers(
        (
            handler(pb, "RuntimeService", Runtime(pb, store, containers, layout.images).methods()),
            handler(pb, "ImageService", Images(pb, layout.images, layout.root).methods()),
        )
    )
    CRI_SOCKET.unlink(missing_ok=True)
    server.add_insecure_port(f"unix:{CRI_SOCKET}")
    os.umask(0o022)
    server.start()
    log.info("serving on %s", CRI_SOCKET)
    server.wait_for_termination()
    return 0


if __name__ == "__main__":
    sys.exit(main())
