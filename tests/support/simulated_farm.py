"""A farm of simulated boards: its model, its boards' enrolment, its sweep."""

from __future__ import annotations

import time
from pathlib import Path

from agent.contract.api_messages import Enrolment
from agent.contract.conversion_graph import Node
from agent.contract.device import DeviceFacts, RuntimeFacts, TargetFacts
from orchestrator.cli import zoo
from orchestrator.client import Client
from orchestrator.client_file import read_client_file
from orchestrator.service.context import FarmContext
from orchestrator.service.devices import registration

SPEC = """
name: {name}
models: [digits_cnn]
runtimes: [{{backend: onnxruntime}}]
trials: {trials}
attempts: 100
"""


def add_model(url: str, folder: Path) -> str:
    """Register the model of ``SPEC`` through the API; the administrator's token. ``folder``: the
    parent of the controller's folder ``home``."""
    config = folder / "home" / "client.json"
    while not config.exists():
        time.sleep(0.1)
    token = read_client_file(config)["token"]
    with Client(url, token) as client:
        for file in zoo.emit("digits_cnn", folder):
            zoo.register(client, "digits_cnn", file)
    return token


def enrol(farm: FarmContext, name: str, broker_url: str) -> dict[str, str]:
    """Enrol a board without the API, whose rate limits would apply to all boards together because
    they share one address; its ``token`` and ``broker_url``."""
    cpu = (TargetFacts("CPU", ("fp32",)),)
    wants: dict[str, tuple[Node, ...]] = {"fp32": (("onnx", "fp32"),)}
    runtime = RuntimeFacts("onnxruntime", "0", "simulated", cpu, ("onnx",), wants=wants)
    facts = DeviceFacts(name, "x86_64", "Linux", "3.11", runtimes=(runtime,))
    joined = registration.join_token(farm, name)
    enrolment = Enrolment(joined.join_token, name, "0", facts)
    enrolled = registration.enrol(farm, enrolment, broker_url)
    return {"token": enrolled.token, "broker_url": enrolled.broker_url}
