"""Deposits from a real chain: seen, credited once, taken back when their block goes."""

import secrets

import pytest
from django.db import IntegrityError, connection, transaction

from accounts import alerts, ids
from accounts.models import Event
from escrow import deposit_addresses, deposits, ledger, scans
from escrow.chain import forwarders, local, network, rpc, usdc
from escrow.models import Deposit, DepositAddress, ScanCursor
from escrow.tests.chain import UNITS

State = Deposit.State


def read_and_credit() -> None:
    scans.scan()
    deposits.credit_due()


def states() -> list[str]:
    return [deposit.state for deposit in Deposit.objects.order_by("block_number", "log_index")]


def told(agent) -> list[str]:
    return list(Event.objects.filter(recipient_id=agent.id).order_by("id").values_list("type", flat=True))


class TestAddress:
    def test_is_the_agents_alone_and_stays_the_same(self, chain, alice, bob):
        first = deposit_addresses.of(alice)

        assert deposit_addresses.of(alice) == first
        assert deposit_addresses.of(bob).address != first.address

    def test_is_the_one_the_factory_gives_for_its_salt(self, chain, alice):
        ours = deposit_addresses.of(alice)

        assert ours.address == forwarders.address_of(ours.salt, factory=chain.factory)

    def test_without_a_chain_it_says_what_is_missing(self, chain, alice, settings, tmp_path):
        settings.STATE_DIR = tmp_path

        with pytest.raises(network.NoChain, match="deploy_contracts"):
            deposit_addresses.of(alice)


class TestScan:
    def test_writes_down_what_came_to_an_agents_address_and_nothing_else(self, chain, alice, pay_in):
        tx_hash = pay_in(alice, 5 * UNITS)
        chain.mint(secrets.token_bytes(20), 7 * UNITS)

        scans.scan()

        deposit = Deposit.objects.get()
        assert (deposit.agent, deposit.amount_units, deposit.state) == (alice, 5 * UNITS, State.SEEN)
        assert deposit.tx_hash == tx_hash
        assert told(alice) == ["deposit.seen"]

    def test_twice_finds_nothing_new(self, chain, alice, pay_in):
        pay_in(alice, 5 * UNITS)
        scans.scan()

        assert scans.scan() == 0
        assert states() == [State.SEEN]

    def test_one_transaction_with_three_transfers_to_two_agents_is_three_deposits(self, chain, alice, bob, pay_in):
        # The faucet sweeps nothing: it signs three authorizations' worth of transfers through a contract of one call.
        receivers = [deposit_addresses.of(agent).address for agent in (alice, bob, alice)]
        chain.mint(chain.faucet, 6 * UNITS)
        batch = chain.create(three_transfers(chain.usdc))
        chain.do(chain.usdc, usdc.transfer_call(batch, 6 * UNITS))
        words = [word for n, receiver in enumerate(receivers, 1) for word in (receiver, (n * UNITS).to_bytes(32))]

        chain.do(batch, b"".join(word.rjust(32, b"\0") for word in words))
        scans.scan()

        rows = Deposit.objects.order_by("log_index")
        assert [(row.agent, row.amount_units) for row in rows] == [
            (alice, 1 * UNITS),
            (bob, 2 * UNITS),
            (alice, 3 * UNITS),
        ]
        assert len({row.tx_hash for row in rows}) == 1
        chain.finalize()
        read_and_credit()
        assert ledger.balance("available", str(alice.id)) == 4 * UNITS
        assert ledger.balance("available", str(bob.id)) == 2 * UNITS

    def test_another_tokens_transfer_is_nothing(self, chain, alice, pay_in):
        address = deposit_addresses.of(alice).address
        other_token = chain.create(rpc.raw(local.artefact("TestUSDC")["bytecode"]))
        chain.do(other_token, usdc.mint_call(address, 5 * UNITS))

        scans.scan()

        assert states() == []

    def test_a_transfer_of_nothing_is_nothing(self, chain, alice, pay_in):
        chain.do(chain.usdc, usdc.transfer_call(deposit_addresses.of(alice).address, 0))

        scans.scan()

        assert states() == []

    def test_reads_long_ranges_and_leaves_no_block_out(self, chain, alice, pay_in, settings):
        settings.CHAIN_SCAN_RANGE = 7
        for _ in range(5):
            pay_in(alice, 2 * UNITS)
            chain.mine(5)

        scans.scan()

        assert states() == [State.SEEN] * 5
        assert ScanCursor.objects.get().block_number == chain.head().number

    def test_reads_all_transfers_where_addresses_are_many(self, chain, alice, bob, pay_in, monkeypatch):
        monkeypatch.setattr(scans, "FILTERED", 0)
        pay_in(alice, 5 * UNITS)
        chain.mint(secrets.token_bytes(20), 7 * UNITS)

        scans.scan()

        assert [row.agent for row in Deposit.objects.all()] == [alice]

    def test_an_error_leaves_the_cursor_where_it_was(self, chain, alice, pay_in, monkeypatch):
        scans.scan()
        before = ScanCursor.objects.get().block_number
        pay_in(alice, 5 * UNITS)

        with monkeypatch.context() as broken:
            broken.setattr(usdc, "transfers", refuse)
            with pytest.raises(rpc.NodeUnavailable):
                scans.scan()

        assert ScanCursor.objects.get().block_number == before
        scans.scan()
        assert states() == [State.SEEN]

    def test_one_that_was_overtaken_moves_nothing(self, chain, alice, pay_in):
        scans.scan()
        behind = ScanCursor.objects.get()
        pay_in(alice, 5 * UNITS)
        scans.scan()

        tips = chain.node.heads()
        stretch = scans.Stretch(behind.block_number, behind.block_number, [chain.node.block(behind.block_number)])
        with pytest.raises(scans.CursorMoved):
            scans._record(network.current(), behind, stretch, [], tips)

        assert ScanCursor.objects.get().block_number == chain.head().number

    def test_a_node_of_another_chain_is_not_believed(self, chain, alice, pay_in, settings):
        settings.CHAIN_ID = chain.chain_id + 1
        settings.USDC_ADDRESS = chain.deployed["usdc"]
        settings.DEPOSIT_FACTORY_ADDRESS = chain.deployed["factory"]

        with pytest.raises(rpc.ChainNotTrusted, match="another chain"):
            scans.scan()

    def test_a_stale_head_is_not_believed(self, chain, settings, db):
        settings.CHAIN_HEAD_MAX_AGE_SECONDS = -3_600

        with pytest.raises(rpc.ChainNotTrusted, match="stale"):
            scans.scan()

    def test_a_finalized_block_that_goes_back_is_not_believed(self, chain, db):
        chain.finalize()
        scans.scan()
        ScanCursor.objects.update(finalized_number=chain.node.heads().finalized.number + 1)

        with pytest.raises(rpc.ChainNotTrusted, match="went back"):
            deposits.credit_due()


