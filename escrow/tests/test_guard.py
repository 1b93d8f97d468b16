"""Nothing is signed while the chain shows what no row of ours stands for."""

import secrets

import pytest
from eth_account import Account

from accounts import alerts, clock, pauses
from accounts.errors import Paused
from accounts.models import User
from escrow import guard, heads, payouts, recognition, relays, treasury, withdrawals
from escrow.chain import network, rpc, usdc
from escrow.models import Authorization, PayoutGuard, RelayAttempt, Relayer, RelayTransaction, Withdrawal
from escrow.tests.chain import UNITS
from escrow.tests.forgotten import cancel_unknown, pay_unknown, signed_payment, spend_nonce_of
from escrow.tests.treasury import entry_for, run, treasury_tick


@pytest.fixture
def treasurer(db):
    return User.objects.create_superuser(username="tessa", email="tessa@example.org", password="secret")


def check() -> guard.Unknown:
    here, node = network.current(), network.node()
    return guard.check(node, here, heads.trusted(node, here))


class TestUnknownAuthorizations:
    def test_stop_authorizing(self, chain, rich, ask):
        withdrawal = ask()
        pay_unknown(chain, secrets.token_bytes(20), UNITS)

        treasury_tick()

        withdrawal.refresh_from_db()
        assert withdrawal.state == "requested"
        assert alerts.is_sounding("unknown_authorization")
        assert pauses.Pause.objects.get(pk="withdrawals").cause == "unknown_authorization"

    def test_stop_relaying_what_is_authorized(self, chain, rich, ask):
        ask()
        payouts.authorize_due()
        pay_unknown(chain, secrets.token_bytes(20), UNITS)

        assert payouts.relay_due() == 0
        assert not RelayTransaction.objects.filter(purpose="withdrawal").exists()

    def test_stop_payouts_even_where_they_pause_nothing(self, chain, rich, ask, settings):
        settings.TREASURY_PAUSE_ON = []
        ask()
        payouts.authorize_due()
        ask()
        pay_unknown(chain, secrets.token_bytes(20), UNITS)

        assert (payouts.authorize_due(), payouts.relay_due()) == (0, 0)
        assert not pauses.is_paused("withdrawals")

    def test_do_not_stop_what_is_signed_already(self, chain, rich, ask):
        withdrawal = ask()
        payouts.authorize_due()
        payouts.relay_due()
        pay_unknown(chain, secrets.token_bytes(20), UNITS)

        run(chain, 2)

        withdrawal.refresh_from_db()
        assert withdrawal.state == "settled"

    def test_of_an_earlier_treasury_count_too(self, chain, rich, ask):
        treasury.register(secrets.token_bytes(20), chain_id=chain.chain_id)
        pay_unknown(chain, secrets.token_bytes(20), UNITS)

        assert len(check().authorizations) == 1

    def test_of_strangers_do_not_count(self, chain, rich):
        stranger = Account.create()
        payer = bytes.fromhex(stranger.address[2:])
        chain.mint(payer, UNITS)
        fields = usdc.Authorization(payer, chain.treasury, UNITS, chain.head().timestamp + 7_200, b"\x05" * 32)
        domain = usdc.domain_separator(chain.node, chain.usdc, chain_id=chain.chain_id)
        word = stranger.unsafe_sign_hash(usdc.authorization_digest(fields, domain))
        chain.do(chain.usdc, usdc.payment_call(fields, v=word.v, r=word.r, s=word.s))

        assert check().is_nothing

    def test_are_not_our_own_payouts(self, chain, rich, ask):
        for _ in range(3):
            ask(5 * UNITS)
            treasury_tick()
            assert check().is_nothing
            chain.mine(2)
        run(chain)

        assert not alerts.is_sounding("unknown_authorization")
        assert not pauses.is_paused("withdrawals")

    def test_a_node_that_does_not_say_is_not_a_node_that_says_no(self, chain, rich, ask, monkeypatch):
        ask()
        answer = rpc.Node.ask

        def silent(self, method, *params):
            if method == "eth_getLogs":
                raise rpc.NodeUnavailable("eth_getLogs: timed out")
            return answer(self, method, *params)

        monkeypatch.setattr(rpc.Node, "ask", silent)

        with pytest.raises(rpc.NodeUnavailable):
            payouts.authorize_due()
        assert not Authorization.objects.exists()

    def test_a_cancelled_nonce_is_refunded_though_the_cancellation_is_forgotten(
        self, chain, rich, ask, balance_of, settings
    ):
        withdrawal = ask()
        cancel_unknown(chain, payouts.nonce_of(withdrawal))
        chain.finalize()
        treasury_tick()
        chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
        chain.finalize()

        run(chain, 1)

        withdrawal.refresh_from_db()
        assert withdrawal.state == "refunded"
        assert balance_of("available", rich) == 100 * UNITS


