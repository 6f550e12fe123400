"""Start, look at and remove an embedded cluster: what the command and the tests call."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kubeseg_local import build, certificates, configuration, namespaces, processes
from kubeseg_local.layout import (
    DEFAULT_PORT_BASE,
    NODE,
    REPOSITORY,
    Layout,
    Settings,
    default_directory,
)
from kubeseg_local.runner import last_lines
from kubeseg_local.runtime import stubs
from kubeseg_local.state import ClusterState, crash_text

UP_DEADLINE_S = 180.0
POLL_S = 0.05
LAST_PORT = 65535
#: Environment that the cluster's own processes get; nothing else of the caller's.
KEPT_ENVIRONMENT = ("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR")


class ClusterError(Exception):
    """The cluster can't do what is asked; the message says why and what to do."""


@dataclass(frozen=True)
class Status:
    """How a cluster is."""

    #: "Absent", "Stopped" (its supervisor is gone), "Starting", "Ready" or "Failed".
    phase: str
    #: What is wrong now.
    problems: list[str]
    state: ClusterState | None
    settings: Settings | None

    @property
    def healthy(self) -> bool:
        """Ready, and every component well."""
        return self.phase == "Ready" and not self.problems


class Cluster:
    """The cluster in one folder. `port_base` and `gpus` None: as it was started, or the default."""

    def __init__(
        self,
        directory: Path | str | None = None,
        port_base: int | None = None,
        gpus: int | None = None,
    ) -> None:
        # The path identifies the cluster's processes, so it has to be the same each time.
        self.layout = Layout(Path(directory or default_directory()).expanduser().resolve())
        self._port_base = port_base
        self._gpus = gpus

    @property
    def directory(self) -> Path:
        """The cluster's folder."""
        return self.layout.root

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.layout.kubeconfig

    @property
    def bin_dir(self) -> Path:
        """Folder with kubectl and helm. Raises ClusterError when there is no cluster."""
        return Path(self._settings().bin_dir)

    def _settings(self) -> Settings:
        settings = Settings.load(self.layout.settings)
        if settings is None:
            raise ClusterError(f"no cluster in {self.directory}: start one with `kubeseg-local up`")
        return settings

    def env(self) -> dict[str, str]:
        """KUBECONFIG and PATH for kubectl and helm."""
        path = os.environ.get("PATH", os.defpath).split(os.pathsep)
        first = [str(self.bin_dir), *(each for each in path if each != str(self.bin_dir))]
        return {"KUBECONFIG": str(self.kubeconfig), "PATH": os.pathsep.join(first)}

    def status(self) -> Status:
        """How the cluster is, now."""
        settings = Settings.load(self.layout.settings)
        if not self.directory.exists() or settings is None:
            return Status("Absent", ["there is no cluster"], None, settings)
        state = ClusterState.load(self.layout.state)
        if not processes.supervisors(self.directory):
            return Status("Stopped", [self._why_stopped()], state, settings)
        if state is None:
            return Status("Starting", ["starting"], None, settings)
        return Status(state.phase, state.problems(), state, settings)

    def _why_stopped(self) -> str:
        lines = last_lines(self.layout.component_log("supervisor"), 3)
        said = f" It said last: {' | '.join(lines)}" if lines else ""
        return f"its supervisor is gone: start it anew with `kubeseg-local up`.{said}"

    def up(self, on_step: Callable[[str], None] | None = None) -> bool:
        """Start the cluster and wait until it is well; False when it was so already.

        `on_step` is told what happens. What an interrupted or broken cluster left is removed
        first. Raises ClusterError, build.BuildError or namespaces.NamespaceError.
        """
        say = on_step or (lambda _: None)
        with self._locked():
            status = self.status()
            if status.phase in {"Starting", "Ready"}:
                self._check_same(status)
            if status.healthy:
                return False
            if status.phase not in {"Starting", "Ready"}:
                say("preparing")
                self._clean()
                self._spawn(self._prepare(on_step))
        self._wait(say)
        return True

    def _check_same(self, status: Status) -> None:
        running = status.settings
        assert running is not None
        for name, asked, now in (
            ("port base", self._port_base, running.port_base),
            ("number of GPUs", self._gpus, running.gpus),
        ):
            if asked is not None and asked != now:
                raise ClusterError(
                    f"the cluster in {self.directory} runs with {name} {now}, not {asked}: "
                    "`make down` (or `kubeseg-local down`) first"
                )

    def _prepare(self, say: Callable[[str], None] | None) -> Settings:
        """Make the folder and all files in it."""
        rootless = namespaces.choose()
        bin_dir = build.ensure(say)
        settings = Settings(
            port_base=DEFAULT_PORT_BASE if self._port_base is None else self._port_base,
            gpus=self._gpus or 0,
            rootless=rootless,
            bin_dir=str(bin_dir),
        )
        self._check_ports(settings)
        if not rootless:
            _check_readable()
        for folder in self.layout.folders():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Volumes are writable for any pod's uid, and keys lie here: all for nobody else's eyes.
        self.directory.chmod(0o700)
        certificates.write_all(self.layout.pki, NODE, settings.ports.api_service_address)
        configuration.write_all(self.layout, settings)
        stubs.generate(bin_dir.parent / "api.proto", self.layout.stubs)
        settings.save(self.layout.settings)
        return settings

    def _check_ports(self, settings: Settings) -> None:
        last = settings.ports.node_ports[1]
        if settings.port_base < 1024 or last > LAST_PORT:
            raise ClusterError(
                f"port base {settings.port_base}: must be from 1024 to {LAST_PORT - 399}, since a "
                "cluster has 400 ports"
            )
        for port, component in settings.ports.named().items():
            if not processes.port_is_free(port):
                raise ClusterError(
                    f"port {port}, for {component}, is taken by {processes.port_owner(port)}: end "
                    "it, or choose another block of ports: --port-base, or PORT_BASE= of make"
                )

    def _spawn(self, settings: Settings) -> None:
        command = [
            *namespaces.unshare_command(rootless=settings.rootless),
            sys.executable,
            "-m",
            processes.SUPERVISOR,
            str(self.directory),
        ]
        env = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
        env["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
        with self.layout.component_log("supervisor").open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
                env=env,
            )
        # Its command line, by which it is found, can be read a moment later only.
        while not processes.supervisors(self.directory):
            if process.poll() is not None:
                said = " | ".join(last_lines(self.layout.component_log("supervisor"), 3))
                raise ClusterError(
                    f"the supervisor ended with exit code {process.returncode}: {said}"
                )
            time.sleep(0.005)
        process.returncode = 0  # it outlives this process: nobody waits for it

    def _wait(self, say: Callable[[str], None]) -> None:
        until = time.monotonic() + UP_DEADLINE_S
        told = ""
        while True:
            status = self.status()
            if status.healthy:
                return
            if status.phase not in {"Starting", "Ready"}:
                raise ClusterError(f"the cluster did not start:\n{report(status)}")
            if time.monotonic() > until:
                raise ClusterError(
                    f"the cluster is not ready after {UP_DEADLINE_S:.0f} s:\n{report(status)}\n"
                    f"Its logs are in {self.layout.logs}"
                )
            doing = "; ".join(status.problems)
            if doing != told:
                say(doing)
                told = doing
            time.sleep(POLL_S)

    def down(self) -> bool:
        """End every process of the cluster and remove its folder; False when there was nothing.

        Raises ClusterError.
        """
        if not self.directory.exists():
            # A folder that was removed by hand leaves the processes.
            return self._end() > 0
        with self._locked():
            self._clean()
            (self.directory / "lock").unlink()
            self.directory.rmdir()
        return True

    def _end(self) -> int:
        try:
            return processes.end_cluster(self.directory)
        except PermissionError:
            raise ClusterError(
                f"the cluster in {self.directory} is another user's: only that user can end it"
            ) from None
        except TimeoutError as error:
            raise ClusterError(str(error)) from error

    def _clean(self) -> None:
        """End the cluster's processes and remove all but the lock."""
        self._end()
        for entry in self.directory.iterdir():
            if entry.name == "lock":
                continue
            if entry.is_dir() and not entry.is_symlink():
                _make_deletable(entry)
                shutil.rmtree(entry)
            else:
                entry.unlink()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the cluster's lock, which lies in its folder and is removed with it."""
        while True:
            _refuse_foreign(self.directory)
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                file = (self.directory / "lock").open("w")
            except FileNotFoundError:
                continue  # a `down` removed the folder just now
            except OSError as error:
                raise ClusterError(f"{self.directory}: {error.strerror}") from error
            with file:
                fcntl.flock(file, fcntl.LOCK_EX)
                try:
                    same = (self.directory / "lock").stat().st_ino == os.fstat(file.fileno()).st_ino
                except FileNotFoundError:
                    same = False
                if same:
                    yield
                    return


