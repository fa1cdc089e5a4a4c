"""A federation of regions as separate machines: each its own namespace, Ray head, data directory and gateway."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from fedbus.storage.data_directory import DataDirectory
from fedbus_actors.region_keys import open_keys
from tests.federation.waiting import until
from tests.mesh.distance import Distance
from tests.mesh.namespaces import Host, Network

FEDERATION = "mesh"
GATEWAY_PORT = 8000
FIRST_PORT, PORTS = 24_000, 12
# By the second token: what a topic of any test is for.
POLICIES = [
    {"filter": "*.sync.>", "durability": "federation"},
    {"filter": "*.all.>", "forward": "all"},
    {"filter": "*.pinned.>", "forward": "pinned", "regions": ["mesh.b"]},
]
READY_S, DOWN_S = 300.0, 60.0


class Region:
    """A region on a host of its own; ``fedbus up --region`` runs it there."""

    def __init__(self, name: str, host: Host, number: int, directory: Path) -> None:
        self.name = name
        self.host = host
        self.ports = (FIRST_PORT + number * PORTS, FIRST_PORT + (number + 1) * PORTS - 1)
        self.url = f"http://{host.address}:{GATEWAY_PORT}"
        self.data = directory / f"data-{host.name}"
        self.log = directory / f"{host.name}.log"
        self.file = directory / f"{host.name}.yaml"
        self.process: subprocess.Popen[bytes] | None = None
        self._http: httpx.Client | None = None

    def options(self, *, seed: bool = False) -> dict[str, Any]:
        """Its section of the federation file. ``seed``: as a file sees it that only knows it."""
        known = {"peering": f"tcp://{self.host.address}:{self.ports[1]}", "public_key": self.public_key()}
        if seed:
            return {"cluster": "elsewhere", **known}
        return {
            **known,
            "listen": {"host": self.host.address, "ports": f"{self.ports[0]}-{self.ports[1]}"},
            "advertise": {"internal": self.host.address},
            "gateway": {"host": "0.0.0.0", "port": GATEWAY_PORT, "advertise": self.url},
            "instances": {"min": 2, "initial": 2, "max": 2},
            "replicas": 2,
        }

    def public_key(self) -> str:
        """Made on the machine, before its first start, as an operator would."""
        return open_keys(DataDirectory(self.data, FEDERATION).region(self.name).path).public

    # -- up and down ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to start it; see :meth:`wait_ready`."""
        command = [fedbus_command(), "up", "-c", str(self.file), "--data", str(self.data), "--region", self.name]
        self.process = self.host.start(command, self.log)

    def wait_ray(self) -> None:
        """Wait until its head runs: several that start at once starve one another past Ray's own deadline."""
        until(self._has_ray, READY_S, f"{self.name} has a head", self.last_words)

    def _has_ray(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} ended: {self.last_words()}"
        return "\nRay: " in self.log.read_text(errors="replace")

    def wait_ready(self) -> None:
        """Wait until its gateway is ready and its instances take events; fails with what it said last if not."""
        until(self._is_ready, READY_S, f"{self.name} is up", self.last_words)

    def last_words(self) -> str:
        """The end of its log."""
        return f"{self.log}:\n{self.log.read_text(errors='replace')[-3000:]}"

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} ended: {self.last_words()}"
        try:
            if not self.get("/readyz").is_success:
                return False
            return sum(each["state"] == "healthy" for each in self.items("instances")) >= 2
        except httpx.HTTPError:
            return False

    def down(self) -> int:
        """SIGTERM, in order; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DOWN_S)
        finally:
            self.host.kill()

    def kill(self) -> None:
        """Everything of it is gone at once, Ray and all, with whatever else runs on its machine; the disk stays."""
        self.host.kill()
        if self.process is not None:
            self.process.wait(DOWN_S)

    # -- asked from a machine of the network ---------------------------------------------------------------------------

    def get(self, path: str, **parameters: str) -> httpx.Response:
        """GET from its gateway, from its own machine."""
        return self.host.inside(lambda: self._client().get(path, params=parameters))

    def _client(self) -> httpx.Client:
        if self._http is None:
            self._http = httpx.Client(base_url=self.url, timeout=10, trust_env=False)
        return self._http

    def items(self, resource: str, region: str = "") -> list[dict[str, Any]]:
        """A resource of the control API."""
        answer = self.get(f"/v1/{resource}", **({"region": region} if region else {}))
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A ``fedbus`` command on its machine."""
        command = self.host.command(fedbus_command(), "--url", self.url, *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


class Mesh:
    """``regions`` on hosts of one network, and a host ``users`` for clients that outlive a region.

    ``far`` is behind the proxy: every connection between it and the others takes its time.
    """

    def __init__(self, directory: Path, names: Sequence[str], far: str, told: Callable[[str], None] = print) -> None:
        self.directory = directory
        self.network = Network()
        self.regions: dict[str, Region] = {}
        self._told = told
        self._names = tuple(names)
        self.users = self.network.add("users")
        for name in names:
            self._add(name)
        ports = [GATEWAY_PORT, *range(FIRST_PORT, FIRST_PORT + PORTS * (len(names) + 1))]
        self.distance = Distance(self.network, ports, directory / "proxy.log")
        hosts = dict(self.network.hosts)
        self.distance.between(hosts.pop(self.region(far).host.name), *hosts.values())

    def _add(self, name: str) -> Region:
        host = self.network.add(name.replace(".", "-"))
        region = self.regions[name] = Region(name, host, len(self.regions), self.directory)
        return region

    def region(self, name: str) -> Region:
        """By name, or by what comes behind the last dot."""
        return self.regions.get(name) or next(r for n, r in self.regions.items() if n.rpartition(".")[2] == name)

    # -- up and down ---------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Start all regions, and wait until each is ready and hears of all others."""
        sections = {name: region.options() for name, region in self.regions.items()}
        for region in self.regions.values():
            self._write(region, sections)
            region.start()
            region.wait_ray()
        for region in self.regions.values():
            region.wait_ready()
            self._told(f"{region.name} is up")
        self.wait_joined()

    def _write(self, region: Region, sections: dict[str, Any]) -> None:
        options = {
            "name": FEDERATION,
            "regions": sections,
            "security": {"allow_plaintext": True},
            "groups": {"failover_after": "10s"},
            "topics": {"policies": POLICIES},
            "manager": {"tick_interval": "2s"},
        }
        region.file.write_text(yaml.safe_dump(options, sort_keys=False))

    def join(self, name: str, through: Region) -> Region:
        """A region more, known to one living region: it hears of the others from there, and they of it."""
        region = self._add(name)
        self._write(region, {name: region.options(), through.name: through.options(seed=True)})
        section = region.options()
        told = through.command("region", "add", name, "--peering", section["peering"], "--key", section["public_key"])
        assert told.returncode == 0, told.stderr
        region.start()
        region.wait_ready()
        self._told(f"{name} is up")
        return region

    def wait_joined(self, *names: str) -> None:
        """Wait until each of these regions (default: all) has heard of all others."""
        regions = [self.regions[name] for name in names or self.regions]
        for region in regions:
            wanted = {other.name for other in regions}
            until(
                lambda region=region, wanted=wanted: wanted <= region_names(region, "healthy"), 90,
                f"{region.name} hears of {', '.join(sorted(wanted))}", lambda region=region: _regions_text(region),
            )  # fmt: skip

    def heal(self) -> None:
        """The network is whole again, and the regions have met."""
        self.network.heal()
        self.wait_joined()

    def mend(self) -> None:
        """Start what a test that failed has left dead, and end what it has added, so that the next one can begin."""
        for name in [name for name in self.regions if name not in self._names]:
            self.regions.pop(name).kill()
        dead = [
            region for region in self.regions.values() if region.process is None or region.process.poll() is not None
        ]
        for region in dead:
            region.host.kill()
            region.start()
        for region in dead:
            region.wait_ready()
        self.wait_joined()

    def leave(self, region: Region) -> None:
        """Stop a region for good; its machine and disks are kept until the end."""
        region.down()
        del self.regions[region.name]

    def close(self) -> None:
        """Stop everything in order, by handle; then remove the machines."""
        running = [r for r in self.regions.values() if r.process is not None and r.process.poll() is None]
        for region in running:
            assert region.process is not None
            region.process.send_signal(signal.SIGTERM)
        for region in running:
            try:
                region.down()
            except subprocess.TimeoutExpired:
                self._told(f"{region.name} did not stop: {region.last_words()}")
        self.distance.close()
        self.network.close()


def region_names(region: Region, state: str = "") -> set[str]:
    """The regions that this one knows (in this state); itself included."""
    try:
        return {each["region"] for each in region.items("regions") if not state or each.get("state", state) == state}
    except httpx.HTTPError:
        return set()


def _regions_text(region: Region) -> str:
    try:
        return json.dumps(region.items("regions"))
    except httpx.HTTPError as error:
        return f"{error}; {region.last_words()}"


def fedbus_command() -> str:
    """The installed ``fedbus`` beside this Python."""
    return str(Path(sys.executable).parent / "fedbus")
