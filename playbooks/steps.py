"""The steps that make a host a board of the farm. Each can be run again at any time."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

from playbooks.board_probe import OLDEST_PYTHON
from playbooks.errors import BadOrder, StepFailed, Unfit
from playbooks.file_transfer import UV_SETTINGS, clear, deliver, installer, need_space
from playbooks.step_runner import Step
from playbooks.target import (
    AGENT,
    AGENT_PYTHON,
    MARK,
    OPT,
    STANDALONE,
    STARTED,
    STATE,
    UNIT,
    UNIT_PATH,
    USER,
    BoardTarget,
)
from playbooks.wheels import Wheelhouse, agent_wheelhouse

INSTALL_LIMIT_S = 1800.0
BEAT_LIMIT_S = 120.0
INSTALLED_PER_WHEEL = 6
"""A wheel is compressed, and is unpacked and compiled beside itself."""

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


def mark_step() -> Step:
    """Nobody else's board is touched, and two that begin at once do not both go on."""

    def check(site: BoardTarget) -> str:
        mark = site.mark()
        owner, theirs = mark.get("device"), mark.get("controller", site.controller.url)
        if owner is None:
            return "not yet a board of this farm"
        if owner != site.device:
            raise BadOrder(
                f"{site.host.name} is the board {owner!r} already: retire that first "
                f"(`benchfarm device retire {owner}`)"
            )
        if theirs != site.controller.url and not site.controller.known(site.device).joined:
            raise BadOrder(
                f"{site.host.name} is the board {owner!r} of another controller, {theirs}: retire "
                f"it there first (`benchfarm device retire {owner}`)"
            )
        return ""

    def apply(site: BoardTarget) -> None:
        made = not site.host.is_true(f"getent passwd {USER}")
        whose = {"device": site.device, "controller": site.controller.url}
        text = json.dumps({**whose, "user_made": made})
        # a link is whole, and of two at once only one is made: the other finds it
        site.script(
            f"mkdir -p {OPT}; cat > {MARK}.$$; sync; [ -s {MARK} ] || rm -f {MARK}\n"
            f"ln {MARK}.$$ {MARK} || true; rm {MARK}.$$",
            secret=text + "\n",
        )

    return Step("board", check, apply)


def user_step(groups: tuple[str, ...]) -> Step:
    """The agent's own user, without a login, in those ``groups`` that the board has."""

    def wanted(site: BoardTarget) -> list[str]:
        there = site.host.ask("getent group | cut -d: -f1").split()
        return [g for g in groups if g in there]

    def check(site: BoardTarget) -> str:
        if not site.host.is_true(f"getent passwd {USER}"):
            return f"no user {USER}"
        here = site.host.ask(f"id -Gn {USER}").split()
        missing = [g for g in wanted(site) if g not in here]
        if missing:
            return f"{USER} is not in {', '.join(missing)}"
        folder = site.host.ask(f"stat -c '%U %a' {STATE} 2>/dev/null")
        return "" if folder == f"{USER} 700" else f"{STATE} is not {USER}'s alone"

    def apply(site: BoardTarget) -> None:
        into = "".join(f"usermod -a -G {shlex.quote(g)} {USER}\n" for g in wanted(site))
        site.script(
            f"getent passwd {USER} >/dev/null || useradd --system --user-group --no-create-home "
            f"--home-dir {STATE} --shell $(command -v nologin || echo /bin/false) {USER}\n"
            f"{into}mkdir -p {STATE}; chown {USER}: {STATE}; chmod 700 {STATE}"
        )

    return Step("user", check, apply)


def require(site: BoardTarget) -> None:
    """What no step can give is asked for before the first one. Raises ``NoRoot`` or ``Unfit``."""
    site.script("true")
    if site.machine.python is None and site.python_archive is None:
        found = ", ".join(p.version for p in site.machine.pythons) or "none"
        raise Unfit(
            f"{site.host.name} has no Python {_OLDEST} or newer with venv (found: {found}): "
            "install one there, or bring one along: --python-archive FILE, an `install_only` "
            f"archive of python-build-standalone for {site.machine.machine}"
        )


