"""One board: a disk over the shared root tree, an address, users, an sshd and a power switch."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .cgroups import Group
from .commands import CommandFailed, run
from .network import Network

DISK_MIB = 4096
BOOT_LIMIT_S = 60.0
OFF_LIMIT_S = 20.0
USER = "bench"
PASSWORD = "farm"
_HASHED = (  # openssl passwd -6 -salt benchfarm farm
    "$6$benchfarm$dtz02YGyVLpedNU4E41TzQD.MrxvGYjnXf0pIn4Za6jo9g8lF95l4gshdsTrzxZtoVbupjuxnxG26bjY8Gx8U/"
)
REBOOTED = 133

_POWER = """\
{enter}mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
while :; do
  systemd-nspawn {words}
  code=$?
  [ "$code" = {rebooted} ] || exit "$code"
done
"""


class BoardDidNotAnswer(RuntimeError):
    """No sshd answered in time; the message holds the end of the board's console."""


@dataclass(frozen=True)
class Plan:
    """The configuration of a board. ``sudo``: ``free`` (no password), ``asks`` or ``none``;
    ``binds``: folder of this machine → its read-only mount point on the board."""

    name: str
    architecture: str = "amd64"
    sudo: str = "free"
    binds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Board:
    """A board in a farm's ``network``. ``place``: its number there; ``folder``: its files."""

    plan: Plan
    place: int
    network: Network
    folder: Path
    tree: Path

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def address(self) -> str:
        return self.network.address(self.place)

    @property
    def root(self) -> Path:
        """Its file system, as a path of this machine."""
        return self.folder / "root"

    @property
    def group(self) -> Group:
        return Group(self.network.namespace(self.name))

    def make(self, public_key: str) -> None:
        """Make its disk, users, keys and network; the power stays off."""
        for name in ("disk", "root"):
            (self.folder / name).mkdir(parents=True)
        image = self.folder / "disk.img"
        with image.open("wb") as file:
            file.truncate(DISK_MIB << 20)
        run("mkfs.ext4", "-q", "-m", "0", image)
        self._mount()
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        self.make_host_key()
        self._add_user(public_key)
        self.network.plug(self.name, self.place)

    def _mount(self) -> None:
        disk, root = self.folder / "disk", self.root
        run("mount", "-o", "loop", self.folder / "disk.img", disk)
        for name in ("upper", "work"):
            (disk / name).mkdir(exist_ok=True)
        layers = f"lowerdir={self.tree},upperdir={disk / 'upper'},workdir={disk / 'work'}"
        run("mount", "-t", "overlay", "overlay", "-o", layers, root)

    def _add_user(self, public_key: str) -> None:
        run("useradd", "-R", self.root, "-m", "-s", "/bin/bash", "-p", _HASHED, USER)
        ssh = self.root / "home" / USER / ".ssh"
        ssh.mkdir(mode=0o700)
        (ssh / "authorized_keys").write_text(public_key)
        owner = (self.root / "home" / USER).stat()
        for path in (ssh, ssh / "authorized_keys"):
            os.chown(path, owner.st_uid, owner.st_gid)
        rules = {"free": f"{USER} ALL=(ALL) NOPASSWD: ALL\n", "asks": f"{USER} ALL=(ALL) ALL\n"}
        if self.plan.sudo in rules:
            path = self.root / "etc/sudoers.d" / USER
            path.parent.mkdir(exist_ok=True)
            path.write_text(rules[self.plan.sudo])
            path.chmod(0o440)

    def make_host_key(self) -> None:
        """Make a new host key, as after a reinstallation; sshd reads it when it is restarted."""
        for old in (self.root / "etc/ssh").glob("ssh_host_*"):
            old.unlink()
        path = self.root / "etc/ssh/ssh_host_ed25519_key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", path)

    def host_key(self) -> str:
        """The public key: ``ssh-ed25519 AAAA…``."""
        text = (self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
        return " ".join(text.split()[:2])

    def fingerprint(self) -> str:
        """``SHA256:…`` as ssh-keygen prints it."""
        path = self.root / "etc/ssh/ssh_host_ed25519_key.pub"
        return run("ssh-keygen", "-l", "-f", path).split()[1]

    def on(self) -> None:
        """Switch the power on; returns at once."""
        if self.is_on():
            return
        self.group.make()
        words = [
            *("-q", f"--directory={self.root}", "--boot", f"--machine={self.name}"),
            f"--network-namespace-path=/run/netns/{self.network.namespace(self.name)}",
            *("--register=no", "--keep-unit", "--console=read-only", "--resolv-conf=off"),
            *(f"--bind-ro={outer}:{inner}" for outer, inner in self.plan.binds.items()),
        ]
        script = _POWER.format(
            enter=self.group.enter_script(), words=" ".join(words), rebooted=REBOOTED
        )
        with (self.folder / "console.log").open("ab") as console:
            # not a child of this process: the board may outlive it, and would become a zombie
            detached = ("setsid", "--fork", "unshare", "--mount", "--propagation", "private")
            subprocess.run(
                [*detached, "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                check=True,
            )

    def is_on(self) -> bool:
        return bool(self._processes())

    def _processes(self) -> list[str]:
        namespace = self.network.namespace(self.name)
        return run("ip", "netns", "pids", namespace, check=False).split()

    def cut_power(self) -> None:
        """Cut the power at once: every process is killed."""
        deadline = time.monotonic() + OFF_LIMIT_S
        self.group.kill()
        while self.is_on():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not go off")
            time.sleep(0.02)
            self.group.kill()
        self.group.remove()

    def wait_ssh(self, limit_s: float = BOOT_LIMIT_S) -> None:
        """Wait until its sshd answers. Raises ``BoardDidNotAnswer``."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                socket.create_connection((self.address, 22), timeout=1.0) as connection,
            ):
                connection.settimeout(5.0)
                if connection.recv(4) == b"SSH-":
                    return
            time.sleep(0.05)
        tail = (self.folder / "console.log").read_text(errors="replace")[-1500:]
        raise BoardDidNotAnswer(f"{self.name} ({self.address}), {limit_s:.0f} s: {tail}")

    def cut_network(self) -> None:
        self.network.cut(self.place)

    def mend_network(self) -> None:
        self.network.mend(self.place)

    def hang(self) -> None:
        """Freeze every process: the kernel accepts connections, and nothing answers."""
        self.group.freeze(True)

    def unhang(self) -> None:
        self.group.freeze(False)

    def fill_disk(self, leave_mib: int = 1) -> None:
        """Leave ``leave_mib`` MiB free on its disk."""
        disk = self.folder / "disk"
        room = shutil.disk_usage(disk).free - (leave_mib << 20)
        if room > 0:
            run("fallocate", "-l", room, disk / "ballast")

    def empty_disk(self) -> None:
        """Undo ``fill_disk``."""
        (self.folder / "disk" / "ballast").unlink(missing_ok=True)

    def inside(self, command: str, *, limit_s: float = 60.0) -> str:
        """Run a shell command as root on the board, without its sshd. Raises ``CommandFailed``."""
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd")
        words = ("nsenter", "--target", self._first_process(), *spaces, "sh", "-c", command)
        return run(*words, limit_s=limit_s)

    def _first_process(self) -> int:
        """The pid, on this machine, of the board's process 1."""
        for pid in self._processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("NSpid:") and line.split()[-1] == "1":
                        return int(pid)
        raise RuntimeError(f"{self.name} is off")

    def unmake(self) -> None:
        """Remove everything that ``make`` and ``on`` made."""
        with contextlib.suppress(OSError):  # it was never on
            self.unhang()
        with contextlib.suppress(CommandFailed):
            self.cut_power()
        self.network.unplug(self.name, self.place)
        for name in ("root", "disk"):
            with contextlib.suppress(CommandFailed):
                run("umount", self.folder / name)
        self.group.remove()
        shutil.rmtree(self.folder, ignore_errors=True)
