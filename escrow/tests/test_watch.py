"""The treasury watch: what it says aloud, what it pauses, and what clears by itself."""

from datetime import timedelta
from typing import Any

import pytest
from eth_hash.auto import keccak

from accounts import alerts, clock, pauses, staff
from accounts.models import Alert, Pause, PauseChange, User
from escrow import custody, deposits, explanations, payouts, recognition, scans, treasury, watch, withdrawals
from escrow.chain import local, rpc
from escrow.models import Outflow, Relayer, TreasuryReading, WatchState
from escrow.tests.chain import UNITS
from escrow.tests.liar import liar
from escrow.tests.treasury import entry_for, run, treasury_tick

pytestmark = pytest.mark.django_db


def sounding() -> list[tuple[str, str]]:
    return sorted(Alert.objects.filter(cleared_at=None).values_list("kind", "subject"))


def kinds() -> set[str]:
    return {kind for kind, _ in sounding()}


@pytest.fixture
def treasurer(db: None) -> User:
    staff.prepare_groups()
    return staff.prepare_account("tina", groups=["Treasurers"])


class TestAlarm:
    def test_sounds_and_pauses_withdrawals_where_the_setting_names_the_kind(self, settings: Any) -> None:
        settings.TREASURY_PAUSE_ON = ["custody_mismatch"]

        assert watch.alarm("custody_mismatch", "31337", "12 are missing")

        pause = Pause.objects.get(flag="withdrawals")
        assert alerts.is_sounding("custody_mismatch", "31337")
        assert (pause.paused, pause.cause, pause.by) == (True, "custody_mismatch", None)
        assert pause.reason == "custody_mismatch 31337: 12 are missing"

    def test_sounds_alone_where_the_setting_does_not(self, settings: Any) -> None:
        settings.TREASURY_PAUSE_ON = ["custody_mismatch"]

        watch.alarm("relayer_gas_low", "0x01", "empty")

        assert alerts.is_sounding("relayer_gas_low", "0x01")
        assert not Pause.objects.exists()

    def test_the_first_cause_stays(self) -> None:
        watch.alarm("custody_mismatch", detail="first")

        assert watch.alarm("unexplained_outflow", "x", "second")
        assert not watch.alarm("unexplained_outflow", "x", "second")

        assert Pause.objects.get().cause == "custody_mismatch"
        assert PauseChange.objects.count() == 1

    def test_pauses_once_more_what_was_resumed_while_it_goes_on(self, treasurer: Any) -> None:
        watch.alarm("custody_mismatch")
        pauses.resume("withdrawals", by=treasurer, reason="a try")

        watch.alarm("custody_mismatch")

        assert pauses.is_paused("withdrawals")
        assert PauseChange.objects.count() == 3


class TestAlarmRaces:
    def test_alarms_of_many_things_at_once_pause_once(self, race: Any) -> None:
        outcomes = race(*[lambda n=n: watch.alarm("unexplained_outflow", str(n), "x") for n in range(10)])

        assert outcomes == [True] * 10
        assert PauseChange.objects.count() == 1
        assert pauses.is_paused("withdrawals")

    def test_one_alarm_raised_by_many_at_once_is_one(self, race: Any) -> None:
        outcomes = race(*[lambda: watch.alarm("custody_mismatch", detail="x") for _ in range(10)])

        assert sorted(outcomes) == [False] * 9 + [True]
        assert PauseChange.objects.count() == 1


class TestWatch:
    def test_keeps_what_it_read_and_says_nothing_while_all_is_well(self, chain, rich):
        chain.finalize()
        scans.scan()

        reading = watch.watch()

        assert sounding() == []
        assert not pauses.is_paused("withdrawals")
        assert TreasuryReading.objects.get() == reading
        assert (reading.treasury_units, reading.custody_units, reading.difference_units) == (
            100 * UNITS,
            100 * UNITS,
            0,
        )
        assert len(reading.relayers) == 2
        state = WatchState.objects.get(chain_id=chain.chain_id)
        assert (state.failures, state.read_at) == (0, state.tried_at)

    def test_a_mismatch_pauses_payouts_until_a_person_resumes(self, chain, rich, treasurer):
        chain.empty_treasury_of(30 * UNITS)
        chain.finalize()
        scans.scan()

        reading = watch.watch()

        assert reading.difference_units == 30 * UNITS
        assert "custody_mismatch" in kinds()
        assert pauses.is_paused("withdrawals")
        explanations.explain_due()
        recognition.write_off(Outflow.objects.get(explanation="").pk, by=treasurer, reason="the key was stolen")
        watch.watch()
        assert kinds() == {"shortfall"}
        assert pauses.is_paused("withdrawals")

    def test_a_mismatch_that_a_second_reading_does_not_find_is_none(self, chain, rich, monkeypatch):
        right = custody.read()
        wrong = right._replace(custody_units=right.custody_units + 1)
        answers = iter([wrong, right])
        monkeypatch.setattr(custody, "read", lambda: next(answers))

        watch.watch()

        assert sounding() == []
        assert next(answers, None) is None


