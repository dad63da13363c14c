"""The steps that make a host a board of the farm. Each may be run again at any time."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

from playbooks.board_probe import OLDEST_PYTHON
from playbooks.errors import InvalidRequest, StepFailed, Unfit
from playbooks.file_transfer import UV_SETTINGS, clean, deliver, install_uv, require_space
from playbooks.step_runner import Step
from playbooks.target import (
    AGENT,
    AGENT_PYTHON,
    OPT,
    OWNERSHIP_FILE,
    STANDALONE,
    STARTED,
    STATE,
    UNIT,
    UNIT_PATH,
    USER,
    BoardTarget,
)
from playbooks.wheels import Wheelhouse, fetch_agent_wheelhouse

INSTALL_LIMIT_S = 1800.0
HEARTBEAT_LIMIT_S = 120.0
INSTALLED_PER_WHEEL = 6
"""Disk space for an installation, as a multiple of its wheels: they are compressed, and their files
are byte-compiled."""

_OLDEST = ".".join(map(str, OLDEST_PYTHON))

UNIT_TEXT = f"""\
[Unit]
Description=benchfarm agent
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=300
StartLimitBurst=100

[Service]
User={USER}
Environment=BENCHFARM_AGENT_HOME={STATE} HOME={STATE}
ExecStart={AGENT_PYTHON} -I -m agent.worker
Restart=always
RestartSec=3
TimeoutStopSec=40
NoNewPrivileges=yes
Delegate=memory pids

[Install]
WantedBy=multi-user.target
"""


def ownership_step() -> Step:
    """Claim the board for this device and controller. Only one of two concurrent claims
    succeeds."""

    def check(target: BoardTarget) -> str:
        found = target.ownership()
        owner, theirs = found.get("device"), found.get("controller", target.controller.url)
        if owner is None:
            return "not yet a board of this farm"
        if _was_renamed(target):
            return f"named {owner} until now"
        if owner != target.device:
            raise InvalidRequest(
                f"{target.host.name} is the board {owner!r} already: retire that first "
                f"(`benchfarm device retire {owner}`)"
            )
        if theirs != target.controller.url and not target.controller.known(target.device).joined:
            raise InvalidRequest(
                f"{target.host.name} is the board {owner!r} of another controller, {theirs}: "
                f"retire it there first (`benchfarm device retire {owner}`)"
            )
        return ""

    def apply(target: BoardTarget) -> None:
        if _was_renamed(target):
            text = json.dumps({**target.ownership(), "device": target.device})
            new = f"{OWNERSHIP_FILE}.$$"
            target.script(
                f"cat > {new}; sync; [ -s {new} ] && mv {new} {OWNERSHIP_FILE}", secret=text + "\n"
            )
            return
        user_made = not target.host.is_true(f"getent passwd {USER}")
        owner = {"device": target.device, "controller": target.controller.url}
        text = json.dumps({**owner, "user_made": user_made})
        # ln is atomic: of two concurrent claims one succeeds, and the other finds its file
        target.script(
            f"mkdir -p {OPT}; cat > {OWNERSHIP_FILE}.$$; sync; [ -s {OWNERSHIP_FILE} ] || rm -f "
            f"{OWNERSHIP_FILE}\n"
            f"ln {OWNERSHIP_FILE}.$$ {OWNERSHIP_FILE} || true; rm {OWNERSHIP_FILE}.$$",
            secret=text + "\n",
        )

    return Step("board", check, apply)


def _was_renamed(target: BoardTarget) -> bool:
    """Whether the board still has the name that its device had at this controller before."""
    found, former = target.ownership(), target.controller.known(target.device).former_name
    ours = found.get("controller") == target.controller.url
    return bool(former) and ours and found.get("device") == former


def user_step(groups: tuple[str, ...]) -> Step:
    """Create the agent's user, without a login, in those ``groups`` that the board has."""

    def wanted(target: BoardTarget) -> list[str]:
        existing = target.host.output("getent group | cut -d: -f1").split()
        return [g for g in groups if g in existing]

    def check(target: BoardTarget) -> str:
        if not target.host.is_true(f"getent passwd {USER}"):
            return f"no user {USER}"
        joined = target.host.output(f"id -Gn {USER}").split()
        missing = [g for g in wanted(target) if g not in joined]
        if missing:
            return f"{USER} is not in {', '.join(missing)}"
        folder = target.host.output(f"stat -c '%U %a' {STATE} 2>/dev/null")
        return "" if folder == f"{USER} 700" else f"{STATE} is not {USER}'s alone"

    def apply(target: BoardTarget) -> None:
        joins = "".join(f"usermod -a -G {shlex.quote(g)} {USER}\n" for g in wanted(target))
        target.script(
            f"getent passwd {USER} >/dev/null || useradd --system --user-group --no-create-home "
            f"--home-dir {STATE} --shell $(command -v nologin || echo /bin/false) {USER}\n"
            f"{joins}mkdir -p {STATE}; chown {USER}: {STATE}; chmod 700 {STATE}"
        )

    return Step("user", check, apply)


