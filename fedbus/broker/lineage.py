"""One ledger after the other: how an instance comes by the ledger it writes, and ends it by size or age.

A managed instance asks its manager for each ledger and for the end of each; one that is not begins the next itself.
Before the next begins all of the present one is confirmed: publishes are put off for that moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from fedbus.batch import Buffer
from fedbus.broker import protocol as p
from fedbus.broker.copies import Copies
from fedbus.broker.copy_effects import BeginLedger, Note, Request
from fedbus.broker.ensemble import Ensemble
from fedbus.broker.ledger import Ledgers
from fedbus.ledger_record import LedgerRecord
from fedbus.limits import Limits
from fedbus.position import LedgerId

BEGIN_AGAIN_NS = 1_000_000_000
FORMER_NS = 5_000_000_000  # a granted ledger waits no longer for former ones that are not closed
PATIENCE_NS = 1_000_000_000  # publishes are put off no longer: then they are refused


class Lineage:
    """The ledgers of one instance in time. ``managed``: it may begin none by itself."""

    def __init__(
        self, name: LedgerId, ledgers: Ledgers, ensemble: Ensemble, copies: Copies, limits: Limits, *, managed: bool
    ) -> None:
        self.draining = False  # no ledger follows the present one
        self._name = name  # of the next ledger
        self._ledgers = ledgers
        self._ensemble = ensemble
        self._copies = copies
        self._limits = limits
        self._managed = managed
        self._granted: LedgerRecord | None = None  # the next one
        self._granted_ns = 0
        self._closing: dict[str, Request] = {}  # ended ledgers whose end the store does not know yet
        self._begun_ns = 0
        self._roll_due = False
        self._pausing_ns = 0
        self._begin_ns = 0  # when the files were asked for
        self.refusal = ""  # why the ledger has no files
        self._put_off: deque[tuple[bytes, p.Publish, Sequence[Buffer]]] = deque()
        self._put_off_bytes = 0

    # -- from one ledger to the next -----------------------------------------------------------------------------------

    def open(self, ledger: str, now_ns: int, *, begun: bool) -> None:
        """The incarnation begins with this ledger."""
        self._begun_ns = now_ns
        if not begun:
            self._begin(ledger, now_ns)

    def _begin(self, ledger: str, now_ns: int) -> None:
        """Ask for the files; until they are there what is written is held back."""
        self._ledgers.holding = True
        self._begin_ns = now_ns
        self.refusal = ""
        self._ledgers.effects.append(BeginLedger(ledger))

    def begun(self, ledger: str) -> None:
        """The files are there."""
        if ledger == self._ledgers.current and self._begin_ns:
            self._begin_ns, self.refusal = 0, ""
            if self._ensemble.record is not None:
                self._ledgers.effects.append(Note(self._ensemble.record))
            self._ledgers.release(0)

    def refused(self, ledger: str, detail: str) -> None:
        """There are no files: what was written meanwhile goes on waiting for them."""
        if ledger == self._ledgers.current and self._begin_ns:
            self.refusal = detail

    def assured(self, now_ns: int) -> bool:
        """Whether there is a ledger to write, or the next one was granted a while ago.

        The manager grants none before the former ones are closed, unless that may take for ever.
        """
        waited = self._granted is not None and now_ns - self._granted_ns > FORMER_NS
        return bool(self._ledgers.current) or waited

    def grant(self, record: LedgerRecord, now_ns: int) -> bool:
        """Take a record that names this instance as the writer of a ledger; False if it is not the next one."""
        epoch = LedgerId.parse(record.id).epoch
        if self._granted is not None and self._granted.id == record.id and record.state != "OPEN":
            self._granted = None  # it was taken away before it began
            self._ledgers.pausing = self._ledgers.pausing and self.draining
        if record.state != "OPEN" or self._copies.get(record.id) is not None or epoch < self._name.epoch:
            return False
        if self._granted is None or self._granted.id != record.id or self._granted.version < record.version:
            self._granted, self._granted_ns = record, now_ns
        return True

    def advance(self, endpoints: Mapping[str, str], now_ns: int, *, ready: bool) -> bool:
        """Go on to the next ledger if it is time; ``ready``: what earlier ones left is taken over."""
        if self._ledgers.failed:
            return False
        if not self._ledgers.current:
            return ready and not self.draining and self._granted is not None and self._switch(endpoints, now_ns)
        if not self._ledgers.pausing and (self.draining or self._due(now_ns)):
            self._ledgers.pausing, self._pausing_ns = True, now_ns
        if self._ledgers.pausing and not self._ledgers.pending and not self._begin_ns and not self._ensemble.frozen_ns:
            return self._switch(endpoints, now_ns)
        return False

    def _due(self, now_ns: int) -> bool:
        if self._begin_ns:
            return False
        age_ms = (now_ns - self._begun_ns) // 1_000_000
        self._roll_due = (
            self._ledgers.size_bytes >= self._limits.ledger_roll_bytes or age_ms >= self._limits.ledger_roll_ms
        )
        return self._roll_due and (not self._managed or self._granted is not None)

    def _switch(self, endpoints: Mapping[str, str], now_ns: int) -> bool:
        ledgers, ended = self._ledgers, self._ensemble.record
        if ended is not None:
            end_number, end_offset = ledgers.confirmed_number + 1, ledgers.confirmed_offset
            self._copies.finished(ended, end_number, end_offset)
            self._closing[ended.id] = Request(
                "close", ended.id, ended.version, end_number=end_number, end_offset=end_offset
            )
        ledgers.pausing = self._roll_due = False
        if self.draining:
            ledgers.end_current()
            self._ensemble.begin(None, endpoints, now_ns)
            return True
        record, self._granted = self._granted, None
        assert record is not None or not self._managed, "a managed instance writes what it was granted"
        ledger = record.id if record is not None else str(self._name)
        self._name = LedgerId.parse(ledger)._replace(epoch=LedgerId.parse(ledger).epoch + 1)
        ledgers.begin(ledger)
        self._begun_ns = now_ns
        self._begin(ledger, now_ns)
        self._ensemble.begin(record, endpoints, now_ns)
        ledgers.snapshot_now(now_ns)
        return True

    # -- publishes that come meanwhile ---------------------------------------------------------------------------------

    def put_off(self, session: bytes, message: p.Publish, frames: Sequence[Buffer], now_ns: int) -> bool:
        """Keep a publish until the next ledger has begun; False if it is to be dealt with now."""
        if not self._ledgers.pausing or self.draining or now_ns - self._pausing_ns > PATIENCE_NS:
            return False
        size_bytes = sum(len(frame) for frame in frames)
        if self._put_off_bytes + size_bytes > self._limits.publish_window_bytes:
            return False
        self._put_off.append((session, message, frames))
        self._put_off_bytes += size_bytes
        return True

    def take_put_off(self, now_ns: int) -> list[tuple[bytes, p.Publish, Sequence[Buffer]]]:
        """The publishes that have waited, in order, once they need not (or may not) any longer."""
        if not self._put_off or (self._ledgers.pausing and now_ns - self._pausing_ns <= PATIENCE_NS):
            return []
        waited, self._put_off, self._put_off_bytes = list(self._put_off), deque(), 0
        return waited

    # -- what is asked of the manager ----------------------------------------------------------------------------------

    def requests(self) -> list[Request]:
        """What the manager has not done yet."""
        found = [*self._closing.values()]
        # Without a ledger it goes on asking until one has begun: so the manager knows that all former ones are over.
        due = not self._ledgers.current or (self._roll_due and self._granted is None)
        if self._managed and not self.draining and due and not self._ledgers.failed:
            found.append(Request("open", str(self._name), writing=self._ledgers.current))
        return found

    def closed(self, record: LedgerRecord) -> None:
        """A newer record of a ledger that this instance has ended."""
        if record.id in self._closing:
            if record.state == "CLOSED":
                del self._closing[record.id]
            else:  # its version is what a compare-and-swap has to name
                request = self._closing[record.id]
                self._closing[record.id] = Request(
                    "close", record.id, record.version,
                    end_number=request.end_number, end_offset=request.end_offset,
                )  # fmt: skip

    def tick(self, now_ns: int) -> None:
        """Files that were refused are asked for again."""
        if self.refusal and now_ns - self._begin_ns > BEGIN_AGAIN_NS:
            self._begin(self._ledgers.current, now_ns)
