"""The one table of limits: what the bus takes from anybody, and how deep every queue may get.

The table travels: an instance sends its own in the Welcome, the gateway in ``/v1/bootstrap``, so that a client refuses
an oversize event before it is sent. Values come from the federation file (section ``limits``); the defaults fit a
laptop.
What is part of a format rather than a choice (topic length, number of key slots) stands beside that format.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
HOUR_MS = 3_600_000


def _why(reason: str) -> msgspec.Meta:
    """A limit is at least one ("no limit" does not exist); the reason goes into the generated reference."""
    return msgspec.Meta(ge=1, description=reason)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """All limits; each field's reason is its description, its unit the last word of its name."""

    # What one request may bring.
    event_bytes: Annotated[int, _why("Largest event data; bigger bodies belong in an object store.")] = MIB
    batch_bytes: Annotated[int, _why("Largest batch, index and payload: what one append writes.")] = 4 * MIB
    batch_events: Annotated[int, _why("Most events in one batch: bounds the index that is decoded at once.")] = 16_384
    http_body_bytes: Annotated[int, _why("Largest HTTP body; Ray Serve has no limit of its own.")] = 8 * MIB
    key_bytes: Annotated[int, _why("Longest key; keys are hashed and kept per event.")] = KIB
    attributes_bytes: Annotated[int, _why("Most CloudEvents attributes of one event, encoded.")] = 8 * KIB
    name_bytes: Annotated[int, _why("Longest name of a session, group, member or producer: they are kept.")] = 256
    filters_per_group: Annotated[int, _why("Filters of one group; they become one expression.")] = 64
    cursor_bytes: Annotated[int, _why("Longest stream cursor: it has to fit an HTTP header line.")] = 2 * KIB
    frame_bytes: Annotated[int, _why("Largest ZeroMQ frame; the socket drops bigger ones unseen.")] = 16 * MIB

    # Queues of one bus instance.
    sessions: Annotated[int, _why("Sessions of an instance: each takes memory and a place in the poll loop.")] = 4096
    subscriptions_per_session: Annotated[int, _why("Subscriptions of one session: each scans every batch.")] = 256
    groups: Annotated[int, _why("Groups of an instance: each scans every batch for its filter.")] = 4096
    uncommitted_bytes: Annotated[int, _why("Batches taken and not yet on disk; beyond it publishing is refused.")] = (
        64 * MIB
    )
    send_queue_messages: Annotated[int, _why("Messages queued for one peer before it has no credit.")] = 1024
    receive_queue_messages: Annotated[int, _why("Messages queued by ZeroMQ from one peer.")] = 1024
    tail_cache_bytes: Annotated[int, _why("Newest batches kept in memory for subscribers that keep up.")] = 32 * MIB
    read_chunk_bytes: Annotated[int, _why("What one read of a ledger takes from disk (one batch at least).")] = MIB
    reads_waiting: Annotated[int, _why("Ledger reads under way at once in an instance.")] = 64

    # One producer session.
    publish_window_batches: Annotated[int, _why("Batches of one session that may be unanswered.")] = 256
    publish_window_bytes: Annotated[int, _why("Bytes of one session that may be unanswered.")] = 16 * MIB
    dedup_window_batches: Annotated[int, _why("Sequences remembered per producer and ledger.")] = 1024
    dedup_events: Annotated[
        int, _why("Events an instance remembers by source and id (dedup windows of topics); the oldest go first.")
    ] = 131_072
    dedup_producers: Annotated[int, _why("Producers remembered per ledger; the longest idle goes first.")] = 65_536

    # One group or member.
    member_credit_events: Annotated[int, _why("Events a member may hold unacknowledged.")] = 10_000
    member_credit_bytes: Annotated[int, _why("Bytes a member may hold unacknowledged.")] = 32 * MIB
    max_ack_window_events: Annotated[int, _why("How far dispatch runs ahead of the low-water mark (rule 14).")] = (
        100_000
    )
    key_handover_max_ms: Annotated[
        int, _why("How long events wait for a key slot's old owner: longer than its restart in place takes.")
    ] = 10_000
    withheld_max_ms: Annotated[
        int, _why("How long a batch of an idempotent producer waits for word of its first try: longer than a restart.")
    ] = 600_000
    members_per_group: Annotated[int, _why("Members of one group.")] = 1024
    geo_events: Annotated[
        int, _why("Events stored and waiting for a second region; beyond it publishing to such topics is refused.")
    ] = 50_000
    link_window_bytes: Annotated[int, _why("Events of one link fetched and not yet in the own ledger.")] = 16 * MIB

    # Ledger files.
    segment_bytes: Annotated[int, _why("A segment file is sealed at this size.")] = 64 * MIB
    ledger_roll_bytes: Annotated[int, _why("A ledger is closed at this size: retention drops whole ledgers.")] = GIB
    ledger_roll_ms: Annotated[int, _why("A ledger is closed at this age: retention drops whole ledgers.")] = (
        24 * HOUR_MS
    )

    # Copies.
    replica_silence_ms: Annotated[int, _why("A member of a ledger that answers no append for so long is replaced.")] = (
        300
    )

    scrub_bytes_per_s: Annotated[int, _why("How fast sealed segments are read through for damage.")] = 4 * MIB
    scrub_rest_ms: Annotated[int, _why("Rest between two passes over all sealed segments.")] = HOUR_MS
    repairs_waiting: Annotated[int, _why("Repairs and deletions waiting for the scrubber.")] = 1024

    # The gateway.
    gateway_requests: Annotated[int, _why("Requests in flight in the gateway; more are answered 429.")] = 2048
    gateway_bytes: Annotated[int, _why("Bodies in flight in the gateway; more are answered 429.")] = 128 * MIB
    gateway_streams: Annotated[int, _why("Open SSE streams and WebSockets.")] = 1024
    stream_buffer_bytes: Annotated[int, _why("Events queued for one stream before its subscription pauses.")] = 4 * MIB

    # The metadata store.
    store_log_rows: Annotated[int, _why("Newest decisions kept in the status log.")] = 20_000
    store_forecasts: Annotated[int, _why("Newest forecasts kept per region.")] = 500
    store_directives: Annotated[int, _why("Newest finished directives kept.")] = 5_000


