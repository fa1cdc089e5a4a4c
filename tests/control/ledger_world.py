"""A small model of a region's instances and its store, for the replication plan: records are numbers, disks are dicts.

Everything happens when the test says so. Checked at every change: one past what was acknowledged is never cut off, the
last whole copy of a closed ledger is never dropped, and a dispatcher changes only as rule 14 allows.
"""

from dataclasses import dataclass, field

import msgspec

from fedbus.broker.copy_effects import Request
from fedbus.control.replication import Grant, Holder, LedgerView, Settings, answer, plan, to_push
from fedbus.ledger_record import Held, LedgerRecord, Member
from fedbus.position import LedgerId

SECOND = 1_000_000_000


@dataclass
class Copy:
    numbers: set = field(default_factory=set)
    confirmed: int = 0
    version: int = 0
    term: int = 0

    def held(self, ledger, end_number):
        end = max(self.numbers, default=-1) + 1
        first = end
        while first - 1 in self.numbers:
            first -= 1
        cut = end_number is not None and end <= end_number
        return Held(ledger=ledger, version=self.version, term=self.term, first_number=first if end else 0,
                    end_number=end, end_offset=end, confirmed=self.confirmed, cut=cut)  # fmt: skip


class Instance:
    def __init__(self, name, node):
        self.name, self.node = name, node
        self.uuid = f"{name}-1"
        self.disk = {}
        self.up, self.registered, self.stage = True, True, "staying"
        self.silent_since_ns = None
        self.writing = ""
        self.known = {}
        self.pending = False

    @property
    def member(self):
        return Member(f"r/{self.name}", self.uuid)

    @property
    def next_epoch(self):
        own = [LedgerId.parse(each).epoch for each in self.disk if each.startswith(f"r/{self.name}/")]
        return max(own, default=0) + 1

    def end(self, ledger):
        known = self.known.get(ledger)
        return known.end_number if known is not None else None

    def note(self, record):
        known = self.known.get(record.id)
        if known is not None and known.version >= record.version:
            return
        named = self.member in record.members or self.member == record.writer or record.dispatcher == f"r/{self.name}"
        if not named and record.state != "RECOVERING":
            self.disk.pop(record.id, None)
            self.known.pop(record.id, None)
            return
        self.known[record.id] = record
        copy = self.disk.setdefault(record.id, Copy())
        copy.version, copy.term = record.version, max(copy.term, record.term)
        if record.state == "CLOSED":
            copy.numbers = {n for n in copy.numbers if n < record.end_number}
        if record.state == "OPEN" and record.writer == self.member and not self.writing:
            self.writing, self.pending = record.id, False
        elif record.state != "OPEN" and self.writing == record.id:
            self.writing = ""  # fenced, or closed: the next incarnation is here at once


