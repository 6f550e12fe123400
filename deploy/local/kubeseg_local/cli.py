"""The command `kubeseg-local`: the embedded cluster up, down, and how it is."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from kubeseg_local.build import BuildError
from kubeseg_local.cluster import Cluster, ClusterError, report
from kubeseg_local.layout import DEFAULT_PORT_BASE, ENV_DIRECTORY, default_directory
from kubeseg_local.namespaces import NamespaceError

INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kubeseg-local",
        description="A real Kubernetes on this machine, without Docker and without root.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--dir",
        type=Path,
        default=None,
        help=f"the cluster's folder (default: {ENV_DIRECTORY}, else {default_directory()})",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", parents=[common], help="start it, and wait until it is ready")
    up.add_argument("--gpus", type=_count, help="nvidia.com/gpu that its node pretends to have")
    up.add_argument(
        "--port-base",
        type=int,
        help=f"first of its 400 ports (default: {DEFAULT_PORT_BASE})",
    )
    commands.add_parser("down", parents=[common], help="end it and remove all its files")
    commands.add_parser(
        "status", parents=[common], help="how it is; exit code 1 unless all is well"
    )
    commands.add_parser(
        "env", parents=[common], help='for kubectl and helm: eval "$(kubeseg-local env)"'
    )
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more: {text}")
    return number


def _up(cluster: Cluster) -> int:
    started = time.monotonic()
    terminal = sys.stderr.isatty()

    def say(step: str) -> None:
        print(
            f"\r\033[K{step}" if terminal else step, end="" if terminal else "\n", file=sys.stderr
        )
        sys.stderr.flush()

    fresh = cluster.up(say)
    if terminal:
        print("\r\033[K", end="", file=sys.stderr)
    settings = cluster.status().settings
    assert settings is not None
    gpus = f", {settings.gpus} GPUs (pretended)" if settings.gpus else ""
    how = f"ready in {time.monotonic() - started:.0f} s" if fresh else "already running, and well"
    print(f"cluster {how}: https://127.0.0.1:{settings.port_base}{gpus}")
    command = shlex.quote(str(Path(sys.executable).with_name("kubeseg-local")))
    folder = f" --dir {shlex.quote(str(cluster.directory))}"
    default = cluster.directory == default_directory().resolve()
    print(f'eval "$({command} env{"" if default else folder})"      then kubectl and helm use it')
    return 0


def _status(cluster: Cluster) -> int:
    status = cluster.status()
    if status.settings is not None:
        base = status.settings.port_base
        print(f"{status.phase}  {cluster.directory}  https://127.0.0.1:{base}")
    if status.state is not None and status.phase != "Stopped":
        for name, state in status.state.components.items():
            now = "well" if state.running and state.healthy else "NOT WELL"
            again = f"   restarted {state.restarts} times" if state.restarts else ""
            print(f"  {name:<24} {now}{again}")
    text = report(status)
    if text:
        print(text)
    return 0 if status.healthy else 1


def main() -> int:
    """Run one command; the process's exit code."""
    arguments = _parser().parse_args()
    cluster = Cluster(
        arguments.dir, getattr(arguments, "port_base", None), getattr(arguments, "gpus", None)
    )
    try:
        if arguments.command == "up":
            return _up(cluster)
        if arguments.command == "down":
            print("removed" if cluster.down() else "there was no cluster")
            return 0
        if arguments.command == "status":
            return _status(cluster)
        for name, value in cluster.env().items():
            print(f"export {name}={shlex.quote(value)}")
    except (BuildError, ClusterError, NamespaceError) as error:
        print(f"kubeseg-local: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("kubeseg-local: interrupted; `up` goes on, `down` removes it", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
