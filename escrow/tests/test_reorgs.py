"""
Reorgs of every depth up to finality, at every moment of a deposit and of a payout, on a chain that is final 64 deep.

A chain serves test after test, each from its head on; a long one is replaced: anvil forgets states it goes back to.
"""

import secrets
from contextlib import ExitStack

import pytest

from accounts import alerts
from escrow import deposit_addresses, deposits, ledger, relays, scans, withdrawals
from escrow.chain import rpc, usdc
from escrow.models import Deposit, Outflow, ScanCursor, Withdrawal
from escrow.tests.chain import UNITS, LocalChain, anvil
from escrow.tests.treasury import entry_for, run, treasury_tick

SLOTS = 32
LONG = 150  # blocks
State = Deposit.State
# Of depths 1..64 some are tried always, all of them in the long suite.
DEPTHS = [pytest.param(depth, marks=[] if depth in (1, 2, 8, 63, 64) else [pytest.mark.long]) for depth in range(1, 65)]
SAFE_DEPTHS = [pytest.param(depth, marks=[] if depth in (33, 64) else [pytest.mark.long]) for depth in range(33, 65)]


class Deep:
    """A chain that is final 64 deep, and another one when it has become long."""

    def __init__(self, new_state_dir):
        self._new_state_dir = new_state_dir
        self._stack = ExitStack()
        self._chain = None

    def take(self) -> LocalChain:
        if self._chain and self._chain.head().number > LONG:
            self.end()
        if self._chain is None:
            url = self._stack.enter_context(anvil(slots=SLOTS))
            self._chain = LocalChain(url, self._new_state_dir(), final=2 * SLOTS + 1)
        return self._chain

    def end(self) -> None:
        self._stack.close()
        self._chain = None


@pytest.fixture(scope="module")
def _deep(tmp_path_factory):
    deep = Deep(lambda: tmp_path_factory.mktemp("state"))
    yield deep
    deep.end()


@pytest.fixture
def chain(_deep, settings):
    """The chain as it stands, read from its head on."""
    chain = _deep.take()
    chain.point(settings)
    chain.automine(True)
    chain.finalize()
    chain.catch_up_with_the_clock()
    settings.CHAIN_START_BLOCK = chain.head().number
    settings.AUTHORIZATION_SECONDS = 10**8  # this chain's clock runs ahead by a second a block
    return chain


def read_and_credit() -> None:
    scans.scan()
    deposits.credit_due()


def available(agent) -> int:
    return ledger.balance("available", str(agent.id))


def raw_transaction(chain, tx_hash: bytes) -> bytes:
    return rpc.raw(chain.node.ask("eth_getRawTransactionByHash", rpc.text(tx_hash)))


def paid_in(chain, agent, units: int, depth: int) -> bytes:
    """A deposit in the block that a reorg of this depth is the first to take; answers the transaction as sent."""
    scans.scan()
    tx_hash = rpc.raw(chain.mint(deposit_addresses.of(agent).address, units)["transactionHash"])
    if depth > 1:
        chain.mine(depth - 1)
    return raw_transaction(chain, tx_hash)


def test_every_depth_is_tried():
    depths = [param.values[0] for param in DEPTHS]

    assert depths == list(range(1, 2 * SLOTS + 1))


@pytest.mark.parametrize("depth", DEPTHS)
class TestDeposit:
    def test_whose_block_goes_before_it_was_credited_leaves_nothing(self, chain, alice, treasury_rows, depth):
        paid_in(chain, alice, 50 * UNITS, depth)
        scans.scan()
        assert Deposit.objects.get().state == State.SEEN

        chain.reorg(depth)
        read_and_credit()

        assert Deposit.objects.get().state == State.ORPHANED
        chain.finalize()
        read_and_credit()
        assert (available(alice), Deposit.objects.get().generation) == (0, 0)
        assert not alerts.is_sounding("deep_reorg")

    def test_that_comes_again_at_another_height_and_index_is_credited_once(self, chain, alice, treasury_rows, depth):
        raw = paid_in(chain, alice, 50 * UNITS, depth)
        read_and_credit()
        before = Deposit.objects.get()

        chain.reorg(depth)
        scans.scan()
        mine_behind_another(chain, raw)
        chain.finalize()
        read_and_credit()

        gone, back = Deposit.objects.order_by("block_number")
        assert (gone.pk, gone.state, gone.posted_to) == (before.pk, State.ORPHANED, "")
        assert (back.state, back.tx_hash) == (State.CREDITED, before.tx_hash)
        assert back.block_number > before.block_number
        assert back.log_index == before.log_index + 1
        assert available(alice) == 50 * UNITS

    @pytest.mark.parametrize("moment", ["eth_getLogs", "eth_getBlockByNumber", "after"])
    def test_in_the_middle_of_a_scan_leaves_nothing_that_is_not_on_the_chain(
        self, chain, alice, treasury_rows, depth, moment, monkeypatch
    ):
        paid_in(chain, alice, 50 * UNITS, depth)
        reorganise_once(chain, depth, moment, monkeypatch)

        for _ in range(3):
            try:
                scans.scan()
            except rpc.ChainNotTrusted:
                assert alerts.is_sounding("chain_not_trusted")
        deposits.credit_due()

        cursor = ScanCursor.objects.get()
        assert chain.node.block(cursor.block_number).hash == cursor.block_hash
        assert cursor.block_number == chain.head().number
        assert not Deposit.objects.exclude(state=State.ORPHANED).exists()
        assert available(alice) == 0
        assert not alerts.is_sounding("chain_not_trusted")


