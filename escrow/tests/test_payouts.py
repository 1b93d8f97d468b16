"""Payouts on a real chain: paid once or given back once, whoever dies, repeats or meddles."""

import secrets
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from eth_hash.auto import keccak

from accounts import alerts, clock, pauses
from accounts.models import Event
from escrow import (
    address_book,
    deposit_addresses,
    deposits,
    leases,
    ledger,
    payouts,
    relays,
    scans,
    sweeps,
    withdrawal_moves,
    withdrawals,
)
from escrow.chain import addresses, local, rpc, usdc
from escrow.models import (
    Authorization,
    Deposit,
    RelayAttempt,
    Relayer,
    RelayTransaction,
    Withdrawal,
)
from escrow.tests.chain import FINAL, UNITS
from escrow.tests.treasury import entry_for, run, treasury_tick

State = Withdrawal.State
FEE = 500_000


def told(agent) -> list[str]:
    found = Event.objects.filter(recipient_id=agent.id, type__startswith="withdrawal").order_by("id")
    return list(found.values_list("type", flat=True))


class TestStraightRoad:
    def test_from_deposit_to_payout(self, chain, rich, ask, balance_of):
        withdrawal = ask()
        assert balance_of("available", rich) == 100 * UNITS - 40 * UNITS - FEE
        assert balance_of("withdrawing", rich) == 40 * UNITS + FEE

        run(chain)

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert chain.balance(withdrawal.address) == 40 * UNITS
        assert balance_of("withdrawing", rich) == 0
        assert balance_of("fees") == FEE
        assert balance_of("custody", f"chain:{chain.chain_id}") == -60 * UNITS
        assert told(rich) == ["withdrawal.requested", "withdrawal.broadcast", "withdrawal.settled"]

    def test_each_step_waits_for_the_one_before(self, chain, rich, ask):
        withdrawal = ask()
        steps = []
        for step in (payouts.authorize_due, payouts.relay_due, relays.push_due, payouts.settle_due):
            step()
            withdrawal.refresh_from_db()
            steps.append(withdrawal.state)
        chain.finalize()
        payouts.settle_due()
        withdrawal.refresh_from_db()

        assert [*steps, withdrawal.state] == ["authorized", "authorized", "broadcast", "broadcast", "settled"]

    def test_an_authorization_is_signed_for_its_own_token_alone(self, chain, rich, ask, monkeypatch):
        ask()
        payouts.authorize_due()
        here, signed = payouts.network.current(), []
        with monkeypatch.context() as patched:
            patched.setattr(payouts.network, "current", lambda: here._replace(usdc=b"\x11" * 20))
            patched.setattr(usdc, "domain_separator", lambda *_, **__: b"\0" * 32)
            patched.setattr(usdc, "payment_call", lambda *_, **__: signed.append(1) or b"")
            payouts.relay_due()

        assert signed == []
        assert not Withdrawal.objects.filter(relays__isnull=False).exists()
        run(chain)
        assert Withdrawal.objects.get().state == State.SETTLED

    def test_the_relay_closes_when_its_block_is_final(self, chain, rich, ask):
        ask()
        treasury_tick()
        relays.push_due()
        assert RelayTransaction.objects.get(purpose="withdrawal").state == "sent"

        chain.finalize()
        relays.push_due()

        assert RelayTransaction.objects.get(purpose="withdrawal").state == "confirmed"

    def test_nonces_of_relayers_are_distinct_and_gapless(self, chain, rich, ask):
        for _ in range(6):
            ask(2 * UNITS)

        run(chain)

        for relayer in Relayer.objects.all():
            used = sorted(relayer.transactions.values_list("nonce", flat=True))
            first = relayer.next_nonce - len(used)
            assert used == list(range(first, relayer.next_nonce))
            assert chain.node.transaction_count(relayer.address) == relayer.next_nonce
        assert set(Withdrawal.objects.values_list("state", flat=True)) == {"settled"}


