"""Incidents: by themselves or by a person, one standstill for those that overlap; alerts, audit, and who may not."""

from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import alerts, clock, ids
from accounts.errors import Invalid, NotAllowed, NotFound
from accounts.models import AuditRecord, Event, User
from escrow.models import ScanCursor
from marketplace import deadlines, incidents, stakes, tasks
from marketplace.models import Heartbeat, Incident, Job, Standstill
from marketplace.tests.outages import all_alive, move_all, silence

pytestmark = pytest.mark.django_db

AWAY = timedelta(minutes=10)


@pytest.fixture
def operator(db):
    user = User.objects.create(username="olga", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="declare_incident"))
    return User.objects.get(pk=user.pk)


def standstills():
    return list(Standstill.objects.order_by("number").values_list("started_at", "ended_at"))


class TestAChainThatComesAndGoes:
    def test_stops_the_clocks_for_half_of_the_time_at_most(self, settings):
        longest = timedelta(seconds=settings.INCIDENT_HARD_STOP_SECONDS)
        now = clock.now()
        Standstill.objects.create(number=1, started_at=now - longest * 1.5, ended_at=now - longest * 0.4)
        all_alive()
        silence("chain", AWAY.total_seconds())

        [recorded] = incidents.look()

        assert recorded.ended_at == recorded.started_at
        assert incidents.may_fire()
        assert alerts.is_sounding("incidents_too_long", "chain")
        assert len(standstills()) == 1

    def test_is_an_outage_like_others_before(self, settings):
        longest = timedelta(seconds=settings.INCIDENT_HARD_STOP_SECONDS)
        now = clock.now()
        Standstill.objects.create(number=1, started_at=now - longest * 1.5, ended_at=now - longest * 0.6)
        all_alive()
        silence("chain", AWAY.total_seconds())

        [recorded] = incidents.look()

        assert recorded.ended_at is None
        assert not incidents.may_fire()

    def test_says_nothing_against_parts_of_ours(self, settings):
        longest = timedelta(seconds=settings.INCIDENT_HARD_STOP_SECONDS)
        now = clock.now()
        Standstill.objects.create(number=1, started_at=now - longest * 1.5, ended_at=now - longest * 0.4)
        all_alive()
        silence("worker", AWAY.total_seconds())

        incidents.look()

        assert not incidents.may_fire()


class TestSeen:
    def test_is_one_statement_that_writes_once_a_second(self):
        incidents.seen("beat")
        written = Heartbeat.objects.get(part="beat").at

        with CaptureQueriesContext(connection) as statements:
            incidents.seen("beat")

        assert len(statements) == 1
        assert Heartbeat.objects.get(part="beat").at == written
        incidents.seen("beat", at=written + timedelta(seconds=2))
        assert Heartbeat.objects.get(part="beat").at == written + timedelta(seconds=2)

    def test_never_moves_a_heartbeat_back(self):
        incidents.seen("beat")
        written = Heartbeat.objects.get(part="beat").at

        incidents.seen("beat", at=written - timedelta(seconds=30))

        assert Heartbeat.objects.get(part="beat").at == written

    def test_records_that_the_part_was_away_and_is_back(self):
        silence("beat", AWAY.total_seconds())
        last = Heartbeat.objects.get(part="beat").at

        incidents.seen("beat")

        incident = Incident.objects.get()
        assert (incident.part, incident.started_at) == ("beat", last)
        assert standstills() == [(last, incident.ended_at)]
        assert Heartbeat.objects.get(part="beat").at == incident.ended_at
        assert incidents.may_fire()

    def test_is_patient_for_two_minutes(self):
        silence("beat", 119)

        incidents.seen("beat")

        assert not Incident.objects.exists()


