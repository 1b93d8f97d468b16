"""One treasury follows another: what the earlier one owes is paid by its key, before the new one signs anything."""

import secrets
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from accounts.errors import Conflict
from accounts.models import User
from escrow import (
    deposits,
    explanations,
    funds,
    guard,
    heads,
    internal_moves,
    payouts,
    reconciliation,
    relays,
    scans,
    treasury,
)
from escrow.chain import addresses, local, network
from escrow.models import Authorization, Outflow, PayoutGuard, Relayer, Treasury, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.forgotten import pay_unknown
from escrow.tests.treasury import run, treasury_tick


@pytest.fixture
def treasurer(db):
    return User.objects.create_superuser(username="tessa", email="tessa@example.org", password="secret")


@pytest.fixture
def successor_key(chain, settings):
    """The keystore of a treasury to come."""
    path = chain.state_dir / "keys" / "successor.json"
    return path, local._keystore(path, Path(settings.TREASURY_PASSPHRASE_FILE).read_text().strip())


@pytest.fixture
def rotate(chain, settings, successor_key):
    """Make the successor the treasury that signs, as `register_keys` does after the settings changed."""

    def rotate(units: int = 0) -> bytes:
        path, address = successor_key
        settings.TREASURY_EARLIER_KEYSTORES = [settings.TREASURY_KEYSTORE]
        settings.TREASURY_KEYSTORE = str(path)
        call_command("register_keys", verbosity=0)
        if units:
            chain.mint(address, units)
        return address

    return rotate


class TestRotation:
    def test_the_new_one_signs_when_every_payout_of_the_old_has_ended(self, chain, rich, ask, rotate):
        first, second = ask(10 * UNITS), None
        payouts.authorize_due()
        successor = rotate(50 * UNITS)
        second = ask(10 * UNITS)

        treasury_tick()
        assert [row.sender for row in Authorization.objects.all()] == [chain.treasury]
        run(chain)

        for withdrawal, sender in ((first, chain.treasury), (second, successor)):
            withdrawal.refresh_from_db()
            assert withdrawal.state == "settled"
            assert withdrawal.authorization.sender == sender
            assert chain.balance(withdrawal.address) == 10 * UNITS
        assert chain.balance(successor) == 40 * UNITS

    def test_a_refund_of_the_old_sets_the_new_one_free_as_well(self, chain, rich, ask, rotate, settings):
        first = ask(10 * UNITS)
        payouts.authorize_due()
        rotate(50 * UNITS)
        second = ask(10 * UNITS)
        chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
        chain.finalize()

        run(chain)

        first.refresh_from_db()
        second.refresh_from_db()
        assert (first.state, second.state) == ("refunded", "settled")

    def test_a_process_that_has_not_heard_of_the_new_one_signs_nothing_more_as_the_old(self, chain, rich, ask, rotate):
        withdrawal = ask(10 * UNITS)
        here, node = network.current(), network.node()
        tips = heads.trusted(node, here)
        [purse] = funds.read(node, here, latest=tips.latest, waiting=Withdrawal.objects.all())
        rotate(50 * UNITS)

        with pytest.raises(funds.NotReady):
            payouts.authorize(withdrawal.pk, purse=purse, tips=tips)

    def test_without_the_key_of_the_old_its_payout_waits_and_says_so(self, chain, rich, ask, rotate, settings):
        from accounts import alerts

        withdrawal = ask(10 * UNITS)
        payouts.authorize_due()
        rotate()
        settings.TREASURY_EARLIER_KEYSTORES = []

        assert payouts.relay_due() == 0
        assert alerts.is_sounding("key_refused", addresses.to_text(chain.treasury))

        settings.TREASURY_EARLIER_KEYSTORES = [str(chain.state_dir / "keys" / "treasury.json")]
        Withdrawal.objects.update(lease_until=None)
        run(chain)
        withdrawal.refresh_from_db()
        assert withdrawal.state == "settled"
        assert not alerts.is_sounding("key_refused")

    def test_the_guard_asks_about_the_old_one_too(self, chain, rich, rotate):
        pay_unknown(chain, secrets.token_bytes(20), UNITS)
        rotate()
        here, node = network.current(), network.node()

        assert len(guard.check(node, here, heads.trusted(node, here)).authorizations) == 1


class TestAddressThatBecameOurs:
    def test_a_payout_to_it_is_called_off_before_it_is_signed(
        self, chain, rich, ask, rotate, successor_key, balance_of
    ):
        _, address = successor_key
        withdrawal = ask(10 * UNITS, address)
        rotate(20 * UNITS)

        treasury_tick()

        withdrawal.refresh_from_db()
        assert withdrawal.state == "cancelled"
        assert balance_of("available", rich) == 100 * UNITS
        assert not Authorization.objects.exists()

    def test_what_it_was_paid_before_it_was_recorded_is_found_by_a_rescan(self, chain, rich, rotate, successor_key):
        _, address = successor_key
        chain.mint(address, 1)
        chain.finalize()
        scans.scan()
        rotate()
        assert reconciliation.compare().difference_units == -1

        call_command("rescan_deposits", from_block=0, verbosity=0)
        deposits.credit_due()

        assert reconciliation.compare().difference_units == 0


