"""The sweep: real rows, the database's clock, and nothing else; Redis has no part in it."""

import pytest

from accounts import clock
from disputes import cases, deadlines, questions
from disputes.models import Dispute, DisputeTransition
from disputes.tests.conftest import DAY, HOUR, PROPOSED, appealed, ruled
from marketplace import incidents
from marketplace.models import Job

pytestmark = pytest.mark.django_db


@pytest.fixture
def noon():
    return clock.now() - 5 * DAY


def steps(case: Dispute) -> list[str]:
    return list(DisputeTransition.objects.filter(dispute=case).order_by("revision").values_list("action", flat=True))


def as_if(case: Dispute, **ago) -> None:
    """Let what is due in a case have come due so long ago: no verb waits for days in a test."""
    Dispute.objects.filter(pk=case.pk).update(**{name: clock.now() - span for name, span in ago.items()})


class TestEnforceDue:
    def test_takes_every_due_step_once(self, case_at, job_at):
        for _ in range(3):
            case_at("awaiting_answer", job=job_at())

        assert deadlines.enforce_due() == 3
        assert deadlines.enforce_due() == 0
        assert set(Dispute.objects.values_list("state", flat=True)) == {"under_review"}

    def test_takes_a_silent_case_to_its_end(self, case_at):
        """Nobody does anything: the answer, half of the review, the ruling, the appeal."""
        case = case_at("awaiting_answer")

        assert deadlines.enforce_due() == 1
        as_if(case, remind_at=HOUR)
        assert deadlines.enforce_due() == 1
        as_if(case, deadline_at=HOUR)
        assert deadlines.enforce_due() == 1
        as_if(case, deadline_at=HOUR)
        assert deadlines.enforce_due() == 1

        assert steps(case) == ["open", "go_unanswered", "escalate", "rule_by_default", "finalise"]
        assert Job.objects.get(pk=case.job_id).state == "resolved"
        assert deadlines.enforce_due() == 0

    def test_ends_evidence(self, case_at):
        case = case_at("evidence")

        assert deadlines.enforce_due() == 1
        assert steps(case)[-1] == "close_evidence"

    def test_ends_a_question(self, case_at, moderator):
        case = case_at("under_review")
        questions.ask(
            case.id, moderator=moderator, to="seller", text="What was delivered when?", revision=case.revision,
            at=clock.now() - 2 * DAY - HOUR,
        )  # fmt: skip

        assert deadlines.enforce_due() == 1
        assert steps(case)[-1] == "question_lapses"
        case = Dispute.objects.get(pk=case.pk)
        assert case.clock_stopped_at is None
        assert Job.objects.get(pk=case.job_id).deadline_at == case.deadline_at

    def test_asks_a_senior_and_then_rules_by_default(self, case_at, moderator, senior):
        case = ruled(case_at("under_review"), moderator, at=clock.now() - 25 * HOUR, **PROPOSED)

        assert deadlines.enforce_due() == 1
        assert Dispute.objects.get().approver == senior
        assert deadlines.enforce_due() == 0
        as_if(case, deadline_at=HOUR)
        assert deadlines.enforce_due() == 1

        assert steps(case)[-3:] == ["propose_ruling", "ask_senior", "rule_by_default"]

    def test_carries_out_what_an_appeal_left(self, case_at, moderator, alice):
        case = ruled(case_at("under_review"), moderator, at=clock.now() - 4 * DAY)
        appealed(case, alice, at=clock.now() - 3 * DAY - HOUR)

        assert deadlines.enforce_due() == 1
        assert steps(case)[-1] == "appeal_lapses"

    def test_stops_on_the_last_day(self, case_at, settings):
        settings.DISPUTE_HARD_STOP_SECONDS = 86_400
        case = case_at("awaiting_answer")

        assert deadlines.enforce_due() == 1
        assert steps(case) == ["open", "hard_stop"]

    def test_leaves_what_is_not_due(self, case_at, alice, moderator):
        case = ruled(case_at("under_review"), moderator, at=clock.now() - HOUR)

        assert deadlines.enforce_due() == 0
        assert Dispute.objects.get(pk=case.pk).state == "ruled"

    def test_takes_no_more_than_it_is_asked_to(self, case_at, job_at):
        for _ in range(3):
            case_at("awaiting_answer", job=job_at())

        assert deadlines.enforce_due(limit=2) == 2

    def test_goes_on_after_one_that_raises(self, case_at, job_at, monkeypatch):
        bad, good = case_at("awaiting_answer"), case_at("awaiting_answer", job=job_at())
        show_clock = cases.show_clock

        def sometimes(dispute, **given):
            if dispute.pk == bad.pk:
                raise RuntimeError("made for this test")
            show_clock(dispute, **given)

        monkeypatch.setattr(cases, "show_clock", sometimes)
        assert deadlines.enforce_due() == 1

        bad.refresh_from_db()
        good.refresh_from_db()
        assert (good.state, good.due_attempts) == ("under_review", 0)
        assert (bad.state, bad.due_attempts) == ("awaiting_answer", 1)
        assert bad.due_retry_at is not None
        assert not DisputeTransition.objects.filter(dispute=bad, action="go_unanswered").exists()
        monkeypatch.setattr(cases, "show_clock", show_clock)
        Dispute.objects.filter(pk=bad.pk).update(due_retry_at=None)
        assert deadlines.enforce_due() == 1

    def test_forgets_what_made_a_reminder_stumble(self, case_at, moderator):
        case = case_at("under_review")
        later = clock.now() + 10 * HOUR
        Dispute.objects.filter(pk=case.pk).update(due_attempts=7, due_retry_at=later)

        case = deadlines.enforce(case.pk, at=case.remind_at)

        assert (case.due_attempts, case.due_retry_at) == (0, None)  # the next clock is not late for it

    def test_takes_nothing_while_clocks_stand_still(self, case_at):
        case = case_at("awaiting_answer")
        incident = incidents.start(reason="The data centre is on fire.")

        assert deadlines.enforce_due() == 0
        assert deadlines.enforce(case.pk) is None

        incidents.end(incident.pk)
        assert deadlines.enforce_due() == 1
        assert steps(case)[-1] == "go_unanswered"

    def test_takes_nothing_where_an_incident_begins_meanwhile(self, case_at, monkeypatch):
        case = case_at("awaiting_answer")
        incidents.start(reason="The data centre is on fire.")
        monkeypatch.setattr(incidents, "may_fire", lambda: True)

        assert deadlines.enforce_due() == 0
        assert steps(case) == ["open"]

    def test_is_a_task(self):
        from disputes import tasks

        assert tasks.enforce_deadlines() is None


class TestEnforce:
    def test_leaves_what_is_not_there(self):
        from accounts import ids

        assert deadlines.enforce(ids.uuid7()) is None
