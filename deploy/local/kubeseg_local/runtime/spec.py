"""What a container is made of, as `launch.py` reads it: pure functions of the kubelet's wishes."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeseg_local.layout import LOOPBACK, NO_DNS, REPOSITORY
from kubeseg_local.runtime.faults import CallError, UnsupportedError
from kubeseg_local.runtime.images import Image, command_line

#: Linux capabilities by number.
CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
#: What a container's root keeps unless it says otherwise, as with other runtimes.
DEFAULT_CAPABILITIES = frozenset(
    "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW "
    "SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP".split()
)
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Host:
    """What a container needs to know of the machine and the cluster."""

    rootless: bool
    api_port: int
    #: Folders of the machine that every container sees, read-only.
    shown: list[str]
    #: Folders within these that none sees.
    hidden: list[str]
    #: Text of the machine's resolv.conf.
    resolv_conf: str


def shown_folders() -> list[str]:
    """The checkout and its Python environment, unless they lie in a system folder anyway."""
    wanted = [REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)]
    link = Path(sys.executable)
    while link.is_symlink():
        # Each link on the way to the interpreter, by the names that it uses.
        target = link.parent / link.readlink()
        link = Path(target)
        wanted.append(link.parent.parent)
    wanted.append(Path(sys.executable).resolve().parents[1])
    return outermost([str(each) for each in wanted if each not in {Path("/"), Path("/usr")}])


def outermost(folders: list[str]) -> list[str]:
    """`folders` without those that lie in another of them, or in /usr."""
    kept: list[str] = []
    for each in sorted({folder.rstrip("/") for folder in folders}):
        if not any(each == other or each.startswith(f"{other}/") for other in [*kept, "/usr"]):
            kept.append(each)
    return kept


def capability_numbers(add: list[str], drop: list[str]) -> list[int]:
    """Numbers of the capabilities that root keeps. Raises CallError for a name that isn't one."""
    names = {each.upper().removeprefix("CAP_") for each in [*add, *drop]} - {"ALL"}
    if unknown := names - set(CAPABILITIES):
        raise CallError(f"no such Linux capability: {', '.join(sorted(unknown))}")
    added = {each.upper().removeprefix("CAP_") for each in add}
    dropped = {each.upper().removeprefix("CAP_") for each in drop}
    base = set() if "ALL" in dropped else set(DEFAULT_CAPABILITIES) - dropped
    if "ALL" in added:
        base = set(CAPABILITIES) - dropped
    return sorted(CAPABILITIES.index(each) for each in base | (added - {"ALL"}))


def environment(
    image: Image, given: list[tuple[str, str]], hostname: str, api_port: int
) -> dict[str, str]:
    """The container's whole environment: nothing of the caller's comes through."""
    environ_bin = str(Path(sys.executable).parent)
    env = {
        "PATH": f"{environ_bin}:{SYSTEM_PATH}",
        "HOSTNAME": hostname,
        "LANG": "C.UTF-8",
        # The checkout is read-only.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **image.env,
        **dict(given),
    }
    env.setdefault("HOME", "/tmp")  # noqa: S108 - the container's own, not the machine's
    # The kubelet names the Service `kubernetes`, whose port 443 needs root to listen on.
    if "KUBERNETES_SERVICE_HOST" in env:
        port = str(api_port)
        env |= {"KUBERNETES_SERVICE_HOST": LOOPBACK, "KUBERNETES_SERVICE_PORT": port}
        env |= {
            "KUBERNETES_SERVICE_PORT_HTTPS": port,
            "KUBERNETES_PORT": f"tcp://{LOOPBACK}:{port}",
        }
        for name in [each for each in env if each.startswith("KUBERNETES_PORT_")]:
            del env[name]
    return env


