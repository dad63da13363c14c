"""The agent's named errors. A docstring says what the error means and what to do about it."""

from __future__ import annotations

from typing import ClassVar


class AgentError(Exception):
    """Something the agent could not do.

    ``transient``: the same call may succeed later. ``failure_kind``: the kind of the failure of an
    attempt that it ends (``agent.contract.failures``).
    """

    transient: ClassVar[bool] = False
    failure_kind: ClassVar[str] = "io"
    exit_code: ClassVar[int] = 1


class BadInput(AgentError):
    """The user's input is wrong; the message names what was found and what would be accepted."""

    exit_code = 2


class NotJoined(BadInput):
    """This board has no ``agent.json``; run ``benchfarm-agent join URL TOKEN``."""


class ConfigExposed(BadInput):
    """``agent.json`` holds the device's secret but others may read it; run ``chmod 600`` on it."""


class AlreadyRunning(BadInput):
    """Another agent holds this state folder; stop it, or set BENCHFARM_AGENT_HOME."""


class ControllerUnreachable(AgentError):
    """No answer from the controller; check the network and the URL in ``agent.json``."""

    transient = True


class ControllerFailed(AgentError):
    """The controller answered with an error of its own (5xx) or out of contract."""

    transient = True


class Unauthorised(AgentError):
    """The controller does not accept this device's token; join again with a new join token."""


class AttemptUnknown(AgentError):
    """The controller knows no such attempt for this device (404); it is dropped."""


class AttemptSuperseded(AgentError):
    """A newer attempt exists (409): the result of this one no longer counts."""


class RequestRefused(AgentError):
    """The controller refuses the request (4xx); sending it again will not help."""


class BlobMissing(AgentError):
    """The controller does not have that blob, or not for this device."""

    failure_kind = "blob_missing"


class BlobCorrupt(AgentError):
    """Received or stored bytes do not have the expected SHA-256."""

    transient = True
    failure_kind = "blob_corrupt"


class DiskFull(AgentError):
    """Too little space in the state folder for what has to be stored; free some or move it."""

    failure_kind = "disk_full"


class EnvironmentMissing(AgentError):
    """No environment here has that runtime; add one with ``benchfarm-agent runtimes add``."""

    failure_kind = "runtime_missing"


class ChildFailed(AgentError):
    """A child process ended without a usable answer; the message says how it ended."""


class PackagesMissing(ChildFailed):
    """The interpreter lacks a package that every child needs: it runs no backend until somebody
    installs one there, and asking it again tells nothing new."""


class BuildFailed(AgentError):
    """A runtime environment could not be built; the package tool's own reason follows. Nothing is
    kept of it."""


class IndexUnreachable(BuildFailed):
    """No package index answers: check the network, or give packages by ``--wheelhouse DIR``."""

    transient = True
