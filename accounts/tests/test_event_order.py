"""Nothing is passed by and nothing comes twice, whoever commits when."""

import random
import threading
import time
from datetime import UTC, datetime

import pytest
from django.db import connections, transaction

from accounts import clock
from accounts.events import feed, log
from accounts.models import Event, EventEpoch
from accounts.tests.test_feed import names, open_transaction, read_until, tell

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS = 8
# Of this month, of the next, and of none that anybody made.
MOMENTS = [None, None, datetime(2030, 1, 31, 23, 59, 59, tzinfo=UTC), datetime(2030, 2, 1, tzinfo=UTC)]
TYPES = ["job.proposed", "job.agreed", "job.funded"]


def tell_at(agent, name, kind, recorded_at):
    fields = {} if recorded_at is None else {"recorded_at": recorded_at}
    Event.objects.create(recipient=agent, type=kind, data={"name": name}, **fields)


class Reader:
    """Pages through what an agent is told, with pages of any size, from the start until it was told to stop."""

    def __init__(self, agent, *, types=(), seed=0):
        self.agent, self.types, self.chance = agent, types, random.Random(seed)
        self.seen, self.after, self.expected = [], feed.START, None
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        try:
            end = time.monotonic() + 120
            while time.monotonic() < end:
                expected = self.expected
                page = feed.read(self.agent.pk, after=self.after, types=self.types, limit=self.chance.randint(1, 9))
                self.seen += page
                if page:
                    self.after = page[-1].cursor
                elif expected is not None and len(self.seen) >= expected:
                    break
        finally:
            connections.close_all()

    def finish(self, expected):
        self.expected = expected
        self.thread.join()
        return names(self.seen)


class TestCommitOrder:
    @pytest.mark.parametrize(
        ("slow_at", "fast_at", "types"),
        [
            (None, None, []),
            (None, None, ["job.proposed"]),
            (MOMENTS[3], MOMENTS[2], []),
            (None, MOMENTS[2], ["job.proposed"]),
            (MOMENTS[2], None, []),
        ],
    )
    def test_waits_for_one_that_is_open_while_later_ones_commit(self, slow_at, fast_at, types, alice):
        reader = Reader(alice, types=types)

        with open_transaction(lambda: tell_at(alice, "slow", "job.proposed", slow_at)):
            for number in range(20):
                tell_at(alice, number, "job.proposed", fast_at)
                tell_at(alice, "of another type", "job.agreed", fast_at)
            meanwhile = names(reader.seen)

        assert meanwhile == []
        seen = reader.finish(21 if types else 41)
        assert [name for name in seen if name != "of another type"] == ["slow", *range(20)]

    def test_waits_for_one_that_has_written_something_else_so_far(self, alice, bob):
        """Its id comes late, but its place in the order is that of its first row."""
        told, may_tell = threading.Event(), threading.Event()

        def write():
            try:
                with transaction.atomic():
                    tell(bob, "something else")
                    told.set()
                    may_tell.wait(timeout=4)
                    tell(alice, "slow")
            finally:
                connections.close_all()

        writer = threading.Thread(target=write)
        writer.start()
        told.wait(timeout=10)
        tell(alice, "fast")
        held = feed.read(alice.pk, limit=10)
        may_tell.set()
        writer.join()

        assert held == []
        assert names(read_until(alice, 2)) == ["slow", "fast"]

    def test_waits_for_the_open_one_in_a_higher_epoch_as_well(self, alice):
        tell(alice, "before the restore")
        read_until(alice, 1)
        EventEpoch.objects.update_or_create(pk=1, defaults={"number": 2})
        reader = Reader(alice)

        with open_transaction(lambda: tell(alice, "slow")):
            tell(alice, "fast")
            time.sleep(0.05)
            meanwhile = names(reader.seen)
        seen = reader.finish(3)

        assert meanwhile == ["before the restore"]
        assert seen == ["before the restore", "slow", "fast"]

    @pytest.mark.parametrize("rounds", [1, pytest.param(40, marks=pytest.mark.long)])
    def test_every_reader_gets_each_event_once_in_one_order(self, rounds, alice, bob, race):
        """Eight write at random: some events at once, with savepoints, over months, slow or fast, some in vain."""
        for seed in range(rounds):
            told = {alice: {}, bob: {}}
            start = {agent: _end(agent) for agent in told}

            def write(number, seed=seed, told=told):
                chance = random.Random(f"{seed} {number}")
                for turn in range(12):
                    written = []
                    with transaction.atomic():
                        for part in range(chance.randint(1, 4)):
                            agent, kind = chance.choice([alice, bob]), chance.choice(TYPES)
                            name = f"{seed} {number} {turn} {part}"
                            with transaction.atomic():
                                tell_at(agent, name, kind, chance.choice(MOMENTS))
                                in_vain = chance.random() < 0.2
                                transaction.set_rollback(in_vain)
                            if not in_vain:
                                written.append((agent, name, kind))
                            if chance.random() < 0.3:
                                time.sleep(chance.random() * 0.02)
                        in_vain = chance.random() < 0.2
                        transaction.set_rollback(in_vain)
                    if not in_vain:
                        for agent, name, kind in written:
                            told[agent][name] = kind

            readers = [Reader(alice, seed=1), Reader(alice, seed=2), Reader(bob, seed=3)]
            filtering = Reader(alice, types=TYPES[:2], seed=4)
            for reader in (*readers, filtering):
                reader.after = max(reader.after, start[reader.agent])
            outcomes = race(*(lambda number=number: write(number) for number in range(WRITERS)))

            assert outcomes == [None] * WRITERS
            seen = [reader.finish(len(told[reader.agent])) for reader in readers]
            for reader, order in zip(readers, seen, strict=True):
                mine = [name for name in order if name.startswith(f"{seed} ")]
                assert len(mine) == len(set(mine))
                assert set(mine) == set(told[reader.agent])
                cursors = [event.cursor for event in reader.seen]
                assert cursors == sorted(set(cursors))
            assert seen[0] == seen[1]
            some = [name for name in seen[0] if told[alice].get(name) in TYPES[:2]]
            assert [name for name in filtering.finish(len(some)) if name.startswith(f"{seed} ")] == some


