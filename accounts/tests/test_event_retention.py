import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, IntegrityError, InternalError, connection, connections, transaction

from accounts import clock
from accounts.events import feed, log, retention
from accounts.models import Event, EventCounter, WebhookDelivery, WebhookEndpoint
from accounts.tests.test_feed import names, open_transaction, read_until, tell

pytestmark = pytest.mark.django_db(transaction=True)

MAY = datetime(2031, 5, 20, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _months_as_they_were():
    before = retention._there()
    yield
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^accounts_event_[0-9]{4}_[0-9]{2}$'"
        )
        for (name,) in cursor.fetchall():
            if name not in {retention._name(month) for month in before}:
                cursor.execute(f"DROP TABLE {name}")
        for month in before:
            cursor.execute("SELECT accounts_event_month(%s)", [month])


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(retention, "LOCK_TIMEOUTS_MS", (50,))


def month(year, number):
    return datetime(year, number, 1, tzinfo=UTC)


def tell_at(agent, name, recorded_at):
    Event.objects.create(recipient=agent, type="job.proposed", data={"name": name}, recorded_at=recorded_at)


def months():
    return {f"{month:%Y-%m}" for month in retention._there()}


def in_rest():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM accounts_event_rest")
        return cursor.fetchone()[0]


def partition_of(name):
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM accounts_event WHERE data ->> 'name' = %s", [name])
        return cursor.fetchone()[0]


def deliver(agent, recorded_at, **fields):
    endpoint = WebhookEndpoint.objects.create(agent=agent, url="https://receiver.example/")
    return WebhookDelivery.objects.create(
        endpoint=endpoint, event_id=1, event_epoch=1, event_recorded_at=recorded_at, type="job.proposed", **fields
    )


class TestMakeMonths:
    def test_makes_this_month_and_the_next_two(self):
        before = months()

        assert retention.make_months(at=datetime(2031, 12, 31, 23, 59, tzinfo=UTC))

        assert months() - before == {"2031-12", "2032-01", "2032-02"}

    def test_makes_nothing_twice(self, django_assert_num_queries):
        retention.make_months(at=MAY)

        with django_assert_num_queries(2):
            assert retention.make_months(at=MAY)

    def test_a_month_it_made_is_like_the_others(self, alice):
        retention.make_months(at=MAY)
        tell_at(alice, "in may", MAY)

        assert partition_of("in may") == "accounts_event_2031_05"
        assert _shape("accounts_event_2031_05") == _shape(retention._name(retention._first(clock.now())))

    @pytest.mark.parametrize("name", ["in may", "in the rest"])
    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE accounts_event SET data = '{}'",
            "UPDATE accounts_event SET recorded_at = recorded_at - interval '1 month'",
            "DELETE FROM accounts_event",
            "TRUNCATE accounts_event",
        ],
    )
    def test_no_row_of_any_month_is_changed_or_deleted(self, name, change, alice):
        retention.make_months(at=MAY)
        tell_at(alice, "in may", MAY) if name == "in may" else tell_at(alice, name, month(2035, 1))

        with pytest.raises((InternalError, IntegrityError, DatabaseError)), connection.cursor() as cursor:
            cursor.execute(change)

        assert names(read_until(alice, 1)) == [name]

    def test_moves_what_the_rest_partition_took_while_nobody_made_months(self, alice, bob):
        tell_at(alice, "before", clock.now())
        for number, when in enumerate(
            [month(2031, 2), month(2031, 3), month(2031, 4) - timedelta(microseconds=1), MAY]
        ):
            tell_at(alice, number, when)
            tell_at(bob, number, when)
        before = [read_until(agent, count) for agent, count in ((alice, 5), (bob, 4))]
        assert in_rest() == 8

        retention.make_months(at=MAY)

        assert in_rest() == 0
        assert {"2031-02", "2031-03", "2031-05", "2031-06", "2031-07"} <= months()
        assert "2031-04" not in months(), "nothing of it is there, and it is over"
        assert [read_until(agent, count) for agent, count in ((alice, 5), (bob, 4))] == before

    def test_goes_on_where_one_that_was_killed_stopped(self, alice, monkeypatch):
        monkeypatch.setattr(retention, "EVENTS_AT_ONCE", 2)
        ids = list(range(1_000_000, 1_000_007))
        for number in [0, 2, 3, 4, 6]:
            Event.objects.create(
                id=ids[number], recipient=alice, type="job.proposed", data={"name": number}, recorded_at=MAY
            )
        retention._prepare(month(2031, 5))
        for number in [1, 5]:  # drawn before, committed after
            Event.objects.create(
                id=ids[number], recipient=alice, type="job.proposed", data={"name": number}, recorded_at=MAY
            )
        before = read_until(alice, 7)

        retention.make_months(at=MAY)

        assert in_rest() == 0
        assert read_until(alice, 7) == before
        assert Event.objects.count() == 7

    def test_hides_no_event_from_a_reader_while_it_is_moved(self, alice):
        """A cursor that passed a row by would never come back to it."""
        tell(alice, "now")
        expected = None
        seen, done = [], threading.Event()

        def read():
            while not done.is_set():
                seen.append(tuple(names(feed.read(alice.pk, limit=100))))
            connections.close_all()

        for round_ in range(6):
            tell_at(alice, f"{round_}", month(2032 + round_, 1))
        expected = tuple(names(read_until(alice, 7)))
        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for round_ in range(6):
            retention._prepare(month(2032 + round_, 1))
        retention.make_months(at=clock.now())
        done.set()
        for reader in readers:
            reader.join()

        assert in_rest() == 0
        assert len(seen) > 3
        assert set(seen) == {expected}

    def test_leaves_a_table_that_others_hold_and_comes_again(self, alice, impatient):
        before = months()
        with open_transaction(lambda: tell(alice, "writing")):
            assert not retention.make_months(at=MAY)
            tell(alice, "another writer goes on")
        assert months() == before

        assert retention.make_months(at=MAY)
        assert months() > before


