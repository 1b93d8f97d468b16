"""Sweeps: bounded, taken up again after a death, and stopped by nobody's blocked address or meddling."""

import secrets
from datetime import timedelta

import pytest
from eth_hash.auto import keccak

from accounts import alerts, clock, pauses
from escrow import deposit_addresses, relays, scans, sweep_failures, sweeps
from escrow.chain import addresses, forwarders, local, rpc
from escrow.models import Deposit, RelayAttempt, RelayTransaction, SweepFailure
from escrow.tests.chain import UNITS
from escrow.tests.treasury import run


def sweep_as_a_stranger(chain, agent) -> None:
    stranger = "0x" + secrets.token_hex(32)
    chain.node.ask("anvil_setBalance", "0x" + local.address_of(stranger).hex(), hex(local.ETHER))
    call = forwarders.sweep_call([deposit_addresses.of(agent).salt], token=chain.usdc)
    chain.do(chain.factory, call, key=stranger)


def blacklist(chain, address: bytes, *, undo: bool = False) -> None:
    name = b"unBlacklist(address)" if undo else b"blacklist(address)"
    chain.do(chain.usdc, keccak(name)[:4] + address.rjust(32, b"\0"))


def sounding() -> set[str]:
    from accounts.models import Alert

    return set(Alert.objects.filter(kind="sweep_failing", cleared_at=None).values_list("subject", flat=True))


@pytest.fixture
def full(chain, make_agent, pay_in):
    """Deposit addresses of some agents with 100 USDC each, final."""

    def full(count: int) -> list[bytes]:
        agents = [make_agent(f"payer-{number}") for number in range(count)]
        for agent in agents:
            pay_in(agent, 100 * UNITS)
        chain.finalize()
        scans.scan()
        return [bytes(deposit_addresses.of(agent).address) for agent in agents]

    return full


class TestBounds:
    def test_a_sweep_of_too_much_gas_is_halved_until_it_fits(self, chain, full, settings):
        held = full(5)
        settings.SWEEP_GAS_LIMIT = 450_000

        relay = sweeps.sweep_due()

        assert 1 <= len(relay.salts) < len(held)
        assert relay.gas_limit <= settings.SWEEP_GAS_LIMIT
        for _ in range(5):
            run(chain, 1)
            sweeps.sweep_due()
        assert chain.balance(chain.treasury) == 500 * UNITS
        used = [chain.node.receipt(one.tx_hash)["gasUsed"] for one in RelayTransaction.objects.filter(purpose="sweep")]
        assert all(rpc.number(gas) <= settings.SWEEP_GAS_LIMIT for gas in used)

    def test_one_address_that_does_not_fit_rests(self, chain, full, settings):
        [address] = full(1)
        settings.SWEEP_GAS_LIMIT = 30_000

        assert sweeps.sweep_due() is None

        assert SweepFailure.objects.get().address == address
        assert sounding() == {addresses.to_text(address)}

    def test_reads_the_balances_of_many_in_few_calls(self, chain, full, monkeypatch):
        full(6)
        asked = []
        ask = rpc.Node.ask
        monkeypatch.setattr(
            rpc.Node, "ask", lambda self, method, *given: asked.append(method) or ask(self, method, *given)
        )

        assert len(sweeps.sweep_due().salts) == 6

        assert asked.count("eth_call") <= 4

    def test_deposit_addresses_never_need_gas(self, chain, full):
        held = full(3)
        assert [chain.node.gas_balance(address) for address in held] == [0, 0, 0]

        sweeps.sweep_due()
        run(chain, 1)

        assert [chain.balance(address) for address in held] == [0, 0, 0]
        assert [chain.node.gas_balance(address) for address in held] == [0, 0, 0]

    def test_what_came_to_the_treasury_itself_or_waits_takes_no_place(self, chain, full, monkeypatch):
        monkeypatch.setattr(sweeps, "BATCH", 1)
        chain.mint(chain.treasury, 900 * UNITS)
        blocked, free = full(2)
        sweep_failures.note(blocked, chain_id=chain.chain_id, why="a test", at=clock.now())

        sweeps.sweep_due()
        run(chain, 1)

        assert (chain.balance(blocked), chain.balance(free)) == (100 * UNITS, 0)

    def test_nothing_goes_to_a_treasury_that_is_not_ours(self, chain, full):
        full(1)
        foreign = "0x" + secrets.token_bytes(20).rjust(32, b"\0").hex()
        slot = "0x" + bytes(32).hex()  # the factory's first variable: its treasury

        chain.node.ask("anvil_setStorageAt", rpc.text(chain.factory), slot, foreign)

        assert sweeps.sweep_due() is None
        assert not RelayTransaction.objects.exists()

    def test_nothing_is_swept_while_payouts_are_paused(self, chain, full):
        full(1)
        pauses.pause("withdrawals", reason="a key may be stolen", cause="test")

        assert sweeps.sweep_due() is None


