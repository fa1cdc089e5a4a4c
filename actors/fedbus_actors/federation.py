"""The composition root: brings a federation up on a Ray cluster and takes it down again.

A cluster of its own (``local``) lives in one short run directory, with HAProxy's files, and is gone without a trace
after :meth:`Federation.stop`, but for the data directory. On an existing cluster only what is ours is started and
removed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from threading import Event, current_thread, main_thread
from typing import Any

import httpx
import ray

from fedbus.clock import Clock, SystemClock
from fedbus.errors import EnvironmentUnusableError, FedbusError
from fedbus.options.federation import FederationOptions
from fedbus.options.regions import EVERYWHERE
from fedbus.storage.data_directory import DataDirectory, DirectoryLock
from fedbus.threads import spawn
from fedbus_actors import remote
from fedbus_actors.ports import check_ports
from fedbus_actors.region_keys import open_keys
from fedbus_actors.run_directory import RunDirectory

OBJECT_STORE_BYTES = 100_000_000
LOOPBACK_IP = "127.0.0.1"
READY_S = 120.0

Progress = Callable[[str], None]

log = logging.getLogger(__name__)


class Federation:
    """The regions of a federation that are up here.

    ``clock``: the control plane's (None: the machine's); ``progress`` gets a line a step. For a cluster of its own
    ``run_directory`` has been prepared; see ``launch.py``, the door to this class.
    """

    def __init__(
        self,
        options: FederationOptions,
        regions: Sequence[str],
        run_directory: RunDirectory | None,
        clock: Clock | None,
        progress: Progress,
    ) -> None:
        self.options = options
        self.regions = tuple(regions)
        self._gateway = options.gateway_of(self.regions[0])
        self._cluster = options.regions[self.regions[0]].cluster
        self._clock = clock
        self._progress = progress
        self._locks: list[DirectoryLock] = []
        self._run_directory = run_directory
        self._real = SystemClock()

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return self._gateway.url

    # -- up ------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything and return when events can be published in every region; on failure nothing is left."""
        began_ns = self._real.monotonic_ns()
        try:
            self._start()
        except BaseException as error:
            self.stop()
            if isinstance(error, FedbusError) or not isinstance(error, Exception):
                raise
            raise EnvironmentUnusableError(f"the federation cannot start: {_cause(error)}") from error
        self._progress(f"ready after {(self._real.monotonic_ns() - began_ns) / 1e9:.1f} s")

    def _start(self) -> None:
        directory = DataDirectory(self.options.data.root, self.options.name)
        for region in self.regions:
            self._locks.append(directory.region(region).lock().acquire())
        for region in self.regions:
            open_keys(directory.region(region).path)
        check_ports(self.options, self.regions)
        with self._step("Ray"), _own_signals():
            self._start_ray()
        gateway: Future[None] = Future()
        spawn("start-gateway", lambda: _settle(gateway, self._start_gateway))
        with self._step("managers, monitors, instances"):
            self._start_actors()
            self._await_instances()
        with self._step("gateway"):
            gateway.result(READY_S)
            self._await_gateway()
        self._start_forecaster()

    @contextlib.contextmanager
    def _step(self, name: str) -> Any:
        began_ns = self._real.monotonic_ns()
        yield
        self._progress(f"{name}: {(self._real.monotonic_ns() - began_ns) / 1e9:.1f} s")

    def _start_ray(self) -> None:
        common: dict[str, Any] = {"namespace": remote.NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
        if self._run_directory is None:
            ray.init(address=self._cluster, **common)
            return
        regions = [self.options.regions[name] for name in self.regions]
        # Nobody else needs to reach Ray, unless endpoints of instances are named after its node.
        named = any(region.listen.host in EVERYWHERE and region.advertise.internal is None for region in regions)
        cpus = sum(r.instances.max * r.sizes[r.instances.size].cpus for r in regions)
        ray.init(
            address="local",  # whatever RAY_ADDRESS says
            num_cpus=max(os.cpu_count() or 1, math.ceil(cpus) + 1),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            _temp_dir=str(self._run_directory.ray),
            _node_ip_address=None if named else LOOPBACK_IP,
            **common,
        )

    def _start_actors(self) -> None:
        from fedbus_actors.federation_manager import FederationManager
        from fedbus_actors.health_monitor import HealthMonitor

        options = self.options
        for region in self.regions:
            settings, uncommitted = options.health.settings(), options.limits.uncommitted_bytes
            name = remote.monitor_name(options.name, region)
            remote.start_singleton(HealthMonitor, name, region, settings, uncommitted)
            name = remote.manager_name(options.name, region)
            remote.start_singleton(FederationManager, name, options, region, self._clock)

    def _start_forecaster(self) -> None:
        """Last: its imports take seconds of a core, and nobody waits for it (until it is there, load alone scales)."""
        from fedbus_actors.forecaster import Forecaster

        remote.start_singleton(Forecaster, remote.forecaster_name(self.options.name))

    def _await_instances(self) -> None:
        """Every region has an instance that takes events, and its manager says so."""
        waiting = {region: remote.find(remote.manager_name(self.options.name, region)) for region in self.regions}
        deadline_ns = self._real.monotonic_ns() + int(READY_S * 1e9)
        said: dict[str, Any] = {}
        while waiting:
            calls = {region: (lambda h=handle: h.readiness.remote()) for region, handle in waiting.items()}
            for region, answer in remote.ask(calls, 5.0).items():
                said[region] = answer
                if answer is True:
                    del waiting[region]
                elif isinstance(answer, ray.exceptions.RayActorError):
                    raise EnvironmentUnusableError(f"region {region}: its manager cannot start: {_cause(answer)}")
            if waiting and self._real.monotonic_ns() > deadline_ns:
                raise EnvironmentUnusableError(f"not ready after {READY_S:.0f} s: {said}")

    def _start_gateway(self) -> None:
        from fedbus_serve.deploy import deploy_gateway

        logging.getLogger("ray.serve").setLevel(logging.WARNING)  # its progress is not ours
        deploy_gateway(self.options, self.regions)

    def _await_gateway(self) -> None:
        deadline_ns = self._real.monotonic_ns() + int(READY_S * 1e9)
        said, pause = "no answer", Event()
        with httpx.Client(timeout=5.0, trust_env=False) as client:
            while self._real.monotonic_ns() < deadline_ns:
                try:
                    answer = client.get(f"{self.url}/readyz")
                    if answer.is_success:
                        return
                    said = answer.text
                except httpx.HTTPError as error:
                    said = str(error)
                pause.wait(0.1)
        raise EnvironmentUnusableError(f"the gateway at {self.url} is not ready after {READY_S:.0f} s: {said}")

    # -- down ----------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End what was started, in an order that loses nothing; again is the same as once."""
        if ray.is_initialized():
            with contextlib.suppress(Exception):
                self._stop_gateway()
            with contextlib.suppress(Exception):
                self._stop_actors()
            ray.shutdown()
        if self._run_directory is not None:
            self._run_directory.remove()
        while self._locks:
            self._locks.pop().release()

    def abandon(self) -> None:
        """End a cluster of our own at once. What was acknowledged is on disk; the next start recovers it."""
        if self._run_directory is not None:
            self._run_directory.remove(0.0)

    def _stop_gateway(self) -> None:
        from ray import serve

        from fedbus_serve.gateway import APPLICATION

        if self._run_directory is None:
            serve.delete(APPLICATION)
        else:
            serve.shutdown()  # type: ignore[no-untyped-call]

    def _stop_actors(self) -> None:
        prefixes = tuple(f"{self.options.name}/{region}/" for region in self.regions)
        names = [
            a["name"] for a in ray.util.list_named_actors(all_namespaces=True) if a["namespace"] == remote.NAMESPACE
        ]
        ours = {name: remote.find(name) for name in names if name.startswith(prefixes)}
        shared = remote.forecaster_name(self.options.name)
        others = any(name.startswith(f"{self.options.name}/") for name in names if name != shared and name not in ours)
        control = {name: handle for name, handle in ours.items() if handle is not None and name.endswith("/manager")}
        remote.ask({name: handle.stop.remote for name, handle in control.items()}, 10.0)
        for name in control:
            remote.end(name)
        instances = {name: handle for name, handle in ours.items() if handle is not None and "/instance/" in name}
        remote.ask({name: handle.stop.remote for name, handle in instances.items()}, 15.0)
        for name in [*ours, *([] if others else [shared])]:
            remote.end(name)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts handlers of its own in place of the caller's: put those back."""
    if current_thread() is not main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _settle(future: Future[None], work: Callable[[], None]) -> None:
    try:
        work()
        future.set_result(None)
    except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
        future.set_exception(error)


def _cause(error: BaseException) -> str:
    """The last line of a remote traceback is what a person needs."""
    return str(error).strip().splitlines()[-1]
