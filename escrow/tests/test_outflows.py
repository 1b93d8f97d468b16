"""What left addresses of ours: every log once, gone with its block and back with it."""

import secrets

import pytest
from django.db import connection

from accounts import clock
from escrow import deposit_addresses, deposits, outflows, scans, sweeps, treasury, withdrawals
from escrow.chain import local, network, rpc, usdc
from escrow.models import Deposit, Outflow, ScanCursor, Treasury
from escrow.tests.chain import UNITS, LocalChain
from escrow.tests.treasury import entry_for, run

Explanation = Outflow.Explanation


def rows() -> list[tuple[int, str, bool]]:
    found = Outflow.objects.order_by("block_number", "log_index")
    return [(row.amount_units, row.explanation, row.orphaned_at is not None) for row in found]


def sent_from(chain: LocalChain, sender: bytes, data: bytes) -> bytes:
    """A call of the token in somebody's name, as anvil lets anyone impersonate anyone; answers the hash."""
    chain.node.ask("anvil_impersonateAccount", rpc.text(sender))
    chain.node.ask("anvil_setBalance", rpc.text(sender), hex(local.ETHER))
    call = {"from": rpc.text(sender), "to": rpc.text(chain.usdc), "data": rpc.text(data)}
    tx_hash = rpc.raw(chain.node.ask("eth_sendTransaction", call))
    local.wait_for(chain.node, tx_hash)
    return tx_hash


def transfer_from(owner: bytes, receiver: bytes, units: int) -> bytes:
    words = (owner.rjust(32, b"\0"), receiver.rjust(32, b"\0"), units.to_bytes(32))
    return usdc._selector("transferFrom(address,address,uint256)") + b"".join(words)


@pytest.fixture(params=["filtered", "unfiltered"])
def either_way(request, monkeypatch) -> None:
    """Few addresses, so that the node filters; or many, so that everything is read and matched here."""
    if request.param == "unfiltered":
        monkeypatch.setattr(scans, "FILTERED", -1)


@pytest.fixture
def explained(chain, treasury_rows, alice, credit) -> Outflow:
    """10 USDC that left the treasury, said to be a payout of Alice's."""
    credit(alice, 50 * UNITS)
    payout = withdrawals.request(alice, amount_units=10 * UNITS, entry_id=entry_for(alice, b"\x11" * 20).pk)
    scans.scan()
    chain.mint(chain.treasury, 30 * UNITS)
    chain.empty_treasury_of(10 * UNITS)
    scans.scan()
    row = Outflow.objects.get()
    row.explanation, row.withdrawal, row.explained_at = Explanation.PAYOUT, payout, clock.now()
    row.nonce = secrets.token_bytes(32)
    row.save()
    return row


