import pytest

from accounts import alerts
from accounts.models import Alert

pytestmark = pytest.mark.django_db


class TestSound:
    def test_says_it_once_however_often_it_happens(self):
        first = alerts.sound("gas_low", "0xabc", detail="little")
        second = alerts.sound("gas_low", "0xabc", detail="less")

        assert (first, second) == (True, False)
        assert Alert.objects.get().detail == "less"

    def test_keeps_subjects_apart(self):
        alerts.sound("gas_low", "0xabc")
        alerts.sound("gas_low", "0xdef")

        assert Alert.objects.count() == 2

    def test_begins_anew_after_it_was_over(self):
        alerts.sound("gas_low")
        alerts.clear("gas_low")

        assert alerts.sound("gas_low")
        assert Alert.objects.filter(cleared_at=None).count() == 1
        assert Alert.objects.count() == 2

    def test_is_one_row_for_many_at_once(self, race):
        outcomes = race(*[lambda: alerts.sound("gas_low", "0xabc")] * 8)

        assert sorted(outcomes) == [False] * 7 + [True]


class TestClear:
    def test_ends_what_is_open(self):
        alerts.sound("gas_low", "0xabc")

        assert alerts.clear("gas_low", "0xabc")
        assert not alerts.is_sounding("gas_low")

    def test_answers_false_when_nothing_was_wrong(self):
        assert not alerts.clear("gas_low")

    def test_others_end_and_those_that_still_have_it_stay(self):
        alerts.sound("gas_low", "0xabc")
        alerts.sound("gas_low", "0xdef")

        alerts.clear_others("gas_low", still=["0xdef"])

        assert not alerts.is_sounding("gas_low", "0xabc")
        assert alerts.is_sounding("gas_low", "0xdef")
