"""What these tests share: which peers are here."""

import pytest

from fedbus_loadtests.bench.params import installed


@pytest.fixture
def needs():
    """Skips a test whose peer is not installed (in CI that is a failure)."""

    def check(*peers):
        for peer in peers:
            if not installed(peer):
                pytest.skip(f"no {peer}-server on this machine")

    return check