@pytest.mark.usefixtures("either_way")
class TestScan:
    def test_writes_down_what_left_the_treasury(self, chain, treasury_rows):
        chain.mint(chain.treasury, 30 * UNITS)
        chain.empty_treasury_of(10 * UNITS)

        scans.scan()

        row = Outflow.objects.get()
        assert (row.sender, row.receiver, row.amount_units) == (chain.treasury, b"\x11" * 20, 10 * UNITS)
        assert (row.explanation, row.explained_at, row.orphaned_at) == ("", None, None)
        assert row.block_number <= ScanCursor.objects.get().block_number

    def test_writes_down_what_left_a_cold_address_and_an_earlier_treasury(self, chain, treasury_rows):
        cold, earlier = secrets.token_bytes(20), secrets.token_bytes(20)
        Treasury.objects.create(chain_id=chain.chain_id, address=cold, cold=True)
        Treasury.objects.create(chain_id=chain.chain_id, address=earlier)
        for owner in (cold, earlier):
            chain.mint(owner, 5 * UNITS)
            sent_from(chain, owner, usdc.transfer_call(secrets.token_bytes(20), 2 * UNITS))

        scans.scan()

        assert [row.sender for row in Outflow.objects.order_by("block_number")] == [cold, earlier]
        assert rows() == [(2 * UNITS, "", False)] * 2

    def test_a_move_to_a_cold_address_and_back_explains_itself(self, chain, treasury_rows):
        cold = secrets.token_bytes(20)
        Treasury.objects.create(chain_id=chain.chain_id, address=cold, cold=True)
        chain.mint(chain.treasury, 30 * UNITS)
        sent_from(chain, chain.treasury, usdc.transfer_call(cold, 20 * UNITS))
        sent_from(chain, cold, usdc.transfer_call(chain.treasury, 5 * UNITS))

        scans.scan()

        assert rows() == [(20 * UNITS, Explanation.INTERNAL, False), (5 * UNITS, Explanation.INTERNAL, False)]
        assert all(row.explained_at for row in Outflow.objects.all())
        assert Deposit.objects.get().amount_units == 30 * UNITS  # what moved within is nobody's deposit

    def test_what_a_stranger_sends_to_a_cold_address_is_unattributed(self, chain, treasury_rows):
        cold = secrets.token_bytes(20)
        Treasury.objects.create(chain_id=chain.chain_id, address=cold, cold=True)
        chain.mint(cold, 9 * UNITS)

        scans.scan()

        assert Deposit.objects.get().state == Deposit.State.UNATTRIBUTED
        assert rows() == []

    def test_a_sweep_explains_itself(self, chain, alice, pay_in):
        pay_in(alice, 100 * UNITS)
        chain.finalize()
        scans.scan()
        deposits.credit_due()
        sweeps.sweep_due()
        run(chain, 1)

        scans.scan()

        row = Outflow.objects.get()
        assert (row.sender, row.receiver) == (deposit_addresses.of(alice).address, chain.treasury)
        assert (row.amount_units, row.explanation) == (100 * UNITS, Explanation.INTERNAL)

    def test_what_a_deposit_address_sends_elsewhere_is_unexplained(self, chain, alice, pay_in):
        pay_in(alice, 5 * UNITS)
        own = deposit_addresses.of(alice).address
        sent_from(chain, own, usdc.transfer_call(secrets.token_bytes(20), 5 * UNITS))

        scans.scan()

        assert rows() == [(5 * UNITS, "", False)]

    def test_a_transfer_of_nothing_that_anyone_makes_in_our_name_is_nothing(self, chain, treasury_rows):
        receipt = chain.do(chain.usdc, transfer_from(chain.treasury, secrets.token_bytes(20), 0))
        assert receipt["logs"]

        scans.scan()

        assert rows() == []

    def test_strangers_among_themselves_are_nothing(self, chain, treasury_rows):
        chain.mint(chain.faucet, 5 * UNITS)
        chain.do(chain.usdc, usdc.transfer_call(secrets.token_bytes(20), 2 * UNITS))

        scans.scan()

        assert rows() == []

    def test_twice_writes_nothing_new(self, chain, explained):
        scans.rescan(0)

        assert rows() == [(10 * UNITS, Explanation.PAYOUT, False)]


