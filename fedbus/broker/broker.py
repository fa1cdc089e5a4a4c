"""The broker core: one door, ``handle(input, now_ns) -> effects``.

Puts together a bus instance's ledgers, publish path, subscriptions and links. Assumes a shell that executes effects in
order and answers writes and reads with inputs; knows no sockets, files or clocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedbus.batch import Buffer
from fedbus.broker import effects as e
from fedbus.broker.conversation import Conversations
from fedbus.broker.feed import Feeds
from fedbus.broker.following import Following
from fedbus.broker.home import Home
from fedbus.broker.inquiry import Inquiry
from fedbus.broker.intake import Intake
from fedbus.broker.key_slots import KeySlots
from fedbus.broker.ledger import Ledgers
from fedbus.broker.link import LinkTargets
from fedbus.broker.peers import Peers
from fedbus.broker.policies import Policies
from fedbus.broker.recovery import FoldedState, States
from fedbus.broker.replication import Replication
from fedbus.broker.retention import Retention
from fedbus.broker.session import Sessions
from fedbus.broker.status import BrokerStatus, group_status
from fedbus.broker.subscriptions import Subscriptions
from fedbus.broker.withheld import RELEASED_UNCERTAIN, VOID
from fedbus.errors import ProtocolError
from fedbus.limits import Limits
from fedbus.position import LedgerId


class Broker:
    """One incarnation of an instance.

    ``ledger``: the one it writes, its files there already if ``begun``; ``closed``: its earlier ones with their ends.
    With ``home`` it is managed: it writes no ledger, and serves none, before the manager says so.
    """

    def __init__(
        self,
        region: str,
        instance: str,
        ledger: str,
        closed: Mapping[str, int],
        limits: Limits,
        *,
        home: Home | None = None,
        begun: bool = True,
    ) -> None:
        self.region = region
        self.instance = instance
        self.limits = limits
        self.ledgers = Ledgers(ledger, closed, limits)
        self.sessions = Sessions(limits.sessions, limits.name_bytes)
        self.policies = Policies()
        self.ledgers.pinned = self.policies.is_pinned
        self.intake = Intake(region, instance, self.ledgers, limits, self.policies)
        self.feeds = Feeds(self.ledgers, limits.read_chunk_bytes, limits.reads_waiting)
        self.peers = Peers(instance, region, self.ledgers)
        self.key_slots = KeySlots(region, instance, self.ledgers, self.peers, limits.key_handover_max_ms)
        self.intake.geo.targets.heard_ns = self.sessions.heard_ns
        managed = self.intake.managed = home is not None
        self.subscriptions = Subscriptions(self.ledgers, self.feeds, limits, self.key_slots, region, managed=managed)
        self.inquiry = Inquiry(self.ledgers, self.intake.judge, self.peers, limits.withheld_max_ms)
        self.links = LinkTargets(self.ledgers, self.peers, self.policies, region, limits)
        self.following = Following(self.subscriptions.groups, self.peers, self.subscriptions.sharing)
        self.retention = Retention(self.ledgers, self.subscriptions, self.policies, managed=managed)
        self.folded = FoldedState(self.ledgers, self.intake, self.subscriptions, self.links, self.retention)
        self.replication = Replication(
            _next_ledger(ledger, home), home, self.ledgers, self.peers, self.folded, self.subscriptions, limits
        )
        self.feeds.repairable = self.replication.fetches.repairable
        self.conversations = Conversations(self)
        self.stopped = ""  # why it does nothing any more
        self._begun = begun
        self.malformed = 0
        self.refused = 0

    def start(self, state: States, now_ns: int) -> list[e.Effect]:
        """Fold the state that earlier incarnations left (from the newest snapshot on), then write it anew."""
        self.replication.start(now_ns, begun=self._begun)
        self.folded.recover(state, self.ledgers.names(), now_ns)
        return self._take_effects()

    def handle(self, event: e.Input, now_ns: int) -> list[e.Effect]:
        """The one door: apply one input, return what the shell has to do, in order."""
        if self.stopped:
            return []
        match event:
            case e.Received(session, frames, peer):
                self.conversations.received(session, frames, now_ns, peer)
            case e.Unroutable(session):
                self.conversations.end(session, now_ns)
            case e.Durable(number, generation):
                if generation == self.ledgers.generation:
                    self._confirmed(self.replication.ensemble.durable(number), now_ns)
            case e.Records():
                self.feeds.answered(event)
                self.subscriptions.pump(now_ns)
            case e.Tick():
                self._tick(now_ns)
            case e.WriteRefused() | e.WriteFailed():
                self._not_written(event, now_ns)
            case _:
                self._control(event, now_ns)
        if self.replication.managed or self.ledgers.pausing:
            self._replicate(now_ns)
        return self._take_effects()

    # -- disk, time and control ----------------------------------------------------------------------------------------

    def _not_written(self, event: e.WriteRefused | e.WriteFailed, now_ns: int) -> None:
        """Go back to what is durable, and refuse whoever waits for more."""
        if isinstance(event, e.WriteFailed):
            if self.replication.managed:  # the records may be found by a recovery all the same
                self._stop(event.detail)
                return
            self.ledgers.failed = event.detail
        elif event.generation != self.ledgers.generation or self.replication.ensemble.refused(event.detail, now_ns):
            return
        lost = self.ledgers.void()
        lost += self.subscriptions.void()
        self.ledgers.effects += self.intake.void(lost, event.detail, now_ns)
        self.links.void(now_ns)
        self.retention.void()

    def _tick(self, now_ns: int) -> None:
        self.conversations.expire(now_ns)
        self.inquiry.tick(now_ns)
        if self.intake.geo.tick(now_ns):
            self.subscriptions.pump(now_ns)
        self.subscriptions.tick(now_ns)
        self.links.tick(now_ns)
        self.following.tick(now_ns)
        self.retention.tick(now_ns)
        self.peers.tick(now_ns)
        self.replication.tick(now_ns)
        self._replicate(now_ns)

    def _replicate(self, now_ns: int) -> None:
        """What follows from an input for the ledgers: another begins, members have more, the writer is fenced."""
        replication, ledgers = self.replication, self.ledgers
        if replication.ensemble.fenced:
            self._stop(replication.ensemble.fenced)
            return
        if (number := replication.ensemble.confirmable()) > ledgers.confirmed_number:
            self._confirmed(number, now_ns)
        if replication.advance(now_ns):
            self.subscriptions.rolled()
            self.intake.rolled()
            self.retention.rolled()
        while replication.expired:
            self.retention.gone(replication.expired.pop())
        for session, _, frames in replication.lineage.take_put_off(now_ns):
            self.conversations.received(session, frames, now_ns)
        if replication.ensemble.followers:
            replication.ensemble.flush(now_ns)

    def _confirmed(self, number: int, now_ns: int) -> None:
        """All members have everything up to record ``number``."""
        self.ledgers.confirmed(number)
        self.ledgers.withheld.confirmed(number)
        self.links.confirmed(number)
        self.subscriptions.groups.confirmed(now_ns)
        self.retention.confirmed()
        self.subscriptions.pump(now_ns)

    def _stop(self, detail: str) -> None:
        """For good: nothing more is acknowledged, nor refused, because what became of it others decide."""
        self.stopped = self.ledgers.failed = detail
        self.ledgers.effects.extend(e.Forget(session.id) for session in self.sessions)

    def _control(self, event: e.Input, now_ns: int) -> None:
        match event:
            case e.PeerReceived(endpoint, frames):
                self._peer_received(endpoint, frames, now_ns)
            case e.ApplyTable():
                self.conversations.apply_table(event, now_ns)
            case e.ApplyGroups():
                self.subscriptions.changes.apply(event, now_ns)
                self.subscriptions.pump(now_ns)
            case e.GroupRefused():
                self.subscriptions.changes.answered(event)
            case e.ApplyTopics(version, rules, auto_create):
                self.policies.apply(version, rules, auto_create=auto_create)
            case e.ApplyCutoffs(newest_ms):
                self.retention.cutoffs = newest_ms
            case e.Surveyed():
                self.retention.closed.surveyed(event)
            case e.ApplyLinks(links, gone):
                self.links.apply(links, now_ns, gone)
            case e.ApplyFollows(follows):
                self.following.apply(follows, now_ns)
            case e.Drain(close):
                self._drain(now_ns, close=close)
            case e.Adopt(closed, state):
                self.replication.adoption.adopt(closed, state, now_ns)
            case _:
                self.replication.control(event, now_ns)

    def _drain(self, now_ns: int, *, close: bool) -> None:
        self.intake.draining = True
        if close:
            self.subscriptions.groups.acks.flush(now_ns)
            self.subscriptions.end_all(f"instance {self.instance} is being scaled in: subscribe again")
            self.replication.lineage.draining = True

    def _peer_received(self, endpoint: str, frames: Sequence[Buffer], now_ns: int) -> None:
        try:
            message = self.peers.received(endpoint, frames, now_ns)
            if message is not None:
                self.links.received(endpoint, message, frames, now_ns)
                self.following.received(endpoint, message, now_ns)
                self.inquiry.received(message, now_ns)
                self.key_slots.received(endpoint, message, now_ns)
                self.replication.peer(endpoint, message, frames, now_ns)
        except ProtocolError:
            self.malformed += 1

    # -- what it says of itself ----------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """What the instance says of itself: healthy, draining or failed."""
        return "failed" if self.ledgers.failed else "draining" if self.intake.draining else "healthy"

    def counters(self) -> dict[str, int]:
        """Totals since start, and gauges."""
        return {
            "events_in": self.intake.events_in,
            "bytes_in": self.intake.bytes_in,
            "batches_in": self.intake.batches_in,
            "duplicates": self.intake.duplicates,
            "events_seen_before": self.intake.seen_ids.dropped,
            "withheld_batches": len(self.ledgers.withheld),
            "void_batches": self.ledgers.withheld.resolved[VOID],
            "uncertain_batches": self.ledgers.withheld.resolved[RELEASED_UNCERTAIN],
            **self.intake.geo.counters(),
            "events_out": self.subscriptions.events_out,
            "linked_events": self.links.linked_events,
            "linked_bytes": self.links.linked_bytes,
            "refused": self.refused,
            "malformed": self.malformed,
            "damaged_events": self.feeds.damaged_events,
            "sessions": len(self.sessions),
            "unconfirmed_bytes": self.ledgers.pending_bytes,
        }

    def status(self) -> BrokerStatus:
        """Everything the manager wants to know."""
        return BrokerStatus(
            self.instance, self.ledgers.current, self.state,
            ledgers={name: self.ledgers.end(name) for name in self.ledgers.names()},
            groups=[group_status(each, self.ledgers, self.subscriptions.sharing) for each in self.subscriptions.groups],
            live=self.subscriptions.streams.live_filters(),
            links=self.links.progress.durable(),
            table_version=self.conversations.table_version,
            counters=self.counters(),
            failed=self.ledgers.failed,
            topics_version=self.policies.version,
            expired=self.retention.losses.state(),
            expired_ledgers=list(self.retention.expired),
            retained=self.retention.retained(),
            managed=self.replication.managed,
            held=self.replication.held(),
            requests=self.replication.requests(),
            silent=list(self.replication.ensemble.silent),
            geo_ledgers=self.ledgers.geo.ledgers(),
            link_topics=self.links.lags.told(),
        )  # fmt: skip

    def _take_effects(self) -> list[e.Effect]:
        effects, self.ledgers.effects = self.ledgers.effects, []
        return effects


def _next_ledger(ledger: str, home: Home | None) -> LedgerId:
    """The one after all that this instance is known to have written."""
    if home is None:
        last = LedgerId.parse(ledger)
        return last._replace(epoch=last.epoch + 1)
    region, _, name = home.member.instance.rpartition("/")
    ledgers = [LedgerId.parse(found.ledger) for found in home.held]
    epochs = [each.epoch for each in ledgers if (each.region, each.instance) == (region, name)]
    return LedgerId(region, name, max(epochs, default=-1) + 1)
