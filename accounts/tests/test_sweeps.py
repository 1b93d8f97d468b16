"""The shape of every sweep, tried on alerts: rows with a time, a count of failures, and a time of the next try."""

import threading
from datetime import timedelta

import pytest
from celery.signals import worker_shutting_down
from django.db import connection, transaction

from accounts import alerts, clock, sweeps
from accounts.models import Alert

HOUR = timedelta(hours=1)


@pytest.fixture
def make_due():
    def make(count=1, *, ago=HOUR):
        at = clock.now() - ago
        rows = [
            Alert(kind="due", subject=str(number), detail="", since=at, seen_at=at + timedelta(seconds=number))
            for number in range(count)
        ]
        return [row.pk for row in Alert.objects.bulk_create(rows)]

    return make


def end(pk):
    return Alert.objects.filter(pk=pk).update(cleared_at=clock.now(), attempts=0, next_attempt_at=None) or None


def fail(pk):
    end(pk)
    raise RuntimeError("made for this test")


def sweep(act=end, **changes):
    fields = {
        "noun": "row", "table": "accounts_alert", "act": act, "due": "seen_at",
        "where": "kind = 'due' AND cleared_at IS NULL", "failures": "attempts", "retry_at": "next_attempt_at",
    }  # fmt: skip
    return sweeps.Sweep(**fields | changes)


def try_again_now():
    Alert.objects.filter(kind="due").update(next_attempt_at=clock.now())


@pytest.mark.django_db
class TestRun:
    def test_does_the_oldest_first_and_each_once(self, make_due):
        ids, done = make_due(5), []

        assert sweeps.run(sweep(lambda pk: done.append(pk) or end(pk)), limit=9) == 5

        assert done == ids
        assert sweeps.run(sweep(), limit=9) == 0

    def test_leaves_what_is_due_later(self, make_due):
        make_due(ago=-HOUR)

        assert sweeps.run(sweep(), limit=9) == 0

    def test_takes_no_more_than_its_limit(self, make_due):
        make_due(5)

        assert [sweeps.run(sweep(), limit=3) for _ in range(3)] == [3, 2, 0]

    def test_passes_over_where_nothing_was_to_be_done(self, make_due):
        ids, asked = make_due(3), []

        assert sweeps.run(sweep(lambda pk: asked.append(pk) if pk == ids[1] else end(pk)), limit=99) == 2

        assert asked == [ids[1]]

    def test_takes_what_shares_a_moment(self, make_due):
        make_due(40)
        Alert.objects.update(seen_at=clock.now() - HOUR)

        assert sweeps.run(sweep(), limit=99) == 40

    def test_ends_after_its_time(self, make_due, monkeypatch):
        make_due(3)
        monkeypatch.setattr(sweeps, "SECONDS", -1.0)

        assert sweeps.run(sweep(), limit=99) == 0

    def test_ends_where_its_worker_does(self, make_due, monkeypatch):
        make_due(3)

        def told_to_end(pk):
            worker_shutting_down.send(sender="test", sig="SIGTERM", how="Warm", exitcode=0)
            return end(pk)

        try:
            assert sweeps.run(sweep(told_to_end), limit=99) == 1
        finally:
            sweeps._ending[0] = 0
        assert sweeps.run(sweep(), limit=99) == 2

    def test_raises_where_it_cannot_ask_what_is_due(self):
        with pytest.raises(Exception, match="no_such_table"), transaction.atomic():
            sweeps.run(sweep(table="no_such_table"), limit=1)


@pytest.mark.django_db
class TestWhatRaises:
    def test_is_undone_and_stops_nobody(self, make_due):
        bad, *_ = make_due(3)

        assert sweeps.run(sweep(lambda pk: fail(pk) if pk == bad else end(pk)), limit=9) == 2

        assert [row.pk for row in Alert.objects.filter(kind="due", cleared_at=None)] == [bad]

    def test_waits_longer_each_time_and_calls_somebody_the_fifth(self, make_due):
        [pk] = make_due()
        waits = []
        for turn in range(1, 6):
            assert not alerts.is_sounding(sweeps.ALERT)
            assert sweeps.run(sweep(fail), limit=9) == 0
            row = Alert.objects.get(pk=pk)
            assert row.attempts == turn
            waits.append(round((row.next_attempt_at - clock.now()).total_seconds()))
            assert sweeps.run(sweep(), limit=9) == 0
            try_again_now()

        assert waits == [2, 4, 8, 16, 32]
        assert alerts.is_sounding(sweeps.ALERT, f"row:{pk}")

    def test_waits_for_an_hour_at_most(self, make_due):
        [pk] = make_due()
        Alert.objects.filter(pk=pk).update(attempts=2_000)

        sweeps.run(sweep(fail), limit=9)

        assert round((Alert.objects.get(pk=pk).next_attempt_at - clock.now()).total_seconds()) == 3_600

    def test_is_forgotten_once_it_went_through(self, make_due):
        [pk] = make_due()
        Alert.objects.filter(pk=pk).update(attempts=4)
        sweeps.run(sweep(fail), limit=9)
        try_again_now()
        sweeps.run(sweep(), limit=9)

        sweeps.run(sweep(), limit=9)

        assert not alerts.is_sounding(sweeps.ALERT)

    def test_goes_on_sounding_for_others(self, make_due):
        ids = make_due(2)
        Alert.objects.filter(kind="due").update(attempts=4)
        sweeps.run(sweep(fail), limit=9)
        end(ids[0])

        sweeps.clear_alerts(sweep(noun="other"))
        sweeps.clear_alerts(sweep())

        assert [alerts.is_sounding(sweeps.ALERT, f"row:{pk}") for pk in ids] == [False, True]


class TestAtOnce:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_shares_what_is_due(self, race, make_due):
        make_due(64)
        done = []

        counts = race(*[lambda: sweeps.run(sweep(lambda pk: done.append(pk) or end(pk)), limit=99)] * 8)

        assert sum(counts) == 64
        assert len(done) == len(set(done)) == 64

    def test_passes_over_what_somebody_is_at_work_on(self, race, make_due):
        held, *free = make_due(4)
        is_held, may_go = threading.Event(), threading.Event()

        def hold():
            with transaction.atomic():
                Alert.objects.select_for_update(no_key=True).get(pk=held)
                is_held.set()
                may_go.wait(30)

        def go():
            is_held.wait(30)
            try:
                return sweeps.run(sweep(), limit=9)
            finally:
                may_go.set()

        assert race(hold, go)[1] == len(free)
        assert list(Alert.objects.filter(cleared_at=None).values_list("pk", flat=True)) == [held]


@pytest.mark.django_db
def test_finds_what_is_due_by_an_index():
    """With the clock read row by row, every row that is due later would be looked at, too."""
    plan = []

    def explained(execute, sql, params, many, context):
        with connection.connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            plan.extend(line for (line,) in cursor.execute(f"EXPLAIN {sql}", params))
        return execute(sql, params, many, context)

    columns = {"due": "due_at", "failures": "deadline_failures", "retry_at": "deadline_retry_at"}
    with connection.execute_wrapper(explained):
        sweeps.claim(sweep(table="marketplace_job", where="true", **columns))

    assert any("Index Cond: ((due_at <= (InitPlan 1).col1)" in line for line in plan), plan
