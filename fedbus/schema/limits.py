"""Bounds of the registry and of validation: nobody's schema or data may cost unbounded memory, stack or time.

They are properties of the registry, the same at the gateway and in every client (both must judge an event alike), hence
constants and not options.
"""

from __future__ import annotations

from typing import Final

SCHEMA_BYTES: Final = 1024 * 1024
"""Longest schema text. Every gateway and client holds the newest schema of each subject in memory."""

SCHEMA_DEPTH: Final = 64
"""Deepest nesting of a schema. The validator recurses over it and gives up at 255; people write less than 20."""

DATA_DEPTH: Final = 64
"""Deepest nesting of data that is checked against a schema: the validator recurses over it, see the next one."""

IN_PLACE_DEPTH: Final = 32
"""Most subschemas that apply to one value through each other (``$ref``, ``allOf`` …). Times ``DATA_DEPTH`` it bounds
the validator's native stack: 3 MiB suffice; a recursive schema with 800 such steps killed a process with 8 MiB."""

SUBJECT_BYTES: Final = 512
"""Longest subject name; the longest topic with its suffix has 261 bytes."""

VALIDATORS: Final = 1024
"""Compiled validators kept; the least recently used goes first. A compiled schema takes some ten times its text."""

PROBLEMS: Final = 20
"""Problems reported per event: one wrong loop in a producer must not make a report of a megabyte."""

PROBLEM_CHARACTERS: Final = 300
"""Longest text of one problem; the validator quotes the offending value, which may be the whole event."""

PATTERN_BACKTRACKS: Final = 100_000
"""Steps a regular expression may go back before the data is refused: bounds catastrophic patterns to milliseconds."""

COMMIT_ATTEMPTS: Final = 8
"""Times a change is decided anew after another writer was faster; schemas are registered by people, not in loops."""

REQUESTS_WAITING: Final = 256
"""Registry requests that may wait for the store; more are answered 429."""