def _end(agent):
    cursor = feed.START
    while page := feed.read(agent.pk, after=cursor, limit=100):
        cursor = page[-1].cursor
    return cursor


class TestSequence:
    @pytest.mark.parametrize("rounds", [15, pytest.param(300, marks=pytest.mark.long)])
    def test_numbers_the_events_of_a_job_for_each_recipient_without_a_gap(self, rounds, alice, bob, carol, race):
        """Whoever rolls back leaves no hole, and nobody waits for another in a circle."""
        agents = [alice, bob, carol]

        def write(number):
            chance = random.Random(number)
            for _ in range(rounds):
                with transaction.atomic():
                    to = [agent.pk for agent in chance.sample(agents, chance.randint(1, 3))]
                    log.record("job.proposed", to=to, data={"job_id": chance.choice("ab")}, at=clock.now())
                    transaction.set_rollback(chance.random() < 0.25)

        outcomes = race(*(lambda number=number: write(number) for number in range(WRITERS)))

        assert outcomes == [None] * WRITERS
        for agent in agents:
            for job in "ab":
                told = Event.objects.filter(recipient=agent, data__job_id=job).order_by("id")
                numbers = [event.data["sequence"] for event in told]
                assert len(numbers) > rounds / 2
                assert sorted(numbers) == list(range(1, len(numbers) + 1))

    def test_is_the_order_in_which_they_were_committed(self, alice):
        """Who comes second for a job waits for the first, and gets the next number."""
        with open_transaction(lambda: log.record("job.agreed", to=[alice.pk], data={"job_id": "a"}, at=clock.now())):
            second = threading.Thread(target=_record_and_close, args=(alice,))
            second.start()
            second.join(timeout=0.1)
            waited = second.is_alive()
        second.join()

        assert waited
        told = {event.type: event.data["sequence"] for event in read_until(alice, 2)}
        assert told == {"job.agreed": 1, "job.funded": 2}

    def test_counts_nothing_where_no_job_is_named(self, alice):
        tell(alice, "a")

        assert "sequence" not in Event.objects.get().data


def _record_and_close(agent):
    try:
        log.record("job.funded", to=[agent.pk], data={"job_id": "a"}, at=clock.now())
    finally:
        connections.close_all()