def _shape(table):
    """Columns, indexes, constraints and triggers of a table, without its name."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT array_agg(line ORDER BY line) FROM (
                SELECT format('%%s %%s %%s %%s', attname, atttypid::regtype, attnotnull,
                    pg_get_expr(adbin, adrelid)) AS line
                FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
                WHERE attrelid = %(table)s::regclass AND attnum > 0
                UNION ALL SELECT regexp_replace(pg_get_indexdef(indexrelid), '(INDEX )\\S+|ON \\S+', '\\1', 'g')
                FROM pg_index WHERE indrelid = %(table)s::regclass
                UNION ALL SELECT format('%%s %%s', contype, pg_get_constraintdef(oid))
                FROM pg_constraint WHERE conrelid = %(table)s::regclass
                UNION ALL SELECT format('%%s %%s %%s', tgname, tgtype, tgfoid) FROM pg_trigger
                WHERE tgrelid = %(table)s::regclass AND NOT (tgisinternal AND tgconstraint <> 0)
            ) AS lines
            """,
            {"table": table},
        )
        return cursor.fetchone()[0]


class TestDropMonths:
    @pytest.fixture(autouse=True)
    def _kept_for_forty_days(self, settings):
        settings.EVENT_RETENTION_SECONDS = 40 * 86_400
        retention.make_months(at=MAY)

    def test_drops_a_month_as_soon_as_all_of_it_is_too_old(self, alice):
        tell_at(alice, "may", month(2031, 6) - timedelta(microseconds=1))
        tell_at(alice, "june", month(2031, 6))
        end = month(2031, 6) + timedelta(days=40)

        retention.drop_months(at=end - timedelta(microseconds=1))
        still = "2031-05" in months()
        retention.drop_months(at=end)

        assert still
        assert {"2031-05", "2031-06"} & months() == {"2031-06"}
        assert names(read_until(alice, 1)) == ["june"]

    def test_a_cursor_that_is_older_reads_on_from_the_oldest_that_is_kept(self, alice):
        tell_at(alice, "read", MAY)
        tell_at(alice, "missed", MAY)
        tell_at(alice, "kept", month(2031, 6))
        [read, _, kept] = read_until(alice, 3)

        retention.drop_months(at=month(2031, 6) + timedelta(days=40))

        assert feed.read(alice.pk, after=read.cursor, limit=10) == [kept]

    def test_finds_no_event_of_a_month_that_was_dropped(self, alice):
        tell_at(alice, "may", MAY)
        [told] = read_until(alice, 1)
        found = feed.find(told.cursor.id, told.cursor.epoch, MAY)

        retention.drop_months(at=month(2031, 6) + timedelta(days=40))

        assert found == told
        with pytest.raises(feed.Gone):
            feed.find(told.cursor.id, told.cursor.epoch, MAY)

    @pytest.mark.parametrize(
        ("fields", "stays"),
        [({}, True), ({"state": "failed"}, False), ({"state": "delivered", "delivered_at": MAY}, False)],
    )
    def test_keeps_a_month_of_which_a_webhook_still_waits_for_an_event(self, fields, stays, alice):
        deliver(alice, MAY, **fields)

        retention.drop_months(at=MAY + timedelta(days=365))

        assert {"2031-05", "2031-06"} & months() == ({"2031-05"} if stays else set())

    def test_keeps_the_numbers_of_jobs_so_that_none_is_given_twice(self, alice):
        log.record("job.proposed", to=[alice.pk], data={"job_id": "1"}, at=MAY)

        retention.drop_months(at=clock.now() + timedelta(days=365))
        left = Event.objects.count()
        retention.make_months(at=clock.now())
        log.record("job.agreed", to=[alice.pk], data={"job_id": "1"}, at=MAY)

        assert left == 0
        assert EventCounter.objects.get().last == 2
        assert Event.objects.get().data["sequence"] == 2

    def test_leaves_a_table_that_others_hold_and_comes_again(self, alice, impatient):
        with open_transaction(lambda: tell(alice, "writing")):
            retention.drop_months(at=MAY + timedelta(days=365))
            tell(alice, "another writer goes on")
            still = "2031-05" in months()
        retention.drop_months(at=MAY + timedelta(days=365))

        assert still
        assert "2031-05" not in months()


