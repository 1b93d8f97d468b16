"""
A token that turns on us: paused, blocking a receiver, or, after an upgrade, keeping a part of what it moves;
and a node that shows half of it.

USDC is a proxy: its owner can do all of this between two blocks.
"""

import pytest
import vyper
from eth_hash.auto import keccak

from accounts import alerts, pauses
from escrow import deposit_addresses, deposits, explanations, payouts, scans
from escrow.chain import rpc, usdc
from escrow.chain.contracts import compile as contracts
from escrow.models import RelayTransaction, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.treasury import run, treasury_tick

State = Withdrawal.State
FEE = 500_000


def pause(chain, *, undo: bool = False) -> None:
    chain.do(chain.usdc, keccak(b"unpause()" if undo else b"pause()")[:4])


def blacklist(chain, address: bytes) -> None:
    chain.do(chain.usdc, keccak(b"blacklist(address)")[:4] + address.rjust(32, b"\0"))


def let_it_lapse(chain, settings) -> None:
    chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
    chain.finalize()
    for _ in range(2):
        treasury_tick()
        chain.finalize()


@pytest.fixture(scope="module")
def charging_code() -> bytes:
    """USDC that moves one percent less than it is told, and says so in Transfer. Compiled before any test begins."""
    source = (contracts.SOURCES / "TestUSDC.vy").read_text()
    right = """    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, amount=amount)
"""
    charging = """    self.balanceOf[receiver] += amount - amount // 100
    self.balanceOf[owner] += amount // 100
    log Transfer(sender=sender, receiver=receiver, amount=amount - amount // 100)
    log Transfer(sender=sender, receiver=owner, amount=amount // 100)
"""
    assert source.count(right) == 1
    return rpc.raw(vyper.compile_code(source.replace(right, charging), output_formats=["bytecode"])["bytecode"])


@pytest.fixture
def upgrade(charging_code, chain):
    """Put that code in the token's place; balances and used nonces stay."""

    def upgrade() -> None:
        other = chain.create(charging_code)
        chain.node.ask("anvil_setCode", rpc.text(chain.usdc), rpc.text(chain.node.code(other)))

    return upgrade


@pytest.fixture
def states():
    def states(*asked: Withdrawal) -> list[str]:
        return [Withdrawal.objects.get(pk=one.pk).state for one in asked]

    return states


class TestPaused:
    def test_a_payout_waits_and_is_paid_when_the_pause_ends(self, chain, rich, ask, states, balance_of):
        withdrawal = ask()
        pause(chain)
        run(chain, 2)
        assert states(withdrawal) == [State.AUTHORIZED]
        assert alerts.is_sounding("payout_would_revert", str(withdrawal.pk))
        assert not RelayTransaction.objects.filter(purpose="withdrawal").exists()  # no gas for what would be reverted

        pause(chain, undo=True)
        Withdrawal.objects.update(lease_until=None)  # its claim has run out
        run(chain)

        assert states(withdrawal) == [State.SETTLED]
        assert chain.balance(withdrawal.address) == 40 * UNITS
        assert not alerts.is_sounding("payout_would_revert")

    def test_too_long_it_lapses_and_is_given_back_once(self, chain, rich, ask, states, balance_of, settings):
        withdrawal = ask()
        pause(chain)
        run(chain, 1)

        let_it_lapse(chain, settings)
        pause(chain, undo=True)
        run(chain)

        assert states(withdrawal) == [State.REFUNDED]
        assert (balance_of("available", rich), chain.balance(withdrawal.address)) == (100 * UNITS, 0)
        assert not alerts.is_sounding("payout_would_revert")

    def test_while_the_relay_is_on_its_way_the_nonce_is_not_lost(self, chain, rich, ask, states):
        withdrawal = ask()
        payouts.authorize_due()
        payouts.relay_due()
        pause(chain)

        run(chain, 2)
        assert RelayTransaction.objects.filter(purpose="withdrawal", state="reverted").count() == 1
        pause(chain, undo=True)
        Withdrawal.objects.update(lease_until=None)
        run(chain)

        assert states(withdrawal) == [State.SETTLED]
        assert chain.balance(withdrawal.address) == 40 * UNITS


