"""Topic policies: documents by filter, and the version under which instances are told of them."""

from __future__ import annotations

from fedbus.broker.policies import TopicRule
from fedbus.storage.store.database import Database, next_number
from fedbus.storage.store.documents import Documents

_COUNTER = "topics"
_TERM_BITS = 32


class StoredTopicRules(Documents[TopicRule]):
    """The policies of a region's store."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, "topic", TopicRule)

    def next_version(self) -> int:
        """A version above all that were given out; those of a rebuilt store are above the lost one's (rule 8)."""
        with self._database.writing() as connection:
            return (self._database.term << _TERM_BITS) + next_number(connection, _COUNTER)