class TestPausedMeanwhile:
    """An alarm does not wait until those that were due when the round began have gone."""

    @pytest.fixture(autouse=True)
    def three(self, rich, ask):
        for _ in range(3):
            ask(2 * UNITS)

    @pytest.fixture
    def pause_after(self, monkeypatch):
        def pause_after(name: str) -> None:
            step = getattr(payouts, name)

            def stepping(*args, **options):
                done = step(*args, **options)
                if not pauses.is_paused("withdrawals"):
                    pauses.pause("withdrawals", reason="a key is stolen", cause="unexplained_outflow")
                return done

            monkeypatch.setattr(payouts, name, stepping)

        return pause_after

    def test_no_more_is_authorized(self, pause_after):
        pause_after("authorize")

        assert payouts.authorize_due() == 1
        assert Authorization.objects.count() == 1

    def test_no_more_is_signed(self, pause_after):
        payouts.authorize_due()
        pause_after("_relay")

        assert payouts.relay_due() == 1
        assert RelayTransaction.objects.filter(purpose="withdrawal").count() == 1


class TestRowsThatNobodyAskedFor:
    """Whoever can write into the database, a stolen web server say, has nothing signed by writing a row."""

    def test_without_its_money_set_aside_nothing_is_signed(self, chain, rich):
        entry = entry_for(rich)
        forged = Withdrawal.objects.create(
            agent=rich,
            chain_id=chain.chain_id,
            amount_units=90 * UNITS,
            entry=entry,
            address=entry.address,
            state=State.REQUESTED,
            requested_at=clock.now(),
        )

        run(chain)

        assert not Authorization.objects.exists()
        assert chain.balance(forged.address) == 0
        reference, moves = withdrawal_moves.reference(forged, "request"), withdrawal_moves.requested(forged)
        ledger.post(reference, kind="withdrawal_request", moves=moves, at=clock.now())  # the books are right again
        run(chain)
        assert chain.balance(forged.address) == 90 * UNITS

    def test_without_its_approvals_it_is_held_again(self, rich, ask, settings):
        settings.WITHDRAWAL_APPROVAL_THRESHOLD_UNITS = 30 * UNITS
        withdrawal = ask()
        Withdrawal.objects.filter(pk=withdrawal.pk).update(state=State.REQUESTED)

        treasury_tick()

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.HELD


def test_what_could_not_go_lets_the_others_have_their_turn(rich, ask):
    stuck, fresh = ask(2 * UNITS), ask(2 * UNITS)
    due = Withdrawal.objects.all()
    due.filter(pk=stuck.pk).update(lease_until=clock.now() - timedelta(seconds=1))

    assert leases.claim(due, limit=1) == [fresh.pk]
    assert leases.claim(due, limit=1) == [stuck.pk]


