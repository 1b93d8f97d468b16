import threading

import pytest
from django.db import OperationalError, connection, transaction

from accounts.edge.retries import ATTEMPTS, retrying
from accounts.errors import Conflict, TryLater
from accounts.models import Agent


def raise_state(state):
    with connection.cursor() as cursor:
        cursor.execute(f"DO $$ BEGIN RAISE 'again' USING ERRCODE = '{state}'; END $$")


class Work:
    """Fails with a SQLSTATE the first few times."""

    def __init__(self, state, failures):
        self.state, self.failures, self.begun = state, failures, 0

    def __call__(self):
        self.begun += 1
        with transaction.atomic():
            if self.begun <= self.failures:
                raise_state(self.state)
        return "done"


@pytest.mark.django_db
class TestRetrying:
    @pytest.mark.parametrize("state", ["40001", "40P01"])
    @pytest.mark.parametrize("failures", [0, 1, 2])
    def test_goes_on_until_it_is_done(self, state, failures):
        work, pauses = Work(state, failures), []

        assert retrying(work, pause=pauses.append) == "done"
        assert work.begun == failures + 1
        assert len(pauses) == failures
        assert all(0 < pause < 0.2 for pause in pauses)

    @pytest.mark.parametrize("state", ["40001", "40P01"])
    def test_gives_up_after_three(self, state):
        work = Work(state, 10)

        with pytest.raises(TryLater):
            retrying(work, pause=lambda seconds: None)
        assert work.begun == ATTEMPTS == 3

    @pytest.mark.parametrize("state", ["55P03", "57014"])
    def test_does_not_wait_twice_for_a_lock(self, state):
        work = Work(state, 10)

        with pytest.raises(TryLater):
            retrying(work)
        assert work.begun == 1

    def test_lets_refusals_and_other_failures_through_at_once(self):
        for state, error in (("57P01", OperationalError), ("22003", Exception)):
            work = Work(state, 10)

            with pytest.raises(error):
                retrying(work)
            assert work.begun == 1

        with pytest.raises(Conflict):
            retrying(lambda: (_ for _ in ()).throw(Conflict()))


@pytest.mark.django_db(transaction=True)
class TestRealDeadlock:
    def test_both_sides_get_through(self, alice, bob, race):
        met = threading.Barrier(2, timeout=10)
        begun = []

        def touch(*handles):
            def work():
                begun.append(handles)
                with transaction.atomic():
                    for position, handle in enumerate(handles):
                        Agent.objects.filter(handle=handle).update(description="touched")
                        if position == 0 and len(begun) <= 2:
                            met.wait()
                return "done"

            return lambda: retrying(work)

        assert race(touch("alice", "bob"), touch("bob", "alice")) == ["done", "done"]
        assert len(begun) == 3, "one of the two was the victim, once"
