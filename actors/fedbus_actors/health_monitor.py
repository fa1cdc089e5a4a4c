"""The health monitor of a region: feels each instance over its data socket, as a client would.

One thread, one DEALER per instance, a ping every interval. What it judges is handed to the manager on request; the
manager hands back what it knew, so that a restarted monitor goes on from there. Runs on real time, also under a scaled
clock.
"""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue
from threading import Lock

import msgspec
import zmq

from fedbus.broker import protocol as p
from fedbus.clock import Clock, SystemClock
from fedbus.control.health import (
    ActorState,
    Evidence,
    FailureDetector,
    HealthSettings,
    InstanceHealth,
    assess,
)
from fedbus.errors import ProtocolError
from fedbus.threads import spawn

SMOOTHING = 0.2
FIRST_ANSWER_S = 2.0
PROBES_KEPT = 256
AWAY_NS = 500_000_000  # so much later than due, between two rounds: the monitor itself was stopped
CLOCK_JUMP_NS = 1_000_000_000  # the wall clock was set


class Target(msgspec.Struct, frozen=True):
    """An instance to watch: its endpoint, the actor's state as the manager sees it, and its health so far."""

    instance: str
    endpoint: str
    actor: ActorState
    health: InstanceHealth


class Vital(msgspec.Struct, frozen=True):
    """An instance's health with the round trip it was judged by (ms; None before the first answer)."""

    health: InstanceHealth
    round_trip_ms: float | None


class _Probe:
    """One instance being probed; used by the probing thread, read under the monitor's lock."""

    def __init__(self, target: Target, socket: zmq.Socket[bytes], now_ns: int, interval_s: float) -> None:
        self.target = target
        self.socket = socket
        self.health = target.health
        self.detector = FailureDetector(interval_s)
        self.round_trip_ms: float | None = None
        self.pong: p.Pong | None = None
        self.sent_ns: dict[int, int] = {}
        self.since_ns = now_ns

    def evidence(self, now_ns: int, uncommitted_bytes: int) -> Evidence:
        """What is known now."""
        counters = self.pong.counters if self.pong is not None else {}
        state = self.pong.state if self.pong is not None else ""
        return Evidence(
            actor=self.target.actor,
            phi=self.detector.phi(now_ns),
            answered=self.pong is not None,
            round_trip_ms=self.round_trip_ms,
            queue_share=counters.get("unconfirmed_bytes", 0) / uncommitted_bytes,
            storage_failed=state == "failed",
            draining=state == "draining",
        )

    def answered(self, pong: p.Pong, now_ns: int) -> None:
        """A pong arrived; a new incarnation starts a new record."""
        if self.pong is not None and self.pong.ledger != pong.ledger:
            self.detector.reset()
        self.pong = pong
        self.detector.answered(now_ns)
        sent_ns = self.sent_ns.pop(pong.nonce, None)
        self.sent_ns = {nonce: at for nonce, at in self.sent_ns.items() if nonce > pong.nonce}
        if sent_ns is not None:
            measured = (now_ns - sent_ns) / 1e6
            known = self.round_trip_ms
            self.round_trip_ms = measured if known is None else known + SMOOTHING * (measured - known)

    def excuse(self, away_ns: int) -> None:
        """The monitor was stopped: neither the silence nor the round trips of that time are the instance's."""
        self.detector.excuse(away_ns)
        self.sent_ns.clear()
        self.since_ns += away_ns

    def shift(self, jump_ns: int) -> None:
        """The wall clock was set: the health is as old as before."""
        self.health = msgspec.structs.replace(self.health, since_ns=self.health.since_ns + jump_ns)