class TestAuthorize:
    def test_pays_nobody_but_an_entry_of_the_agents_own_book(self, chain, rich, ask, bob):
        withdrawal = ask()
        elsewhere = entry_for(bob)
        Withdrawal.objects.filter(pk=withdrawal.pk).update(entry=elsewhere)

        payouts.authorize_due()

        withdrawal.refresh_from_db()
        assert withdrawal.state == "requested"

    def test_waits_for_what_somebody_else_was_credited_early(self, chain, rich, ask, bob, pay_in):
        pay_in(bob, 5 * UNITS)
        chain.mine(5)
        scans.scan()
        deposits.credit_due()

        withdrawal = ask()  # bob may have paid alice with it

        payouts.authorize_due()
        withdrawal.refresh_from_db()
        assert withdrawal.state == "requested"
        chain.finalize()
        payouts.authorize_due()
        withdrawal.refresh_from_db()
        assert withdrawal.state == "authorized"

    def test_waits_until_the_deposit_it_is_paid_from_is_final(self, chain, rich, ask, pay_in):
        pay_in(rich, 50 * UNITS)
        chain.mine(5)
        scans.scan()
        deposits.credit_due()
        withdrawal = ask()
        assert withdrawal.credited_block > chain.node.heads().finalized.number

        payouts.authorize_due()
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.REQUESTED

        chain.finalize()
        payouts.authorize_due()
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.AUTHORIZED

    def test_does_not_promise_the_same_usdc_twice(self, chain, rich, ask):
        chain.empty_treasury_of(70 * UNITS)
        first, second = ask(20 * UNITS), ask(20 * UNITS)

        payouts.authorize_due()

        assert sorted(Withdrawal.objects.values_list("state", flat=True)) == ["authorized", "requested"]
        assert {first.pk, second.pk} == set(Withdrawal.objects.values_list("pk", flat=True))

    def test_many_that_are_not_covered_keep_nobody_from_their_turn(self, chain, rich, ask, credit, settings):
        credit(rich, 1_000 * UNITS)
        too_much = [ask(150 * UNITS) for _ in range(3)]
        fine = ask(40 * UNITS)

        assert payouts.authorize_due(limit=2) == 1

        fine.refresh_from_db()
        assert fine.state == State.AUTHORIZED
        assert {withdrawals.lock(one.pk).state for one in too_much} == {State.REQUESTED}

    def test_many_whose_deposits_are_not_final_keep_nobody_from_their_turn(self, chain, rich, ask):
        head = chain.head().number
        waiting = [ask(2 * UNITS) for _ in range(3)]
        Withdrawal.objects.update(credited_block=head + 100)
        fine = ask(2 * UNITS)

        assert payouts.authorize_due(limit=2) == 1

        assert withdrawals.lock(fine.pk).state == State.AUTHORIZED
        assert {withdrawals.lock(one.pk).state for one in waiting} == {State.REQUESTED}

    def test_treasury_short_sweeps_first_and_pays_after(self, chain, rich, ask, bob, pay_in, settings):
        settings.SWEEP_ABOVE_UNITS = 10_000 * UNITS
        pay_in(rich, 80 * UNITS)
        chain.finalize()
        scans.scan()
        deposits.credit_due()
        withdrawal = ask(150 * UNITS)

        payouts.authorize_due()
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.REQUESTED
        assert RelayTransaction.objects.filter(purpose="sweep", state="allocated").count() == 1

        run(chain)
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert chain.balance(withdrawal.address) == 150 * UNITS
        assert not Deposit.objects.filter(swept_at=None).exists()

    def test_checks_the_limits_again_and_holds_what_is_over_them_now(self, chain, rich, ask, settings):
        withdrawal = ask()
        settings.WITHDRAWAL_DAILY_LIMIT_UNITS = 10 * UNITS

        payouts.authorize_due()

        withdrawal.refresh_from_db()
        assert (withdrawal.state, withdrawal.held_for) == (State.HELD, ["agent_limit"])
        assert told(rich) == ["withdrawal.requested", "withdrawal.held"]

    def test_a_cancelled_one_is_never_signed(self, chain, rich, ask, balance_of):
        withdrawal = ask()
        withdrawals.cancel(withdrawal.pk, agent=rich)

        run(chain)

        assert not Authorization.objects.exists()
        assert balance_of("available", rich) == 100 * UNITS
        assert chain.balance(withdrawal.address) == 0

    def test_waits_while_an_earlier_treasury_has_payouts_open(self, chain, rich, ask):
        from escrow import treasury

        ask(10 * UNITS)
        payouts.authorize_due()
        successor = treasury.register(secrets.token_bytes(20), chain_id=chain.chain_id)
        chain.mint(successor.address, 100 * UNITS)
        ask(10 * UNITS)

        payouts.authorize_due()

        assert sorted(Withdrawal.objects.values_list("state", flat=True)) == ["authorized", "requested"]


