"""Networks of namespaces for the tests of this folder; where they cannot be made the tests skip (in CI never)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.mesh import Mesh
from tests.mesh.namespaces import Network, why_not
from tests.mesh.trial import Trial

REGIONS = ("mesh.a", "mesh.b", "mesh.c")
FAR_MS = 15  # each way, between c and everybody else


@pytest.fixture(scope="session")
def namespaces() -> None:
    """That namespaces can be made here."""
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture
def network(namespaces: None) -> Iterator[Network]:
    """An empty network of the test's own."""
    network = Network()
    yield network
    network.close()


@pytest.fixture(scope="package")
def mesh(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Three regions that are up and know one another, for all tests of this folder; each leaves it whole."""
    mesh = Mesh(tmp_path_factory.mktemp("mesh"), REGIONS, far="mesh.c")
    try:
        mesh.up()
        mesh.distance.tell(delay_ms=FAR_MS)
        yield mesh
    finally:
        mesh.close()


@pytest.fixture
def trial(mesh: Mesh, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trial]:
    """A trial of the test's own; in the end the network is whole again."""
    trial = Trial(mesh, request.node.name.removeprefix("test_")[:16].replace("[", "-"), tmp_path)
    try:
        yield trial
    finally:
        mesh.network.heal()
        trial.close()
        mesh.mend()