# (smaller, larger): the first may never exceed the second, else a request could be taken that can never be finished.
RELATIONS: tuple[tuple[str, str], ...] = (
    ("key_bytes", "event_bytes"),
    ("attributes_bytes", "event_bytes"),
    ("event_bytes", "batch_bytes"),
    ("batch_bytes", "http_body_bytes"),
    ("batch_bytes", "frame_bytes"),
    ("batch_bytes", "publish_window_bytes"),
    ("batch_bytes", "member_credit_bytes"),
    ("batch_bytes", "link_window_bytes"),
    ("batch_bytes", "segment_bytes"),
    ("batch_bytes", "tail_cache_bytes"),
    ("event_bytes", "stream_buffer_bytes"),
    ("publish_window_bytes", "uncommitted_bytes"),
    ("publish_window_batches", "send_queue_messages"),
    ("publish_window_batches", "dedup_window_batches"),
    ("http_body_bytes", "gateway_bytes"),
    ("read_chunk_bytes", "tail_cache_bytes"),
    ("segment_bytes", "ledger_roll_bytes"),
    ("member_credit_events", "max_ack_window_events"),
    ("geo_events", "max_ack_window_events"),
)


def broken_relations(limits: Limits) -> list[str]:
    """What contradicts in this table, one sentence each; empty when it is consistent."""
    return [
        f"{smaller} ({getattr(limits, smaller)}) must not exceed {larger} ({getattr(limits, larger)})"
        for smaller, larger in RELATIONS
        if getattr(limits, smaller) > getattr(limits, larger)
    ]


DEFAULT = Limits()
assert not broken_relations(DEFAULT), broken_relations(DEFAULT)
