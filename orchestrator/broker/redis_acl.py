"""Redis users (ACL, Redis 6 and newer): one for each device, which can reach only its own queue.

The commands that a device's user needs were found by running an agent against a real Redis with
``ACL LOG``: it pops from its queue, pings, and pushes a doorbell of its own to prove that doorbells
arrive (HELLO: before Redis 6.2). Devices share no key, because kombu's acknowledgements are off and
the queue is on the default exchange (see ``agent.broker``).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import redis
from redis.exceptions import NoPermissionError

from agent import broker_faults, tls
from agent.broker import queue_name
from orchestrator.service.ports import BrokerAccessFailed

log = logging.getLogger(__name__)

USER_PREFIX = "device-"
DEVICE_COMMANDS = ("+ping", "+brpop", "+lpush", "+hello")
CONTROLLER = "benchfarm"
CONTROLLER_RULES = (
    "~device.*", "resetchannels", "-@all", "+ping", "+hello", "+lpush", "+ltrim", "+multi", "+exec",
    "+acl|setuser", "+acl|deluser", "+acl|list",
)  # fmt: skip
"""What the controller needs: publish doorbells, and keep the devices' users."""
OPEN_DEFAULT = "user default on nopass"
TIMEOUT_S = 5.0


class RedisAcl:
    """``BrokerAccess`` over one Redis. ``url`` contains the controller's own credentials.

    Where the server has no users, or does not let the controller keep them, devices get ``url``
    itself: the controller warns of it at its start, and BENCHFARM_BROKER_ACL=on forbids it.
    """

    def __init__(self, url: str, ca_file: str) -> None:
        self._url = url
        self._client: Any = redis.Redis.from_url(  # its commands are not typed
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            **tls.redis_options(url, ca_file),
        )
        self._refused = ""
        self._support_known = False
        self._synchronised = False

    def close(self) -> None:
        self._client.close()

    def warning(self) -> str:
        """What is unsafe about this broker, in words; empty: nothing.

        Raises:
            BrokerAccessFailed: it does not answer.
        """
        listed = self._list_users()
        if self._refused:
            return (
                f"the broker does not let the controller keep a user for each device "
                f"({self._refused}): every device is told the controller's own address of it, and "
                "one stolen board can read every doorbell; see docs/security.md"
            )
        if any(line.startswith(OPEN_DEFAULT) for line in listed) and not self._is_protected():
            return (
                "whoever reaches the broker may do anything there: its default user has no "
                "password; `benchfarm broker acl` writes the file that closes it"
            )
        return ""

    def closed_to_boards(self) -> str:
        """Why other machines are refused, although this one is not; empty: nothing says so.

        Raises:
            BrokerAccessFailed: it does not answer.
        """
        listed = self._list_users()
        if not any(line.startswith(OPEN_DEFAULT) for line in listed) or not self._is_protected():
            return ""
        return broker_faults.explain("protected mode", self._url)

    def _is_protected(self) -> bool:
        """Redis refuses other machines while its default user is open (protected mode)."""
        with self._errors_translated():
            try:
                found = self._client.execute_command("CONFIG GET", "protected-mode")
            except redis.ResponseError:  # our user may not ask: then it has a password
                return False
        return "yes" in map(_decoded, found.values() if isinstance(found, dict) else found)

    def url_for(self, device: str, password: str) -> str:
        try:
            self._require_support_known()
        except BrokerAccessFailed as error:
            log.warning("the broker does not answer; taken to have users: %s", error)
        if self._refused:
            return self._url
        return with_credentials(self._url, USER_PREFIX + device, password)

    def set_user(self, device: str, digest: str) -> None:
        self._apply([(USER_PREFIX + device, digest)], [USER_PREFIX + device])

    def delete_user(self, device: str) -> None:
        self._apply([], [USER_PREFIX + device])

    def synchronise(self, digests: Mapping[str, str]) -> None:
        listed = self._list_users()
        if self._refused:
            return
        wanted = {USER_PREFIX + device: digest for device, digest in digests.items()}
        present = dict(
            _device_user(line) for line in listed if line.startswith(f"user {USER_PREFIX}")
        )
        changed = {user for user, digest in wanted.items() if present.get(user) != digest}
        ended = [user for user in present if user in changed or user not in wanted]
        # the first time all of them: an older benchfarm may have given them other rights
        to_set = (
            wanted if not self._synchronised else {u: d for u, d in wanted.items() if u in changed}
        )
        if to_set or ended:
            self._apply(list(to_set.items()), ended)
        self._synchronised = True

    def acl_lines(self, digests: Mapping[str, str]) -> list[str]:
        found = []
        for device, digest in sorted(digests.items()):
            user = USER_PREFIX + device
            found.append(" ".join(["user", user, *user_rules(user, digest)[1:]]))
        return found

    def controller_acl_line(self) -> str:
        return controller_acl_line(self._url)

    def url_without_credentials(self) -> str:
        return without_credentials(self._url)

    def _apply(self, users: Sequence[tuple[str, str]], deleted: Sequence[str]) -> None:
        """Change users in one transaction. A changed user is deleted first, which closes its
        connections: they would keep the rights that they had."""
        self._require_support_known()
        if self._refused:
            return
        with self._errors_translated(), self._client.pipeline(transaction=True) as pipeline:
            if deleted:
                pipeline.execute_command("ACL DELUSER", *deleted)
            for user, digest in users:
                pipeline.execute_command("ACL SETUSER", user, *user_rules(user, digest))
            pipeline.execute()

    def _require_support_known(self) -> None:
        if not self._support_known:
            self._list_users()

    def _list_users(self) -> list[str]:
        """The server's users as ``ACL LIST`` shows them; empty where it refuses."""
        with self._errors_translated():
            try:
                found = self._client.execute_command("ACL LIST")
            except redis.ResponseError as error:
                older = "unknown command" in str(error).lower()  # than Redis 6
                if not (older or isinstance(error, NoPermissionError)):
                    raise  # transient: it must not make us hand out the controller's password
                self._support_known, self._refused = True, str(error)
                return []
            self._support_known, self._refused = True, ""
            return [_decoded(line) for line in found]

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            raise BrokerAccessFailed(broker_faults.explain(error, self._url)) from error


