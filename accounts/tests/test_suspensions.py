"""Suspension and reinstatement, by staff who may, without a stake, with a reason."""

import pytest
from django.contrib.auth.models import Permission

from accounts import interests, suspensions
from accounts.errors import Invalid, NotAllowed
from accounts.models import Agent, AuditRecord, Event, Suspension, User

pytestmark = pytest.mark.django_db
REASON, LIFTED = "Three reports of fraud.", "The reports turned out to be false."
VERBS = [suspensions.suspend, suspensions.reinstate]


@pytest.fixture
def sue():
    person = User.objects.create_user("sue", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="suspend_agent"))
    return person


class TestSuspend:
    def test_stops_new_business(self, alice, sue, noon):
        suspensions.suspend(alice.pk, by=sue, reason=REASON, at=noon)

        alice.refresh_from_db()
        row = Suspension.objects.get()
        assert alice.status == "suspended"
        assert (row.agent, row.suspended_by, row.reason, row.suspended_at) == (alice, sue, REASON, noon)

    def test_tells_the_agent_that_and_not_why(self, alice, sue, noon):
        suspensions.suspend(alice.pk, by=sue, reason=REASON, at=noon)

        event = Event.objects.get(type="agent.suspended")
        assert event.recipient == alice
        assert "fraud" not in str(event.data)

    def test_is_audited(self, alice, sue, noon):
        suspensions.suspend(alice.pk, by=sue, reason=REASON, at=noon)

        record = AuditRecord.objects.get(action="agent.suspended")
        assert (record.user, record.agent, record.subject) == (sue, alice, f"agent:{alice.pk}")
        assert record.reason == REASON

    def test_leaves_its_tokens_at_work(self, alice, sue, client_for):
        client = client_for(alice)

        suspensions.suspend(alice.pk, by=sue, reason=REASON)

        assert client.get("/me").json()["status"] == "suspended"
        assert client.get("/wallet").status_code == 200

    @pytest.mark.parametrize("status", ["suspended", "leaving", "deactivated"])
    def test_refuses_one_that_is_not_active(self, alice, sue, status):
        Agent.objects.filter(pk=alice.pk).update(status=status)

        with pytest.raises(suspensions.AlreadySuspended):
            suspensions.suspend(alice.pk, by=sue, reason=REASON)


class TestReinstate:
    def test_lets_it_do_business_again(self, alice, sue, noon):
        suspensions.suspend(alice.pk, by=sue, reason=REASON, at=noon)

        suspensions.reinstate(alice.pk, by=sue, reason=LIFTED, at=noon)

        alice.refresh_from_db()
        row = Suspension.objects.get()
        assert alice.status == "active"
        assert (row.lifted_by, row.lift_reason, row.lifted_at) == (sue, LIFTED, noon)
        assert AuditRecord.objects.get(action="agent.reinstated").reason == LIFTED

    def test_can_be_followed_by_another_suspension(self, alice, sue, noon):
        for verb, reason in [(VERBS[0], REASON), (VERBS[1], LIFTED), (VERBS[0], "Now there is a true report.")]:
            verb(alice.pk, by=sue, reason=reason, at=noon)

        assert Suspension.objects.filter(agent=alice, lifted_at=None).count() == 1
        assert Suspension.objects.filter(lifted_by=sue).count() == 1

    def test_refuses_one_that_is_not_suspended(self, alice, sue):
        with pytest.raises(suspensions.NotSuspended):
            suspensions.reinstate(alice.pk, by=sue, reason=LIFTED)


@pytest.mark.parametrize("verb", VERBS)
class TestEither:
    @pytest.fixture(autouse=True)
    def in_place(self, verb, alice):
        status = "active" if verb == suspensions.suspend else "suspended"
        Agent.objects.filter(pk=alice.pk).update(status=status)

    def test_is_for_who_may(self, verb, alice):
        with pytest.raises(NotAllowed):
            verb(alice.pk, by=User.objects.create_user("pat", is_staff=True), reason=REASON)

    @pytest.mark.parametrize("lost", ["is_active", "is_staff"])
    def test_is_for_who_works_here(self, verb, alice, sue, lost):
        setattr(sue, lost, False)

        with pytest.raises(NotAllowed):
            verb(alice.pk, by=sue, reason=REASON)

    def test_is_not_for_its_owner(self, verb, alice, sue):
        Agent.objects.filter(pk=alice.pk).update(owner=sue)

        with pytest.raises(interests.ConflictOfInterest):
            verb(alice.pk, by=sue, reason=REASON)

    def test_is_not_for_a_superuser_who_owns_it(self, verb, alice):
        root = User.objects.create_superuser("root")
        Agent.objects.filter(pk=alice.pk).update(owner=root)

        with pytest.raises(interests.ConflictOfInterest):
            verb(alice.pk, by=root, reason=REASON)

    @pytest.mark.parametrize("reason", ["", "because", "   because of what    ", "x" * 501])
    def test_asks_for_a_reason(self, verb, alice, sue, reason):
        with pytest.raises(Invalid):
            verb(alice.pk, by=sue, reason=reason)