class TestGas:
    def test_a_relayer_short_of_gas_is_named_until_it_has_some(self, chain, rich, settings):
        settings.RELAYER_GAS_MINIMUM_WEI = 10**30
        watch.watch()
        assert [kind for kind, _ in sounding()] == ["relayer_gas_low"] * 2

        Relayer.objects.filter(pk=Relayer.objects.first().pk).update(retired_at=clock.now())
        watch.watch()
        assert len(sounding()) == 1

        settings.RELAYER_GAS_MINIMUM_WEI = 1
        watch.watch()
        assert sounding() == []
        assert not pauses.is_paused("withdrawals")


class TestTreasuryShort:
    def test_sounds_while_payouts_are_more_than_what_is_within_reach(self, chain, rich, ask, pay_in, bob):
        ask(40 * UNITS)
        chain.empty_treasury_of(70 * UNITS)
        chain.finalize()
        scans.scan()

        watch.watch()
        assert "treasury_short" in kinds()

        pay_in(bob, 20 * UNITS)
        chain.finalize()
        scans.scan()
        deposits.credit_due()
        watch.watch()
        assert "treasury_short" not in kinds()

    def test_counts_what_was_credited_above_the_block(self, chain, bob, pay_in):
        chain.finalize()  # anvil may have forgotten the state of blocks from before it was put back
        scans.scan()
        pay_in(bob, 20 * UNITS)
        chain.mine(5)
        scans.scan()
        deposits.credit_due()
        withdrawals.request(bob, amount_units=15 * UNITS, entry_id=entry_for(bob).pk)

        reading = watch.watch()

        assert (reading.pending_units, reading.treasury_units, reading.unswept_units) == (15 * UNITS, 0, 0)
        assert sounding() == []


class TestOverdue:
    def test_names_what_has_waited_too_long_until_it_is_paid(self, chain, rich, ask, settings):
        settings.PAYOUT_OVERDUE_SECONDS = 600
        withdrawal = ask()
        watch.watch()
        assert sounding() == []

        settings.PAYOUT_OVERDUE_SECONDS = 0
        watch.watch()
        assert sounding() == [("payout_overdue", str(withdrawal.pk))]

        run(chain)
        watch.watch()
        assert sounding() == []

    def test_counts_from_the_signature(self, chain, rich, ask, settings):
        withdrawal = ask()
        payouts.authorize_due()
        settings.PAYOUT_OVERDUE_SECONDS = 0

        watch.watch()

        assert sounding() == [("payout_overdue", str(withdrawal.pk))]

    def test_does_not_count_the_time_people_took_to_approve(self, chain, rich, ask, settings, treasurer):
        settings.PAYOUT_OVERDUE_SECONDS = 0
        withdrawal = ask()
        withdrawal.approvals.create(by=treasurer, revision=1, at=clock.now() + timedelta(minutes=1))

        watch.watch()

        assert sounding() == []


class TestFactory:
    def call(self, chain, signature: bytes, argument: bytes = b"") -> None:
        """Call the factory as its owner, whose key is cold: anvil lets anyone impersonate it."""
        owner = rpc.text(chain.node.call(chain.factory, keccak(b"OWNER()")[:4])[12:])
        chain.node.ask("anvil_impersonateAccount", owner)
        chain.node.ask("anvil_setBalance", owner, hex(local.ETHER))
        data = rpc.text(keccak(signature)[:4] + argument)
        call = {"from": owner, "to": rpc.text(chain.factory), "data": data}
        local.wait_for(chain.node, rpc.raw(chain.node.ask("eth_sendTransaction", call)))

    def propose(self, chain, address: bytes) -> None:
        self.call(chain, b"propose_treasury(address)", bytes(12) + address)

    def test_a_proposed_treasury_that_is_not_ours_pauses_payouts(self, chain, rich):
        self.propose(chain, b"\x66" * 20)

        watch.watch()

        assert sounding() == [("factory_treasury", "0x" + "66" * 20)]
        assert pauses.is_paused("withdrawals")
        self.call(chain, b"withdraw_proposal()")
        watch.watch()
        assert sounding() == []

    def test_a_treasury_that_is_not_ours_is_seen(self, chain, rich):
        self.propose(chain, b"\x66" * 20)
        chain.pass_time(172_801)
        self.call(chain, b"accept_treasury()")

        watch.watch()

        assert ("factory_treasury", "0x" + "66" * 20) in sounding()

    def test_a_proposed_treasury_of_ours_is_fine(self, chain, rich):
        self.propose(chain, b"\x66" * 20)
        treasury.register(b"\x66" * 20, chain_id=chain.chain_id)

        watch.watch()

        assert sounding() == []