class TestHowFarItHasRead:
    def test_all_known_moves_it_to_the_finalized_block(self, chain, rich):
        check()

        assert PayoutGuard.objects.get().checked_block == chain.node.heads().finalized.number

    def test_something_unknown_leaves_it_where_it_was(self, chain, rich):
        check()
        before = PayoutGuard.objects.get().checked_block
        pay_unknown(chain, secrets.token_bytes(20), UNITS)
        chain.finalize()

        check()

        assert PayoutGuard.objects.get().checked_block == before

    def test_a_database_that_never_checked_reads_from_the_first_block(self, chain, rich):
        pay_unknown(chain, secrets.token_bytes(20), UNITS)
        chain.mine(40)

        assert len(check().authorizations) == 1

    def test_a_treasury_that_is_recorded_later_is_read_from_the_first_block(self, chain, rich):
        pay_unknown(chain, entry_for(rich).address, UNITS)
        chain.finalize()
        recognition.recognise_due()
        check()
        assert PayoutGuard.objects.get().checked_block > 0

        treasury.register(secrets.token_bytes(20), chain_id=chain.chain_id)

        assert PayoutGuard.objects.get().checked_block == -1
        assert check().is_nothing

    def test_reads_only_what_is_new(self, chain, rich, monkeypatch):
        check()
        chain.mine(3)
        asked = []
        answer = rpc.Node.ask

        def watched(self, method, *params):
            asked.append((method, params))
            return answer(self, method, *params)

        monkeypatch.setattr(rpc.Node, "ask", watched)
        mark = PayoutGuard.objects.get().checked_block
        check()

        [(_, (wanted,))] = [one for one in asked if one[0] == "eth_getLogs"]
        assert int(wanted["fromBlock"], 16) == mark + 1


class TestUnknownNonces:
    @pytest.fixture
    def relayer(self, rich):
        return Relayer.objects.order_by("pk").first()

    def test_stop_everything_until_they_are_final_and_caught_up(self, chain, rich, ask, relayer, treasurer):
        withdrawal = ask()
        spend_nonce_of(chain, relayer.address)
        treasury_tick()
        withdrawal.refresh_from_db()
        assert withdrawal.state == "requested"
        assert [one.pk for one in check().relayers] == [relayer.pk]
        assert pauses.Pause.objects.get(pk="withdrawals").cause == "unknown_relayer_nonce"

        recognition.recognise_due()
        relayer.refresh_from_db()
        assert relayer.next_nonce < chain.node.transaction_count(relayer.address)

        chain.finalize()
        recognition.recognise_due()
        relayer.refresh_from_db()
        assert relayer.next_nonce == chain.node.transaction_count(relayer.address)
        assert not alerts.is_sounding("unknown_relayer_nonce")
        assert payouts.authorize_due() == 0

        guard.resume("withdrawals", by=treasurer, reason="a hand at the console")
        run(chain)
        withdrawal.refresh_from_db()
        assert withdrawal.state == "settled"

    def test_are_not_caught_up_while_a_payout_is_unknown(self, chain, rich, relayer):
        pay_unknown(chain, secrets.token_bytes(20), UNITS)
        spend_nonce_of(chain, relayer.address)
        chain.finalize()

        recognition.recognise_due()

        relayer.refresh_from_db()
        assert relayer.next_nonce < chain.node.transaction_count(relayer.address)
        assert alerts.is_sounding("unknown_relayer_nonce")

    def test_of_a_retired_relayer_are_its_own(self, chain, rich, relayer):
        Relayer.objects.filter(pk=relayer.pk).update(retired_at=clock.now())
        spend_nonce_of(chain, relayer.address)

        assert check().is_nothing

    def test_catching_up_never_goes_back(self, chain, rich, relayer):
        before = relayer.next_nonce

        relays.catch_up(relayer.pk, count=0)

        relayer.refresh_from_db()
        assert relayer.next_nonce == before

    def test_a_nonce_of_ours_that_a_stranger_used_is_given_up_and_the_payout_relayed_anew(
        self, chain, rich, ask, monkeypatch
    ):
        withdrawal = ask()
        payouts.authorize_due()
        payouts.relay_due()
        relay = RelayTransaction.objects.get(purpose="withdrawal")
        with monkeypatch.context() as broken:
            broken.setattr(rpc.Node, "send", lambda self, raw: None)
            relays.push_due()
        spend_nonce_of(chain, relay.relayer.address, nonce=relay.nonce)
        assert check().is_nothing

        relays.push_due()
        relay.refresh_from_db()
        assert relay.state == "sent"  # not final yet
        chain.finalize()
        RelayAttempt.objects.update(sent_at=clock.now())
        relays.push_due()
        relay.refresh_from_db()
        assert relay.state == "superseded"

        run(chain)
        withdrawal.refresh_from_db()
        assert withdrawal.state == "settled"
        assert chain.balance(withdrawal.address) == 40 * UNITS
        assert sorted(one.state for one in withdrawal.relays.all()) == ["confirmed", "superseded"]