def user_rules(user: str, digest: str) -> list[str]:
    """Arguments of ``ACL SETUSER`` for a device's user; ``digest``: SHA-256 of its password."""
    key = queue_name(user.removeprefix(USER_PREFIX))
    return ["reset", "on", f"#{digest}", f"~{key}", "resetchannels", "-@all", *DEVICE_COMMANDS]


def controller_line(user: str, password: str) -> str:
    digest = hashlib.sha256(password.encode()).hexdigest()
    return " ".join(["user", user, "on", f"#{digest}", *CONTROLLER_RULES])


def controller_acl_line(url: str) -> str:
    """The ACL line of the user in ``url``; empty where it names none with a password."""
    user, password = credentials_of(url)
    return controller_line(user, password) if user and password else ""


def without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def with_credentials(url: str, user: str, password: str) -> str:
    """``url`` with these credentials in place of its own."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{credentials}@{place}"))


def credentials_of(url: str) -> tuple[str, str]:
    """User and password in a broker's URL; empty where it has none."""
    parts = urlsplit(url)
    return unquote(parts.username or ""), unquote(parts.password or "")


def _device_user(line: str) -> tuple[str, str]:
    """Name and digest of a listed user; an empty digest where its rights are not those we set."""
    user, *words = line.split()[1:]
    found = [word[1:] for word in words if word.startswith("#")]
    digest = found[0] if len(found) == 1 else ""
    keys = [word for word in words if word.startswith(("~", "%"))]
    own = keys == [f"~{queue_name(user.removeprefix(USER_PREFIX))}"]
    return user, digest if own and "on" in words else ""


def _decoded(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