class TestMovesBetweenOurAddresses:
    def test_an_earlier_treasury_is_emptied_into_the_one_that_signs(self, chain, rich, rotate, treasurer, balance_of):
        successor = rotate()
        old = Treasury.objects.get(address=chain.treasury)

        internal_moves.drain(old, by=treasurer, note="rotated")
        run(chain)
        scans.scan()
        explanations.explain_due()

        move = Withdrawal.objects.get(owner="internal")
        assert move.state == "settled"
        assert move.authorization.sender == chain.treasury
        assert (chain.balance(chain.treasury), chain.balance(successor)) == (0, 100 * UNITS)
        assert balance_of("custody", f"chain:{chain.chain_id}") == -100 * UNITS
        assert Outflow.objects.get(sender=chain.treasury).explanation == "internal"
        assert reconciliation.compare().difference_units == 0

    def test_a_move_to_the_cold_address_posts_nothing(self, chain, rich, treasurer, settings, balance_of):
        cold = secrets.token_bytes(20)
        settings.TREASURY_COLD_ADDRESS = addresses.to_text(cold)
        call_command("register_keys", verbosity=0)

        internal_moves.to_cold(amount_units=60 * UNITS, by=treasurer, note="more than we need")
        run(chain)

        assert Withdrawal.objects.get(owner="internal").state == "settled"
        assert (chain.balance(chain.treasury), chain.balance(cold)) == (40 * UNITS, 60 * UNITS)
        assert balance_of("custody", f"chain:{chain.chain_id}") == -100 * UNITS
        assert reconciliation.compare().difference_units == 0

    def test_one_that_lapses_gives_nothing_back_because_it_took_nothing(
        self, chain, rich, treasurer, settings, balance_of
    ):
        settings.TREASURY_COLD_ADDRESS = addresses.to_text(secrets.token_bytes(20))
        call_command("register_keys", verbosity=0)
        internal_moves.to_cold(amount_units=60 * UNITS, by=treasurer, note="more than we need")
        payouts.authorize_due()
        chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
        chain.finalize()

        payouts.settle_due()

        assert Withdrawal.objects.get(owner="internal").state == "refunded"
        assert balance_of("available", rich) == 100 * UNITS


class TestRegisterKeys:
    def test_records_earlier_and_cold_treasuries_and_a_second_run_changes_nothing(
        self, chain, db, settings, successor_key
    ):
        cold = secrets.token_bytes(20)
        path, successor = successor_key
        settings.TREASURY_COLD_ADDRESS = addresses.to_text(cold)
        settings.TREASURY_EARLIER_KEYSTORES = [settings.TREASURY_KEYSTORE]
        settings.TREASURY_KEYSTORE = str(path)

        for _ in range(2):
            call_command("register_keys", verbosity=0)

        assert {row.address: row.cold for row in Treasury.objects.all()} == {
            chain.treasury: False,
            successor: False,
            cold: True,
        }
        assert treasury.current(chain.chain_id).address == successor
        assert treasury.addresses(chain.chain_id) == {chain.treasury, successor, cold}
        assert Relayer.objects.count() == 2

    def test_a_cold_address_that_is_recorded_last_does_not_sign(self, chain, rich, settings):
        settings.TREASURY_COLD_ADDRESS = addresses.to_text(secrets.token_bytes(20))
        call_command("register_keys", verbosity=0)

        assert Treasury.objects.order_by("-pk").first().cold
        assert treasury.current(chain.chain_id).address == chain.treasury

    def test_an_earlier_one_that_comes_too_late_is_refused(self, chain, rich, settings, successor_key):
        settings.TREASURY_EARLIER_KEYSTORES = [str(successor_key[0])]

        with pytest.raises(CommandError):
            call_command("register_keys", verbosity=0)
        assert Treasury.objects.count() == 1

    def test_a_treasury_does_not_come_back(self, chain, rich, rotate, settings):
        rotate()
        settings.TREASURY_KEYSTORE = settings.TREASURY_EARLIER_KEYSTORES.pop()

        with pytest.raises(CommandError):
            call_command("register_keys", verbosity=0)

    def test_a_treasury_that_signs_is_not_cold(self, chain, rich):
        with pytest.raises(Conflict):
            treasury.register(chain.treasury, chain_id=chain.chain_id, cold=True)

    def test_a_new_treasury_has_the_guard_read_from_the_first_block(self, chain, rich, rotate):
        here, node = network.current(), network.node()
        guard.check(node, here, heads.trusted(node, here))
        assert PayoutGuard.objects.get().checked_block > 0

        rotate()

        assert PayoutGuard.objects.get().checked_block == -1


class TestRelayers:
    def test_without_its_key_here_a_relayer_gets_no_new_nonce(self, chain, rich, ask, settings):
        kept, _ = settings.RELAYER_KEYSTORES
        settings.RELAYER_KEYSTORES = [kept]
        for _ in range(3):
            ask(2 * UNITS)

        run(chain)

        used = {relay.relayer_id for one in Withdrawal.objects.all() for relay in one.relays.all()}
        assert len(used) == 1
        assert set(Withdrawal.objects.values_list("state", flat=True)) == {"settled"}

    def test_a_retired_one_ends_what_it_has_and_gets_nothing_new(self, chain, rich, ask):
        from accounts import clock

        first = ask(2 * UNITS)
        payouts.authorize_due()
        payouts.relay_due()
        retired = first.relays.get().relayer
        Relayer.objects.filter(pk=retired.pk).update(retired_at=clock.now())
        later = [ask(2 * UNITS) for _ in range(3)]

        run(chain)

        assert first.relays.get().state == "confirmed"
        assert retired.pk not in {one.relays.get().relayer_id for one in later}

    def test_with_no_key_at_all_nothing_is_allocated_and_an_alert_says_so(self, chain, rich, ask, settings):
        from accounts import alerts

        ask(2 * UNITS)
        payouts.authorize_due()
        settings.RELAYER_KEYSTORES = []

        assert payouts.relay_due() == 0
        assert alerts.is_sounding("key_refused", "relayers")
        with pytest.raises(relays.NoRelayer):
            relays.allocate(chain.chain_id, purpose="filler", to=b"\x01" * 20, data=b"", gas_limit=21_000)