def require(target: BoardTarget) -> None:
    """Check before the first step what no step can supply. Raises ``NoRoot`` or ``Unfit``."""
    target.script("true")
    if target.machine.python is None and target.python_archive is None:
        found = ", ".join(p.version for p in target.machine.pythons) or "none"
        raise Unfit(
            f"{target.host.name} has no Python {_OLDEST} or newer with venv (found: {found}): "
            "install one there, or bring one along: --python-archive FILE, an `install_only` "
            f"archive of python-build-standalone for {target.machine.machine}"
        )


def interpreter_step() -> Step:
    """A Python for the agent: the system's own, else the standalone one of ``--python-archive``."""

    def check(target: BoardTarget) -> str:
        return "" if target.machine.python is not None else f"no Python {_OLDEST} or newer"

    def apply(target: BoardTarget) -> None:
        archive = target.python_archive
        assert archive is not None
        require_space(target, INSTALLED_PER_WHEEL * (1 + (archive.stat().st_size >> 20)))
        folder = deliver(target, [archive], "python")
        name = shlex.quote(f"{folder}/{archive.name}")
        target.script(
            f"rm -rf {STANDALONE}.new; mkdir {STANDALONE}.new\n"
            f"tar -xf {name} -C {STANDALONE}.new --strip-components=1 --no-same-owner\n"
            f"rm -rf {STANDALONE}; mv {STANDALONE}.new {STANDALONE}",
            limit_s=INSTALL_LIMIT_S,
        )
        target.examine()
        if target.machine.python is None:
            raise Unfit(f"{archive}: its bin/python3 does not run on {target.host.name}")

    return Step("python", check, apply, ends_dry_run=True)


