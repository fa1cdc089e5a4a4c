"""Fixtures of the client's tests."""

import pytest

from tests.client.scripted import Scripted


@pytest.fixture
def instances(tmp_path):
    from tests.client.instances import Instances

    made = Instances(tmp_path)
    yield made
    made.stop_all()


@pytest.fixture
def plain_broker(instances):
    """The URL of a running bus instance without a manager."""
    return instances.start()


@pytest.fixture
def scripted():
    """Makes instances that answer as a test tells them to."""
    made = []

    def make(name="b1", **options):
        made.append(Scripted(name, **options))
        return made[-1]

    yield make
    for instance in made:
        instance.close()
