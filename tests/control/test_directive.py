import msgspec
import pytest

from fedbus.control.directive import TRANSITIONS, UNFINISHED, Directive, IllegalStepError

DIRECTIVE = Directive(
    id="eu/1/0",
    region="eu",
    action="create",
    instance=None,
    size="small",
    cause="forecast",
    reason="because",
    ordered_at_ns=1,
    plan_generation=1,
)
STEPS = ("start", "finish", "fail", "supersede")
STATUSES = ("ordered", "applying", "done", "failed", "superseded")


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("step", STEPS)
def test_only_the_steps_of_the_table_are_possible(status, step):
    directive = msgspec.structs.replace(DIRECTIVE, status=status)
    if (status, step) in TRANSITIONS:
        after = directive.step(step, 9)
        assert after.status == TRANSITIONS[status, step]
        assert (after.settled_at_ns is None) == (after.status in UNFINISHED) == after.unfinished
    else:
        with pytest.raises(IllegalStepError, match=f"eu/1/0.*{status}.*{step}"):
            directive.step(step, 9)


def test_starting_a_create_names_its_instance_and_it_crosses_json():
    started = DIRECTIVE.step("start", 2, instance="b3").step("finish", 3, outcome="up in 1 s")
    assert started.instance == "b3"
    assert msgspec.json.decode(msgspec.json.encode(started), type=Directive) == started
