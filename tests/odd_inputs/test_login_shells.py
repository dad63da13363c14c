"""What a login shell prints, and shells that are no bash: the command's answer is told apart."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from playbooks.connection import Host, Login, connected
from playbooks.errors import NoShell, StepFailed
from playbooks.host_keys import PinnedHostKeys
from support.cli import Shell
from support.own_sshd import Sshd, own_sshd

PROFILES = {
    "one echo": "echo Welcome to the lab",
    "no line end": "printf 'no line end'",
    "stderr": "echo warning: no licence >&2",
    "a job in the background": "( while sleep 0.02; do printf 'tick '; echo tock >&2; done ) &",
    "a job that outlives it": "sleep 60 &",
    "carriage returns and colours": r"printf '\r\033[31mROS 2\033[0m\r'; printf '\033]0;lab\a'",
    "traced": "set -xv; export SHELLOPTS",
    "stderr into stdout": "exec 2>&1; set -x",
    "no terminal": "stty -echo; tput clear; mesg n",
    "at its end": "trap 'echo bye; exit 0' EXIT",
    "for the prompt": "PROMPT_COMMAND='echo prompt'; export IFS=/ CDPATH=.:/tmp LC_ALL=xx_YY",
    "like an answer": "echo '{\"device\": \"other\"}'; echo file=etc/os-release; echo ' x'",
}
OTHERS = {
    "tcsh": (".tcshrc", "echo tcsh; alias printf echo; set prompt='# '"),
    "fish": (".config/fish/config.fish", "echo fish; function fish_greeting; echo hello; end"),
    "zsh": (".zshenv", "echo zsh; setopt sh_word_split"),
    "mksh": (".mkshrc", "echo mksh"),
    "dash": (".profile", "echo dash"),
    "busybox": ("unread", ""),
}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ~/.ssh/config and no keys of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def login(sshd: Sshd) -> Login:
    return Login(sshd.target, str(sshd.key))


def pins(sshd: Sshd) -> PinnedHostKeys:
    return PinnedHostKeys(sshd.folder / "pinned", lambda _: None)


def check_answers(host: Host, folder: Path) -> None:
    """Output, exit code, input and a file arrive as they are."""
    ended = host.run("printf 'one\\n\\ntwo'; echo it\\'s \\\\ ! >&2; exit 7", check=False)
    assert (ended.exit_code, ended.out, ended.err) == (7, "one\n\ntwo\n", "it's \\ !\n")
    assert host.run("cat; pwd", secret="a secret\n").out.startswith("a secret\n/")
    assert host.output("true") == ""
    assert host.run("seq 2000").out == "".join(f"{n}\n" for n in range(1, 2001))
    long = "ü" * 5000
    assert host.output(f"printf %s {long}") == long
    with pytest.raises(StepFailed, match="no such thing"):
        host.run("echo no such thing >&2; false")
    if os.geteuid() == 0:  # a stream runs as root
        heard: list[bytes] = []
        host.stream("printf 'log\\n\\nend\\n'", heard.append)
        assert b"".join(heard) == b"log\n\nend\n"
    source = folder / "sent"
    source.write_bytes(bytes(range(256)) * 2000)
    host.send(source, f"{folder}/a file's name")
    assert (folder / "a file's name").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_whatever_a_profile_prints_is_told_apart(tmp_path: Path, profile: str) -> None:
    with own_sshd(tmp_path / "board") as sshd:
        (sshd.home / ".bashrc").write_text(f"{profile}\n")
        with connected(login(sshd), pins(sshd)) as host:
            check_answers(host, tmp_path)


def test_a_board_without_awk(tmp_path: Path) -> None:
    with own_sshd(tmp_path / "board") as sshd:
        tools = tmp_path / "tools"
        tools.mkdir()
        for name in ("sh", "cat", "mv", "seq", "id"):
            (tools / name).symlink_to(shutil.which(name) or "")
        (sshd.home / ".bashrc").write_text(f"PATH={tools}\necho quite bare\n")
        with connected(login(sshd), pins(sshd)) as host:
            assert not host.is_true("command -v awk")
            check_answers(host, tmp_path)


@pytest.mark.parametrize("shell", OTHERS)
def test_other_login_shells_run_the_same_commands(tmp_path: Path, shell: str) -> None:
    file, text = OTHERS[shell]
    words = 'exec busybox sh -c "$SSH_ORIGINAL_COMMAND"'
    command = words if shell == "busybox" else ""
    with own_sshd(tmp_path / "board", shell, command=command) as sshd:
        path = sshd.home / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
        with connected(login(sshd), pins(sshd)) as host:
            check_answers(host, tmp_path)


@pytest.mark.parametrize(
    ("profile", "command", "why"),
    [
        ("exec sh", "", "ended with 0, without a word"),
        ("echo gone; exit 3", "", "ended with 3; it printed: gone"),
        ("sh() { echo a function; }; export -f sh", "", "it printed: a function"),
        ("", "echo This account is not available.; exit 1", "it printed: This account is not"),
        ("", "internal-sftp", "it printed: This service allows sftp connections only"),
        ("", "exec /bin/false", "ended with 1, without a word"),
    ],
    ids=["another shell", "an exit", "a function sh", "nologin", "sftp alone", "false"],
)
def test_a_shell_that_runs_no_command_is_named(
    tmp_path: Path, profile: str, command: str, why: str
) -> None:
    with own_sshd(tmp_path / "board", command=command) as sshd:
        (sshd.home / ".bashrc").write_text(f"{profile}\n")
        with connected(login(sshd), pins(sshd)) as host, pytest.raises(NoShell) as caught:
            host.run("true")
    assert f"{host.name}: the login shell was given a command and " in str(caught.value)
    assert why in str(caught.value)
    assert "a profile (~/.bashrc" in str(caught.value)


def test_a_profile_that_asks_is_given_no_secret(tmp_path: Path) -> None:
    with own_sshd(tmp_path / "board") as sshd:
        (sshd.home / ".bashrc").write_text("echo which ROS?; read x; echo it was $x\n")
        with connected(login(sshd), pins(sshd)) as host:
            assert host.output("echo answered") == "answered"  # end of file, at once
            with pytest.raises(NoShell, match="did not come to it within 1 s; it printed: which"):
                host.run("cat", secret="a secret", limit_s=1)


def test_a_command_that_ends_before_its_input_is_read_says_why(tmp_path: Path) -> None:
    """Sudo with requiretty ends like this."""
    with (
        own_sshd(tmp_path / "board") as sshd,
        connected(login(sshd), pins(sshd)) as host,
        pytest.raises(StepFailed, match="sorry, you must have a tty"),
    ):
        host.run("echo sorry, you must have a tty >&2; exit 1", secret="x" * 3_000_000)


def test_the_commands_of_a_user_hold_against_a_noisy_shell(
    farm_shell: Shell, tmp_path: Path
) -> None:
    with own_sshd(tmp_path / "board") as sshd:
        (sshd.home / ".bashrc").write_text("echo Welcome to the lab; echo '{}' >&2\n")
        ssh = ("--ssh", sshd.target, "--identity", sshd.key)
        ended = farm_shell("device", "doctor", "bench", *ssh, "-o", "json")
        assert "Traceback" not in ended.stderr
        found = {f["check"]: f for f in json.loads(ended.stdout) if f["side"] == "controller"}
        assert found["login shell"]["ok"] is True
        assert "Welcome to the lab" in found["login shell"]["text"]
        assert found["board"]["text"] == "it is no board of a farm"
        assert found["disk"]["text"].endswith("MiB free, 1024 are wanted")
        fleet = tmp_path / "farm.yaml"
        fleet.write_text(f"devices:\n  noisy: {{ssh: '{sshd.target}', identity: '{sshd.key}'}}\n")
        ended = farm_shell("inventory", "diff", fleet, "-o", "json")
        assert "Traceback" not in ended.stderr
        differences = [d for d in json.loads(ended.stdout) if d["device"] == "noisy"]
        assert "board.json" not in json.dumps(differences)
        (sshd.home / ".bashrc").write_text("exec sh\n")
        ended = farm_shell("device", "logs", "bench", *ssh)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.startswith("error: ")
        assert "the login shell was given a command" in ended.stderr
