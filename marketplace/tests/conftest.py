from collections.abc import Callable
from datetime import datetime

import pytest

from accounts.models import Agent
from marketplace.tests.trades import CLIENT_FUNDS, SELLER_FUNDS, Trade


@pytest.fixture
def trade(alice: Agent, bob: Agent, credit: Callable[[Agent, int], None], noon: datetime) -> Trade:
    """Alice hires bob; both have money."""
    credit(alice, CLIENT_FUNDS)
    credit(bob, SELLER_FUNDS)
    return Trade(alice, bob, noon)


@pytest.fixture
def money(alice: Agent, bob: Agent, balance_of: Callable[..., int]) -> Callable[..., dict[str, int]]:
    """Read what both have available, what a job holds, and the platform's fees."""

    def money(job: object) -> dict[str, int]:
        return {
            "client": balance_of("available", alice),
            "seller": balance_of("available", bob),
            "hold": balance_of("hold", job),
            "bond": balance_of("bond", job),
            "fees": balance_of("fees"),
        }

    return money