class TestReorg:
    def test_takes_an_outflow_along_in_the_commit_of_the_walk_back(self, chain, explained, monkeypatch):
        chain.reorg(2)
        monkeypatch.setattr(scans, "_stretch", cut_off)  # dies before anything of the new branch is read

        with pytest.raises(rpc.NodeUnavailable):
            scans.scan()

        gone = Outflow.objects.get()
        assert gone.orphaned_at is not None
        assert (gone.explanation, gone.withdrawal_id) == (Explanation.PAYOUT, explained.withdrawal_id)
        assert ScanCursor.objects.get().block_number < gone.block_number

    def test_that_brings_it_back_in_another_block_leaves_it_explained(self, chain, explained):
        here = network.current()
        outflows.orphan(chain_id=here.chain_id, above=0, at=clock.now())
        again = shown(explained)._replace(block_number=explained.block_number + 3, block_hash=secrets.token_bytes(32))

        assert outflows.write(here, [again]) == 1

        row = Outflow.objects.get()
        assert (row.orphaned_at, row.block_number, row.block_hash) == (None, again.block_number, again.block_hash)
        assert (row.explanation, row.withdrawal_id) == (Explanation.PAYOUT, explained.withdrawal_id)
        assert (row.explained_at, row.nonce) == (explained.explained_at, explained.nonce)

    @pytest.mark.parametrize("change", [{"amount_units": 3 * UNITS}, {"receiver": b"\x12" * 20}])
    def test_that_gives_the_log_to_another_transfer_leaves_it_unexplained(self, chain, explained, change):
        here = network.current()
        outflows.orphan(chain_id=here.chain_id, above=0, at=clock.now())

        outflows.write(here, [shown(explained)._replace(block_hash=secrets.token_bytes(32), **change)])

        row = Outflow.objects.get()
        assert (row.explanation, row.withdrawal_id, row.explained_at) == ("", None, None)
        assert [getattr(row, name) for name in change] == list(change.values())

    def test_two_logs_of_one_payout_are_explained_anew(self, chain, explained):
        here = network.current()
        outflows.orphan(chain_id=here.chain_id, above=0, at=clock.now())
        other = shown(explained)._replace(tx_hash=secrets.token_bytes(32))
        outflows.write(here, [other])
        twin = Outflow.objects.get(tx_hash=other.tx_hash)
        twin.explanation, twin.withdrawal_id = Explanation.PAYOUT, explained.withdrawal_id
        twin.save()

        outflows.write(here, [shown(explained)])

        back = Outflow.objects.get(pk=explained.pk)
        assert (back.orphaned_at, back.explanation, back.withdrawal_id) == (None, "", None)

    def test_two_logs_of_one_nonce_are_explained_anew(self, chain, treasury_rows):
        scans.scan()
        chain.mint(chain.treasury, 30 * UNITS)
        chain.empty_treasury_of(10 * UNITS)
        scans.scan()
        first, here = Outflow.objects.get(), network.current()
        Outflow.objects.update(nonce=b"\x05" * 32)
        outflows.orphan(chain_id=here.chain_id, above=0, at=clock.now())
        other = shown(first)._replace(tx_hash=secrets.token_bytes(32))
        outflows.write(here, [other])
        Outflow.objects.filter(tx_hash=other.tx_hash).update(nonce=b"\x05" * 32)

        outflows.write(here, [shown(first)])

        back = Outflow.objects.get(pk=first.pk)
        assert (back.orphaned_at, back.nonce) == (None, None)

    def test_an_explained_one_that_still_stands_is_not_shown_as_another(self, chain, explained):
        with pytest.raises(rpc.ChainNotTrusted) as refusal:
            outflows.write(network.current(), [shown(explained)._replace(amount_units=1)])

        assert refusal.value.reason == "log_changed"
        assert rows() == [(10 * UNITS, Explanation.PAYOUT, False)]


class TestLookUp:
    def test_finds_an_outflow_that_a_scan_was_not_shown(self, chain, explained):
        forget()

        assert scans.look_up(explained.tx_hash) == 1
        assert rows() == [(10 * UNITS, "", False)]

    def test_refuses_a_log_of_a_branch_that_was_not_read(self, chain, treasury_rows):
        scans.scan()
        chain.mint(chain.treasury, 9 * UNITS)
        chain.mine(3)
        scans.scan()
        chain.rollback(4)
        tx_hash = rpc.raw(chain.mint(chain.treasury, 5 * UNITS)["transactionHash"])

        with pytest.raises(rpc.ChainNotTrusted, match="different branches"):
            scans.look_up(tx_hash)

        assert Deposit.objects.get().amount_units == 9 * UNITS

    def test_writes_nothing_once_the_scan_has_walked_back(self, chain, explained, monkeypatch):
        forget()
        asked = rpc.Node.block

        def walking_back(node, which):
            ScanCursor.objects.update(block_number=explained.block_number - 1)
            return asked(node, which)

        monkeypatch.setattr(rpc.Node, "block", walking_back)

        assert scans.look_up(explained.tx_hash) == 0
        assert rows() == []


class TestRescan:
    def test_finds_outflows_that_are_missing(self, chain, explained):
        forget()

        scans.rescan(0)

        assert rows() == [(10 * UNITS, "", False)]


def test_of_an_address_that_is_no_longer_the_treasury_are_watched_as_well(chain, explained):
    treasury.register(secrets.token_bytes(20), chain_id=chain.chain_id)
    chain.empty_treasury_of(4 * UNITS)

    scans.scan()

    assert rows() == [(10 * UNITS, Explanation.PAYOUT, False), (4 * UNITS, "", False)]


def shown(row: Outflow) -> usdc.Transfer:
    return usdc.Transfer(
        row.block_number, row.block_hash, row.tx_hash, row.log_index, row.sender, row.receiver, row.amount_units
    )


def forget() -> None:
    """As if a node had kept them from us."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica; DELETE FROM escrow_outflow;")
        cursor.execute("SET session_replication_role = DEFAULT")


def cut_off(*args, **kwargs):
    raise rpc.NodeUnavailable("as if the node went away")