def agent_step() -> Step:
    """Install the agent into a folder named by its content; a symbolic link selects it."""

    def parts(target: BoardTarget) -> tuple[Wheelhouse, Path, str]:
        with target.waiting("the agent's packages from the package index"):
            wheelhouse, wheel = fetch_agent_wheelhouse(target.cache, target.platform)
        return wheelhouse, wheel, f"{wheel.parent.name}-{wheelhouse.key}-py{target.python.version}"

    def check(target: BoardTarget) -> str:
        *_, name = parts(target)
        link = target.host.output(f"readlink {OPT}/agent")
        if link == f"agents/{name}" and target.host.is_true(f"test -e {OPT}/{link}/.whole"):
            return ""
        return "an older agent" if link else "no agent"

    def apply(target: BoardTarget) -> None:
        wheelhouse, wheel, name = parts(target)
        require_space(target, INSTALLED_PER_WHEEL * wheelhouse.mib)
        uv = f"{install_uv(target)}/uv"
        folder = deliver(target, [*wheelhouse.wheels, wheel], name)
        new = f"{OPT}/agents/{name}"
        python = f"{new}/bin/python"
        target.script(
            f"rm -f {STARTED}; mkdir -p {OPT}/agents; rm -rf {new}\n"
            f"{UV_SETTINGS} {uv} venv --quiet --python {shlex.quote(target.python.path)} {new}\n"
            f"{UV_SETTINGS} {uv} pip install --quiet --python {python} --no-index "
            f"--compile-bytecode --find-links {folder} {folder}/{wheel.name}\n"
            # zstandard's backend for PyPy: 12 MiB that CPython never loads
            f"rm -f {new}/lib/python*/site-packages/zstandard/_cffi.*.so\n"
            f"{python} -I -c 'import agent.cli, agent.worker.agent, kombu.transport.redis'\n"
            f"touch {new}/.whole; sync\n"
            f"old=$(readlink {OPT}/agent || true)\n"
            f"ln -sfn agents/{name} {OPT}/agent.new; mv -T {OPT}/agent.new {OPT}/agent\n"
            # the previous agent stays, for a roll-back
            f'for d in {OPT}/agents/*; do case "$d" in {new}|"{OPT}/$old") ;; '
            f'*) rm -rf "$d" ;; esac; done',
            limit_s=INSTALL_LIMIT_S,
        )

    return Step("agent", check, apply, ends_dry_run=True)


def join_step() -> Step:
    """Join the controller; the token is passed on stdin and kept in a file of mode 0600."""
    program = (
        f"import json; c = json.load(open('{STATE}/agent.json')); "
        "print(c['device'], c['controller_url'], c.get('ca_file', ''))"
    )

    def check(target: BoardTarget) -> str:
        python = shlex.quote(target.python.path)
        said = target.host.output(f"{python} -I -c {shlex.quote(program)} 2>/dev/null", root=True)
        if not said:
            return "not joined"
        *joined, ca_file = [*said.split(maxsplit=2), ""][:3]
        if joined != [target.device, target.controller.url]:
            return f"joined as {' '.join(joined)}"
        wanted = _certificates(target.controller.authority)
        if wanted:
            trusted = ca_file and target.host.output(f"cat {shlex.quote(ca_file)}", root=True)
            if not wanted <= _certificates(trusted):
                return "it does not trust the controller's certificate authority"
        if not target.controller.known(target.device).joined:
            return "not known to the controller"
        return target.as_agent(AGENT_PYTHON, "-I", "-c", _TOKEN_CHECK).out.strip()

    def apply(target: BoardTarget) -> None:
        token = target.controller.join_token(target.device, target.device_class)
        target.script(f"rm -f {STARTED}")
        words = [AGENT, "join", target.controller.url, "-", "--name", target.device]
        if target.controller.authority:
            target.write(f"{STATE}/ca.pem", target.controller.authority)
            words += ["--ca-file", f"{STATE}/ca.pem"]
        target.as_agent(*words, secret=f"{token}\n")

    return Step("join", check, apply, ends_dry_run=True)


_TOKEN_CHECK = f"""
from pathlib import Path
from agent.worker import config, errors
from agent.worker.uplink.http_client import Uplink
own = config.load(Path("{STATE}"))
try:
    with Uplink(own.controller_url, own.token, ca_file=own.ca_file) as uplink:
        uplink.check_token(own.device)
except errors.Unauthorised:
    print("its token is refused, as after `device rotate`")
except errors.AgentError as error:
    print(error)
"""


def _certificates(pem: str) -> set[str]:
    """The certificates in a PEM file, each as its letters."""
    parts = pem.split("-----END CERTIFICATE-----")[:-1]
    return {"".join(p.partition("-----BEGIN CERTIFICATE-----")[2].split()) for p in parts}