class TestExactlyOnce:
    def test_a_stranger_who_submits_first_settles_it_once(self, chain, rich, ask, balance_of):
        withdrawal = ask()
        payouts.authorize_due()
        payouts.relay_due()
        call = bytes(RelayTransaction.objects.get(purpose="withdrawal").data)

        chain.do(chain.usdc, call)  # the faucet is the stranger
        run(chain)

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert chain.balance(withdrawal.address) == 40 * UNITS
        assert balance_of("withdrawing", rich) == 0
        assert RelayTransaction.objects.get(purpose="withdrawal").state == "superseded"
        assert told(rich).count("withdrawal.settled") == 1

    def test_a_stranger_before_any_relay_of_ours(self, chain, rich, ask):
        withdrawal = ask()
        payouts.authorize_due()
        call = payouts._signed_call(chain.node, network_of(chain), Authorization.objects.get())

        chain.do(chain.usdc, call)
        run(chain)

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert not RelayTransaction.objects.filter(purpose="withdrawal").exists()

    def test_what_is_not_sent_by_the_deadline_comes_back(self, chain, rich, ask, balance_of, settings):
        withdrawal = ask()
        payouts.authorize_due()

        chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
        payouts.settle_due()
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.LAPSED  # the head is past it, the finalized block is not
        assert balance_of("withdrawing", rich) == 40 * UNITS + FEE

        chain.finalize()
        payouts.settle_due()
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.REFUNDED
        assert balance_of("available", rich) == 100 * UNITS
        assert told(rich) == ["withdrawal.requested", "withdrawal.refunded"]

        run(chain)
        assert chain.balance(withdrawal.address) == 0

    def test_paid_in_the_last_moment_is_not_refunded(self, chain, rich, ask, balance_of, settings):
        withdrawal = ask()
        treasury_tick()
        assert chain.balance(withdrawal.address) == 40 * UNITS

        chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
        payouts.settle_due()
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.LAPSED
        chain.finalize()
        payouts.settle_due()

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert balance_of("available", rich) == 100 * UNITS - 40 * UNITS - FEE

    def test_a_cancelled_authorization_is_refunded_once(self, chain, rich, ask, balance_of):
        withdrawal = ask()
        payouts.authorize_due()
        signed = Authorization.objects.get()
        chain.do(chain.usdc, cancellation(chain, signed))

        run(chain)

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.REFUNDED
        assert balance_of("available", rich) == 100 * UNITS
        assert chain.balance(withdrawal.address) == 0

    def test_a_relay_that_reverts_proves_nothing(self, chain, rich, ask, balance_of):
        withdrawal = ask()
        payouts.authorize_due()
        payouts.relay_due()
        chain.do(chain.usdc, keccak(b"pause()")[:4])
        relays.push_due()
        chain.finalize()
        treasury_tick()
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.BROADCAST
        assert RelayTransaction.objects.get(purpose="withdrawal").state == "reverted"

        chain.do(chain.usdc, keccak(b"unpause()")[:4])
        run(chain)

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert chain.balance(withdrawal.address) == 40 * UNITS

    def test_a_payout_that_is_reorganised_away_is_sent_again(self, chain, rich, ask):
        withdrawal = ask()
        treasury_tick()
        chain.mine(2)

        chain.reorg(3)
        assert chain.balance(withdrawal.address) == 0
        RelayAttempt.objects.update(sent_at=clock.now() - timedelta(minutes=1))
        run(chain)

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert chain.balance(withdrawal.address) == 40 * UNITS

    def test_the_end_is_written_once(self, chain, rich, ask):
        withdrawal = ask()
        run(chain)

        with pytest.raises(payouts.table.TransitionNotAllowed):
            payouts.refund(withdrawal.pk)

        assert withdrawals.lock(withdrawal.pk).state == State.SETTLED


@pytest.mark.django_db(transaction=True)
class TestTwoProcesses:
    """Real commits, two treasury processes and more at once."""

    def test_pay_each_withdrawal_once(self, chain, rich, ask, race, balance_of):
        paid_to = [ask(5 * UNITS).address for _ in range(8)]

        for _ in range(4):
            outcomes = race(*[treasury_tick] * 8)
            assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
            chain.mine(FINAL)
        treasury_tick()

        assert set(Withdrawal.objects.values_list("state", flat=True)) == {"settled"}
        assert [chain.balance(address) for address in paid_to] == [5 * UNITS] * 8
        assert balance_of("withdrawing", rich) == 0
        assert told(rich).count("withdrawal.settled") == 8

    def test_that_ignore_each_others_claims_still_pay_once(self, chain, rich, ask, race, monkeypatch, balance_of):
        """The claims only save work: what keeps it to one payment is the rows and the token."""
        monkeypatch.setattr(payouts.leases, "claim", lambda due, limit: list(due.values_list("pk", flat=True)))
        paid_to = [ask(5 * UNITS).address for _ in range(4)]

        for _ in range(5):
            race(*[treasury_tick] * 8)
            chain.mine(FINAL)
        treasury_tick()

        assert set(Withdrawal.objects.values_list("state", flat=True)) == {"settled"}
        assert [chain.balance(address) for address in paid_to] == [5 * UNITS] * 4
        assert balance_of("withdrawing", rich) == 0

    def test_cancel_against_authorize_ends_one_way(self, chain, rich, ask, race, balance_of):
        asked = [ask(5 * UNITS) for _ in range(6)]

        race(payouts.authorize_due, *[lambda one=one: withdrawals.cancel(one.pk, agent=rich) for one in asked])
        run(chain)

        ends = {one.pk: one.state for one in Withdrawal.objects.all()}
        assert set(ends.values()) <= {"settled", "cancelled"}
        for one in asked:
            assert chain.balance(one.address) == (5 * UNITS if ends[one.pk] == "settled" else 0)
        assert balance_of("withdrawing", rich) == 0


