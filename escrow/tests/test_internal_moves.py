"""Moves between addresses of ours: custody stays what it is, and the books post nothing."""

import secrets

import pytest

from accounts import pauses
from accounts.errors import Invalid, NotAllowed, Paused
from escrow import internal_moves, payouts, reconciliation, sweeps, treasury, withdrawals
from escrow.chain import addresses, local
from escrow.models import Authorization, Transfer, Treasury, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.people import person
from escrow.tests.treasury import run

State = Withdrawal.State


@pytest.fixture
def tina(db):
    return person("tina")


@pytest.fixture
def cold(chain, rich, settings):
    """A cold address, registered; 30 USDC stay hot."""
    address = secrets.token_bytes(20)
    settings.TREASURY_COLD_ADDRESS = addresses.to_text(address)
    settings.TREASURY_HOT_CEILING_UNITS = 30 * UNITS
    return Treasury.objects.create(chain_id=chain.chain_id, address=address, cold=True)


def to_cold(by, units, note="the vault is cold"):
    return internal_moves.to_cold(amount_units=units, by=by, note=note)


def posted() -> int:
    return Transfer.objects.count()


class TestToCold:
    def test_moves_on_one_treasurers_word_and_posts_nothing(self, chain, cold, tina):
        before = posted()

        withdrawal = to_cold(tina, 70 * UNITS)
        assert (withdrawal.owner, withdrawal.state, withdrawal.source) == ("internal", State.REQUESTED, chain.treasury)
        run(chain)

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert (chain.balance(chain.treasury), chain.balance(cold.address)) == (30 * UNITS, 70 * UNITS)
        assert posted() == before
        assert reconciliation.compare().difference_units == 0

    def test_leaves_the_ceiling_and_what_open_payouts_need(self, chain, cold, tina, ask):
        ask(20 * UNITS)

        with pytest.raises(internal_moves.HotCeiling) as refusal:
            to_cold(tina, 50 * UNITS + 1)
        assert refusal.value.members == {"spare": "50.000000"}
        to_cold(tina, 50 * UNITS)
        with pytest.raises(internal_moves.HotCeiling):
            to_cold(tina, 1)

    @pytest.mark.django_db(transaction=True)
    def test_two_at_once_do_not_count_on_the_same_usdc(self, chain, cold, tina, race):
        outcomes = race(*[lambda: to_cold(tina, 70 * UNITS)] * 8)

        assert sum(isinstance(outcome, internal_moves.HotCeiling) for outcome in outcomes) == 7

    def test_needs_a_treasurer_a_note_and_an_amount(self, cold, tina):
        with pytest.raises(NotAllowed):
            to_cold(person("moderator", may_approve=False), UNITS)
        for units, note in ((UNITS, " "), (0, "nothing"), (-UNITS, "back")):
            with pytest.raises(Invalid):
                to_cold(tina, units, note)

        assert not Withdrawal.objects.exists()

    def test_without_a_cold_address_or_with_one_nobody_registered_is_refused(self, chain, rich, tina, settings):
        with pytest.raises(internal_moves.NoColdAddress):
            to_cold(tina, UNITS)
        settings.TREASURY_COLD_ADDRESS = addresses.to_text(secrets.token_bytes(20))

        with pytest.raises(internal_moves.NoColdAddress):
            to_cold(tina, UNITS)

    def test_while_withdrawals_are_paused_is_refused(self, cold, tina):
        pauses.pause("withdrawals", reason="looking at something", cause="test")

        with pytest.raises(Paused):
            to_cold(tina, UNITS)

    def test_of_a_node_that_is_silent_is_try_later(self, cold, tina, settings):
        settings.CHAIN_RPC_URL = "http://127.0.0.1:1"

        with pytest.raises(internal_moves.ChainUnreadable):
            to_cold(tina, UNITS)

    def test_is_called_off_by_any_treasurer(self, chain, cold, tina):
        before = posted()
        withdrawal = to_cold(tina, 70 * UNITS)

        withdrawals.call_off(withdrawal.pk, by=person("theo"))
        run(chain)

        assert withdrawals.lock(withdrawal.pk).state == State.CANCELLED
        assert (chain.balance(cold.address), posted()) == (0, before)

    def test_that_lapses_posts_nothing(self, chain, cold, tina, settings):
        before = posted()
        withdrawal = to_cold(tina, 70 * UNITS)
        payouts.authorize_due()

        chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
        chain.finalize()
        payouts.settle_due()

        withdrawal.refresh_from_db()
        assert (withdrawal.state, posted()) == (State.REFUNDED, before)

    def test_agents_cannot_be_paid_there(self, cold):
        from escrow import address_book

        with pytest.raises(Invalid):
            address_book.refuse_unpayable(cold.address, pointer="/address")

    def test_does_not_make_the_treasury_look_short(self, chain, cold, tina):
        to_cold(tina, 70 * UNITS)

        assert sweeps.missing_units(chain.node, payouts.network.current()) == -30 * UNITS


