"""Builds the parts of a running agent and connects them. No part does anything yet."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from agent import facts
from agent.contract.device import DeviceFacts
from agent.worker.attempt_executor import AttemptExecutor
from agent.worker.attempts.attempt import AttemptServices
from agent.worker.attempts.engine_cache import EngineCache
from agent.worker.attempts.result_keeper import ResultKeeper
from agent.worker.broker.consumer import QueueConsumer
from agent.worker.broker.watchdog import Watchdog
from agent.worker.capability_probe import CapabilityProbe
from agent.worker.config import AgentConfig
from agent.worker.doorbell_handler import DoorbellHandler
from agent.worker.environments.environments import Environments
from agent.worker.isolation.runner_client import RunnerClient
from agent.worker.state_dir import StateFolders
from agent.worker.uplink.blob_cache import BlobCache
from agent.worker.uplink.heartbeat import HeartbeatSender, read_board_status
from agent.worker.uplink.http_client import Uplink
from agent.worker.uplink.outbox import Outbox
from agent.worker.uplink.result_sender import ResultSender


@dataclass(frozen=True)
class AgentParts:
    """What a running agent starts and stops."""

    uplink: Uplink
    heartbeat: HeartbeatSender
    results: ResultKeeper
    consumer: QueueConsumer
    watchdog: Watchdog
    capability_probe: CapabilityProbe


def fingerprint(device: DeviceFacts) -> str:
    """What makes a converted engine this device's own: architecture and processor."""
    return f"{device.machine} {device.cpu_model or 'unknown'}"


def build_parts(
    config: AgentConfig,
    runner: RunnerClient,
    environments: Environments,
    outbox: Outbox,
    stopping: threading.Event,
) -> AgentParts:
    """The parts of an agent on ``config.state_dir``, whose folders exist and are locked.

    Raises:
        BadInput: the controller's address or the certificate authority's file is not right.
    """
    uplink = Uplink(config.controller_url, config.token, ca_file=config.ca_file, wait=stopping.wait)
    heartbeat = HeartbeatSender(
        uplink,
        config.device,
        config.heartbeat_s,
        read_status=lambda: read_board_status(config.state_dir),
    )
    services = _attempt_services(config, runner, environments, uplink)
    results = ResultKeeper(outbox, ResultSender(outbox, uplink), services.blobs)
    folders = StateFolders(config.state_dir)
    board_lock = threading.Lock()
    handler = DoorbellHandler(
        folders.state,
        uplink,
        heartbeat,
        results,
        AttemptExecutor(folders, heartbeat.leases, services, results, stopping),
        board_lock=board_lock,
        stopping=stopping,
    )
    consumer = QueueConsumer(
        config.broker_url,
        config.device,
        on_doorbell=handler.on_doorbell,
        on_arrival=handler.on_arrival,
        ca_file=config.ca_file,
    )
    watchdog = Watchdog(consumer, handler.is_idle)

    def start_listening() -> None:
        consumer.start()
        watchdog.start()

    capability_probe = CapabilityProbe(
        config.device,
        config.state_dir,
        environments,
        uplink,
        on_probed=start_listening,
        board_lock=board_lock,
        stopping=stopping,
    )
    return AgentParts(uplink, heartbeat, results, consumer, watchdog, capability_probe)


def _attempt_services(
    config: AgentConfig, runner: RunnerClient, environments: Environments, uplink: Uplink
) -> AttemptServices:
    return AttemptServices(
        blobs=BlobCache(config.state_dir / "blobs", config.blobs_max_mib << 20),
        engines=EngineCache(config.state_dir / "engines", config.engines_max_mib << 20),
        environments=environments,
        runner=runner,
        open_blob=uplink.open_blob,
        fingerprint=fingerprint(facts.collect(config.state_dir)),
        samples_dir=StateFolders(config.state_dir).samples,
    )