class TestRelay:
    def test_the_bytes_stand_in_the_database_before_they_are_sent(self, chain, rich, ask, monkeypatch):
        ask()
        payouts.authorize_due()
        payouts.relay_due()
        known = []

        def send(self, raw):
            known.append(RelayAttempt.objects.filter(raw=raw).exists())

        with monkeypatch.context() as watched:
            watched.setattr(rpc.Node, "send", send)
            relays.push_due()

        assert known == [True]

    def test_an_error_after_the_node_took_it_changes_nothing(self, chain, rich, ask, monkeypatch):
        withdrawal = ask()
        payouts.authorize_due()
        payouts.relay_due()
        send = rpc.Node.send

        def take_and_fail(self, raw):
            send(self, raw)
            raise rpc.NodeUnavailable("connection reset")

        with monkeypatch.context() as broken:
            broken.setattr(rpc.Node, "send", take_and_fail)
            relays.push_due()
        run(chain)

        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert chain.balance(withdrawal.address) == 40 * UNITS
        assert RelayAttempt.objects.filter(relay__withdrawal=withdrawal).count() == 1

    def test_dropped_silently_it_is_sent_again_as_the_same_bytes(self, chain, rich, ask, monkeypatch):
        withdrawal = ask()
        payouts.authorize_due()
        payouts.relay_due()
        with monkeypatch.context() as broken:
            broken.setattr(rpc.Node, "send", lambda self, raw: None)
            relays.push_due()
        [attempt] = RelayAttempt.objects.filter(relay__withdrawal=withdrawal)
        RelayAttempt.objects.update(sent_at=clock.now() - timedelta(seconds=10))

        run(chain)

        withdrawal.refresh_from_db()
        assert (withdrawal.state, withdrawal.tx_hash) == (State.SETTLED, attempt.tx_hash)

    def test_stuck_for_a_minute_it_is_replaced_with_higher_fees(self, chain, rich, ask):
        withdrawal = ask()
        chain.automine(False)
        treasury_tick()
        long_ago = clock.now() - timedelta(seconds=61)
        RelayAttempt.objects.filter(relay__withdrawal=withdrawal).update(signed_at=long_ago, sent_at=long_ago)

        relays.push_due()

        first, second = RelayAttempt.objects.filter(relay__withdrawal=withdrawal).order_by("number")
        assert second.max_fee >= first.max_fee * 1.125
        assert second.priority_fee >= first.priority_fee * 1.125
        chain.automine(True)
        chain.mine()
        run(chain)
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.SETTLED
        assert chain.balance(withdrawal.address) == 40 * UNITS

    def test_at_the_fee_cap_it_is_not_replaced_any_more(self, chain, rich, ask, settings):
        settings.RELAY_MAX_FEE_WEI = 1
        withdrawal = ask()
        chain.automine(False)
        treasury_tick()
        RelayAttempt.objects.update(signed_at=clock.now() - timedelta(seconds=61))

        relays.push_due()

        assert RelayAttempt.objects.filter(relay__withdrawal=withdrawal).count() == 1
        relay = RelayTransaction.objects.get(withdrawal=withdrawal)
        assert alerts.is_sounding("relay_stuck_at_fee_cap", str(relay.pk))

        settings.RELAY_MAX_FEE_WEI = 200 * 10**9
        chain.automine(True)
        run(chain, 2)
        assert not alerts.is_sounding("relay_stuck_at_fee_cap")

    def test_a_replacement_costs_no_more_than_the_cap_whatever_the_node_suggests(
        self, chain, rich, ask, monkeypatch, settings
    ):
        withdrawal = ask()
        chain.automine(False)
        treasury_tick()
        RelayAttempt.objects.update(signed_at=clock.now() - timedelta(seconds=61))
        ask_node = rpc.Node.ask

        def greedy(self, method, *params):
            return hex(10**18) if method == "eth_gasPrice" else ask_node(self, method, *params)

        monkeypatch.setattr(rpc.Node, "ask", greedy)
        relays.push_due()

        second = RelayAttempt.objects.get(relay__withdrawal=withdrawal, number=2)
        assert second.max_fee <= settings.RELAY_MAX_FEE_WEI

    def test_one_that_would_revert_lets_the_others_go_first(self, chain, rich, ask):
        refused, fine = ask(20 * UNITS), ask(20 * UNITS)
        chain.do(chain.usdc, keccak(b"blacklist(address)")[:4] + refused.address.rjust(32, b"\0"))
        payouts.authorize_due()

        for _ in range(2):
            payouts.relay_due(limit=1)

        assert RelayTransaction.objects.get(purpose="withdrawal").withdrawal_id == fine.pk
        assert alerts.is_sounding("payout_would_revert", str(refused.pk))
        assert not alerts.is_sounding("payout_would_revert", str(fine.pk))

    def test_the_alert_of_one_that_would_revert_ends_with_it(self, chain, rich, ask, settings):
        refused = ask(20 * UNITS)
        chain.do(chain.usdc, keccak(b"blacklist(address)")[:4] + refused.address.rjust(32, b"\0"))
        payouts.authorize_due()
        payouts.relay_due()
        assert alerts.is_sounding("payout_would_revert")

        chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
        chain.finalize()
        payouts.settle_due()

        assert not alerts.is_sounding("payout_would_revert")

    def test_one_that_a_stranger_has_submitted_alarms_nobody(self, chain, rich, ask):
        ask(20 * UNITS)
        payouts.authorize_due()
        chain.do(chain.usdc, payouts._signed_call(chain.node, network_of(chain), Authorization.objects.get()))

        assert payouts.relay_due() == 0
        assert not alerts.is_sounding("payout_would_revert")

    def test_a_relayer_whose_key_is_gone_stops_none_of_the_others(self, chain, rich, ask, settings):
        for _ in range(2):
            ask(2 * UNITS)
        payouts.authorize_due()
        payouts.relay_due()
        first, second = RelayTransaction.objects.filter(purpose="withdrawal").order_by("pk")
        assert first.relayer_id != second.relayer_id
        path_of = dict(zip(chain.deployed["relayers"], settings.RELAYER_KEYSTORES, strict=True))
        settings.RELAYER_KEYSTORES = [path_of[second.relayer.address]]

        relays.push_due()

        assert [one.attempts.count() for one in (first, second)] == [0, 1]
        lost = addresses.to_text(first.relayer.address)
        assert alerts.is_sounding("key_refused", lost)
        settings.RELAYER_KEYSTORES = list(path_of.values())
        RelayTransaction.objects.update(lease_until=None)
        run(chain)
        assert not alerts.is_sounding("key_refused", lost)
        assert set(Withdrawal.objects.values_list("state", flat=True)) == {"settled"}

    def test_of_a_lapsed_payout_the_nonce_is_filled(self, chain, rich, ask, settings):
        withdrawal = ask()
        payouts.authorize_due()
        payouts.relay_due()
        chain.pass_time(settings.AUTHORIZATION_SECONDS + 60)
        chain.finalize()
        payouts.settle_due()

        relays.push_due()
        chain.finalize()
        relays.push_due()

        relay = RelayTransaction.objects.get(purpose="withdrawal")
        assert relay.state == "superseded"
        assert relay.attempts.get().filler
        assert chain.balance(withdrawal.address) == 0
        withdrawal.refresh_from_db()
        assert withdrawal.state == State.REFUNDED