class TestDrain:
    @pytest.fixture
    def rotated(self, chain, rich, settings):
        """A second treasury, whose key is here too; the first still holds 100 USDC."""
        old = treasury.current(chain.chain_id)
        path = chain.state_dir / "keys" / f"treasury-{secrets.token_hex(4)}.json"
        address = local._keystore(path, (chain.state_dir / "keys" / "passphrase").read_text().rstrip("\n"))
        settings.TREASURY_EARLIER_KEYSTORES = [settings.TREASURY_KEYSTORE]
        settings.TREASURY_KEYSTORE = str(path)
        return old, treasury.register(address, chain_id=chain.chain_id)

    def test_brings_everything_to_the_treasury_that_signs(self, chain, rotated, tina):
        (old, new), before = rotated, posted()

        withdrawal = internal_moves.drain(old, by=tina, note="rotated")
        run(chain)

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert (chain.balance(old.address), chain.balance(new.address)) == (0, 100 * UNITS)
        assert bytes(Authorization.objects.get().sender) == old.address
        assert posted() == before
        assert reconciliation.compare().difference_units == 0

    def test_and_a_payout_asked_for_meanwhile_is_paid_after_it(self, chain, rotated, tina, ask):
        old, _ = rotated
        withdrawal = ask(40 * UNITS)
        internal_moves.drain(old, by=tina, note="rotated")

        run(chain, 5)

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert chain.balance(withdrawal.address) == 40 * UNITS

    def test_of_the_treasury_that_signs_or_a_cold_one_is_refused(self, chain, rotated, tina):
        _, new = rotated
        cold = Treasury.objects.create(chain_id=chain.chain_id, address=secrets.token_bytes(20), cold=True)

        for which in (new, cold):
            chain.mint(which.address, UNITS)
            with pytest.raises(internal_moves.NotDrainable, match="signs"):
                internal_moves.drain(which, by=tina, note="rotated")

    def test_waits_until_it_owes_nothing_and_happens_once(self, chain, rich, ask, tina, rotated, settings):
        old, _ = rotated
        internal_moves.drain(old, by=tina, note="rotated")

        with pytest.raises(internal_moves.NotDrainable):
            internal_moves.drain(old, by=tina, note="again")
        run(chain)
        with pytest.raises(internal_moves.NotDrainable, match="empty"):
            internal_moves.drain(old, by=tina, note="again")

    def test_needs_a_treasurer(self, rotated):
        with pytest.raises(NotAllowed):
            internal_moves.drain(rotated[0], by=person("moderator", may_approve=False), note="rotated")

    def test_does_not_count_as_asked_of_the_new_treasury(self, chain, rotated, tina):
        internal_moves.drain(rotated[0], by=tina, note="rotated")

        assert sweeps.missing_units(chain.node, payouts.network.current()) <= 0
