"""A region's topic policies: seeded from the federation file, changed at run time, told to every living instance."""

from types import SimpleNamespace

import pytest

from fedbus.broker.effects import Surveyed
from fedbus.broker.policies import DEFAULT_RULE, TopicRule
from fedbus.clock import ManualClock
from fedbus.errors import ConflictError, NotFoundError, UnavailableError
from fedbus.options import TopicPolicy, TopicsOptions
from fedbus.storage.store import Store
from fedbus_actors import instance_calls
from fedbus_actors.region_topics import RegionTopics

NOW_NS = 1_772_452_800_000_000_000


class Instance:
    """An instance as its manager has it; remembers what it was told, unless it does not answer."""

    def __init__(self, name, state="healthy"):
        self.name = name
        self.state = state
        self.handle = self
        self.fresh = state == "healthy"
        self.answers = True
        self.version = 0
        self.rules = []
        self.cutoffs = []
        self.topics = []
        self.retained = []
        self.apply_topics = SimpleNamespace(remote=self._apply)
        self.apply_cutoffs = SimpleNamespace(remote=self.cutoffs.append)
        self.known_topics = SimpleNamespace(remote=lambda after, limit: [t for t in self.topics if t > after][:limit])

    def _apply(self, version, rules, auto_create):
        if not self.answers:
            return TimeoutError("no answer")
        self.version, self.rules = version, rules
        return None

    @property
    def report(self):
        return SimpleNamespace(pid=7, status=SimpleNamespace(topics_version=self.version, retained=self.retained))


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """Remote calls, made at once."""
    ask = SimpleNamespace(ask=lambda calls, timeout_s: {key: call() for key, call in calls.items()})
    monkeypatch.setattr(instance_calls, "remote", ask)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store.db", NOW_NS)
    yield made
    made.close()


@pytest.fixture
def region(store):
    """A region with two instances, its topics, and what was noted."""
    made = SimpleNamespace(fleet=SimpleNamespace(members={}), notes=[])
    made.fleet.members = {name: Instance(name) for name in ("b1", "b2")}
    made.b1, made.b2 = made.fleet.members.values()

    def topics(*policies):
        options = TopicsOptions(policies=tuple(TopicPolicy(filter=each) for each in policies))
        return RegionTopics(store, made.fleet, options, ManualClock(NOW_NS), lambda *note: made.notes.append(note))

    made.topics = topics
    return made


def rule(pattern, **more):
    return TopicRule(filter=pattern, **more)


def test_the_files_policies_are_a_beginning_and_changes_outlive_the_manager(region):
    topics = region.topics("a", "b.>")
    assert [each.filter for each in topics.policies.rules] == ["a", "b.>"]
    topics.put("a", rule("a", retention_ms=5))
    topics.delete("b.>")
    again = region.topics("a")
    assert again.policies.rules == (rule("a", retention_ms=5),)
    assert again.policies.version > topics.policies.version


def test_a_change_answers_when_every_living_instance_has_it(region):
    topics = region.topics()
    region.fleet.members["b3"] = Instance("b3", "unreachable")
    answer = topics.put("a", rule("a"))
    assert (region.b1.version, region.b2.version) == (answer["version"], answer["version"])
    assert region.b1.rules == [rule("a")]
    region.b2.answers = False
    with pytest.raises(UnavailableError, match=r"b2 did not confirm it within 2 s"):
        topics.put("a", rule("a", retention_ms=9))
    region.b2.answers = True
    topics.step()  # it is told by the watch
    assert region.b2.rules == [rule("a", retention_ms=9)]


def test_an_instance_that_started_anew_is_told(region):
    topics = region.topics("a")
    topics.step()
    assert region.b1.version == topics.policies.version
    region.b1.version = 0
    topics.step()
    assert region.b1.version == topics.policies.version


def test_a_tie_is_refused_and_changes_nothing(region):
    topics = region.topics("a.*")
    with pytest.raises(ConflictError, match=r"\*\.b and a\.\*"):
        topics.put("*.b", rule("*.b"))
    with pytest.raises(NotFoundError):
        topics.delete("*.b")
    assert [each.filter for each in topics.policies.rules] == ["a.*"]


def test_a_policy_of_the_file_that_ties_with_a_change_is_left_out_and_noted(region):
    region.topics().put("a.*", rule("a.*"))
    topics = region.topics("*.b", "c")
    assert [each.filter for each in topics.policies.rules] == ["c", "a.*"]
    [(kind, message)] = region.notes
    assert kind == "topic_policy"
    assert "*.b" in message


def test_what_is_over_its_size_in_the_region_is_told_to_all_also_to_late_comers(region):
    topics = region.topics()
    topics.put("a", rule("a", retention_bytes=150))
    region.b1.retained = [Surveyed("l1", 10, ("a",), 100), Surveyed("l3", 30, ("a",), 100)]
    region.b2.retained = [Surveyed("l2", 20, ("a",), 100)]
    topics.step()
    topics.step()
    assert region.b1.cutoffs == region.b2.cutoffs == [{"a": 20}]
    region.fleet.members["b3"] = late = Instance("b3")
    topics.step()
    assert late.cutoffs == [{"a": 20}]


def test_topics_are_those_any_instance_knows_page_by_page(region):
    topics = region.topics()
    region.b1.topics, region.b2.topics = ["a", "c", "e"], ["b", "c", "d"]
    assert topics.seen({"limit": 3}) == ["a", "b", "c"]
    assert topics.seen({"after": "c", "limit": 3}) == ["d", "e"]


def test_what_gateways_and_people_are_told(region):
    topics = region.topics()
    topics.put("a", rule("a", retention_bytes=1, dedup_window_ms=2))
    [view] = topics.views()
    assert (view["topic"], view["retention_ms"], view["retention_bytes"], view["dedup_window_ms"]) == (
        "a", DEFAULT_RULE.retention_ms, 1, 2,
    )  # fmt: skip
    assert topics.rules()["rules"][0]["filter"] == "a"