def check_sandbox(config: Any) -> None:
    """Refuse a pod that processes can't be. Raises UnsupportedError."""
    options = config.linux.security_context.namespace_options
    # NamespaceMode of the protocol: 0 the pod's, 1 the container's own, 2 the node's.
    if options.pid == 0:
        raise UnsupportedError(
            "shareProcessNamespace is not supported by the embedded cluster: each container has "
            "processes of its own"
        )
    if options.pid == 2:
        raise UnsupportedError("hostPID is not supported by the embedded cluster")
    ports = [each.host_port for each in config.port_mappings if each.host_port]
    if ports and options.network != 2:
        raise UnsupportedError(
            f"hostPort {ports[0]} is not supported by the embedded cluster: use a Service of type "
            "NodePort"
        )


def user_ids(context: Any, image: Image) -> tuple[int, int, list[int]]:
    """(uid, gid, further groups) of the container's processes. Raises CallError."""
    if context.run_as_username:
        raise CallError(
            f"user {context.run_as_username!r} is not known: images here have no user names, so "
            "give runAsUser a number"
        )
    uid = context.run_as_user.value if context.HasField("run_as_user") else image.uid
    if context.HasField("run_as_group"):
        gid = context.run_as_group.value
    else:
        gid = image.uid if uid == image.uid else 0
    return int(uid), int(gid), sorted({int(each) for each in context.supplemental_groups})


def resolver(dns: Any, machines: str) -> str:
    """Text of the container's resolv.conf: as the pod says, else the machine's own."""
    servers = [each for each in dns.servers if each != NO_DNS]
    if not servers:
        return machines
    lines = [f"nameserver {each}" for each in servers]
    if dns.searches:
        lines.append("search " + " ".join(dns.searches))
    if dns.options:
        lines.append("options " + " ".join(dns.options))
    return "\n".join(lines) + "\n"


def files(hostname: str, uid: int, gid: int, resolv_conf: str) -> dict[str, str]:
    """Small files of the container's own /etc, by path."""
    passwd = ["root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534:nobody:/:/bin/false"]
    group = ["root:x:0:", "nogroup:x:65534:"]
    if uid not in {0, 65534}:
        passwd.append(f"app:x:{uid}:{gid}:app:/tmp:/bin/sh")
    if gid not in {0, 65534}:
        group.append(f"app:x:{gid}:")
    return {
        "etc/passwd": "\n".join(passwd) + "\n",
        "etc/group": "\n".join(group) + "\n",
        "etc/hostname": hostname + "\n",
        "etc/resolv.conf": resolv_conf,
    }


def specification(
    sandbox: Any, config: Any, image: Image, host: Host, *, rootfs: Path, hosts_file: Path
) -> dict[str, Any]:
    """What `launch.py start` needs for the container `config` of `sandbox`. Raises CallError."""
    hostname = sandbox.hostname or sandbox.metadata.name
    context = config.linux.security_context
    uid, gid, groups = user_ids(context, image)
    argv = command_line(image, list(config.command), list(config.args))
    if not argv:
        raise CallError(f"image {image.name!r} has no entry point, and the container no command")
    mounts = []
    for each in config.mounts:
        # The kubelet's own hosts file is completed with the names of Services; one that the pod
        # mounts itself is left alone.
        own = each.container_path == "/etc/hosts" and each.host_path.endswith("/etc-hosts")
        source = str(hosts_file) if own else each.host_path
        mounts.append([source, each.container_path, each.readonly])
    capabilities = capability_numbers(
        list(context.capabilities.add_capabilities), list(context.capabilities.drop_capabilities)
    )
    return {
        "rootfs": str(rootfs),
        "rootless": host.rootless,
        "privileged": context.privileged,
        "hostname": hostname,
        "uid": uid,
        "gid": gid,
        "groups": groups,
        "capabilities": capabilities,
        "no_new_privs": context.no_new_privs,
        "read_only_root": context.readonly_rootfs,
        "files": files(hostname, uid, gid, resolver(sandbox.dns_config, host.resolv_conf)),
        "shown": host.shown,
        "hidden": host.hidden,
        "mounts": mounts,
        "argv": argv,
        "cwd": config.working_dir or "/",
        "env": environment(
            image,
            [(each.key, os.fsdecode(each.value)) for each in config.envs],
            hostname,
            host.api_port,
        ),
    }
