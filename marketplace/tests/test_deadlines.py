from datetime import timedelta

import pytest

from accounts import clock
from accounts.models import Event
from escrow import holds
from escrow.models import Transfer
from marketplace import deadlines, tasks
from marketplace.models import Job, Transition
from marketplace.tests.trades import CLIENT_FUNDS, SELLER_FUNDS, Trade

DUE = {
    "negotiating": "expired",
    "agreed": "expired",
    "funded": "failed",
    "in_progress": "failed",
    "delivered": "completed",
    "revising": "failed",
}
CHEAP = {"price": "1", "seller_bond": "0", "client_abort_fee": "0"}


@pytest.fixture
def long_ago(trade):
    """A trade whose clocks, by the database's own, ran out long ago."""
    return Trade(trade.client, trade.seller, trade.at - timedelta(days=3_650))


@pytest.mark.django_db
class TestEnforce:
    @pytest.mark.parametrize(("state", "outcome"), DUE.items())
    def test_takes_the_step_that_was_announced(self, trade, state, outcome):
        job = trade.job(state)
        announced, effect = job.deadline_action, job.deadline_effect

        done = deadlines.enforce(job.id, at=job.deadline_at)

        step = job.transitions.order_by("revision").last()
        assert (done.state, step.action, step.by) == (outcome, announced, "system")
        assert effect

    @pytest.mark.parametrize("state", DUE)
    def test_takes_nothing_a_moment_early(self, trade, state, money):
        job = trade.job(state)
        before = money(job), Job.objects.values().get(pk=job.pk)

        assert deadlines.enforce(job.id, at=job.deadline_at - timedelta(microseconds=1)) is None

        assert (money(job), Job.objects.values().get(pk=job.pk)) == before

    @pytest.mark.parametrize("state", ["disputed", "completed", "cancelled", "expired", "failed", "resolved"])
    def test_leaves_disputes_and_what_is_over_alone(self, trade, state):
        job = trade.job(state)

        assert deadlines.enforce(job.id, at=trade.later(10**9)) is None

        assert Job.objects.get(pk=job.pk).state == state

    def test_fires_once(self, trade, money):
        job = trade.job("delivered")
        deadlines.enforce(job.id, at=job.deadline_at)
        paid = money(job)

        assert deadlines.enforce(job.id, at=trade.later(10**6)) is None

        assert money(job) == paid


@pytest.mark.django_db
class TestEnforceDue:
    def test_finds_every_job_whose_clock_is_over(self, long_ago):
        several = {state: long_ago.job(state, **CHEAP) for state in DUE}

        count = deadlines.enforce_due()

        assert count == len(DUE)
        assert {state: Job.objects.get(pk=job.pk).state for state, job in several.items()} == DUE

    def test_fires_nothing_early(self, trade):
        several = [trade.now(state, **CHEAP) for state in DUE]

        assert deadlines.enforce_due() == 0

        assert [Job.objects.get(pk=job.pk).state for job in several] == [*DUE]

    def test_skips_disputes(self, long_ago):
        job = long_ago.job("disputed")

        assert deadlines.enforce_due() == 0

        assert Job.objects.get(pk=job.pk).state == "disputed"

    def test_goes_no_further_than_its_limit(self, long_ago):
        for _ in range(3):
            long_ago.job("negotiating")

        assert [deadlines.enforce_due(limit=2) for _ in range(3)] == [2, 1, 0]

    def test_takes_the_oldest_first(self, long_ago):
        newer = long_ago.job("negotiating")
        long_ago.at -= timedelta(days=1)
        older = long_ago.job("negotiating")

        deadlines.enforce_due(limit=1)

        assert Job.objects.get(pk=older.pk).state == "expired"
        assert Job.objects.get(pk=newer.pk).state == "negotiating"

    def test_is_not_stopped_by_one_that_raises(self, long_ago, monkeypatch):
        broken, *fine = [long_ago.job("delivered", **CHEAP) for _ in range(3)]
        close = holds.close

        def fails_for_one(closing, **options):
            if closing.key == broken.hold_key:
                raise RuntimeError("this job's account is on fire")
            return close(closing, **options)

        monkeypatch.setattr(holds, "close", fails_for_one)

        count = deadlines.enforce_due()

        assert count == 2
        assert {Job.objects.get(pk=job.pk).state for job in fine} == {"completed"}
        broken.refresh_from_db()
        assert (broken.state, broken.deadline_failures) == ("delivered", 1)
        assert broken.deadline_retry_at > long_ago.at

    def test_comes_back_to_what_raised(self, long_ago, monkeypatch):
        job = long_ago.job("delivered", **CHEAP)
        with monkeypatch.context() as broken:
            broken.setattr(holds, "close", lambda *_, **__: 1 / 0)
            deadlines.enforce_due()
        assert deadlines.enforce_due() == 0

        Job.objects.filter(pk=job.pk).update(deadline_retry_at=long_ago.at)

        assert deadlines.enforce_due() == 1
        job.refresh_from_db()
        assert (job.state, job.deadline_failures, job.deadline_retry_at) == ("completed", 0, None)

    def test_puts_off_for_an_hour_at_most_what_raises_for_months(self, long_ago, monkeypatch):
        job = long_ago.job("delivered", **CHEAP)
        Job.objects.filter(pk=job.pk).update(deadline_failures=2_000)
        monkeypatch.setattr(holds, "close", lambda *_, **__: 1 / 0)

        deadlines.enforce_due()

        job.refresh_from_db()
        assert job.deadline_failures == 2_001
        assert clock.now() < job.deadline_retry_at < clock.now() + timedelta(seconds=3_601)

    def test_is_what_the_task_does(self, long_ago):
        job = long_ago.job("negotiating")

        tasks.enforce_deadlines()

        assert Job.objects.get(pk=job.pk).state == "expired"


class TestAtOnce:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_eight_sweeps_fire_each_clock_once(self, race, long_ago, money):
        several = [long_ago.job("delivered", **CHEAP) for _ in range(12)]

        counts = race(*[deadlines.enforce_due] * 8)

        assert sum(counts) == 12, counts
        assert Transition.objects.filter(action="auto_approve").count() == 12
        assert Event.objects.filter(type="job.auto_approved").count() == 24
        assert Transfer.objects.filter(reference__endswith=":close").count() == 12
        assert {(job.state, job.deadline_failures) for job in Job.objects.all()} == {("completed", 0)}
        assert money(several[0])["seller"] == SELLER_FUNDS + 12 * 990_000
        assert money(several[0])["client"] == CLIENT_FUNDS - 12 * 1_000_000