class TestSweep:
    def test_gathers_what_has_come_in_and_marks_it(self, chain, alice, bob, pay_in):
        for agent in (alice, bob):
            pay_in(agent, 60 * UNITS)
        chain.finalize()
        scans.scan()

        sweeps.sweep_due()
        run(chain, 1)

        assert chain.balance(chain.treasury) == 120 * UNITS
        assert not Deposit.objects.filter(swept_at=None).exists()
        assert sweeps.sweep_due() is None

    def test_waits_while_little_has_gathered(self, chain, alice, pay_in):
        pay_in(alice, 60 * UNITS)
        scans.scan()

        assert sweeps.sweep_due() is None

    def test_one_is_under_way_at_a_time(self, chain, alice, pay_in):
        pay_in(alice, 160 * UNITS)
        scans.scan()
        assert sweeps.sweep_due() is not None

        assert sweeps.sweep_due() is None

    def test_does_not_look_like_a_deposit(self, chain, rich):
        chain.finalize()
        scans.scan()
        deposits.credit_due()

        assert Deposit.objects.count() == 1
        assert ledger.balance("suspense", "platform") == 0


class TestDatabase:
    @pytest.mark.parametrize("change", [{"value_units": 1}, {"valid_before": 1}, {"receiver": b"\x01" * 20}])
    def test_an_authorization_is_written_once(self, chain, rich, ask, change):
        ask()
        payouts.authorize_due()

        with pytest.raises(IntegrityError), transaction.atomic():
            Authorization.objects.update(**change)
        with pytest.raises(IntegrityError), transaction.atomic():
            Authorization.objects.all()._raw_delete("default")

    def test_an_authorization_for_another_amount_than_asked_is_refused(self, chain, rich, ask):
        withdrawal = ask()
        payouts.authorize_due()
        other = ask(10 * UNITS)
        row = Authorization.objects.get(pk=withdrawal.pk)
        row.pk, row.nonce = other.pk, payouts.nonce_of(other)

        with pytest.raises(IntegrityError), transaction.atomic():
            row.save(force_insert=True)

    @pytest.mark.parametrize("state", ["cancelled", "rejected"])
    def test_an_authorized_withdrawal_cannot_be_called_off(self, chain, rich, ask, state):
        withdrawal = ask()
        payouts.authorize_due()

        with pytest.raises(IntegrityError), transaction.atomic():
            Withdrawal.objects.filter(pk=withdrawal.pk).update(state=state, closed_at=clock.now())

    def test_a_settled_withdrawal_stays_settled(self, chain, rich, ask):
        withdrawal = ask()
        run(chain)

        for change in ({"state": "refunded"}, {"amount_units": 1}, {"address": b"\x01" * 20}):
            with pytest.raises(IntegrityError), transaction.atomic():
                Withdrawal.objects.filter(pk=withdrawal.pk).update(**change)

    def test_a_nonce_is_one_relays(self, chain, rich, ask):
        ask()
        payouts.authorize_due()
        payouts.relay_due()
        relay = RelayTransaction.objects.get(purpose="withdrawal")
        copy = RelayTransaction(
            relayer=relay.relayer, nonce=relay.nonce, purpose="filler", to=b"\x01" * 20, data=b"", gas_limit=1
        )

        with pytest.raises(IntegrityError), transaction.atomic():
            copy.save(force_insert=True)

    def test_signed_bytes_stay(self, chain, rich, ask):
        ask()
        treasury_tick()

        with pytest.raises(IntegrityError), transaction.atomic():
            RelayAttempt.objects.update(raw=b"other")


