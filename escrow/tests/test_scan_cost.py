"""What a scan costs: it grows with the transfers in the blocks, not with the agents that might have been paid."""

from hashlib import sha256

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import Agent
from bench import node as busy
from escrow import scans
from escrow.chain import addresses, rpc, usdc
from escrow.models import Deposit, DepositAddress, ScanCursor

BLOCKS, LOGS = 90, 20
FACTORY = b"\xfa" * 20
OURS = [sha256(b"deposit address %d" % number).digest()[:20] for number in range(2_000)]


@pytest.fixture
def busy_chain(settings):
    """A chain that is full of other people's transfers, every tenth of them to one of ten agents."""
    with busy.running(blocks=BLOCKS, logs=LOGS, ours=OURS[:10], every=10, most=200) as url:
        settings.CHAIN_RPC_URL = url
        settings.CHAIN_ID = busy.CHAIN_ID
        settings.USDC_ADDRESS = addresses.to_text(busy.TOKEN)
        settings.DEPOSIT_FACTORY_ADDRESS = addresses.to_text(FACTORY)
        settings.CHAIN_START_BLOCK = 0
        yield rpc.connect(url)


@pytest.fixture
def unfiltered(monkeypatch):
    monkeypatch.setattr(scans, "FILTERED", 5)


def watch(count: int) -> None:
    """Give so many agents a deposit address."""
    agents = Agent.objects.bulk_create(
        Agent(handle=f"agent-{number}", display_name=f"Agent {number}") for number in range(count)
    )
    DepositAddress.objects.bulk_create(
        DepositAddress(agent=agent, chain_id=busy.CHAIN_ID, factory=FACTORY, salt=address.ljust(32), address=address)
        for agent, address in zip(agents, OURS[:count], strict=True)
    )


def scanned_with(count: int, node: rpc.Node) -> tuple[dict[str, int], list[str], set[tuple]]:
    """Scan the whole chain with so many addresses; answers calls of the node, statements, and what was found."""
    with transaction.atomic():
        watch(count)
        before = node.ask("stub_calls")
        with CaptureQueriesContext(connection) as statements:
            assert scans.scan() == BLOCKS
        after = node.ask("stub_calls")
        found = set(Deposit.objects.values_list("tx_hash", "log_index", "receiver", "amount_units"))
        assert ScanCursor.objects.get().block_number == BLOCKS
        transaction.set_rollback(True)
    calls = {name: after[name] - before.get(name, 0) for name in after if name != "stub_calls"}
    return calls, [query["sql"].split()[0] for query in statements.captured_queries], found


def test_does_not_grow_with_the_addresses(busy_chain, unfiltered, db):
    few_calls, few_statements, few_found = scanned_with(10, busy_chain)
    many_calls, many_statements, many_found = scanned_with(2_000, busy_chain)

    assert len(few_found) == BLOCKS * LOGS // 10
    assert many_found == few_found
    assert many_calls == few_calls
    assert many_statements == few_statements


def test_finds_the_same_as_a_node_that_filters(busy_chain, monkeypatch, db):
    monkeypatch.setattr(scans, "FILTERED", 300)
    filtered = scanned_with(10, busy_chain)[2]
    monkeypatch.setattr(scans, "FILTERED", 5)

    assert scanned_with(10, busy_chain)[2] == filtered


class TestEverybodysTransfers:
    def test_come_in_parts_that_fit_into_memory(self, busy_chain, monkeypatch):
        monkeypatch.setattr(usdc, "LOGS_PER_PART", 100)

        parts = list(usdc.everybodys_transfers(busy_chain, busy.TOKEN, first=1, last=BLOCKS))

        assert [len(part) for part in parts[:3]] == [8 * LOGS, 100, 100]
        assert max(map(len, parts[1:])) <= 100

    def test_are_complete_and_in_order_where_the_node_refuses_much_at_once(self, busy_chain):
        parts = list(usdc.everybodys_transfers(busy_chain, busy.TOKEN, first=1, last=BLOCKS))

        places = [(one.block_number, one.log_index) for part in parts for one in part]
        assert places == [(height, index) for height in range(1, BLOCKS + 1) for index in range(LOGS)]

    def test_of_empty_blocks_are_asked_for_in_ever_longer_ranges(self, busy_chain):
        other_token = b"\x11" * 20
        before = busy_chain.ask("stub_calls").get("eth_getLogs", 0)

        parts = list(usdc.everybodys_transfers(busy_chain, other_token, first=0, last=8 + 32 + 128 - 1))

        assert parts == [[], [], []]
        assert busy_chain.ask("stub_calls")["eth_getLogs"] - before == 3