class TestForgetDeliveries:
    @pytest.fixture(autouse=True)
    def _kept_for_ten_days(self, settings, monkeypatch):
        settings.WEBHOOK_DELIVERY_RETENTION_SECONDS = 10 * 86_400
        monkeypatch.setattr(retention, "DELIVERIES_AT_ONCE", 2)

    @pytest.mark.parametrize(
        ("days", "fields", "stays"),
        [
            (11, {"state": "failed"}, False),
            (11, {"state": "delivered", "delivered_at": MAY}, False),
            (9, {"state": "failed"}, True),
            (11, {}, True),
            (11, {"state": "failed", "last_attempt_at": MAY - timedelta(days=11)}, False),
            (11, {"state": "failed", "last_attempt_at": MAY - timedelta(days=9)}, True),
        ],
    )
    def test_forgets_what_ended_longer_ago_than_it_is_kept(self, days, fields, stays, alice):
        delivery = deliver(alice, MAY, created_at=MAY - timedelta(days=days), **fields)

        retention.forget_deliveries(at=MAY)

        assert WebhookDelivery.objects.filter(pk=delivery.pk).exists() == stays

    def test_forgets_more_than_one_batch(self, alice):
        for _ in range(5):
            deliver(alice, MAY, created_at=MAY - timedelta(days=11), state="failed")
        deliver(alice, MAY, created_at=MAY - timedelta(days=12))

        assert retention.forget_deliveries(at=MAY) == 5
        assert WebhookDelivery.objects.get().state == "pending"


class TestKeep:
    @pytest.mark.parametrize("rounds", [4, pytest.param(60, marks=pytest.mark.long)])
    def test_disturbs_none_of_eight_writers(self, rounds, alice, bob, race, settings):
        """Months of the past and the future come and go, the rest partition is emptied, and nobody is refused."""
        written = threading.Event()
        settings.EVENT_RETENTION_SECONDS = 365 * 86_400

        def write(number):
            turn = 0
            while not written.is_set():
                with transaction.atomic():
                    tell(alice, f"{number}.{turn}")
                    tell_at(bob, f"{number}.{turn}", month(2040 + turn % 3, 1 + number))
                turn += 1
            return turn

        def keep():
            try:
                for round_ in range(rounds):
                    retention.make_months(at=month(2020, 1) + timedelta(days=100 * round_))
                    retention.drop_months(at=month(2025, 1) + timedelta(days=10 * round_))
            finally:
                written.set()

        *turns, kept = race(*(lambda number=number: write(number) for number in range(8)), keep)
        retention.make_months(at=clock.now())

        assert kept is None
        expected = {f"{number}.{turn}" for number, count in enumerate(turns) for turn in range(count)}
        assert in_rest() == 0
        for agent in (alice, bob):
            told = Event.objects.filter(recipient=agent).values_list("data__name", flat=True)
            assert len(told) == len(expected)
            assert set(told) == expected