def _refuse_foreign(directory: Path) -> None:
    """`down` removes the whole folder, so it must be a cluster's, or empty."""
    if directory.exists() and not directory.is_dir():
        raise ClusterError(f"{directory} is not a folder")
    if directory.is_dir() and not (directory / "lock").exists() and any(directory.iterdir()):
        raise ClusterError(
            f"{directory} has files in it that are no cluster's: choose another folder with --dir"
        )


def _make_deletable(folder: Path) -> None:
    """Take back folders that a container has closed to us."""
    for path, names, _ in os.walk(folder):
        for name in names:
            inner = os.path.join(path, name)  # noqa: PTH118 - os.walk gives strings
            mode = os.lstat(inner).st_mode
            if stat.S_ISDIR(mode) and mode & 0o700 != 0o700:
                os.chmod(inner, 0o700)  # noqa: PTH101 - likewise


def _check_readable() -> None:
    """As root, containers run under other users: these must be able to read the checkout."""
    for path in (REPOSITORY, Path(configuration.__file__), Path(sys.executable)):
        if not path.stat().st_mode & stat.S_IROTH:
            raise ClusterError(
                f"{path} is not readable by all users, and pods run as uid "
                f"{configuration.IMAGE_UID}: `chmod -R go+rX {REPOSITORY}`"
            )


def report(status: Status) -> str:
    """Problems, crashes and warnings, in words."""
    lines = [f"{status.phase}: {problem}" for problem in status.problems]
    if status.state is not None:
        lines += [crash_text(each) for each in status.state.crashes]
        lines += status.state.warnings
    return "\n".join(lines)