class TestLook:
    def test_opens_an_incident_from_the_last_heartbeat_once(self):
        silence("beat", 300)
        last = Heartbeat.objects.get(part="beat").at

        assert [one.started_at for one in incidents.look()] == [last]
        assert incidents.look() == []
        assert not incidents.may_fire()
        assert incidents.standing_since() == last

    def test_lets_parts_that_are_away_together_share_one_standstill(self):
        silence("beat", 300)
        silence("redis", 200)
        first = Heartbeat.objects.get(part="beat").at
        incidents.look()

        incidents.seen("beat")
        assert incidents.standing_since() == first
        incidents.seen("redis")

        assert incidents.standing_since() is None
        assert Incident.objects.count() == 2
        [(began, ended)] = standstills()
        assert (began, ended) == (first, Incident.objects.get(part="redis").ended_at)

    def test_asks_nothing_of_a_part_that_was_never_seen(self):
        assert incidents.may_fire()

    def test_counts_a_silence_before_anybody_recorded_it(self):
        silence("worker", 121)

        assert incidents.standing_since() == Heartbeat.objects.get().at

    def test_does_not_open_again_what_a_person_ended(self):
        silence("beat", 300)
        [incident] = incidents.look()
        incidents.end(incident.pk)

        assert incidents.look() == []
        assert incidents.may_fire()
        incidents.seen("beat")
        assert Incident.objects.count() == 1
        silence("beat", 300)
        assert not incidents.may_fire()

    def test_ends_what_has_lasted_for_a_week(self, settings):
        silence("beat", settings.INCIDENT_HARD_STOP_SECONDS + 5)
        incidents.look()

        incidents.look()

        assert Incident.objects.get().ended_at is not None
        assert incidents.may_fire()


class TestChain:
    def read(self, seconds_ago):
        ScanCursor.objects.update_or_create(
            chain_id=1,
            defaults={
                "block_number": 1,
                "block_hash": b"\1" * 32,
                "read_at": clock.now() - timedelta(seconds=seconds_ago),
            },
        )

    def test_is_unknown_until_a_head_was_read(self):
        assert incidents.may_fire()
        assert not Heartbeat.objects.exists()

    def test_that_is_stuck_is_an_incident_since_its_last_head(self):
        self.read(1)
        incidents.look()
        assert incidents.may_fire()

        self.read(130)
        Heartbeat.objects.update(at=ScanCursor.objects.get().read_at)
        assert not incidents.may_fire()
        incident = Incident.objects.get()
        assert (incident.part, incident.started_at) == ("chain", ScanCursor.objects.get().read_at)

        self.read(1)
        assert incidents.may_fire()
        assert Incident.objects.get().ended_at is not None
        assert Heartbeat.objects.get().at == ScanCursor.objects.get().read_at

    def test_that_is_stuck_is_not_back_by_a_head_that_scans_still_believe(self, settings):
        settings.INCIDENT_AFTER_SECONDS, settings.CHAIN_HEAD_MAX_AGE_SECONDS = 60, 120
        self.read(90)
        Heartbeat.objects.create(part="chain", at=ScanCursor.objects.get().read_at)

        assert not incidents.may_fire()
        assert not incidents.may_fire()

        assert Incident.objects.get().ended_at is None


class TestStart:
    def test_lets_clocks_stand_still_from_now_on(self, noon):
        incident = incidents.start(reason="The network is down.", at=noon)

        assert incident.started_at == incidents.standing_since() == noon
        assert alerts.is_sounding("incident_open")

    def test_begins_with_the_first_part_that_is_quiet(self):
        all_alive()
        silence("redis", 30)

        assert incidents.start(reason="x").started_at == Heartbeat.objects.get(part="redis").at

    def test_takes_a_late_heartbeat_for_none(self):
        silence("redis", 10)

        incident = incidents.start(reason="x")

        assert incident.started_at > Heartbeat.objects.get().at

    def test_moves_the_standstill_back_to_where_it_began(self, noon):
        incidents.start(reason="x", at=noon)
        incidents.start(reason="y", since=noon - AWAY, at=noon)

        assert standstills() == [(noon - AWAY, None)]

    def test_begins_no_earlier_than_the_last_one_ended(self, noon):
        incidents.end(incidents.start(reason="x", at=noon - AWAY).pk, at=noon)

        later = incidents.start(reason="y", since=noon - AWAY / 2, at=noon + AWAY)

        assert later.started_at == noon
        assert standstills() == [(noon - AWAY, noon), (noon, None)]

    @pytest.mark.parametrize("days", [-1 / 86_400, 7.1])
    def test_refuses_the_future_and_the_far_past(self, noon, days):
        with pytest.raises(Invalid):
            incidents.start(reason="x", since=noon - timedelta(days=days), at=noon)

        assert not Incident.objects.exists()

    @pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
    def test_wants_a_reason(self, reason):
        with pytest.raises(Invalid):
            incidents.start(reason=reason)

    def test_is_audited(self, operator):
        incident = incidents.start(reason="The network is down.", by=operator)
        incidents.end(incident.pk, by=operator, reason="It is back.")

        found = AuditRecord.objects.filter(user=operator).order_by("id")
        assert [(one.action, one.reason) for one in found] == [
            ("incident.start", "The network is down."),
            ("incident.end", "It is back."),
        ]
        assert found[0].subject == f"incident:{incident.pk}"