class TestOutflows:
    def test_a_payout_of_ours_is_explained_before_it_is_judged(self, chain, rich, ask):
        ask()
        treasury_tick()
        chain.mine()
        scans.scan()
        Outflow.objects.update(seen_at=clock.now() - timedelta(minutes=2))
        assert Outflow.objects.filter(explanation="").exists()

        watch.watch()

        assert not pauses.is_paused("withdrawals")

    def test_what_nobody_explained_in_a_minute_is_alarmed(self, chain, rich, monkeypatch):
        monkeypatch.setattr("escrow.explanations._receipts", lambda node, hashes: dict.fromkeys(hashes))
        chain.empty_treasury_of(30 * UNITS)
        scans.scan()
        outflow = Outflow.objects.get(explanation="")
        watch.watch()
        assert sounding() == []

        Outflow.objects.filter(pk=outflow.pk).update(seen_at=clock.now() - timedelta(minutes=2))
        watch.watch()

        assert sounding() == [("unexplained_outflow", str(outflow.pk))]
        assert pauses.is_paused("withdrawals")


class TestFailures:
    @pytest.fixture
    def proxy(self, chain, rich, settings):
        with liar(chain.url) as proxy:
            settings.CHAIN_RPC_URL = proxy.url
            yield proxy

    @pytest.mark.parametrize("how", ["refuse", "rate_limit", "truncate"])
    def test_three_in_a_row_pause_payouts_and_a_reading_ends_the_alert_alone(self, proxy, how):
        proxy.fault("*", how)
        assert watch.watch() is None
        assert watch.watch() is None
        assert not pauses.is_paused("withdrawals")

        assert watch.watch() is None

        assert sounding() == [("chain_unreadable", "")]
        assert Pause.objects.get().cause == "chain_unreadable"
        proxy.honest()
        assert watch.watch()
        assert sounding() == []
        assert pauses.is_paused("withdrawals")
        assert WatchState.objects.get().failures == 0

    def test_two_and_a_reading_and_two_do_not(self, proxy):
        for _ in range(2):
            proxy.fault("*", "refuse")
            watch.watch()
            watch.watch()
            proxy.honest()
            watch.watch()

        assert not pauses.is_paused("withdrawals")

    def test_a_node_that_lies_is_not_read(self, proxy):
        def other_chain(request: Any, answer: Any) -> Any:
            return {**answer, "result": "0x1"}

        proxy.fault("eth_chainId", other_chain)

        assert watch.watch() is None
        assert WatchState.objects.get().failures == 1
        assert not TreasuryReading.objects.exists()

    def test_a_balance_that_is_no_number_is_no_reading(self, proxy):
        proxy.fault("eth_call", lambda request, answer: {**answer, "result": "0x"})

        assert watch.watch() is None
        assert kinds() == set()

    def test_our_own_mistake_counts(self, chain, rich, monkeypatch):
        monkeypatch.setattr(watch, "judge", lambda *_, **__: 1 / 0)

        for _ in range(3):
            assert watch.watch() is None

        [alert] = Alert.objects.filter(kind="chain_unreadable")
        assert "ZeroDivisionError" in alert.detail
        assert pauses.is_paused("withdrawals")

    def test_of_many_at_once_are_all_counted(self, chain, treasury_rows, settings, race):
        settings.CHAIN_RPC_URL = "http://127.0.0.1:9"

        race(*[watch.watch] * 8)

        assert WatchState.objects.get().failures == 8
        assert PauseChange.objects.count() == 1


class TestLookAfter:
    def test_sounds_while_the_watch_is_silent(self, chain, rich):
        assert watch.look_after()
        watch.watch()
        assert watch.look_after()
        WatchState.objects.update(read_at=clock.now() - timedelta(minutes=6))

        assert not watch.look_after()

        assert sounding() == [("watch_stale", str(chain.chain_id))]
        watch.watch()
        assert watch.look_after()
        assert sounding() == []

    def test_sounds_where_it_never_could_read(self, chain):
        WatchState.objects.create(chain_id=chain.chain_id, tried_at=clock.now() - timedelta(minutes=6))

        assert not watch.look_after()
