from datetime import timedelta

import pytest

from accounts import clock
from accounts.events import log
from accounts.models import Event
from escrow import holds
from escrow.models import Transfer
from marketplace import deadlines, incidents, tasks
from marketplace.models import Heartbeat, Job, Transition
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


def reminders() -> list[tuple[object, dict]]:
    return list(Event.objects.filter(type="job.deadline_near").order_by("id").values_list("recipient_id", "data"))


class TestRemind:
    pytestmark = pytest.mark.django_db

    def near(self, job) -> None:
        """Let the moment of the reminder be now, and the end of the clock later."""
        Job.objects.filter(pk=job.pk).update(near_at=clock.now())

    def test_tells_both_parties_what_silence_will_do_and_when(self, trade):
        job = trade.now("delivered", **CHEAP)
        self.near(job)

        assert deadlines.enforce_due() == 1

        job.refresh_from_db()
        told = dict(reminders())
        assert told.keys() == {trade.client.pk, trade.seller.pk}
        for data in told.values():
            assert data.pop("sequence") > 1
            assert data == {
                "job_id": str(job.pk),
                "state": "delivered",
                "revision": job.revision,
                "awaiting": "client",
                "deadline": {
                    "at": job.deadline_at.isoformat().replace("+00:00", "Z"),
                    "action": "auto_approve",
                    "effect": job.deadline_effect,
                },
            }

    def test_tells_once_and_changes_nothing_else(self, trade):
        job = trade.now("funded", **CHEAP)
        self.near(job)
        before = Job.objects.filter(pk=job.pk).values().get()

        assert [deadlines.enforce_due() for _ in range(3)] == [1, 0, 0]

        assert len(reminders()) == 2
        after = Job.objects.filter(pk=job.pk).values().get()
        assert after == before | {"near_at": None, "due_at": job.deadline_at}

    @pytest.mark.parametrize("state", DUE)
    def test_tells_when_the_moment_has_come_and_not_before(self, trade, state):
        job = trade.job(state)

        assert deadlines.remind(job.pk, at=job.near_at - timedelta(microseconds=1)) is None
        assert deadlines.remind(job.pk, at=job.near_at).pk == job.pk

    def test_does_not_tell_of_a_clock_that_is_over(self, long_ago):
        job = long_ago.job("funded", **CHEAP)

        assert deadlines.enforce_due() == 1

        job.refresh_from_db()
        assert (job.state, job.near_at, reminders()) == ("failed", None, [])

    def test_tells_of_the_clock_of_a_case(self, trade):
        job = trade.now("disputed", **CHEAP)
        self.near(job)

        assert deadlines.enforce_due() == 1

        job.refresh_from_db()
        [(_, data), _] = reminders()
        assert (data["state"], data["dispute_id"]) == ("disputed", str(job.dispute_id))
        assert data["deadline"]["effect"] == "A moderator decides."
        assert job.near_at is None

    def test_of_a_case_whose_clock_is_over_is_forgotten(self, long_ago):
        job = long_ago.job("disputed", **CHEAP)

        assert deadlines.enforce_due() == 0

        job.refresh_from_db()
        assert (job.state, job.near_at, job.due_at, reminders()) == ("disputed", None, None, [])

    def test_that_raises_is_tried_again_and_its_failures_forgotten(self, trade, monkeypatch):
        job = trade.now("funded", **CHEAP)
        self.near(job)
        with monkeypatch.context() as broken:
            broken.setattr(log, "record", lambda *_, **__: 1 / 0)
            assert deadlines.enforce_due() == 0
        job.refresh_from_db()
        assert (job.deadline_failures, job.near_at is None) == (1, False)

        Job.objects.filter(pk=job.pk).update(deadline_retry_at=clock.now())
        assert deadlines.enforce_due() == 1

        job.refresh_from_db()
        assert (job.deadline_failures, job.deadline_retry_at) == (0, None)


@pytest.mark.django_db
class TestWhileClocksStandStill:
    def test_nothing_fires_and_nobody_is_reminded(self, long_ago, trade):
        due, near = long_ago.job("funded", **CHEAP), trade.now("funded", **CHEAP)
        Job.objects.filter(pk=near.pk).update(near_at=clock.now())
        incident = incidents.start(reason="The data centre is on fire.")

        assert deadlines.enforce_due() == 0
        assert deadlines.enforce(due.pk) is None
        assert deadlines.remind(near.pk) is None

        incidents.end(incident.pk)
        assert deadlines.enforce_due() >= 1
        assert Job.objects.get(pk=due.pk).state == "failed"

    def test_an_outage_is_recorded_before_anything_fires(self, long_ago):
        """Everything was away for ten minutes: nothing fires by the first bell."""
        job = long_ago.job("delivered", **CHEAP)
        for part in ("beat", "worker"):
            Heartbeat.objects.create(part=part, at=clock.now() - timedelta(minutes=10))

        assert deadlines.enforce_due() == 0

        assert Job.objects.get(pk=job.pk).state == "delivered"
        assert [incident.part for incident in incidents.open_now()] == ["beat"]
        incidents.seen("beat")
        assert deadlines.enforce_due() == 1

    def test_an_incident_that_begins_during_a_sweep_stops_it(self, long_ago, monkeypatch):
        """What was asked before the sweep is asked again under the lock of each row."""
        jobs = [long_ago.job("negotiating", **CHEAP) for _ in range(2)]
        may_fire = incidents.may_fire

        def then_something_breaks():
            answer = may_fire()
            incidents.start(reason="The data centre is on fire.")
            return answer

        monkeypatch.setattr(incidents, "may_fire", then_something_breaks)

        assert deadlines.enforce_due() == 0
        assert {Job.objects.get(pk=job.pk).state for job in jobs} == {"negotiating"}


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

    def test_eight_sweeps_remind_once(self, race, trade):
        job = trade.now("funded", **CHEAP)
        Job.objects.filter(pk=job.pk).update(near_at=clock.now())

        assert sum(race(*[deadlines.enforce_due] * 8)) == 1

        assert len(reminders()) == 2