class TestEnd:
    def test_lets_clocks_run_again_after_the_last_one(self, noon):
        first, second = incidents.start(reason="x", at=noon), incidents.start(reason="y", at=noon + AWAY)

        incidents.end(first.pk, at=noon + 2 * AWAY)
        assert incidents.standing_since() == noon
        assert alerts.is_sounding("incident_open")
        incidents.end(second.pk, at=noon + 3 * AWAY)

        assert standstills() == [(noon, noon + 3 * AWAY)]
        assert not alerts.is_sounding("incident_open")

    def test_forgets_one_that_took_no_time(self, noon):
        incidents.end(incidents.start(reason="x", at=noon).pk, at=noon)

        assert standstills() == []
        assert incidents.may_fire()

    def test_is_refused_twice_and_for_none(self, noon):
        incident = incidents.start(reason="x", at=noon)
        incidents.end(incident.pk, at=noon + AWAY)

        with pytest.raises(incidents.AlreadyEnded):
            incidents.end(incident.pk, at=noon + 2 * AWAY)
        with pytest.raises(NotFound):
            incidents.end(ids.uuid7())


class TestStakes:
    def test_keeps_out_who_may_not(self):
        with pytest.raises(NotAllowed):
            incidents.start(reason="x", by=User.objects.create(username="mo", is_staff=True))

    def test_keeps_out_the_owner_of_a_party(self, trade, operator):
        trade.job("delivered")
        trade.client.owner = operator
        trade.client.save()

        with pytest.raises(incidents.ConflictOfInterest):
            incidents.start(reason="x", by=operator)
        incident = incidents.start(reason="x")
        with pytest.raises(incidents.ConflictOfInterest):
            incidents.end(incident.pk, by=operator)
        assert incidents.open_now() == [incident]

    def test_keeps_out_who_traded_with_a_party(self, trade, operator, carol, credit, noon):
        carol.owner = operator
        carol.save()
        credit(carol, 100_000_000)
        type(trade)(carol, trade.seller, noon).job("completed")
        incidents.end(incidents.start(reason="x", by=operator, at=noon).pk, by=operator, at=noon)
        trade.job("delivered")

        with pytest.raises(incidents.ConflictOfInterest):
            incidents.start(reason="x", by=operator)

    def test_lets_in_whose_agents_have_nothing_open(self, trade, operator):
        trade.client.owner = operator
        trade.client.save()
        trade.job("completed")

        stakes.require_none(operator)

    def test_asks_no_job_where_the_person_has_no_agent(self, trade, operator):
        trade.job("delivered")

        with CaptureQueriesContext(connection) as statements:
            stakes.require_none(operator)

        assert len(statements) == 1


class TestTell:
    def test_tells_every_agent_with_an_open_deadline_once(self, trade, alice, bob, carol):
        trade.job("delivered")
        trade.job("funded")
        incident = incidents.start(reason="The network is down.")

        assert incidents.tell(limit=1) == 1
        assert Incident.objects.get().told_at is None
        while incidents.tell(limit=1):
            pass

        told = Event.objects.filter(type="incident.started")
        assert sorted(one.recipient_id for one in told) == sorted([alice.pk, bob.pk])
        assert told[0].data["incident_id"] == str(incident.pk)
        assert told[0].data["reason"] == "The network is down."
        assert Incident.objects.get().told_at is not None
        assert incidents.tell() == 0

    def test_goes_on_after_the_end(self, trade):
        trade.job("delivered")
        incidents.end(incidents.start(reason="x").pk)

        assert incidents.tell() == 2