class HealthMonitor:
    """Plain class; Ray makes an actor of it."""

    def __init__(
        self, region: str, settings: HealthSettings, uncommitted_bytes: int, clock: Clock | None = None
    ) -> None:
        self._region = region
        self._settings = settings
        self._interval_ns = round(settings.probe_interval_s * 1e9)
        self._uncommitted_bytes = uncommitted_bytes
        self._clock = clock or SystemClock()
        self._lock = Lock()
        self._probes: dict[str, _Probe] = {}
        self._wanted: SimpleQueue[list[Target]] = SimpleQueue()
        self._context = zmq.Context()
        self._awake_ns, self._real_ns = self._clock.monotonic_ns(), self._clock.now_ns()
        self._closing = False
        self._thread = spawn(f"probes-{region}", self._run)

    def watch(self, targets: list[Target]) -> dict[str, Vital]:
        """Watch exactly these from now on; returns the present judgement of those watched so far."""
        self._wanted.put(targets)
        with self._lock:
            return {name: Vital(probe.health, probe.round_trip_ms) for name, probe in self._probes.items()}

    def close(self) -> None:
        """Probe nobody any more."""
        self._closing = True
        self._thread.join()

    def _run(self) -> None:
        try:
            self._probe_for_ever()
        finally:
            self._context.destroy(linger=0)

    def _probe_for_ever(self) -> None:
        poller = zmq.Poller()
        nonce = 0
        next_ns = self._clock.monotonic_ns()
        while not self._closing:
            wait_ns = max(0, next_ns - self._clock.monotonic_ns())
            ready = dict(poller.poll(-(-wait_ns // 1_000_000)))  # rounded up: no busy last millisecond
            with self._lock:
                self._look_at_own_clock()
                self._retarget(poller)
                for probe in self._probes.values():
                    if probe.socket in ready:
                        self._receive(probe)
                if self._clock.monotonic_ns() >= next_ns:
                    next_ns = self._clock.monotonic_ns() + self._interval_ns
                    nonce += 1
                    self._probe_all(nonce)

    def _look_at_own_clock(self) -> None:
        """Whoever was stopped, or whose wall clock was set, must not take that for news of the instances."""
        awake_ns, real_ns = self._clock.monotonic_ns(), self._clock.now_ns()
        gap_ns = awake_ns - self._awake_ns
        jump_ns = real_ns - self._real_ns - gap_ns
        self._awake_ns, self._real_ns = awake_ns, real_ns
        for probe in self._probes.values():
            if gap_ns > self._interval_ns + AWAY_NS:
                probe.excuse(gap_ns)
            if abs(jump_ns) > CLOCK_JUMP_NS:
                probe.shift(jump_ns)

    def _retarget(self, poller: zmq.Poller) -> None:
        targets: list[Target] | None = None
        try:
            while True:
                targets = self._wanted.get_nowait()
        except Empty:
            pass
        if targets is None:
            return
        wanted = {target.instance: target for target in targets}
        for name, probe in list(self._probes.items()):
            if name not in wanted or wanted[name].endpoint != probe.target.endpoint:
                poller.unregister(probe.socket)
                probe.socket.close(linger=0)
                del self._probes[name]
        for name, target in wanted.items():
            if name in self._probes:
                self._probes[name].target = target
            else:
                probe = self._probes[name] = _Probe(
                    target, self._dial(target.endpoint), self._clock.monotonic_ns(), self._settings.probe_interval_s
                )
                poller.register(probe.socket, zmq.POLLIN)
                self._hello(probe)

    def _dial(self, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = 64
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        socket.connect(endpoint)
        return socket

    def _hello(self, probe: _Probe) -> None:
        self._send(
            probe,
            p.Hello(p.OLDEST_PROTOCOL_VERSION, p.PROTOCOL_VERSION, "probe", f"health-{self._region}", self._region),
        )

    def _probe_all(self, nonce: int) -> None:
        now_ns, real_ns = self._clock.monotonic_ns(), self._clock.now_ns()
        for probe in self._probes.values():
            probe.sent_ns[nonce] = now_ns
            if len(probe.sent_ns) > PROBES_KEPT:
                probe.sent_ns.pop(next(iter(probe.sent_ns)))
            self._send(probe, p.Ping(nonce))
            if probe.pong is None and now_ns - probe.since_ns < FIRST_ANSWER_S * 1e9:
                continue  # what the manager knew holds until there was time for an answer
            evidence = probe.evidence(now_ns, self._uncommitted_bytes)
            probe.health = assess(probe.health, evidence, real_ns, self._settings)

    def _send(self, probe: _Probe, message: p.Message) -> None:
        # A full queue means that it has been silent for long; the detector has noticed.
        with contextlib.suppress(zmq.Again):
            probe.socket.send(p.encode(message), zmq.NOBLOCK)

    def _receive(self, probe: _Probe) -> None:
        now_ns = self._clock.monotonic_ns()
        while True:
            try:
                frames = probe.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = p.decode_from_instance(frames)
            except ProtocolError:
                continue
            if isinstance(message, p.Pong):
                probe.answered(message, now_ns)
            elif isinstance(message, p.Refused) and message.code == "unknown_session":
                self._hello(probe)
