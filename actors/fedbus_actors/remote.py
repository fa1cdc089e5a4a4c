"""Ray: the only place where actor classes become actors, and where their names and placement are.

All actors are named and detached, so that none ends with the one that started it; ``down`` ends them by name. An
instance is pinned to its node (hard affinity): where its directory is, there it restarts, and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Full, Queue
from typing import Any, NamedTuple, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedbus.broker.copy_effects import Request
from fedbus.errors import FedbusError, UnavailableError
from fedbus.ledger_record import LedgerRecord
from fedbus.storage.data_directory import DirectoryLock
from fedbus.threads import spawn
from fedbus_actors.bus_instance import InstanceConfig
from fedbus_actors.execution import ManagerRequest

NAMESPACE = "fedbus"
REQUESTS_WAITING = 64
log = logging.getLogger(__name__)
Key = TypeVar("Key")


def instance_name(federation: str, region: str, instance: str) -> str:
    """The actor name of a bus instance."""
    return f"{federation}/{region}/instance/{instance}"


def manager_name(federation: str, region: str) -> str:
    """The actor name of a region's federation manager."""
    return f"{federation}/{region}/manager"


def monitor_name(federation: str, region: str) -> str:
    """The actor name of a region's health monitor."""
    return f"{federation}/{region}/health"


def forecaster_name(federation: str) -> str:
    """The actor name of the forecaster that regions of one cluster share."""
    return f"{federation}/forecaster"


class ManagerCalls:
    """What an instance asks of its region's manager: sent by a thread of its own, so that no broker waits for it.

    What gets lost is asked again by the broker core.
    """

    def __init__(self, manager: str, instance: str) -> None:
        self._manager, self._instance = manager, instance
        self._requests: Queue[ManagerRequest] = Queue(REQUESTS_WAITING)
        spawn("requests", self._run)

    def ask(self, request: ManagerRequest) -> None:
        """Hand a request over; one too many is dropped."""
        with contextlib.suppress(Full):
            self._requests.put_nowait(request)

    def _run(self) -> None:
        handle: Any = None
        while True:
            request = self._requests.get()
            handle = handle or find(self._manager)
            if handle is None:
                continue
            try:
                door = handle.ledger_request if isinstance(request, Request) else handle.group_request
                door.remote(self._instance, request)
            except Exception:  # a manager that is gone for good has a successor of the same name
                log.exception("%s: the manager cannot be asked", self._instance)
                handle = None


class InstanceCalls:
    """What is said to an instance's actor; answers are not waited for."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def apply_ledgers(self, records: list[LedgerRecord], endpoints: dict[str, str]) -> None:
        """See ``ledger_pushes.InstanceCalls``."""
        self._say("apply_ledgers", records, endpoints)

    def request_refused(self, ledger: str, detail: str) -> None:
        """See ``ledger_pushes.InstanceCalls``."""
        self._say("request_refused", ledger, detail)

    def review_ensemble(self, ledger: str) -> None:
        """See ``ledger_pushes.InstanceCalls``."""
        self._say("review_ensemble", ledger)

    def close_ledger(self) -> None:
        """See ``ledger_pushes.InstanceCalls``."""
        self._say("drain", True)

    def _say(self, method: str, *arguments: Any) -> None:
        if self._handle is not None:
            getattr(self._handle, method).remote(*arguments)


def kill_process(node: str, directory: str, pid: int) -> None:
    """Kill process ``pid`` on a node, if it is the one that has locked ``directory``; does not wait for it."""
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    ray.remote(_kill_holder).options(num_cpus=0, scheduling_strategy=strategy).remote(directory, pid)


def _kill_holder(directory: str, pid: int) -> None:
    if DirectoryLock(Path(directory)).holder() == pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _end_process(_error: BaseException) -> None:
    """A broker that cannot go on ends its process: Ray starts the next incarnation on the same directory."""
    os._exit(1)


def _instance_class() -> Any:
    from fedbus_actors.pinned_instance import PinnedInstance

    class Instance(PinnedInstance):
        def __init__(self, config: InstanceConfig, manager: str) -> None:
            ask = ManagerCalls(manager, f"{config.region}/{config.instance}").ask
            super().__init__(config, on_crash=_end_process, on_request=ask)

        def restart(self) -> None:
            """Write and answer what is under way, then end the process: Ray starts the next incarnation."""
            self.stop()
            os._exit(1)

    return Instance


def start_instance(federation: str, config: InstanceConfig, *, node: str, cpus: float, memory_bytes: int) -> Any:
    """Start (or find) the actor of an instance on its node; does not wait for it."""
    return (
        ray.remote(_instance_class())
        .options(
            name=instance_name(federation, config.region, config.instance),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_concurrency=16,  # some wait for confirmations: what brings these must not wait behind them
            num_cpus=cpus,
            memory=memory_bytes,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        .remote(config, manager_name(federation, config.region))
    )


def start_singleton(make: type, name: str, *args: Any, max_concurrency: int = 8) -> Any:
    """Start (or find) a manager, monitor or forecaster; restarted for ever."""
    return (
        ray.remote(make)
        .options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_concurrency=max_concurrency,
            num_cpus=0,
        )
        .remote(*args)
    )


def find(name: str) -> Any:
    """The living actor of that name, or ``None``."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def end(name: str) -> None:
    """End an actor for good; nothing if there is none."""
    handle = find(name)
    if handle is not None:
        ray.kill(handle, no_restart=True)


def ask(calls: Mapping[Key, Callable[[], Any]], timeout_s: float) -> dict[Key, Any]:
    """Make remote calls side by side; per key the answer, or the exception (TimeoutError if none came in time)."""
    answers: dict[Key, Any] = {}
    waiting: dict[Any, Key] = {}
    for key, call in calls.items():
        try:
            waiting[call()] = key
        except Exception as error:  # noqa: BLE001 - one dead actor must not hide the others' answers
            answers[key] = error
    ready, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=timeout_s) if waiting else ([], [])
    for reference in ready:
        try:
            answers[waiting[reference]] = ray.get(reference)
        except Exception as error:  # noqa: BLE001 - as above
            answers[waiting[reference]] = error
    for reference in late:
        answers[waiting[reference]] = TimeoutError(f"no answer within {timeout_s:g} s")
    return answers


def process_ended(answer: Any) -> bool:
    """Whether an answer of :func:`ask` says that the actor's process has ended (Ray may start another)."""
    return isinstance(answer, ray.exceptions.RayActorError)


async def answer(reference: Any, who: str, timeout_s: float) -> Any:
    """Await a remote call; its own :class:`FedbusError` is raised as it is, anything else as UnavailableError."""
    try:
        return await asyncio.wait_for(asyncio.wrap_future(reference.future()), timeout_s)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FedbusError):
            raise error.cause from None
        raise UnavailableError(f"the {who} failed: {error.cause}", retry_after_ms=1000) from error
    except (TimeoutError, ray.exceptions.RayError) as error:
        raise UnavailableError(f"the {who} does not answer ({type(error).__name__})", retry_after_ms=1000) from error


class Node(NamedTuple):
    """A living Ray node. ``host`` is what stays the same when the cluster is started anew; ``id`` does not."""

    host: str
    id: str
    address: str


def node_address() -> str:
    """Under which other nodes reach the one this process runs on."""
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def region_nodes(labels: Mapping[str, str]) -> list[Node]:
    """The living nodes that carry these labels, by host."""
    return sorted(
        Node(str(node["NodeManagerHostname"]), str(node["NodeID"]), str(node["NodeManagerAddress"]))
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and all(node.get("Labels", {}).get(name) == value for name, value in labels.items())
    )