@pytest.mark.parametrize("depth", SAFE_DEPTHS)
class TestSafeCredit:
    def test_is_taken_back_with_its_block_and_given_again_once(self, chain, alice, treasury_rows, depth):
        raw = paid_in(chain, alice, 50 * UNITS, depth)
        read_and_credit()
        assert available(alice) == 50 * UNITS

        chain.reorg(depth)
        scans.scan()

        assert Deposit.objects.get().state == State.ORPHANED
        assert (available(alice), ledger.balance("shortfall", "platform")) == (0, 0)
        assert not alerts.is_sounding("deep_reorg")
        chain.node.send(raw)
        chain.finalize()
        read_and_credit()
        assert available(alice) == 50 * UNITS
        assert Deposit.objects.get().generation == 2


@pytest.mark.parametrize("depth", DEPTHS)
class TestPayout:
    def test_that_a_reorg_drops_is_sent_again_and_paid_once(
        self, chain, alice, credit, treasury_rows, depth, monkeypatch
    ):
        monkeypatch.setattr(relays, "RESEND_SECONDS", 0)
        chain.mint(chain.treasury, 40 * UNITS)
        chain.finalize()
        read_and_credit()
        credit(alice, 50 * UNITS)
        destination = secrets.token_bytes(20)
        entry = entry_for(alice, destination)
        payout = withdrawals.request(alice, amount_units=40 * UNITS, entry_id=entry.pk)
        treasury_tick()
        assert chain.balance(destination) == 40 * UNITS
        if depth > 1:
            chain.mine(depth - 1)
        scans.scan()

        chain.reorg(depth)
        scans.scan()
        assert chain.balance(destination) == 0
        assert Outflow.objects.get().orphaned_at is not None
        relays.push_due()
        run(chain, 2)
        scans.scan()

        payout.refresh_from_db()
        assert payout.state == Withdrawal.State.SETTLED
        assert chain.balance(destination) == 40 * UNITS
        assert Outflow.objects.get(orphaned_at=None).amount_units == 40 * UNITS
        assert ledger.balance("withdrawing", str(alice.id)) == 0


def mine_behind_another(chain: LocalChain, raw: bytes) -> None:
    """Have one block hold a stranger's transfer, and after it this transaction: its log gets another index."""
    stranger = chain.node.ask("eth_accounts")[0]
    nothing = rpc.text(usdc.transfer_call(secrets.token_bytes(20), 0))
    call = {"from": stranger, "to": rpc.text(chain.usdc), "data": nothing, "gas": hex(200_000)}
    chain.automine(False)
    fees = {"maxPriorityFeePerGas": hex(50 * 10**9), "maxFeePerGas": hex(10**12)}
    chain.node.ask("eth_sendTransaction", call | fees)
    chain.node.send(raw)
    chain.mine()
    chain.automine(True)


def reorganise_once(chain: LocalChain, depth: int, moment: str, monkeypatch) -> None:
    """Have the chain change right after a scan's first call of a method, or after its last one."""
    if moment == "after":
        record = scans._record

        def recorded(*args):
            if not done:
                done.append(chain.reorg(depth))
            return record(*args)

        done = []
        monkeypatch.setattr(scans, "_record", recorded)
        return
    ask_many, ask, asked = rpc.Node.ask_many, rpc.Node.ask, []

    def after(method: str) -> None:
        if method == moment and not asked:
            asked.append(method)
            chain.reorg(depth)

    def one(self, method, *params):
        answer = ask(self, method, *params)
        after(method)
        return answer

    def many(self, calls):
        answers = ask_many(self, calls)
        after(calls[0][0])
        return answers

    monkeypatch.setattr(rpc.Node, "ask", one)
    monkeypatch.setattr(rpc.Node, "ask_many", many)
