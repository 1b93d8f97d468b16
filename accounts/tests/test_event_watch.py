from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from django.db import connection

from accounts import alerts, clock
from accounts.events import feed, retention, watch
from accounts.models import Alert
from accounts.tests.test_event_retention import MAY, _months_as_they_were, month, tell_at  # noqa: F401
from accounts.tests.test_feed import names, open_transaction, read_until, tell

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def writing_elsewhere():
    """Write in a transaction of another database of the cluster, for the length of the block."""
    given = connection.get_connection_params()
    place = {name: given[name] for name in ("host", "port", "user", "password") if given.get(name)}
    with psycopg.connect(dbname="postgres", application_name="somebody else", **place) as other:
        other.execute("SELECT pg_current_xact_id()")
        yield other.info.backend_pid
        other.rollback()


class TestLag:
    def test_a_transaction_of_another_database_holds_the_feed(self, alice):
        """Transaction ids are the whole cluster's, and so is the oldest that may still commit."""
        with writing_elsewhere():
            tell(alice, "held")
            held = feed.read(alice.pk, limit=10)

        assert held == []
        assert names(read_until(alice, 1)) == ["held"]

    def test_names_the_transaction_that_holds_the_feed(self, monkeypatch):
        monkeypatch.setattr(watch, "LAG_SECONDS", 0)

        with writing_elsewhere() as pid:
            watch.look()
            [detail] = Alert.objects.filter(kind="events_lag").values_list("detail", flat=True)
            everybody = _who_writes()

        assert pid in everybody
        assert "database" in detail

    def test_counts_only_those_that_write(self, alice):
        with open_transaction(lambda: connection.cursor().execute("SELECT 1")):
            before = _who_writes()
        with open_transaction(lambda: tell(alice, "a")):
            after = _who_writes()

        assert connection.settings_dict["NAME"] not in set(before.values())
        assert connection.settings_dict["NAME"] in set(after.values())

    def test_is_silent_about_transactions_that_are_young(self, monkeypatch):
        alerts.sound("events_lag")
        monkeypatch.setattr(watch, "oldest", lambda: watch.Oldest(60.0, "pid 1"))

        watch.look()
        silent = not alerts.is_sounding("events_lag")
        monkeypatch.setattr(watch, "oldest", lambda: watch.Oldest(60.1, "pid 1"))
        watch.look()

        assert silent
        assert alerts.is_sounding("events_lag")


def _who_writes():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid, datname FROM pg_stat_activity WHERE backend_xid IS NOT NULL")
        return dict(cursor.fetchall())


class TestMonths:
    def test_says_that_rows_are_in_the_rest_partition_until_they_are_not(self, alice):
        tell_at(alice, "rest", month(2029, 1))

        watch.look()
        sounding = alerts.is_sounding("events_unparted")
        retention.make_months(at=clock.now())
        watch.look()

        assert sounding
        assert not alerts.is_sounding("events_unparted")

    def test_says_two_weeks_before_that_a_month_is_missing(self):
        retention.make_months(at=MAY)
        last = month(2031, 8) - timedelta(days=14)

        watch.look(at=last - timedelta(microseconds=1))
        silent = not alerts.is_sounding("events_unparted")
        watch.look(at=last)

        assert silent
        assert alerts.is_sounding("events_unparted")