@pytest.mark.django_db(transaction=True)
class TestTwoAtOnce:
    def test_scans_write_each_deposit_once(self, chain, alice, pay_in, race):
        for _ in range(6):
            pay_in(alice, 2 * UNITS)
        scans.scan()  # makes the cursor
        for _ in range(6):
            pay_in(alice, 2 * UNITS)

        outcomes = race(*[scans.scan] * 8)

        assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
        assert states() == [State.SEEN] * 12
        assert told(alice).count("deposit.seen") == 12

    def test_credits_post_each_deposit_once(self, chain, alice, pay_in, race):
        for _ in range(6):
            pay_in(alice, 20 * UNITS)
        chain.finalize()
        scans.scan()

        outcomes = race(*[deposits.credit_due] * 8)

        assert sum(outcomes) == 6
        assert ledger.balance("available", str(alice.id)) == 120 * UNITS
        assert told(alice).count("deposit.credited") == 6

    def test_safe_credits_together_keep_the_limit(self, chain, alice, pay_in, race, settings):
        settings.DEPOSIT_SAFE_LIMIT_UNITS = 25 * UNITS
        for _ in range(8):
            pay_in(alice, 10 * UNITS)
        chain.mine(4)
        scans.scan()
        rows = list(Deposit.objects.all())

        outcomes = race(
            *[lambda row=row: deposits.credit(row.id, block_hash=row.block_hash, finalized=0) for row in rows]
        )

        assert sum(isinstance(outcome, deposits.NotDue) for outcome in outcomes) == 6
        assert ledger.balance("available", str(alice.id)) == 20 * UNITS