class TestTenMinutesAway:
    def test_nothing_fires_early_and_every_deadline_is_later(self, trade):
        """Beat and workers were away; the clock of a job ran out meanwhile."""
        job = trade.now("delivered", review_seconds=3_600)
        over = clock.now() - timedelta(minutes=5)
        Job.objects.filter(pk=job.pk).update(deadline_at=over, review_by=over, deadline_from=over - timedelta(hours=1))
        for part in ("beat", "worker", "redis"):
            silence(part, AWAY.total_seconds())

        assert deadlines.enforce(job.pk) is None
        assert deadlines.enforce_due() == 0
        assert Job.objects.get(pk=job.pk).state == "delivered"
        for part in ("beat", "redis", "worker"):
            incidents.seen(part)
        assert deadlines.enforce_due() == 0
        move_all()

        job = Job.objects.get(pk=job.pk)
        assert job.state == "delivered"
        assert AWAY <= job.deadline_at - over < AWAY + timedelta(minutes=1)
        assert job.deadline_at > clock.now()

    def test_what_was_over_before_fires_once_it_is_over(self, trade):
        job = trade.now("delivered", review_seconds=3_600)
        over = clock.now() - timedelta(minutes=11)
        Job.objects.filter(pk=job.pk).update(deadline_at=over, review_by=over, near_at=None)
        silence("worker", AWAY.total_seconds())

        assert deadlines.enforce_due() == 1

        assert Job.objects.get(pk=job.pk).state == "completed"
        assert Incident.objects.get().ended_at is not None


class TestCommand:
    def run(self, *arguments):
        out = StringIO()
        call_command("incident", *arguments, stdout=out)
        return out.getvalue()

    def test_starts_lists_and_ends(self, trade):
        trade.job("delivered")

        assert "clocks stand still" in self.run("start")
        assert "An outage of the platform." in self.run("list")
        said = self.run("end")

        assert "has ended after" in said
        assert "clocks run" in said
        assert Incident.objects.get().ended_at is not None
        actions = list(AuditRecord.objects.order_by("id").values_list("action", flat=True))
        assert actions == ["command.incident start", "command.incident end"]

    def test_names_who_and_since_when(self, operator):
        said = self.run("start", "--reason", "Down.", "--since", (clock.now() - AWAY).isoformat(), "--by", "olga")

        incident = Incident.objects.get()
        assert str(incident.pk) in said
        assert (incident.reason, incident.declared_by) == ("Down.", operator)
        assert "ended after 60" in self.run("end", str(incident.pk), "--by", "olga")

    def test_says_where_it_was_clamped(self):
        incidents.end(incidents.start(reason="x", since=clock.now() - AWAY).pk)

        said = self.run("start", "--since", (clock.now() - AWAY / 2).isoformat())

        assert "given back already" in said

    def test_says_that_nothing_is_open(self):
        assert "nothing to end" in self.run("end")

    def test_leaves_what_is_away_by_itself_open(self):
        silence("beat", 300)
        incidents.look()

        assert "incident" in self.run("end")
        assert len(incidents.open_now()) == 1

    @pytest.mark.parametrize(
        "arguments", [["start", "--by", "nobody"], ["end", "01a1fe39-6113-77d7-8f26-541e4fb126b7"]]
    )
    def test_refuses_in_words(self, arguments):
        with pytest.raises(CommandError):
            self.run(*arguments)


class TestKeep:
    def test_records_tells_and_moves_whatever_there_is(self, trade):
        before = trade.now("delivered")
        Job.objects.filter(pk=before.pk).update(deadline_from=before.deadline_from - 2 * AWAY)
        silence("beat", AWAY.total_seconds())
        incidents.seen("beat")

        tasks.keep_clock()

        assert Job.objects.get(pk=before.pk).deadline_at >= before.deadline_at + AWAY
        assert Standstill.objects.get().moved_at is not None
        assert Incident.objects.get().told_at is not None
        assert Heartbeat.objects.filter(part="worker").exists()
