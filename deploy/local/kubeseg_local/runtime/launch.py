"""Start a container's process, or another one beside it: run as a program of its own.

    python -I -S launch.py start|join FD      a specification as JSON on standard input

Only the standard library and no other module of ours, so that it starts in some 20 ms. It tells its
caller on the file descriptor FD: a line `pid <n>`, then nothing if all went well (FD is closed as
the program begins), else a line `error <text>`.
"""

# pathlib would be a third of its start-up time.
# ruff: noqa: PTH101, PTH103, PTH110, PTH112, PTH114, PTH115, PTH116, PTH120, PTH123, PTH211

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import stat
import sys
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
SYS_MOUNT_SETATTR = 442  # the same number on every architecture
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
LAST_CAPABILITY = 40

# The machine's programs and libraries. Everything else of it stays out of sight.
SYSTEM_FOLDERS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu")
ETC = (
    "alternatives", "ssl", "ca-certificates", "pki", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "localtime", "nsswitch.conf", "mime.types", "protocols", "services", "gai.conf", "host.conf",
)  # fmt: skip
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
PROC_READ_ONLY = ("sys", "sysrq-trigger", "bus", "fs", "irq")
EMPTY_FOLDERS = ("tmp", "var/tmp", "run", "home", "root", "mnt", "opt", "srv", "media")

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> None:
    """Call a function of the C library. Raises OSError that names it and its first arguments."""
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        shown = " ".join(str(each) for each in arguments[:2])
        raise OSError(number, f"{name} {shown}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Call the kernel's mount."""
    call("mount", source.encode(), target.encode(), kind.encode(), flags, data.encode())


def bind(source: str, target: str, *, read_only: bool) -> None:
    """Show `source` at `target`, with all that is mounted below it."""
    mount(source, target, "", MS_BIND | MS_REC)
    if read_only:
        make_read_only(target)


def make_read_only(target: str) -> None:
    """Make the mount at `target` read-only, and those below it where the kernel can."""
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    done = libc.syscall(
        SYS_MOUNT_SETATTR, AT_FDCWD, target.encode(), AT_RECURSIVE, ctypes.byref(attributes), 32
    )
    if done != 0:  # before Linux 5.12: the mount itself, with the flags that it must keep
        kept = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def write(path: str, text: str) -> None:
    """Make `text` the content of a file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def within(root: str, path: str) -> str:
    """The place below `root` that is `path` inside it, made so that a mount can go there.

    Raises OSError when a link leads out of `root`.
    """
    target = root + os.path.normpath("/" + path.lstrip("/")).rstrip("/")
    if not f"{os.path.realpath(target)}/".startswith(f"{root}/"):
        raise OSError(f"mount at {path}: a link leads out of the container")
    return target


def place(root: str, path: str, *, folder: bool) -> str:
    """Like `within`, with an empty folder or file made there if nothing is."""
    target = within(root, path)
    if not os.path.lexists(target):
        os.makedirs(target if folder else os.path.dirname(target), mode=0o755, exist_ok=True)
        if not folder:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    return target


def show(root: str, path: str) -> None:
    """Show the machine's `path` at the same place, read-only; a link is made again."""
    if os.path.islink(path):
        target = within(root, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.lexists(target):
            os.symlink(os.readlink(path), target)
    elif os.path.exists(path):
        bind(path, place(root, path, folder=os.path.isdir(path)), read_only=True)


def build_devices(root: str) -> None:
    """A /dev with what every program may expect."""
    dev = place(root, "dev", folder=True)
    mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755,size=64k")
    for name in filter(lambda each: os.path.exists(f"/dev/{each}"), DEVICES):
        bind(f"/dev/{name}", place(root, f"dev/{name}", folder=False), read_only=False)
    for name, link in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{link}", f"{dev}/{name}")
    mount("devpts", place(root, "dev/pts", folder=True), "devpts", MS_NOSUID | MS_NOEXEC,
          "newinstance,ptmxmode=0666,mode=0620")  # fmt: skip
    os.symlink("pts/ptmx", f"{dev}/ptmx")
    # 64 MiB as elsewhere: who needs more mounts a volume there.
    mount("shm", place(root, "dev/shm", folder=True), "tmpfs",
          MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m")  # fmt: skip


def build_root(spec: dict[str, Any]) -> None:
    """Build the container's file system at `spec["rootfs"]`, in this mount namespace."""
    root = spec["rootfs"]
    mount(root, root, "", MS_BIND | MS_REC)
    build_folders(root, spec)
    build_devices(root)
    build_kernel_folders(root, privileged=spec["privileged"])
    # Outer mounts first, or they would cover the inner ones.
    for source, path, read_only in sorted(spec["mounts"], key=lambda each: each[1].count("/")):
        folder = stat.S_ISDIR(os.stat(source).st_mode)
        target = place(root, path, folder=folder)
        bind(source, target, read_only=False)
        # A checkout below /tmp, say, where nearly every pod mounts a volume.
        show_machine(root, spec, below=path)
        if read_only:
            make_read_only(target)
    work = within(root, spec["cwd"])
    if not os.path.isdir(work):
        os.makedirs(work)
        if not spec["rootless"]:
            os.chown(work, spec["uid"], spec["gid"])
    if spec["read_only_root"]:
        # Only the root itself: volumes below it keep what they are.
        kept = os.statvfs(root).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount("", root, "", MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def build_folders(root: str, spec: dict[str, Any]) -> None:
    """What an image would bring: programs and libraries, a small /etc, the checkout."""
    for name in EMPTY_FOLDERS:
        os.makedirs(f"{root}/{name}", exist_ok=True)
    for name in ("tmp", "var/tmp"):
        os.chmod(f"{root}/{name}", 0o1777)  # noqa: S103 - as it is everywhere
    if not os.path.lexists(f"{root}/var/run"):
        os.symlink("../run", f"{root}/var/run")
    for path in (*(f"/{each}" for each in SYSTEM_FOLDERS), *(f"/etc/{each}" for each in ETC)):
        show(root, path)
    for path, text in spec["files"].items():
        write(place(root, path, folder=False), text)
    show_machine(root, spec, below="/")


def show_machine(root: str, spec: dict[str, Any], *, below: str) -> None:
    """Show the checkout and its environment, as far as they lie below the folder `below`."""
    inside = os.path.normpath(below).rstrip("/") + "/"
    for path in spec["shown"]:
        if path.startswith(inside):
            show(root, path)
    for path in spec["hidden"]:
        if path.startswith(inside) and os.path.isdir(within(root, path)):
            mount("tmpfs", within(root, path), "tmpfs", MS_RDONLY, "mode=755,size=4k")


def build_kernel_folders(root: str, *, privileged: bool) -> None:
    """/proc of the container's own processes, and /sys."""
    mount("proc", place(root, "proc", folder=True), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    bind("/sys", place(root, "sys", folder=True), read_only=True)
    if privileged:
        return
    for name in PROC_READ_ONLY:
        if os.path.exists(f"{root}/proc/{name}"):
            bind(f"{root}/proc/{name}", f"{root}/proc/{name}", read_only=True)


def enter_root(root: str) -> None:
    """Make `root` the root; the old one is gone for good."""
    os.chdir(root)
    number = SYS_PIVOT_ROOT[os.uname().machine]
    if libc.syscall(number, b".", b".") != 0:
        raise OSError(ctypes.get_errno(), "pivot_root")
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")


def drop_capabilities(keep: list[int]) -> None:
    """Take from this process and its children what root could do beyond `keep`."""
    for number in range(LAST_CAPABILITY + 1):
        if number not in keep:
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)


def become(spec: dict[str, Any]) -> None:
    """Take on the container's user, with no more rights than it asks for."""
    if not spec["privileged"]:
        drop_capabilities(spec["capabilities"])
    uid, gid = spec["uid"], spec["gid"]
    if spec["rootless"]:
        if uid != 0:
            # The one user there is, under the number that the container expects.
            call("unshare", CLONE_NEWUSER)
            write("/proc/self/setgroups", "deny")
            write("/proc/self/gid_map", f"{gid} 0 1")
            write("/proc/self/uid_map", f"{uid} 0 1")
    else:
        os.setgroups(spec["groups"])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if spec["no_new_privs"]:
        call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def run(spec: dict[str, Any]) -> None:
    """Become the container's program. Raises OSError."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them; others don't expect that
    os.umask(0o022)
    os.chdir(spec["cwd"])
    try:
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606 - its purpose
    except FileNotFoundError:
        raise OSError(f"exec: {spec['argv'][0]!r}: no such program in the container") from None
    except PermissionError:
        raise OSError(
            f"exec: {spec['argv'][0]!r}: uid {spec['uid']} may not run it: it, and every folder "
            "above it, has to be readable by all users"
        ) from None


def start(spec: dict[str, Any]) -> None:
    """The first process of a container, in namespaces of its own."""
    build_root(spec)
    enter_root(spec["rootfs"])
    socket.sethostname(spec["hostname"])
    become(spec)
    run(spec)


def join(spec: dict[str, Any]) -> None:
    """One more process, in the namespaces that `main` has entered."""
    if spec["rootless"] and spec["uid"] != 0:
        call("setns", spec["user_namespace"], CLONE_NEWUSER)
        if spec["no_new_privs"]:
            call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    else:
        become(spec)
    run(spec)


def enter_namespaces(spec: dict[str, Any]) -> None:
    """Enter those of the process `spec["target"]`, except its user's."""
    names = {"ipc": CLONE_NEWIPC, "uts": CLONE_NEWUTS, "pid": CLONE_NEWPID, "mnt": CLONE_NEWNS}
    opened = {name: os.open(f"/proc/{spec['target']}/ns/{name}", os.O_RDONLY) for name in names}
    spec["user_namespace"] = os.open(f"/proc/{spec['target']}/ns/user", os.O_RDONLY)
    for name, flag in names.items():
        call("setns", opened[name], flag)


def main() -> int:
    """Fork into the namespaces, tell the pid, and leave; or wait, when joining."""
    mode, report = sys.argv[1], int(sys.argv[2])
    os.set_inheritable(report, False)
    try:
        spec = json.load(sys.stdin)
        null = os.open("/dev/null", os.O_RDONLY)
        if mode == "start":
            call("unshare", CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)
            mount("", "/", "", MS_REC | MS_PRIVATE)
        else:
            enter_namespaces(spec)
        child = os.fork()
        if child != 0:
            os.write(report, f"pid {child}\n".encode())
            os.close(report)
            if mode == "start":
                return 0  # the runtime, as the nearest subreaper, inherits the child
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            return code if code >= 0 else 128 - code
        os.setsid() if mode == "start" else None
        os.dup2(null, 0)
        (start if mode == "start" else join)(spec)
    except OSError as error:
        os.write(report, f"error {error.strerror or error}\n".encode())
    return 128


if __name__ == "__main__":
    # Not sys.exit: in the child, nothing of the parent's is to be tidied up.
    os._exit(main())