class TestCredit:
    def test_waits_until_the_block_is_safe(self, chain, alice, pay_in):
        pay_in(alice, 50 * UNITS)
        read_and_credit()
        assert states() == [State.SEEN]

        chain.mine(4)
        read_and_credit()

        assert states() == [State.CREDITED]
        assert ledger.balance("available", str(alice.id)) == 50 * UNITS
        assert ledger.balance("custody", f"chain:{chain.chain_id}") == -50 * UNITS
        assert told(alice) == ["deposit.seen", "deposit.credited"]

    def test_of_more_than_the_safe_limit_waits_until_it_is_final(self, chain, alice, pay_in):
        pay_in(alice, 101 * UNITS)
        chain.mine(4)
        read_and_credit()
        assert states() == [State.SEEN]

        chain.mine(4)
        read_and_credit()

        assert states() == [State.CREDITED]

    def test_counts_what_the_agent_has_credited_and_not_final(self, chain, alice, pay_in):
        pay_in(alice, 60 * UNITS)
        pay_in(alice, 60 * UNITS)
        chain.mine(5)

        read_and_credit()

        assert states() == [State.CREDITED, State.SEEN]

    def test_looks_at_the_receipt_once_more(self, chain, alice, pay_in):
        pay_in(alice, 50 * UNITS)
        scans.scan()
        Deposit.objects.update(amount_units=5_000 * UNITS)  # as if a node had lied when it was scanned
        chain.finalize()

        read_and_credit()

        assert states() == [State.SEEN]
        assert ledger.balance("available", str(alice.id)) == 0

    def test_of_the_others_goes_on_where_the_node_refuses_one_receipt(self, chain, alice, bob, pay_in, liar):
        refused = rpc.text(pay_in(alice, 50 * UNITS))
        pay_in(bob, 5 * UNITS)
        chain.finalize()
        scans.scan()
        error = {"jsonrpc": "2.0", "error": {"code": -32000, "message": "header not found"}}
        liar.fault(
            "eth_getTransactionReceipt",
            lambda request, answer: {**error, "id": request["id"]} if request["params"] == [refused] else answer,
        )

        with pytest.raises(rpc.NodeRefused):
            deposits.credit_due()

        assert states() == [State.SEEN, State.CREDITED]
        assert alerts.is_sounding("chain_unreadable", "credit")

    def test_of_small_ones_before_they_are_final_is_not_even_asked_for(self, chain, alice, pay_in, liar):
        pay_in(alice, 400_000)
        chain.mine(5)
        scans.scan()

        deposits.credit_due()

        assert liar.calls["eth_getTransactionReceipt"] == 0

    def test_happens_once(self, chain, alice, pay_in):
        pay_in(alice, 50 * UNITS)
        chain.finalize()
        read_and_credit()
        deposit = Deposit.objects.get()

        with pytest.raises(deposits.NotDue):
            deposits.credit(deposit.id, block_hash=deposit.block_hash, finalized=deposit.block_number)

        assert ledger.balance("available", str(alice.id)) == 50 * UNITS

    def test_below_the_minimum_adds_up_until_it_reaches_it(self, chain, alice, pay_in):
        for _ in range(2):
            pay_in(alice, 400_000)
        chain.finalize()
        read_and_credit()
        assert states() == [State.BELOW_MINIMUM] * 2
        assert ledger.balance("suspense", "platform") == 800_000
        assert ledger.balance("available", str(alice.id)) == 0

        pay_in(alice, 400_000)
        chain.finalize()
        read_and_credit()

        assert states() == [State.CREDITED] * 3
        assert ledger.balance("suspense", "platform") == 0
        assert ledger.balance("available", str(alice.id)) == 1_200_000

    def test_of_what_a_stranger_sent_to_the_treasury_goes_to_suspense(self, chain, alice, pay_in):
        chain.mint(chain.treasury, 9 * UNITS)
        chain.finalize()

        read_and_credit()

        assert states() == [State.UNATTRIBUTED]
        assert ledger.balance("suspense", "platform") == 9 * UNITS


