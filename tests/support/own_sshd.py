"""An sshd of the present user on the loopback, whose login shell and profile a test chooses.

sshd takes the shell from the user database, which a test must leave alone; a forced command runs
the wanted shell in place of that one, just as sshd would have started it.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.need import need

START_LIMIT_S = 10.0


@dataclass(frozen=True)
class Sshd:
    """``home`` is what the login shell takes for its home folder; ``key`` logs in."""

    folder: Path
    port: int
    home: Path
    key: Path

    @property
    def target(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "sshd.log").read_text()


def make_key(path: Path, *options: str) -> Path:
    """A new private key without a passphrase, unless ``options`` say otherwise."""
    words = options if "-N" in options else (*options, "-N", "")
    kind = () if "-t" in options else ("-t", "ed25519")
    subprocess.run(["ssh-keygen", "-q", *kind, *words, "-f", str(path)], check=True)
    return path


@contextmanager
def own_sshd(
    folder: Path, shell: str = "bash", settings: str = "", command: str = ""
) -> Iterator[Sshd]:
    """``shell``: the login shell's path; ``settings``: further lines of sshd_config; ``command``:
    runs in place of the shell, as ``command=`` of authorized_keys."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    need("sshd", program is not None, "no sshd on the path")
    found = shutil.which(shell)
    need(shell, found is not None, "no such shell on the path")
    assert program is not None
    folder.mkdir(parents=True, exist_ok=True)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    key = folder / "key"
    if not key.exists():
        make_key(key)
        make_key(folder / "host_key")
    (folder / "authorized").write_text((folder / "key.pub").read_text())
    # bash reads ~/.bashrc under sshd at level 1 alone: the user's own is not read, the test's is
    run = command or (
        f'exec env HOME={home} SHELL={found} SHLVL=0 {found} -c "$SSH_ORIGINAL_COMMAND"'
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd started by root wants it
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host_key\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        "Subsystem sftp /usr/lib/openssh/sftp-server\nLogLevel VERBOSE\n"
        f"SetEnv SHLVL=5\nForceCommand {run}\n{settings}\n"
    )
    with (folder / "sshd.log").open("w") as log:
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log
        )
    try:
        _wait(port, process, folder / "sshd.log")
        yield Sshd(folder, port, home, key)
    finally:
        process.terminate()
        process.wait(10)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as link:
                assert link.recv(4) == b"SSH-"
                return
        except (OSError, AssertionError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
