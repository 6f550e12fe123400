"""Build the Kubernetes binary into the user's cache, once for each version of its sources.

    python3 deploy/local/kubeseg_local/build.py       prints the folder of the programs

Only the standard library: this runs beside the installation of the dependencies.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

if not __package__:  # run as a file: its own folder must not shadow the standard library
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from kubeseg_local.progress import Progress
from kubeseg_local.toolchain import ToolchainError, find_go, go_environment, wanted_version

SOURCES = Path(__file__).resolve().parents[1] / "kubernetes"
PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
    "helm",
)
KUBERNETES_VERSION = "v1.36.3"
CRI_API = "k8s.io/cri-api@v0.36.3"
CRI_PROTO = "pkg/apis/runtime/v1/api.proto"
# Without -X, `kubectl version` can't parse the version it reports.
FLAGS = (
    "-trimpath",
    f"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}",
)
ENV_BINARY = "KUBESEG_KUBERNETES"
DISK_NEEDED = 4 * 2**30


class BuildError(Exception):
    """The binary can't be built or used; the message says why and what to do."""


def cache_root() -> Path:
    """Folder of everything that is kept between runs: `${XDG_CACHE_HOME:-~/.cache}/kubeseg`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "kubeseg"


def source_key(sources: Path = SOURCES) -> str:
    """16 hex digits that change whenever the binary would."""
    digest = hashlib.sha256()
    for path in sorted([sources / "go.mod", sources / "go.sum", *sources.glob("*.go")]):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    digest.update("\0".join([*FLAGS, platform.machine()]).encode())
    return digest.hexdigest()[:16]


def ensure(say: Callable[[str], None] | None = None) -> Path:
    """Folder with the programs of Kubernetes, built if need be.

    Beside them lies `api.proto`, the runtime's protocol. Raises BuildError.
    """
    progress = Progress("building Kubernetes " + KUBERNETES_VERSION, say)
    named = os.environ.get(ENV_BINARY)
    home = cache_root() / "kubernetes"
    try:
        if named:
            return _use_named(Path(named), home, progress)
        target = home / source_key()
        if _complete(target):
            return target / "bin"
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / ".lock", progress):
            if not _complete(target):
                _build(target, progress)
        return target / "bin"
    except ToolchainError as error:
        raise BuildError(str(error)) from error
    except PermissionError as error:
        raise BuildError(
            f"{error.filename}: no permission. Set XDG_CACHE_HOME to a folder that you may write."
        ) from error


def _complete(target: Path) -> bool:
    return (target / "api.proto").is_file() and (target / "bin" / "kubectl").exists()


@contextlib.contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock on `path`, so that two builds don't share the machine's cores."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note("another build is under way: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _use_named(binary: Path, home: Path, progress: Progress) -> Path:
    binary = binary.expanduser().absolute()
    if not binary.is_file() or not os.access(binary, os.X_OK):
        raise BuildError(f"{ENV_BINARY}={binary}: no such executable file. Unset it to build one.")
    done = subprocess.run(
        [str(binary), "kubectl", "version", "--client"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or "Client Version" not in done.stdout:
        raise BuildError(
            f"{ENV_BINARY}={binary}: `kubectl version --client` fails, so it is not the binary "
            f"that deploy/local/kubernetes builds: {(done.stderr or done.stdout).strip()[-300:]}"
        )
    key = hashlib.sha256(f"{binary}\0{binary.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    target = home / f"named-{key}"
    if not _complete(target):
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / ".lock", progress), staged(target) as stage:
            _links(stage, str(binary))
            beside = binary.parent / "api.proto"
            proto = beside if beside.is_file() else _proto_from_modules(progress)
            shutil.copyfile(proto, stage / "api.proto")
    return target / "bin"


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` all at once when the block ends well."""
    stage = Path(tempfile.mkdtemp(dir=target.parent, prefix=".stage-"))
    try:
        yield stage
        stage.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        stage.rename(target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _links(stage: Path, binary: str) -> None:
    (stage / "bin").mkdir()
    for name in PROGRAMS:
        (stage / "bin" / name).symlink_to(binary)


def go_of(sources: Path, progress: Progress) -> Path:
    """A `go` that can build the module in `sources`. Raises ToolchainError."""
    wanted = wanted_version((sources / "go.mod").read_text())
    return find_go(wanted, cache_root(), progress.note)


def _proto_from_modules(progress: Progress) -> Path:
    go = go_of(SOURCES, progress)
    done = subprocess.run(
        [str(go), "mod", "download", "-json", CRI_API],
        cwd=SOURCES,
        env=go_environment(go),
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        if line.strip().startswith('"Dir":'):
            return Path(line.split(":", 1)[1].strip().strip('",')) / CRI_PROTO
    raise BuildError(
        f"module {CRI_API} can't be had: {(done.stderr or done.stdout).strip()[-600:]}"
    )


def _check_disk(paths: list[Path]) -> None:
    for wanted in paths:
        path = next(each for each in (wanted, *wanted.parents) if each.exists())
        free = shutil.disk_usage(path).free
        if free < DISK_NEEDED:
            raise BuildError(
                f"{path}: {free / 2**30:.1f} GiB free, and the build needs "
                f"{DISK_NEEDED / 2**30:.0f}. Make room, or set XDG_CACHE_HOME, GOCACHE and "
                f"GOMODCACHE to folders on a larger disk, or {ENV_BINARY} to a binary that is built"
            )


def _build(target: Path, progress: Progress) -> None:
    with staged(target) as stage:
        compile_package(".", SOURCES, stage / "kubernetes", progress)
        _links(stage, "../kubernetes")
        shutil.copyfile(_proto_from_modules(progress), stage / "api.proto")
    progress.done()


def compile_package(package: str, sources: Path, program: Path, progress: Progress) -> None:
    """Build `package` as seen from the module in `sources` into the file `program`.

    Raises BuildError, and ToolchainError where there is no Go.
    """
    go = go_of(sources, progress)
    env = go_environment(go)
    asked = [str(go), "env", "GOCACHE", "GOMODCACHE"]
    caches = subprocess.run(asked, env=env, capture_output=True, text=True, check=True).stdout
    _check_disk([program, *(Path(line) for line in caches.split())])
    progress.note("fetching its modules")
    # The list makes Go fetch all that the build needs, and counts what there is to compile.
    total = len(run_go(go, ["list", "-deps", package], sources).split())
    command = [str(go), "build", "-v", *FLAGS, "-o", str(program), package]
    compiled, tail = 0, list[str]()
    with subprocess.Popen(
        command,
        cwd=sources,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                compiled += 1
                tail = [*tail[-19:], line]
                progress.step(compiled, total)
        except BaseException:
            process.terminate()  # interrupted: Go keeps in its cache what it has compiled
            raise
    if process.returncode != 0:
        raise BuildError(f"`go build` failed in {sources}:\n{''.join(tail)}")


def run_go(go: Path, arguments: list[str], sources: Path) -> str:
    """What `go` says of the module in `sources`. Raises BuildError."""
    done = subprocess.run(
        [str(go), *arguments],
        cwd=sources,
        env=go_environment(go),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"`go {' '.join(arguments[:2])}` failed: {done.stderr.strip()[-800:]}")
    return done.stdout


def main() -> int:
    """Build, and print the folder of the programs."""
    parser = argparse.ArgumentParser(description="Build the embedded cluster's Kubernetes binary.")
    parser.parse_args()
    started = time.monotonic()
    try:
        folder = ensure()
    except BuildError as error:
        print(f"kubeseg-local: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("kubeseg-local: interrupted; what is compiled is kept", file=sys.stderr)
        return 130
    if time.monotonic() - started > 2 and sys.stderr.isatty():
        print(file=sys.stderr)
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
