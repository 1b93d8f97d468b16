"""What staff set for one agent, and how it binds."""

import pytest
from django.contrib.auth.models import Permission

from accounts import interests, limits, staff_limits, trust
from accounts.errors import Invalid, NotAllowed
from accounts.models import Agent, AuditRecord, Event, LimitChange, User
from accounts.staff_limits import Limits

pytestmark = pytest.mark.django_db
REASON = "Many refusals in its first week."


@pytest.fixture
def sue():
    person = User.objects.create_user("sue", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="set_limits"))
    return person


class TestSetLimits:
    def test_sets_all_of_them_and_writes_down_why(self, alice, sue, noon):
        wanted = Limits(1, 3, 5_000_000, 12_000_000)

        staff_limits.set_limits(alice.pk, by=sue, **wanted._asdict(), reason=REASON, at=noon)

        change = LimitChange.objects.get()
        assert staff_limits.of(Agent.objects.get(pk=alice.pk)) == wanted
        assert (change.agent, change.by, change.reason, change.at) == (alice, sue, REASON, noon)
        assert Limits(
            change.level_by_staff, change.max_open_jobs, change.max_job_units, change.max_open_units
        ) == wanted  # fmt: skip
        assert AuditRecord.objects.get(action="agent.limits_set").reason == REASON

    def test_gives_back_to_the_trust_level_what_is_not_named(self, alice, sue):
        staff_limits.set_limits(alice.pk, by=sue, max_open_jobs=3, max_job_units=7, reason=REASON)

        staff_limits.set_limits(alice.pk, by=sue, max_job_units=7, reason=REASON)

        assert staff_limits.of(Agent.objects.get(pk=alice.pk)) == Limits(max_job_units=7)

    @pytest.mark.parametrize(("level", "told"), [(0, True), (1, True), (3, False)])
    def test_tells_the_agent_of_another_level_alone(self, alice, sue, settings, level, told):
        settings.OPEN_TRUST_LEVEL = 3

        staff_limits.set_limits(alice.pk, by=sue, level=level, max_open_jobs=2, reason=REASON)

        events = Event.objects.filter(type="agent.level_changed", recipient=alice)
        assert [event.data["trust_level"] for event in events] == ([level] if told else [])

    def test_tells_nobody_of_other_limits(self, alice, sue):
        staff_limits.set_limits(alice.pk, by=sue, max_open_jobs=2, reason=REASON)

        assert not Event.objects.exists()

    def test_is_for_who_may(self, alice):
        with pytest.raises(NotAllowed):
            staff_limits.set_limits(alice.pk, by=User.objects.create_user("pat", is_staff=True), level=1, reason=REASON)

    def test_is_not_for_its_owner(self, alice, sue):
        Agent.objects.filter(pk=alice.pk).update(owner=sue)

        with pytest.raises(interests.ConflictOfInterest):
            staff_limits.set_limits(alice.pk, by=sue, level=3, reason=REASON)

    @pytest.mark.parametrize(
        "given",
        [{"level": 4}, {"level": -1}, {"max_open_jobs": -1}, {"max_job_units": 2**63}, {"max_open_units": -5}],
    )
    def test_refuses_what_is_out_of_range(self, alice, sue, given):
        with pytest.raises(Invalid):
            staff_limits.set_limits(alice.pk, by=sue, **given, reason=REASON)

    def test_asks_for_a_reason(self, alice, sue):
        with pytest.raises(Invalid):
            staff_limits.set_limits(alice.pk, by=sue, level=1, reason="because")

    def test_refuses_what_was_decided_on_other_limits(self, alice, sue):
        staff_limits.set_limits(alice.pk, by=sue, level=1, expected=Limits(), reason=REASON)

        with pytest.raises(staff_limits.LimitsChanged):
            staff_limits.set_limits(alice.pk, by=sue, level=2, expected=Limits(), reason=REASON)

        assert Agent.objects.get(pk=alice.pk).level_by_staff == 1

    def test_twice_is_refused_and_changes_nothing(self, alice, sue):
        staff_limits.set_limits(alice.pk, by=sue, level=1, reason=REASON)

        with pytest.raises(staff_limits.LimitsUnchanged):
            staff_limits.set_limits(alice.pk, by=sue, level=1, reason=REASON)

        assert LimitChange.objects.count() == 1


class TestWhatBinds:
    @pytest.mark.parametrize(("by_staff", "level"), [(None, 2), (0, 0), (3, 3)])
    def test_the_level_that_staff_set_comes_first(self, alice, settings, by_staff, level):
        settings.OPEN_TRUST_LEVEL = 2
        alice.level_by_staff = by_staff

        assert trust.level_of(alice) == level

    @pytest.mark.parametrize(("units", "goes"), [(5_000_000, True), (5_000_001, False)])
    def test_the_value_of_one_job(self, alice, units, goes):
        alice.max_job_units = 5_000_000

        if goes:
            limits.require(alice, value_units=units)
        else:
            with pytest.raises(limits.LimitExceeded) as refusal:
                limits.require(alice, value_units=units)
            assert refusal.value.members["limit"] == "job_value"

    def test_is_shown_to_the_agent(self, alice, sue, client_for):
        client = client_for(alice)

        staff_limits.set_limits(
            alice.pk,
            by=sue,
            level=2,
            max_open_jobs=3,
            max_job_units=5_000_000,
            max_open_units=12_000_000,
            reason=REASON,
        )

        body = client.get("/me/limits").json()
        assert body["trust_level"] == 2
        assert body["limits"] == {"open_jobs": 3, "job_value": "5.000000", "open_value": "12.000000"}