def interpreter_step() -> Step:
    """A Python for the agent: the system's own, else a standalone one that was brought along."""

    def check(site: BoardTarget) -> str:
        return "" if site.machine.python is not None else f"no Python {_OLDEST} or newer"

    def apply(site: BoardTarget) -> None:
        archive = site.python_archive
        assert archive is not None
        need_space(site, INSTALLED_PER_WHEEL * (1 + (archive.stat().st_size >> 20)))
        folder = deliver(site, [archive], "python")
        name = shlex.quote(f"{folder}/{archive.name}")
        site.script(
            f"rm -rf {STANDALONE}.new; mkdir {STANDALONE}.new\n"
            f"tar -xf {name} -C {STANDALONE}.new --strip-components=1 --no-same-owner\n"
            f"rm -rf {STANDALONE}; mv {STANDALONE}.new {STANDALONE}",
            limit_s=INSTALL_LIMIT_S,
        )
        site.examine()
        if site.machine.python is None:
            raise Unfit(f"{archive}: its bin/python3 does not run on {site.host.name}")

    return Step("python", check, apply, ahead=True)


def agent_step() -> Step:
    """The agent, in a folder of its version; a link says which one runs."""

    def parts(site: BoardTarget) -> tuple[Wheelhouse, Path, str]:
        house, wheel = agent_wheelhouse(site.cache, site.platform)
        return house, wheel, f"{wheel.parent.name}-{house.key}-py{site.python.version}"

    def check(site: BoardTarget) -> str:
        *_, name = parts(site)
        link = site.host.ask(f"readlink {OPT}/agent")
        if link == f"agents/{name}" and site.host.is_true(f"test -e {OPT}/{link}/.whole"):
            return ""
        return "an older agent" if link else "no agent"

    def apply(site: BoardTarget) -> None:
        house, wheel, name = parts(site)
        need_space(site, INSTALLED_PER_WHEEL * house.mib)
        uv = f"{installer(site)}/uv"
        folder = deliver(site, [*house.wheels, wheel], name)
        new = f"{OPT}/agents/{name}"
        python = f"{new}/bin/python"
        site.script(
            f"rm -f {STARTED}; mkdir -p {OPT}/agents; rm -rf {new}\n"
            f"{UV_SETTINGS} {uv} venv --quiet --python {shlex.quote(site.python.path)} {new}\n"
            f"{UV_SETTINGS} {uv} pip install --quiet --python {python} --no-index "
            f"--compile-bytecode --find-links {folder} {folder}/{wheel.name}\n"
            # what zstandard has for PyPy: 12 MiB that CPython never loads
            f"rm -f {new}/lib/python*/site-packages/zstandard/_cffi.*.so\n"
            f"{python} -I -c 'import agent.cli, agent.worker.agent, kombu.transport.redis'\n"
            f"touch {new}/.whole; sync\n"
            f"old=$(readlink {OPT}/agent || true)\n"
            f"ln -sfn agents/{name} {OPT}/agent.new; mv -T {OPT}/agent.new {OPT}/agent\n"
            # the one before stays, as the way back
            f'for d in {OPT}/agents/*; do case "$d" in {new}|"{OPT}/$old") ;; '
            f'*) rm -rf "$d" ;; esac; done',
            limit_s=INSTALL_LIMIT_S,
        )

    return Step("agent", check, apply, ahead=True)


def join_step() -> Step:
    """Enrolled with this controller; the token goes over stdin and lies in a file of mode 0600."""
    ask = (
        f"import json; c = json.load(open('{STATE}/agent.json')); "
        "print(c['device'], c['controller_url'])"
    )

    def check(site: BoardTarget) -> str:
        python = shlex.quote(site.python.path)
        said = site.host.ask(f"{python} -I -c {shlex.quote(ask)} 2>/dev/null", root=True)
        if not said:
            return "not joined"
        if said != f"{site.device} {site.controller.url}":
            return f"joined as {said}"
        return "" if site.controller.known(site.device).joined else "not known to the controller"

    def apply(site: BoardTarget) -> None:
        token = site.controller.join_token(site.device, site.device_class)
        site.script(f"rm -f {STARTED}")
        words = [AGENT, "join", site.controller.url, "-", "--name", site.device]
        if site.controller.authority:
            site.write(f"{STATE}/ca.pem", site.controller.authority)
            words += ["--ca-file", f"{STATE}/ca.pem"]
        site.as_agent(*words, secret=f"{token}\n")

    return Step("join", check, apply, ahead=True)


