"""Spans: a turn goes on at what is missing, as far as the same spans answer; nothing crosses twice, nothing is left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedbus.broker.link_spans import joined, pattern_of, reached, span_key, turn_of
from fedbus.broker.protocol import LinkFilter
from fedbus.topic import FilterSet

END = 40
TOPICS = ["a.x", "a.y", "b.x"]
FILTERS = ["a.x", "a.*", ">", "b.>"]
wants = st.dictionaries(st.sampled_from(FILTERS), st.integers(0, END), min_size=1)


def test_a_filter_from_the_middle_and_later_from_the_beginning():
    middle, whole = LinkFilter("a.x", 30), LinkFilter("a.x", 0)
    turn = turn_of({}, [middle])
    assert (turn.spans, turn.until) == ({"a.x@30": 30}, 0)
    turn = turn_of({"a.x@30": 35}, [whole])
    assert (turn.spans, turn.others, turn.until) == ({"a.x": 0}, {}, 30)
    assert reached({"a.x@30": 35, "a.x": 12}, whole) == 12
    assert joined({"a.x@30": 35, "a.x": 30}) == {"a.x": 35}


def test_what_another_filter_had_before_is_named_as_far_as_it_reaches():
    turn = turn_of({">": 20}, [LinkFilter("a.x", 0)])
    assert (turn.spans, turn.others, turn.until) == ({"a.x": 0}, {">": 20}, 0)


@given(
    interests=st.lists(wants, min_size=1, max_size=5),
    steps=st.lists(st.integers(1, 15), min_size=1, max_size=30),
    topics=st.lists(st.sampled_from(TOPICS), min_size=END, max_size=END),
)
def test_each_wanted_event_crosses_exactly_once(interests, steps, topics):
    """The origin's rule, on one ledger, while what is wanted changes: as ``LinkSource`` and ``LinkTargets`` do it."""
    spans: dict[str, int] = {}
    crossed: list[int] = []
    for number, interest in enumerate(interests):
        chosen = [LinkFilter(pattern, start) for pattern, start in interest.items()]
        last = number == len(interests) - 1
        for step in [*steps[number::5], *([END] * 20 if last else [])]:
            turn = turn_of(spans, chosen)
            stop = min(END, turn.start + step, turn.until or END)
            for offset in range(turn.start, stop):
                takes = {key: FilterSet([pattern_of(key)]).matches(topics[offset]) for key in turn.spans | turn.others}
                wanted = any(takes[key] for key in turn.spans)
                had = any(at > offset for key, at in (turn.spans | turn.others).items() if takes[key])
                if wanted and not had:
                    crossed.append(offset)
            spans = joined(spans | {key: max(stop, at) for key, at in turn.spans.items()})
    assert len(crossed) == len(set(crossed)), "once"
    for pattern, start in interests[-1].items():
        due = {offset for offset in range(start, END) if FilterSet([pattern]).matches(topics[offset])}
        assert due <= set(crossed), "and nothing is left behind"


@given(pattern=st.sampled_from(FILTERS), begun=st.integers(0, 10**9))
def test_a_span_is_named_by_its_filter_and_where_it_began(pattern, begun):
    assert pattern_of(span_key(pattern, begun)) == pattern
