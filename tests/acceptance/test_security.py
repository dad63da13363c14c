"""Tokens, the broker's users and their rotation, from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import redis

from support.cli import Shell, running
from support.need import need
from support.servers import free_port, redis_program, redis_server


def test_people_get_tokens_and_lose_them(tmp_path: Path) -> None:
    with running(tmp_path, ()) as benchfarm:
        made = benchfarm("token", "create", "alice", "--role", "operator", "--expires", "12h")
        secret = made.stdout.strip()
        assert re.fullmatch(r"[\w-]{43}", secret), made.stdout
        number = re.search(r"token (\d+) of alice: operator, valid until", made.stderr)
        assert number is not None, made.stderr
        alice = Shell(benchfarm.home, {**benchfarm.environment, "BENCHFARM_TOKEN": secret})
        alice.fine("device", "list")
        alice.fine("device", "join-token", "board")
        assert "needs the role admin; the token has operator" in alice.refused("token", "list")
        listed = json.loads(benchfarm.fine("token", "list", "-o", "json"))
        assert [(t["name"], t["role"], t["state"]) for t in listed] == [
            ("benchfarm up", "admin", "valid"),
            ("alice", "operator", "valid"),
        ]
        assert secret not in json.dumps(listed)
        assert "is revoked" in benchfarm.fine("token", "revoke", number[1])
        assert "revoked" in alice.refused("device", "list")
        assert "there is no token '99'" in benchfarm.refused("token", "revoke", "99")
        assert "'viewer', 'operator' or 'admin'" in benchfarm.refused(
            "token", "create", "bob", "--role", "root"
        )
        assert "as in 30d" in benchfarm.refused("token", "create", "bob", "--expires", "soon")
        first = benchfarm("broker", "acl")
        assert first.stdout.startswith("user default off\nuser benchfarm on #")
        assert "its embedded broker has no users" in first.stderr
        assert "BENCHFARM_BROKER_URL=redis://benchfarm:" in first.stderr


def test_the_brokers_door_is_closed_and_a_board_rotated(tmp_path: Path) -> None:
    program = redis_program()
    need("redis", program is not None, "no redis-server on the path")
    assert program is not None
    home, file, port = tmp_path / "home", tmp_path / "users.acl", free_port()
    with (
        redis_server(program, port=port) as url,
        running(home, BENCHFARM_BROKER_URL=url) as benchfarm,
    ):
        assert "its default user has no password" in (home / "up.log").read_text()
        made = benchfarm("broker", "acl", "--output", file)
        assert made.returncode == 0, made.stderr
        closed = re.search(r"BENCHFARM_BROKER_URL=(redis://benchfarm:\S+)", made.stderr)
        assert closed is not None
        first = credentials(home)
    assert file.stat().st_mode & 0o777 == 0o600
    with (
        redis_server(program, port=port, more=["--aclfile", str(file)]),
        running(home, BENCHFARM_BROKER_URL=closed[1]) as benchfarm,
    ):
        assert "password" not in (home / "up.log").read_text()
        assert credentials(home) == first, "the local agent keeps what it has"
        said = benchfarm.fine("doctor")
        assert "1 of 1 devices online" in said
        joined = benchfarm.fine("device", "rotate", "bench")
        assert re.search(r"benchfarm-agent join http\S+ \S+ --name bench", joined)
        mine = redis.Redis.from_url(first)
        try:
            mine.ping()
            refused = False
        except redis.AuthenticationError:
            refused = True
        finally:
            mine.close()
        assert refused
    # the controller's own machine is trusted: its next start re-enrols the local agent
    with (
        redis_server(program, port=port, more=["--aclfile", str(file)]),
        running(home, BENCHFARM_BROKER_URL=closed[1]) as benchfarm,
    ):
        assert credentials(home) != first
        assert "1 of 1 devices online" in benchfarm.fine("doctor")


def credentials(home: Path) -> str:
    found: str = json.loads((home / "agent" / "agent.json").read_text())["broker_url"]
    assert found.startswith("redis://device-bench:")
    return found
