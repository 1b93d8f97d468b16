import threading
import time
from contextlib import contextmanager

import pytest
from django.db import connection, connections, transaction

from accounts import clock, tokens
from accounts.events import feed, log
from accounts.models import Event, EventEpoch
from accounts.tests.http import ApiClient

pytestmark = pytest.mark.django_db(transaction=True)


def tell(agent, name, kind="job.proposed"):
    log.record(kind, to=[agent.pk], data={"name": name}, at=clock.now())


def names(events):
    return [event.data["name"] for event in events]


def read_until(agent, count, *, after=feed.START, seconds=60):
    """Read until `count` events are there: transactions of other databases of the cluster hold the feed back, too."""
    end = time.monotonic() + seconds
    while True:
        events = feed.read(agent.pk, after=after, limit=100)
        if len(events) >= count or time.monotonic() > end:
            return events
        time.sleep(0.02)


@contextmanager
def open_transaction(work):
    """Do the work in a transaction of another connection that stays open for the length of the block."""
    begun, may_end = threading.Event(), threading.Event()

    def run():
        try:
            with transaction.atomic():
                work()
                begun.set()
                may_end.wait(timeout=4)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert begun.wait(timeout=10)
        yield
    finally:
        may_end.set()
        thread.join()


class TestRead:
    def test_reads_what_the_agent_was_told_in_order(self, alice, bob):
        for name in ["a", "b", "c"]:
            tell(alice, name)
        tell(bob, "not for alice")

        events = read_until(alice, 3)

        assert names(events) == ["a", "b", "c"]
        assert [event.cursor for event in events] == sorted(event.cursor for event in events)

    def test_continues_after_a_cursor_without_gap_or_repetition(self, alice):
        for number in range(25):
            tell(alice, number)
        read_until(alice, 25)

        seen, after = [], feed.START
        while page := feed.read(alice.pk, after=after, limit=10):
            seen += names(page)
            after = page[-1].cursor

        assert seen == list(range(25))

    def test_waits_for_a_transaction_that_may_still_add_an_earlier_event(self, alice):
        tell(alice, "before")
        first = read_until(alice, 1)

        with open_transaction(lambda: tell(alice, "slow")):
            tell(alice, "fast")
            assert Event.objects.filter(data__name="fast").exists(), "it is committed"
            meanwhile = [feed.read(alice.pk, after=first[0].cursor, limit=100) for _ in range(5)]
        afterwards = read_until(alice, 2, after=first[0].cursor)

        assert meanwhile == [[]] * 5
        assert names(afterwards) == ["slow", "fast"]

    def test_misses_nothing_when_ids_were_drawn_before_transactions_began_to_write(self, alice):
        """The id is drawn first, the transaction commits last: a cursor over ids alone would pass it by."""
        with open_transaction(lambda: tell(alice, "low id")):
            tell(alice, "high id")
            cursor = feed.START
            for event in feed.read(alice.pk, limit=100):
                cursor = event.cursor
        rest = read_until(alice, 2, after=cursor)

        assert names(rest) == ["low id", "high id"]

    def test_is_complete_for_a_reader_that_polls_while_eight_write(self, alice, race):
        def write(number):
            for turn in range(10):
                with transaction.atomic():
                    tell(alice, f"{number}.{turn}")

        done, seen = threading.Event(), []

        def poll():
            after, end = feed.START, time.monotonic() + 20
            while time.monotonic() < end:
                finished = done.is_set()
                page = feed.read(alice.pk, after=after, limit=7)
                seen.extend(names(page))
                after = page[-1].cursor if page else after
                if finished and len(seen) >= 80:
                    break
            connections.close_all()

        reader = threading.Thread(target=poll)
        reader.start()
        race(*(lambda number=number: write(number) for number in range(8)))
        done.set()
        reader.join()

        assert len(seen) == 80
        assert set(seen) == {f"{number}.{turn}" for number in range(8) for turn in range(10)}

    def test_shows_the_types_that_are_asked_for(self, alice):
        tell(alice, "a", "job.proposed")
        tell(alice, "b", "job.agreed")
        read_until(alice, 2)

        assert names(feed.read(alice.pk, types=["job.agreed", "job.funded"], limit=10)) == ["b"]

    @pytest.mark.parametrize("limit", [1, 2, 100])
    def test_counts_transactions_as_numbers(self, limit, alice):
        """As text 10 would come before 9: a page that ends with it would leave 9 behind for ever."""
        for xid in [100, 9, 10, 1, 99]:
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO accounts_event (xid, recipient_id, type, data) VALUES (%s::text::xid8, %s, 'x', %s)",
                    [xid, alice.pk, f'{{"name": {xid}}}'],
                )

        seen, after = [], feed.START
        while page := feed.read(alice.pk, after=after, limit=limit):
            seen += names(page)
            after = page[-1].cursor

        assert seen == [1, 9, 10, 99, 100]

    def test_goes_on_in_a_higher_epoch_after_a_restore(self, alice):
        """A restored database counts transactions anew: what it wrote before has higher ids than it has now."""
        tell(alice, "before the restore")
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")  # nobody else changes what was told
            cursor.execute("UPDATE accounts_event SET xid = '9000000000000000000'::xid8")
            cursor.execute("SET session_replication_role = DEFAULT")
        EventEpoch.objects.update_or_create(pk=1, defaults={"number": 2})
        tell(alice, "after the restore")

        events = read_until(alice, 2)
        later = feed.read(alice.pk, after=events[0].cursor, limit=10)

        assert names(events) == ["before the restore", "after the restore"]
        assert names(later) == ["after the restore"]

    def test_is_one_statement(self, alice, django_assert_num_queries):
        with django_assert_num_queries(1):
            feed.read(alice.pk, limit=10)


class TestEvents:
    @pytest.fixture
    def client(self, alice):
        return ApiClient(tokens.mint(alice).secret)

    def test_answers_pages_that_can_be_followed(self, alice, client):
        for number in range(3):
            tell(alice, number)
        read_until(alice, 4)

        first = client.get("/events", limit=3).json()
        second = client.get("/events", after=first["next_cursor"]).json()
        third = client.get("/events", after=second["next_cursor"]).json()

        assert [event["type"] for event in first["data"]] == ["token.created", "job.proposed", "job.proposed"]
        assert set(first["data"][0]) == {"id", "cursor", "type", "occurred_at", "data"}
        assert [event["data"] for event in second["data"]] == [{"name": 2}]
        assert third == {"data": [], "next_cursor": None}

    def test_filters_by_type(self, alice, client):
        tell(alice, "a")
        read_until(alice, 2)

        page = client.get("/events", types="job.proposed,job.agreed").json()

        assert [event["data"] for event in page["data"]] == [{"name": "a"}]

    @pytest.mark.parametrize(
        ("query", "pointer"),
        [
            ({"after": "x"}, "/after"),
            ({"after": "1.2"}, "/after"),
            ({"after": "1.99999999999999999999999.1"}, "/after"),
            ({"after": "1.1.1'"}, "/after"),
            ({"limit": "0"}, "/limit"),
            ({"limit": "101"}, "/limit"),
            ({"types": "a," * 51}, "/types"),
        ],
    )
    def test_refuses_malformed_queries(self, client, query, pointer):
        answer = client.get("/events", **query)

        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == pointer

    def test_takes_any_cursor_that_is_well_formed(self, client):
        assert client.get("/events", after="999999999.9999999999999999999.999999999999999999").json()["data"] == []

    def test_needs_the_scope(self, alice):
        client = ApiClient(tokens.mint(alice, scopes=["jobs:read"]).secret)

        assert client.get("/events").json()["code"] == "scope_missing"
