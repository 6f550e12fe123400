"""`kubeseg-api`: the facade as a process."""

from __future__ import annotations

import logging
import os
import signal
import sys

import uvicorn
from prometheus_client import CollectorRegistry, start_http_server

from kubeseg_api.app import create_app
from kubeseg_api.kube import ClusterConfigError, find_cluster
from kubeseg_api.services.studies import check_template
from kubeseg_api.settings import ENV_TEMPLATE, Settings, SettingsError, from_environment

log = logging.getLogger(__name__)

GRACE_SECONDS = 20


def _settings() -> Settings:
    settings = from_environment()
    try:
        check_template(settings.study_template)
    except ValueError as error:
        raise SettingsError(f"{ENV_TEMPLATE}: no study can be made with it: {error}") from error
    return settings


def main() -> None:
    """Serves until SIGTERM; requests that are under way are finished first."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stdout,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # Operator, trainer and facade share the volume through their group.
    os.umask(0o002)
    try:
        settings, cluster = _settings(), find_cluster()
    except (SettingsError, ClusterConfigError) as error:
        sys.exit(f"kubeseg-api: {error}")
    registry = CollectorRegistry()
    try:
        start_http_server(settings.metrics_port, settings.bind, registry)
    except OSError as error:
        sys.exit(
            f"kubeseg-api: port {settings.metrics_port} on {settings.bind} can't be had: {error}; "
            "set KUBESEG_METRICS_PORT"
        )
    app = create_app(settings, cluster, registry)
    log.info(
        "serving workspace %s and namespace %s of %s on %s:%d",
        settings.workspace,
        settings.namespace or cluster.namespace,
        cluster.server,
        settings.bind,
        settings.port,
    )
    # uvicorn raises the signal again when it is done: that is a clean end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        app,
        host=settings.bind,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()