def network_of(chain):
    from escrow.chain.network import Network

    return Network(chain.chain_id, chain.usdc, chain.factory)


def cancellation(chain, signed: Authorization) -> bytes:
    from escrow.signing import keys

    domain = usdc.domain_separator(chain.node, chain.usdc, chain_id=chain.chain_id)
    digest = usdc.cancellation_digest(authorizer=signed.sender, nonce=signed.nonce, domain=domain)
    word = keys.sign_digest(signed.sender, digest)
    return usdc.cancellation_call(authorizer=signed.sender, nonce=signed.nonce, v=word.v, r=word.r, s=word.s)


def test_deposit_addresses_never_need_gas(chain, rich):
    assert chain.node.gas_balance(deposit_addresses.of(rich).address) == 0


def test_the_treasury_never_needs_gas(chain, rich, ask):
    ask()
    run(chain)

    assert chain.node.gas_balance(chain.treasury) == 0
    assert local.address_of(chain.faucet_key) == chain.faucet


def test_the_address_book_refuses_what_would_go_in_a_circle(chain, rich):
    for address in (bytes(20), chain.usdc, chain.factory, chain.treasury, deposit_addresses.of(rich).address):
        with pytest.raises(address_book.Invalid):
            address_book.refuse_unpayable(address, pointer="/address")