class TestReorg:
    def test_before_credit_leaves_no_balance(self, chain, alice, pay_in):
        scans.scan()
        pay_in(alice, 50 * UNITS)
        scans.scan()

        chain.reorg(2)
        chain.finalize()
        read_and_credit()

        assert states() == [State.ORPHANED]
        assert ledger.balance("available", str(alice.id)) == 0
        assert told(alice) == ["deposit.seen", "deposit.orphaned"]

    def test_that_brings_it_back_in_another_block_credits_it_once(self, chain, alice, pay_in):
        scans.scan()
        tx_hash = pay_in(alice, 50 * UNITS)
        scans.scan()
        raw = raw_transaction(chain, tx_hash)
        before = Deposit.objects.get().block_hash

        chain.reorg(1)
        scans.scan()
        assert states() == [State.ORPHANED]
        chain.node.send(raw)
        chain.finalize()
        read_and_credit()

        deposit = Deposit.objects.get()
        assert (deposit.state, deposit.generation) == (State.CREDITED, 1)
        assert deposit.block_hash != before
        assert ledger.balance("available", str(alice.id)) == 50 * UNITS

    def test_after_credit_takes_back_what_is_there(self, chain, alice, pay_in):
        scans.scan()
        pay_in(alice, 50 * UNITS)
        chain.mine(5)
        read_and_credit()
        assert ledger.balance("available", str(alice.id)) == 50 * UNITS

        chain.reorg(6)
        scans.scan()

        assert states() == [State.ORPHANED]
        assert ledger.balance("available", str(alice.id)) == 0
        assert ledger.balance("custody", f"chain:{chain.chain_id}") == 0

    def test_after_it_was_spent_leaves_the_rest_as_shortfall_until_it_comes_again(
        self, chain, alice, bob, pay_in, noon
    ):
        scans.scan()
        tx_hash = pay_in(alice, 50 * UNITS)
        raw = raw_transaction(chain, tx_hash)
        chain.mine(5)
        read_and_credit()
        spend = [
            ledger.Move("available", str(alice.id), -30 * UNITS),
            ledger.Move("available", str(bob.id), 30 * UNITS),
        ]
        ledger.post("test:spent", kind="test", moves=spend, at=noon)

        chain.reorg(6)
        scans.scan()
        assert ledger.balance("available", str(alice.id)) == 0
        assert ledger.balance("shortfall", "platform") == -30 * UNITS

        chain.node.send(raw)
        chain.finalize()
        read_and_credit()

        assert states() == [State.CREDITED]
        assert Deposit.objects.get().generation == 2
        assert ledger.balance("shortfall", "platform") == 0
        assert ledger.balance("available", str(alice.id)) == 20 * UNITS

    def test_of_small_ones_that_were_spent_takes_nothing_from_others_when_they_come_again(
        self, chain, alice, bob, pay_in, noon, settings
    ):
        chain.mint(chain.treasury, 9 * UNITS)
        for _ in range(2):
            pay_in(alice, 600_000)
        chain.finalize()
        read_and_credit()
        spend = [
            ledger.Move("available", str(alice.id), -1_000_000),
            ledger.Move("available", str(bob.id), 1_000_000),
        ]
        ledger.post("test:spent", kind="test", moves=spend, at=noon)
        small = Deposit.objects.filter(agent=alice)
        small.update(state=State.ORPHANED)
        deposits.reverse_orphaned()
        assert ledger.balance("shortfall", "platform") == -1_000_000

        small.update(state=State.BELOW_MINIMUM)
        read_and_credit()

        assert ledger.balance("suspense", "platform") == 9 * UNITS
        assert ledger.balance("shortfall", "platform") == 0
        assert ledger.balance("available", str(alice.id)) == 200_000

    @pytest.mark.parametrize("owed", ["to another agent", "for less"])
    def test_that_gives_the_log_to_another_transfer_leaves_the_debt_with_who_owes_it(
        self, chain, alice, bob, pay_in, owed
    ):
        receiver = bob if owed == "to another agent" else alice
        pay_in(receiver, 10 * UNITS)
        chain.finalize()
        scans.scan()
        Deposit.objects.update(agent=alice, state=State.ORPHANED, amount_units=50 * UNITS, shortfall_units=30 * UNITS)
        debt = Deposit.objects.get()

        scans.rescan(0)
        deposits.credit_due()

        debt.refresh_from_db()
        assert (debt.agent, debt.state, debt.shortfall_units) == (alice, State.ORPHANED, 30 * UNITS)
        assert debt.replaced_at is not None
        row = Deposit.objects.get(replaced_at=None)
        assert (row.agent, row.amount_units, row.shortfall_units) == (receiver, 10 * UNITS, 0)
        assert ledger.balance("available", str(receiver.id)) == 10 * UNITS
        assert scans.rescan(0) == 1
        assert Deposit.objects.count() == 2

    def test_deeper_than_what_was_read_stops_the_scan(self, chain, alice, pay_in):
        scans.scan()
        chain.finalize()
        scans.scan()
        ScanCursor.objects.update(block_hash=secrets.token_bytes(32))
        from escrow.models import ScannedBlock

        for block in ScannedBlock.objects.all():
            ScannedBlock.objects.filter(pk=block.pk).update(hash=secrets.token_bytes(32))

        with pytest.raises(rpc.ChainNotTrusted, match="no block that we read"):
            scans.scan()


