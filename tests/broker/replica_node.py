"""One managed instance of a simulated region: its directory, the core of its present incarnation, what is queued."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from fedbus.broker import copy_effects as c
from fedbus.broker import effects as e
from fedbus.broker import protocol as p
from fedbus.broker.broker import Broker
from fedbus.broker.home import Home
from fedbus.ledger_record import Member
from fedbus.limits import Limits
from tests.broker.replica_disk import Command, ReplicaDisk

if TYPE_CHECKING:
    from tests.broker.replicated_world import ReplicatedWorld

REGION = "here"


class ReplicaNode:
    """A bus instance that a keeper manages. While ``frozen`` (SIGSTOP) it does nothing, and everything waits for it."""

    def __init__(self, world: ReplicatedWorld, name: str, limits: Limits) -> None:
        self.world = world
        self.name = name
        self.instance = f"{REGION}/{name}"
        self.endpoint = f"tcp://{name}"
        self.limits = limits
        self.disk = ReplicaDisk(f"{name}-0")
        self.disks = 1
        self.up = False
        self.frozen = False
        self.starts = 0
        self.reads: deque[e.Read | c.ReadRaw | c.ReadState] = deque()
        self.stalled: list[e.Input] = []
        self.start()

    @property
    def member(self) -> Member:
        return Member(self.instance, self.disk.uuid)

    @property
    def alive(self) -> bool:
        """Whether it does anything now."""
        return self.up and not self.frozen

    def start(self) -> None:
        assert not self.up
        self.starts += 1
        self.up = True
        home = Home(self.member, self.disk.found())
        self.core = Broker(REGION, self.instance, "", {}, self.limits, home=home)
        self._execute(self.core.start(iter(()), self.world.now_ns))
        self._execute(self.core.handle(e.ApplyTopics(1, []), self.world.now_ns))

    def crash(self, survivors: int = 0) -> None:
        """kill -9; ``survivors``: how many unconfirmed writes had reached the disk all the same."""
        self.up = self.frozen = False
        self.disk.crash(survivors)
        self.reads.clear()
        self.stalled = []
        self.world.forget(self)

    def lose_disk(self) -> None:
        """The machine is gone; what comes back under its name has an empty directory."""
        if self.up:
            self.crash()
        self.disk = ReplicaDisk(f"{self.name}-{self.disks}")
        self.disks += 1

    def thaw(self) -> None:
        """SIGCONT: everything that has queued up is dealt with, at once."""
        self.frozen = False
        stalled, self.stalled = self.stalled, []
        for event in stalled:
            if self.up:
                self.handle(event)

    def handle(self, event: e.Input) -> None:
        if self.frozen:
            self.stalled.append(event)
            return
        self._execute(self.core.handle(event, self.world.now_ns))
        if self.core.stopped and self.up:
            self.crash(survivors=self.world.random.randrange(3))  # the shell ends the process

    def receive(self, session: bytes, message: p.Message, *frames: bytes) -> None:
        if self.up:
            self.handle(e.Received(session, [p.encode(message), *frames]))

    def commit(self, most: int = 1000) -> None:
        if self.alive:
            for answer in self.disk.commit(most):
                if self.up:
                    self.handle(answer)

    def read(self) -> None:
        if not self.alive or not self.reads:
            return
        match self.reads.popleft():
            case e.Read() as read:
                for answer in self.disk.read(read):
                    self.handle(answer)
            case c.ReadRaw() as read:
                self.handle(self.disk.read_raw(read))
            case c.ReadState(ledgers):
                ends = {name: self.disk.end_offset(name) for name in ledgers}
                broken = [name for name in ledgers if any(ledger == name for ledger, _ in self.disk.damaged)]
                self.handle(c.StateRead(ends, self.disk.state(ledgers), damaged=bool(broken)))
                for name in broken:
                    self.handle(self.disk.scrub(name))

    def _execute(self, effects: list[e.Effect]) -> None:
        for effect in effects:
            match effect:
                case e.Read() | c.ReadRaw() | c.ReadState():
                    self.reads.append(effect)
                case e.Send(session, message, frames):
                    self.world.to_session(self, session, message, tuple(bytes(frame) for frame in frames))
                case e.SendPeer(endpoint, message, frames):
                    self.world.to_peer(self, endpoint, [p.encode(message), *(bytes(frame) for frame in frames)])
                case c.Request():
                    self.world.keeper.ask(self, effect)
                case e.Dial() | e.HangUp() | e.Forget():
                    pass
                case _ if isinstance(effect, Command):
                    self.disk.queue.append(effect)
                case _:
                    self.world.keeper.other(self, effect)