def class_step() -> Step:
    """Tell the controller the class that the board is set up as."""

    def check(target: BoardTarget) -> str:
        known = target.controller.known(target.device).device_class
        return "" if known == target.device_class else f"known as {known or 'nothing'}"

    def apply(target: BoardTarget) -> None:
        target.controller.classify(target.device, target.device_class)

    return Step("class", check, apply)


def broker_step() -> Step:
    """Require that the board reaches the message broker."""
    # agents of any release have this module under this name
    program = (
        f"import json; from agent import broker; c = json.load(open('{STATE}/agent.json')); "
        "app = broker.make_app(c['broker_url'], 'provision', c.get('ca_file', '')); "
        "print(broker.no_answer(app))"
    )

    def check(target: BoardTarget) -> str:
        return target.as_agent(AGENT_PYTHON, "-I", "-c", program).out.strip()

    def apply(target: BoardTarget) -> None:
        raise StepFailed(
            f"{target.host.name} cannot use the controller's message broker: {check(target)}"
        )

    return Step("broker", check, apply)


def unit_step() -> Step:
    """Install and enable the agent's systemd unit."""

    def check(target: BoardTarget) -> str:
        if target.host.output(f"cat {UNIT_PATH} 2>/dev/null") != UNIT_TEXT.strip():
            return f"no {UNIT} as it should be"
        enabled = target.host.output(f"systemctl is-enabled {UNIT}")
        return "" if enabled == "enabled" else f"{UNIT} is {enabled}"

    def apply(target: BoardTarget) -> None:
        target.script(f"rm -f {STARTED}")
        target.write(UNIT_PATH, UNIT_TEXT)
        target.script(f"systemctl daemon-reload; systemctl --quiet enable {UNIT}")

    return Step("unit", check, apply)


def start_step() -> Step:
    """Start the agent, or restart it if its files have changed."""

    def check(target: BoardTarget) -> str:
        if not target.host.is_true(f"test -e {STARTED}"):
            return "not started as it now is"
        state = target.host.output(f"systemctl is-active {UNIT}")
        return "" if state == "active" else f"the agent is {state}"

    def apply(target: BoardTarget) -> None:
        target.heartbeat_before = target.controller.known(target.device).seen_at
        target.script(f"systemctl reset-failed {UNIT} || true; systemctl restart {UNIT}")
        target.script(f"touch {STARTED}")

    return Step("start", check, apply)


def heartbeat_step(runtimes: tuple[str, ...]) -> Step:
    """Wait for a heartbeat that reports the class's ``runtimes`` (``backend version``, or a backend
    in any version)."""

    def check(target: BoardTarget) -> str:
        known = target.controller.known(target.device)
        if not known.online or known.seen_at == target.heartbeat_before:
            return "no heartbeat yet"
        answering = known.runtimes | {name.split()[0] for name in known.runtimes}
        missing = [name for name in runtimes if name not in answering]
        return f"{', '.join(missing)} did not answer yet" if missing else ""

    def apply(target: BoardTarget) -> None:
        deadline = time.monotonic() + HEARTBEAT_LIMIT_S
        with target.waiting(f"{target.device}'s heartbeat, at most {HEARTBEAT_LIMIT_S:.0f} s"):
            while check(target):
                if time.monotonic() > deadline:
                    raise StepFailed(
                        f"{target.device}: {check(target)}, after {HEARTBEAT_LIMIT_S:.0f} s; its "
                        f"log ends: {_log_end(target)}"
                    )
                time.sleep(0.25)

    return Step("heartbeat", check, apply)


def _log_end(target: BoardTarget) -> str:
    command = f"journalctl -u {UNIT} -n 8 -o cat --no-pager"
    return target.host.run(command, root=True, check=False).tail


def clean_step() -> Step:
    """Remove files that only the installation needed."""

    def check(target: BoardTarget) -> str:
        leftovers = target.host.is_true(
            f'test -e {OPT}/wheels || test -e "$HOME/.benchfarm-incoming"'
        )
        return "packages lie about" if leftovers else ""

    return Step("clean", check, clean)