class TestBlocked:
    def test_address_rests_and_blocks_nobody(self, chain, full):
        blocked, *_ = full(3)
        blacklist(chain, blocked)

        relay = sweeps.sweep_due()
        run(chain, 1)

        assert len(relay.salts) == 2
        assert chain.balance(chain.treasury) == 200 * UNITS
        assert Deposit.objects.get(swept_at=None).receiver == blocked
        assert sounding() == {addresses.to_text(blocked)}
        assert sweeps.sweep_due() is None

    def test_rests_twice_as_long_each_time_and_never_over_an_hour(self, chain, treasury_rows):
        at, address = clock.now(), secrets.token_bytes(20)

        rests = [
            sweep_failures.note(address, chain_id=chain.chain_id, why="a test", at=at).retry_at - at for _ in range(9)
        ]

        assert [rest // timedelta(minutes=1) for rest in rests] == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    def test_works_again_when_the_token_lets_it_go(self, chain, full):
        [address] = full(1)
        blacklist(chain, address)
        assert sweeps.sweep_due() is None
        blacklist(chain, address, undo=True)
        assert sweeps.sweep_due() is None  # it rests

        SweepFailure.objects.update(retry_at=clock.now())
        sweeps.sweep_due()
        run(chain, 1)

        assert chain.balance(chain.treasury) == 100 * UNITS
        assert not SweepFailure.objects.exists()
        assert sounding() == set()

    def test_after_the_sweep_was_signed_it_fails_alone(self, chain, full):
        """The look before did not see it: the factory tells, and the others are swept all the same."""
        blocked, other = full(2)
        relay = sweeps.sweep_due()
        assert len(relay.salts) == 2
        blacklist(chain, blocked)

        run(chain, 1)

        relay.refresh_from_db()
        assert relay.state == "confirmed"
        assert (chain.balance(blocked), chain.balance(other)) == (100 * UNITS, 0)
        assert SweepFailure.objects.get().address == blocked
        assert Deposit.objects.get(swept_at=None).receiver == blocked

    def test_a_paused_token_is_one_alert_and_costs_no_gas(self, chain, full):
        full(3)
        chain.do(chain.usdc, keccak(b"pause()")[:4])

        assert sweeps.sweep_due() is None

        assert sounding() == {""}
        assert not SweepFailure.objects.exists()
        assert not RelayTransaction.objects.exists()
        chain.do(chain.usdc, keccak(b"unpause()")[:4])
        assert sweeps.sweep_due() is not None
        assert not alerts.is_sounding("sweep_failing")


class TestDeath:
    """The process dies, the relay's row stays, another process takes it up: one sweep, one nonce."""

    def end_of(self, chain):
        for _ in range(3):
            relays.push_due()
            sweeps.sweep_due()
            chain.finalize()
        relays.push_due()
        assert chain.balance(chain.treasury) == 200 * UNITS
        assert not Deposit.objects.filter(swept_at=None).exists()
        assert RelayTransaction.objects.get().state == "confirmed"

    def test_before_anything_is_signed(self, chain, full):
        full(2)
        sweeps.sweep_due()

        self.end_of(chain)

    def test_between_signing_and_sending(self, chain, full, monkeypatch):
        full(2)
        sweeps.sweep_due()
        with monkeypatch.context() as dead:
            dead.setattr(rpc.Node, "send", lambda self, raw: None)
            relays.push_due()
        RelayAttempt.objects.update(sent_at=None)

        self.end_of(chain)

    def test_after_it_was_mined(self, chain, full):
        full(2)
        sweeps.sweep_due()
        relays.push_due()
        assert chain.balance(chain.treasury) == 200 * UNITS

        self.end_of(chain)


class TestStranger:
    def test_who_empties_addresses_does_not_take_the_place_of_full_ones(self, chain, alice, bob, pay_in, monkeypatch):
        monkeypatch.setattr(sweeps, "BATCH", 1)
        pay_in(alice, 200 * UNITS)
        sweep_as_a_stranger(chain, alice)
        pay_in(bob, 150 * UNITS)
        chain.finalize()
        scans.scan()

        for _ in range(2):
            sweeps.sweep_due()
            run(chain, 1)

        assert chain.balance(chain.treasury) == 350 * UNITS
        assert not Deposit.objects.filter(swept_at=None).exists()


class TestRecord:
    def test_leaves_due_what_came_after_it_in_its_own_block(self, chain, alice, pay_in):
        pay_in(alice, 200 * UNITS)
        chain.finalize()
        scans.scan()
        relay = sweeps.sweep_due()
        run(chain, 1)
        relay.refresh_from_db()
        swept = Deposit.objects.get()
        later = {"block_number": relay.block_number, "log_index": 99, "swept_at": None}
        Deposit.objects.filter(pk=swept.pk).update(**later)

        sweeps.record(relay, chain.node.receipt(relay.tx_hash), at=relay.closed_at)

        assert Deposit.objects.get().swept_at is None