def class_step() -> Step:
    """The controller knows the class that the board is set up as."""

    def check(site: BoardTarget) -> str:
        known = site.controller.known(site.device).device_class
        return "" if known == site.device_class else f"known as {known or 'nothing'}"

    def apply(site: BoardTarget) -> None:
        site.controller.classify(site.device, site.device_class)

    return Step("class", check, apply)


def broker_step() -> Step:
    """The doorbell can be heard from the board."""
    # whatever release of the agent is there: of its modules this one alone keeps its place
    ask = (
        f"import json; from agent import broker; c = json.load(open('{STATE}/agent.json')); "
        "print(broker.no_answer(broker.make_app(c['broker_url'], 'provision')))"
    )

    def check(site: BoardTarget) -> str:
        why = site.as_agent(AGENT_PYTHON, "-I", "-c", ask).out.strip()
        return f"no answer from the broker: {why}" if why else ""

    def apply(site: BoardTarget) -> None:
        raise StepFailed(
            f"{site.host.name} cannot reach the controller's message broker ({check(site)}): "
            "BENCHFARM_BROKER_URL of the controller must name an address that boards reach"
        )

    return Step("broker", check, apply)


def unit_step() -> Step:
    """The agent's systemd unit, enabled."""

    def check(site: BoardTarget) -> str:
        if site.host.ask(f"cat {UNIT_PATH} 2>/dev/null") != UNIT_TEXT.strip():
            return f"no {UNIT} as it should be"
        enabled = site.host.ask(f"systemctl is-enabled {UNIT}")
        return "" if enabled == "enabled" else f"{UNIT} is {enabled}"

    def apply(site: BoardTarget) -> None:
        site.script(f"rm -f {STARTED}")
        site.write(UNIT_PATH, UNIT_TEXT)
        site.script(f"systemctl daemon-reload; systemctl --quiet enable {UNIT}")

    return Step("unit", check, apply)


def start_step() -> Step:
    """It runs, and as what the files now describe."""

    def check(site: BoardTarget) -> str:
        if not site.host.is_true(f"test -e {STARTED}"):
            return "not started as it now is"
        state = site.host.ask(f"systemctl is-active {UNIT}")
        return "" if state == "active" else f"the agent is {state}"

    def apply(site: BoardTarget) -> None:
        site.seen_before = site.controller.known(site.device).seen_at
        site.script(f"systemctl reset-failed {UNIT} || true; systemctl restart {UNIT}")
        site.script(f"touch {STARTED}")

    return Step("start", check, apply)


def beat_step(runtimes: tuple[str, ...]) -> Step:
    """The controller hears it, and knows that the class's ``runtimes`` (``backend version``, or a
    backend in any version) answer there."""

    def check(site: BoardTarget) -> str:
        known = site.controller.known(site.device)
        if not known.online or known.seen_at == site.seen_before:
            return "no heartbeat yet"
        answering = known.runtimes | {name.split()[0] for name in known.runtimes}
        missing = [name for name in runtimes if name not in answering]
        return f"{', '.join(missing)} did not answer yet" if missing else ""

    def apply(site: BoardTarget) -> None:
        deadline = time.monotonic() + BEAT_LIMIT_S
        while check(site):
            if time.monotonic() > deadline:
                log = site.host.run(
                    f"journalctl -u {UNIT} -n 8 -o cat --no-pager", root=True, check=False
                )
                raise StepFailed(
                    f"{site.device}: {check(site)}, after {BEAT_LIMIT_S:.0f} s; its log ends: "
                    f"{log.tail}"
                )
            time.sleep(0.25)

    return Step("heartbeat", check, apply)


def clean_step() -> Step:
    """Nothing stays that only the installation needed."""

    def check(site: BoardTarget) -> str:
        left = site.host.is_true(f'test -e {OPT}/wheels || test -e "$HOME/.benchfarm-incoming"')
        return "packages lie about" if left else ""

    return Step("clean", check, clear)
