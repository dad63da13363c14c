"""One bridge for a farm, one network namespace and veth pair for a board."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from .commands import CommandFailed, run

NUMBERS = range(1, 250)
FIRST_HOST = 10


class NoNumber(RuntimeError):
    """Every subnet of 10.99.0.0/16 is taken: take a farm down with ``python -m tests.farm down``"""


@dataclass(frozen=True)
class Network:
    """The network of farm ``number``: 10.99.NUMBER.0/24; this machine is .1."""

    number: int

    @property
    def bridge(self) -> str:
        return f"bf{self.number}"

    @property
    def subnet(self) -> str:
        return f"10.99.{self.number}.0/24"

    @property
    def gateway(self) -> str:
        """This machine's own address on the bridge."""
        return f"10.99.{self.number}.1"

    def address(self, place: int) -> str:
        return f"10.99.{self.number}.{FIRST_HOST + place}"

    def namespace(self, name: str) -> str:
        return f"{self.bridge}-{name}"

    def plug(self, name: str, place: int) -> None:
        """Make a board's namespace and connect it."""
        namespace, outer, inner = self.namespace(name), self._cable(place), f"{self._cable(place)}i"
        within = ("ip", "-n", namespace)
        run("ip", "netns", "add", namespace)
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
        run("ip", "link", "set", outer, "master", self.bridge, "up")
        run("ip", "link", "set", inner, "netns", namespace)
        run(*within, "link", "set", inner, "name", "eth0")
        run(*within, "address", "add", f"{self.address(place)}/24", "dev", "eth0")
        run(*within, "link", "set", "lo", "up")
        run(*within, "link", "set", "eth0", "up")

    def cut(self, place: int) -> None:
        """Drop all packets; no connection is reset."""
        run("ip", "link", "set", self._cable(place), "down")

    def mend(self, place: int) -> None:
        run("ip", "link", "set", self._cable(place), "up")

    def unplug(self, name: str, place: int) -> None:
        with contextlib.suppress(CommandFailed):
            run("ip", "link", "delete", self._cable(place))
        with contextlib.suppress(CommandFailed):
            run("ip", "netns", "delete", self.namespace(name))

    def close(self) -> None:
        """Remove the bridge. The unreachable route stays: without it, packets that are still sent
        to these addresses would leave by the default route."""
        with contextlib.suppress(CommandFailed):
            run("ip", "link", "delete", self.bridge)

    def _cable(self, place: int) -> str:
        return f"bf{self.number}v{place}"


def open_network() -> Network:
    """Make a network with an unused number. Raises ``NoNumber``."""
    routed = run("ip", "route", "show")
    for number in NUMBERS:
        network = Network(number)
        if f" dev {network.bridge} " in routed:
            continue
        # made before the bridge, so that no packet ever leaves by the default route
        run("ip", "route", "replace", "unreachable", network.subnet, "metric", "4096")
        try:
            run("ip", "link", "add", network.bridge, "type", "bridge")
        except CommandFailed as error:
            if "File exists" not in str(error):
                raise
            continue  # another farm took this number meanwhile
        run("ip", "address", "add", f"{network.gateway}/24", "dev", network.bridge)
        run("ip", "link", "set", network.bridge, "up")
        return network
    raise NoNumber(NoNumber.__doc__)