class TestBlacklist:
    def test_a_blocked_receiver_is_given_back_and_keeps_nobody_waiting(
        self, chain, rich, ask, states, balance_of, settings
    ):
        blocked, *others = [ask(10 * UNITS) for _ in range(4)]
        blacklist(chain, blocked.address)

        run(chain)
        assert states(blocked, *others) == [State.AUTHORIZED, *[State.SETTLED] * 3]
        let_it_lapse(chain, settings)

        assert states(blocked) == [State.REFUNDED]
        assert balance_of("available", rich) == 100 * UNITS - 3 * (10 * UNITS + FEE)
        assert chain.balance(blocked.address) == 0

    def test_blocked_after_the_relay_was_sent_it_is_given_back_once(
        self, chain, rich, ask, states, balance_of, settings
    ):
        blocked, other = ask(10 * UNITS), ask(10 * UNITS)
        payouts.authorize_due()
        payouts.relay_due()
        blacklist(chain, blocked.address)

        run(chain, 2)
        let_it_lapse(chain, settings)

        assert states(blocked, other) == [State.REFUNDED, State.SETTLED]
        assert balance_of("available", rich) == 100 * UNITS - 10 * UNITS - FEE
        assert balance_of("withdrawing", rich) == 0

    def test_a_blocked_treasury_pays_nothing_and_gives_back_everything(
        self, chain, rich, ask, states, balance_of, settings
    ):
        asked = [ask(10 * UNITS) for _ in range(3)]
        blacklist(chain, chain.treasury)

        run(chain, 1)
        let_it_lapse(chain, settings)

        assert states(*asked) == [State.REFUNDED] * 3
        assert balance_of("available", rich) == 100 * UNITS


class TestThatCharges:
    def test_is_never_settled_as_paid_in_full_nor_given_back(
        self, upgrade, chain, rich, ask, states, balance_of, settings
    ):
        withdrawal = ask()
        upgrade()

        run(chain)
        assert chain.balance(withdrawal.address) == 39_600_000
        scans.scan()
        explanations.explain_due()
        assert alerts.is_sounding("unexplained_outflow")
        assert pauses.is_paused("withdrawals")
        let_it_lapse(chain, settings)
        run(chain)

        assert states(withdrawal)[0] in (State.BROADCAST, State.LAPSED)  # for people: the token is not what it was
        assert balance_of("withdrawing", rich) == 40 * UNITS + FEE
        assert chain.balance(withdrawal.address) == 39_600_000  # and not paid twice
        assert RelayTransaction.objects.filter(purpose="withdrawal").count() == 1

    def test_credits_what_arrived_not_what_was_sent(self, upgrade, chain, alice, pay_in, balance_of):
        chain.mint(chain.faucet, 100 * UNITS)
        upgrade()
        pay_in(alice, UNITS)  # minted: nothing is charged
        chain.do(chain.usdc, usdc.transfer_call(deposit_addresses.of(alice).address, 50 * UNITS))
        chain.finalize()
        scans.scan()
        deposits.credit_due()

        assert balance_of("available", alice) == UNITS + 49_500_000
        assert chain.balance(deposit_addresses.of(alice).address) == UNITS + 49_500_000


class TestNodeThatHidesLogs:
    def test_what_was_paid_is_not_given_back_for_want_of_a_log(
        self, chain, rich, ask, states, balance_of, settings, monkeypatch
    ):
        withdrawal = ask()
        treasury_tick()
        assert chain.balance(withdrawal.address) == 40 * UNITS
        with monkeypatch.context() as hidden:
            hidden.setattr(usdc, "authorization_logs", lambda *_, **__: [])
            let_it_lapse(chain, settings)
            assert states(withdrawal) == [State.LAPSED]
            assert balance_of("withdrawing", rich) == 40 * UNITS + FEE

        run(chain)

        assert states(withdrawal) == [State.SETTLED]
        assert chain.balance(withdrawal.address) == 40 * UNITS
