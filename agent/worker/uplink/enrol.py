"""Enrols this board with a controller."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import agent
from agent import facts
from agent.contract.api_messages import Enrolment
from agent.worker.config import AgentConfig, check_device_name, save
from agent.worker.errors import (
    AttemptSuperseded,
    AttemptUnknown,
    BadInput,
    RequestRefused,
    Unauthorised,
)
from agent.worker.uplink.http_client import Uplink, check_controller_url


def join(url: str, token: str, name: str, state_dir: Path, ca_file: str = "") -> AgentConfig:
    """Redeem ``token`` and write ``agent.json``.

    Raises:
        BadInput: the URL, the name or the token is wrong. ControllerUnreachable, ControllerFailed.
    """
    url = check_controller_url(url)
    ca_file = (
        str(Path(ca_file).absolute()) if ca_file else ""
    )  # the service has another working folder
    name = check_device_name(name or name_from_host(socket.gethostname()))
    enrolment = Enrolment(token, name, agent.__version__, facts.collect(state_dir))
    with Uplink(url, ca_file=ca_file) as uplink:
        try:
            enrolled = uplink.enrol(enrolment)
        except Unauthorised as error:
            raise BadInput(f"the join token is not valid, or was used before: {error}") from None
        except (RequestRefused, AttemptUnknown, AttemptSuperseded) as error:
            raise BadInput(f"the controller does not enrol {name}: {error}") from None
    config = AgentConfig(
        controller_url=url,
        device=enrolled.device,
        token=enrolled.token,
        broker_url=enrolled.broker_url,
        heartbeat_s=enrolled.heartbeat_s,
        ca_file=ca_file,
        state_dir=state_dir,
    )
    save(config)
    return config


def name_from_host(hostname: str) -> str:
    """Make a device name of a host name: ``Orin_1.lab`` becomes ``orin-1``."""
    return re.sub(r"[^a-z0-9]+", "-", hostname.split(".")[0].lower()).strip("-")[:63].strip("-")