class World:
    def __init__(self, nodes, replicas=2, min_copies=1):
        self.settings = Settings(replicas=replicas, min_copies=min_copies)
        self.instances = {f"b{n}": Instance(f"b{n}", node) for n, node in enumerate(nodes, 1)}
        self.store: dict[str, LedgerRecord] = {}
        self.acknowledged: dict[str, int] = {}
        self.now_ns = SECOND

    # -- what happens to instances -------------------------------------------------------------------------------------

    def crash(self, name):
        each = self.instances[name]
        each.up, each.silent_since_ns, each.writing = False, self.now_ns, ""

    def freeze(self, name):
        """As SIGSTOP: silent, and it still believes to be the writer when it wakes up."""
        each = self.instances[name]
        if each.up:
            each.up, each.silent_since_ns = False, self.now_ns

    def start(self, name):
        each = self.instances[name]
        if not each.up and each.registered:
            each.up, each.silent_since_ns = True, None

    def lose_disk(self, name):
        self.crash(name)
        each = self.instances[name]
        each.disk, each.known, each.uuid = {}, {}, f"{each.uuid}+"

    def retire(self, name):
        self.crash(name)
        self.instances[name].registered = False

    def add(self, node):
        name = f"b{len(self.instances) + 1}"
        self.instances[name] = Instance(name, node)
        return name

    def publish(self, name):
        """One record by a writer: on every member of its last fragment that is up, acknowledged if that is all."""
        writer = self.instances[name]
        if not writer.up or not writer.writing or writer.stage == "closing":
            return
        record, own = writer.known[writer.writing], writer.disk[writer.writing]
        number = own.confirmed if writer.pending else max(own.numbers, default=-1) + 1
        reached, silent = [], []
        for member in record.last.members:
            holder = next((h for h in self.instances.values() if h.member == member and h.up), None)
            copy = None if holder is None else holder.disk.setdefault(record.id, Copy())
            if copy is None or copy.term > record.term:
                silent.append(member.instance)
                continue
            copy.numbers |= {n for n in own.numbers if n >= own.confirmed} | {number}
            copy.confirmed = max(copy.confirmed, own.confirmed)
            reached.append(copy)
        if silent:
            writer.pending = True
            self.ask(writer, Request("ensemble", record.id, record.version, first_number=own.confirmed,
                                     first_offset=own.confirmed, silent=tuple(silent)))  # fmt: skip
        else:
            own.confirmed = max(own.numbers) + 1
            writer.pending = False
            self.acknowledged[record.id] = own.confirmed

    # -- the manager ---------------------------------------------------------------------------------------------------

    def view(self):
        holders = tuple(
            Holder(
                member=each.member, node=each.node, present=each.up, silent_since_ns=each.silent_since_ns,
                stage=each.stage, from_epoch=each.next_epoch if each.up and not each.writing else None,
                held={ledger: copy.held(ledger, each.end(ledger)) for ledger, copy in each.disk.items()},
            )
            for each in self.instances.values() if each.registered
        )  # fmt: skip
        return LedgerView(
            records=tuple(self.store.values()), holders=holders, now_ns=self.now_ns, settings=self.settings
        )

    def ask(self, instance, request):
        found = answer(self.view(), f"r/{instance.name}", request)
        if isinstance(found, Grant):
            if found.store == "add":
                assert found.record.id not in self.store
                self.store[found.record.id] = found.record
            elif found.store == "swap":
                self.swap(found.record)
            instance.note(self.store[found.record.id])
        return found

    def swap(self, record):
        before = self.store[record.id]
        assert before.version == record.version, "changed meanwhile"
        check(self, before, record)
        self.store[record.id] = msgspec.structs.replace(record, version=record.version + 1)

    def step(self, stop_after=None):
        """One watch of the manager: plan, compare-and-swap, tell; ``stop_after`` so many swaps it is killed."""
        planned = plan(self.view())
        for number, change in enumerate(planned.changes):
            if stop_after is not None and number >= stop_after:
                return planned
            for record in change.records:
                self.swap(record)
        self.push()
        for review in planned.reviews:
            writer = self.instances[review.instance.removeprefix("r/")]
            own, record = writer.disk[review.ledger], writer.known[review.ledger]
            if writer.up and writer.writing == review.ledger:
                self.ask(writer, Request("ensemble", record.id, record.version, first_number=own.confirmed,
                                         first_offset=own.confirmed))  # fmt: skip
        for closing in planned.closings:
            writer = self.instances[closing.instance.removeprefix("r/")]
            end = max(writer.disk[closing.ledger].numbers, default=-1) + 1
            if writer.writing == closing.ledger and not writer.pending:
                self.ask(writer, Request("close", closing.ledger, end_number=end, end_offset=end))
        for each in self.instances.values():
            if each.up and each.registered and not each.writing and each.stage == "staying":
                self.ask(each, Request("open", f"r/{each.name}/{each.next_epoch}"))
        self.fetch()
        self.now_ns += SECOND // 2
        return planned

    def push(self):
        for name, records in to_push(self.view()).items():
            each = self.instances[name.removeprefix("r/")]
            if each.up:
                for record in records:
                    each.note(record)

    def fetch(self):
        """Members that are up get what some other instance that is up has, and no more than is confirmed or closed."""
        for record in self.store.values():
            for member in record.members:
                each = self.instances[member.instance.removeprefix("r/")]
                if each.member != member or not each.up or record.id not in each.known:
                    continue
                end = record.end_number if record.state == "CLOSED" else self.acknowledged.get(record.id, 0)
                copy = each.disk.setdefault(record.id, Copy())
                for other in self.instances.values():
                    if other.up and record.id in other.disk:
                        copy.numbers |= {n for n in other.disk[record.id].numbers if n < end}

    def settle(self, rounds=60):
        """Step until nothing is left to do."""
        for _ in range(rounds):
            before = dict(self.store)
            planned = self.step()
            if self.store == before and not (planned.changes or planned.reviews or planned.closings):
                return planned
        raise AssertionError(f"no end of it: {planned}")


def check(world, before, after):
    acknowledged = world.acknowledged.get(after.id, 0)
    if after.state == "CLOSED":
        assert after.end_number >= acknowledged, f"{after.id}: acknowledged events cut off"
        assert len(after.fragments) == 1
    if before.state == "CLOSED":
        assert after.end_number == before.end_number
        left = set(before.members) - set(after.members)
        if left:
            kept = [m for m in after.members if whole(world, m, before)]
            assert kept, f"{after.id}: the last whole copy is dropped"
    if before.dispatcher != after.dispatcher:
        old, new = before.dispatcher, after.dispatcher
        heir = world.instances[new.removeprefix("r/")]
        assert whole(world, heir.member, after)
        predecessor = world.instances[old.removeprefix("r/")]
        without_directory = predecessor.registered and (
            predecessor.member not in before.members or before.dispatcher_uuid not in ("", predecessor.uuid)
        )
        for other in world.store.values():
            if other.writer.instance == old and not (without_directory and other.writer == predecessor.member):
                assert other.state == "CLOSED", f"{before.id} passes on while {other.id} is {other.state}"


def whole(world, member, record):
    each = world.instances[member.instance.removeprefix("r/")]
    copy = each.disk.get(record.id)
    return each.member == member and copy is not None and set(range(record.end_number)) <= copy.numbers