class TestLookUp:
    def test_finds_a_log_that_a_scan_was_not_shown(self, chain, alice, pay_in):
        tx_hash = pay_in(alice, 5 * UNITS)
        deposit_addresses.of(alice)
        scans.scan()
        with connection.cursor() as cursor:  # as if the node had kept it from us
            cursor.execute("SET session_replication_role = replica; DELETE FROM escrow_deposit;")
            cursor.execute("SET session_replication_role = DEFAULT")

        assert scans.look_up(tx_hash) == 1
        assert scans.look_up(tx_hash) == 0
        assert states() == [State.SEEN]

    def test_of_a_transaction_that_is_not_there_finds_nothing(self, chain, alice, pay_in):
        scans.scan()

        assert scans.look_up(secrets.token_bytes(32)) == 0


class TestRescan:
    def test_reads_from_a_block_on_and_finds_what_is_missing(self, chain, alice, pay_in):
        pay_in(alice, 5 * UNITS)
        pay_in(alice, 6 * UNITS)
        scans.scan()
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute("DELETE FROM escrow_deposit WHERE amount_units = %s", [5 * UNITS])
            cursor.execute("SET session_replication_role = DEFAULT")

        scans.rescan(0)

        assert sorted(Deposit.objects.values_list("amount_units", flat=True)) == [5 * UNITS, 6 * UNITS]


class TestDatabase:
    """What no process, and no person at a prompt, gets past."""

    def test_refuses_a_log_twice(self, chain, alice, pay_in):
        pay_in(alice, 5 * UNITS)
        scans.scan()
        copy = Deposit.objects.get()
        copy.pk = ids.uuid7()

        with pytest.raises(IntegrityError), transaction.atomic():
            copy.save(force_insert=True)

    @pytest.mark.parametrize(
        "change",
        [
            {"state": "credited"},
            {"state": "paid"},
            {"amount_units": 0},
            {"posted_to": "available"},
            {"state": "unattributed"},
            {"tx_hash": b"short"},
        ],
    )
    def test_refuses_rows_that_contradict_themselves(self, chain, alice, pay_in, change):
        pay_in(alice, 5 * UNITS)
        scans.scan()

        with pytest.raises(IntegrityError), transaction.atomic():
            Deposit.objects.update(**change)

    @pytest.mark.parametrize("model", [Deposit, DepositAddress])
    def test_refuses_to_forget(self, chain, alice, pay_in, model):
        pay_in(alice, 5 * UNITS)
        scans.scan()

        with pytest.raises(IntegrityError), transaction.atomic():
            model.objects.all()._raw_delete("default")


class TestMatch:
    """The same transfer, whatever way a node spells it."""

    def test_upper_case_hashes_are_the_same_deposit(self, chain, alice, pay_in, monkeypatch):
        pay_in(alice, 5 * UNITS)
        scans.scan()
        ask = rpc.Node.ask
        shouting = lambda self, *call: louder(ask(self, *call)) if call[0] == "eth_getLogs" else ask(self, *call)  # noqa: E731
        monkeypatch.setattr(rpc.Node, "ask", shouting)

        scans.rescan(0)

        assert states() == [State.SEEN]


def louder(logs):
    return [
        {k: upper(v) if k in ("transactionHash", "blockHash", "address") else v for k, v in log.items()} for log in logs
    ]


def upper(value: str) -> str:
    return "0x" + value[2:].upper()


def refuse(*args, **kwargs):
    raise rpc.NodeUnavailable("as if the node were away")


def raw_transaction(chain, tx_hash: bytes) -> bytes:
    return rpc.raw(chain.node.ask("eth_getRawTransactionByHash", rpc.text(tx_hash)))


def three_transfers(token: bytes) -> bytes:
    """Creation code of a contract that reads three (address, amount) pairs from its call and transfers each."""
    import vyper

    source = """
# pragma version 0.4.3
from ethereum.ercs import IERC20
TOKEN: immutable(address)

@deploy
def __init__(token: address):
    TOKEN = token

@external
@raw_return
def __default__() -> Bytes[32]:
    for n: uint256 in range(3):
        pair: Bytes[64] = slice(msg.data, n * 64, 64)
        receiver: address = convert(convert(slice(pair, 0, 32), bytes32), address)
        amount: uint256 = convert(slice(pair, 32, 32), uint256)
        extcall IERC20(TOKEN).transfer(receiver, amount)
    return b""
"""
    code = vyper.compile_code(source, output_formats=["bytecode"])["bytecode"]
    return rpc.raw(code) + token.rjust(32, b"\0")


def test_the_ledger_account_of_the_chain_is_named_after_it(chain):
    assert network.current().custody == ("custody", f"chain:{chain.chain_id}")
