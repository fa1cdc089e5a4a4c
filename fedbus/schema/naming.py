"""Subject names: which are allowed, and which subject a topic's data is checked against.

The default strategy is Confluent's ``TopicNameStrategy`` for values: topic ``orders.created`` has subject
``orders.created-value``. A topic policy may name another subject. Contexts (``:.name:subject``) are not offered.
"""

from __future__ import annotations

import unicodedata

from fedbus.schema.limits import SUBJECT_BYTES
from fedbus.schema.refusal import invalid_subject

VALUE_SUFFIX = "-value"
_RESERVED = frozenset({"__GLOBAL", "__EMPTY", "*"})
_DEFAULT_CONTEXT = ":.:"


def default_subject(topic: str) -> str:
    """The subject of a topic that names none."""
    return topic + VALUE_SUFFIX


def check_subject(subject: str) -> str:
    """The subject without the default context's prefix, or ``RegistryError`` 42208 saying why it cannot be one."""
    name = subject.removeprefix(_DEFAULT_CONTEXT)
    if not name:
        raise invalid_subject(subject, "it is empty")
    if name.startswith(":.") or (name.startswith(":*") and name.endswith(":")):
        raise invalid_subject(subject, "contexts are not supported; use a name without ':.context:'")
    if name in _RESERVED:
        raise invalid_subject(subject, "the name is reserved")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise invalid_subject(subject, "it contains a control character")
    if len(name.encode()) > SUBJECT_BYTES:
        raise invalid_subject(subject, f"it is longer than {SUBJECT_BYTES} bytes")
    return name