class TestGivingBack:
    def test_is_refused_while_a_forgotten_signature_may_be_out(self, chain, rich, ask, treasurer):
        withdrawal = ask()
        pay_unknown(chain, entry_for(rich).address, UNITS)
        treasury_tick()

        with pytest.raises(Paused):
            withdrawals.cancel(withdrawal.pk, agent=rich)

        chain.finalize()
        recognition.recognise_due()
        with pytest.raises(Paused):
            guard.refuse_giving_back()
        guard.resume("withdrawals", by=treasurer, reason="recognised")
        withdrawals.cancel(withdrawal.pk, agent=rich)
        assert Withdrawal.objects.get(pk=withdrawal.pk).state == "cancelled"

    def test_goes_on_where_a_person_has_paused(self, chain, rich, ask, treasurer):
        withdrawal = ask()
        pauses.pause("withdrawals", by=treasurer, reason="a quiet evening")

        withdrawals.cancel(withdrawal.pk, agent=rich)

        assert Withdrawal.objects.get().state == "cancelled"

    def test_a_freeze_of_the_past_does_not_count(self, chain, rich, treasurer):
        alerts.sound("unknown_authorization")
        alerts.clear("unknown_authorization")
        pauses.pause("withdrawals", by=treasurer, reason="a quiet evening")

        assert not guard.frozen()


class TestPaused:
    def test_nothing_new_is_signed_and_what_is_signed_goes_on(self, chain, rich, ask, treasurer):
        signed, waiting = ask(10 * UNITS), None
        payouts.authorize_due()
        payouts.relay_due()
        waiting = ask(10 * UNITS)
        pauses.pause("withdrawals", by=treasurer, reason="a look at the books")

        run(chain)

        signed.refresh_from_db()
        waiting.refresh_from_db()
        assert (signed.state, waiting.state) == ("settled", "requested")

    def test_what_is_authorized_is_not_relayed(self, chain, rich, ask, treasurer):
        withdrawal = ask()
        payouts.authorize_due()
        pauses.pause("withdrawals", by=treasurer, reason="a look at the books")

        run(chain, 1)

        assert not withdrawal.relays.exists()

    def test_other_switches_are_resumed_as_ever(self, chain, rich, treasurer):
        alerts.sound("unknown_authorization")
        pauses.pause("new_jobs", by=treasurer, reason="a quiet evening")

        guard.resume("new_jobs", by=treasurer, reason="morning")

        assert not pauses.is_paused("new_jobs")


def test_an_authorization_of_ours_that_a_stranger_submits_is_known(chain, rich, ask):
    withdrawal = ask()
    payouts.authorize_due()
    row = Authorization.objects.get()
    call = payouts._signed_call(chain.node, network.current(), row)
    chain.do(chain.usdc, call)

    assert check().is_nothing
    run(chain)
    withdrawal.refresh_from_db()
    assert withdrawal.state == "settled"


def test_the_helper_signs_what_the_token_takes(chain, rich):
    call = signed_payment(chain, b"\x33" * 20, UNITS, nonce=b"\x01" * 32)
    chain.do(chain.usdc, call)

    assert chain.balance(b"\x33" * 20) == UNITS
