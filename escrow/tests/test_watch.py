"""The treasury watch: what it says aloud, what it pauses, and what clears by itself."""

from typing import Any

import pytest

from accounts import alerts, pauses, staff
from accounts.models import Pause, PauseChange, User
from escrow import watch

pytestmark = pytest.mark.django_db


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
    def test_eight_alarms_at_once_pause_once(self, race: Any) -> None:
        outcomes = race(*[lambda: watch.alarm("custody_mismatch", detail="x") for _ in range(10)])

        assert sorted(outcomes) == [False] * 9 + [True]
        assert PauseChange.objects.count() == 1
        assert pauses.is_paused("withdrawals")
