"""The clocks of a case, reckoned again by hand; no row is touched."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from disputes import clocks
from disputes.models import Dispute

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
S = Dispute.State


def case(**given) -> Dispute:
    return Dispute(
        answer_seconds=72 * 3600,
        evidence_seconds=48 * 3600,
        question_seconds=48 * 3600,
        ruling_seconds=72 * 3600,
        approval_seconds=24 * 3600,
        appeal_seconds=48 * 3600,
        appeal_hearing_seconds=72 * 3600,
        hard_stop_at=NOON + 30 * 24 * HOUR,
        **given,
    )


def under_review(at: datetime = NOON) -> Dispute:
    found = case()
    clocks.enter(found, S.UNDER_REVIEW, at)
    return found


class TestStates:
    def test_each_lasts_as_long_as_the_specification_says(self):
        for state, column, hours in [
            (S.AWAITING_ANSWER, "answer_by", 72),
            (S.EVIDENCE, "evidence_by", 48),
            (S.UNDER_REVIEW, "rule_by", 72),
            (S.AWAITING_APPROVAL, "approve_by", 48),
            (S.RULED, "appeal_by", 48),
            (S.APPEALED, "hear_appeal_by", 72),
        ]:
            found = case()

            clocks.enter(found, state, NOON)

            assert found.deadline_at == getattr(found, column) == NOON + hours * HOUR, state

    def test_none_lasts_beyond_the_last_day(self):
        for state in Dispute.LIVE:
            found = case()

            clocks.enter(found, state, found.hard_stop_at - HOUR)

            assert found.deadline_at == found.hard_stop_at, state

    def test_a_closed_one_has_neither_deadline_nor_reminder(self):
        for state in Dispute.CLOSED:
            found = under_review()

            clocks.enter(found, state, NOON + HOUR)

            assert (found.deadline_at, found.remind_at, found.closed_at) == (None, None, NOON + HOUR)


class TestReview:
    def test_reminds_when_half_of_it_is_over(self):
        assert under_review().remind_at == NOON + 36 * HOUR

    def test_reminds_once(self):
        found = under_review()
        found.escalated_at = NOON + 36 * HOUR

        clocks.set_review_clock(found)

        assert found.remind_at is None

    def test_is_not_begun_anew_by_a_ruling_that_was_returned(self):
        found = under_review()
        clocks.enter(found, S.AWAITING_APPROVAL, NOON + 60 * HOUR)

        clocks.enter(found, S.UNDER_REVIEW, NOON + 70 * HOUR)

        assert found.deadline_at == NOON + 72 * HOUR


class TestApproval:
    def test_reminds_of_a_senior_after_half_of_it(self):
        found = under_review()

        clocks.enter(found, S.AWAITING_APPROVAL, NOON + HOUR)

        assert found.remind_at == NOON + 25 * HOUR
        assert found.senior_asked_at is None


class TestQuestions:
    def test_stop_the_clock_until_the_answer(self):
        found = under_review()

        clocks.stop_for_question(found, "seller", at=NOON + 10 * HOUR, answer_by=NOON + 58 * HOUR)
        assert found.deadline_at == NOON + 120 * HOUR  # at the latest
        assert found.remind_at == NOON + 58 * HOUR  # the question's own end
        clocks.end_question(found, "seller", at=NOON + 15 * HOUR)

        assert found.rule_by == found.deadline_at == NOON + 77 * HOUR
        assert found.remind_at == NOON + 41 * HOUR
        assert found.clock_stopped_at is None

    def test_move_no_case_beyond_its_last_day(self):
        found = under_review(NOON + 29 * 24 * HOUR)

        clocks.stop_for_question(found, "client", at=NOON + 29 * 24 * HOUR, answer_by=NOON + 31 * 24 * HOUR)

        assert found.deadline_at == found.hard_stop_at

    def test_another_question_to_the_same_side_keeps_it_stopped(self):
        found = under_review()
        clocks.stop_for_question(found, "client", at=NOON + HOUR, answer_by=NOON + 49 * HOUR)
        clocks.stop_for_question(found, "client", at=NOON + 2 * HOUR, answer_by=NOON + 50 * HOUR)

        clocks.end_question(found, "client", at=NOON + 3 * HOUR, open_until=NOON + 50 * HOUR)

        assert found.clock_stopped_at == NOON + HOUR
        assert found.question_to_client_by == NOON + 50 * HOUR

    @given(
        st.lists(st.tuples(st.integers(0, 71), st.integers(1, 48)), min_size=1, max_size=4),
    )
    def test_give_back_exactly_the_time_in_which_one_was_open(self, asked):
        """Whoever is asked when, the ruling's time is longer by the length of the union of the questions."""
        found = under_review()
        moments = []
        for number, (begins, lasts) in enumerate(asked):
            side = ("client", "seller")[number % 2]
            moments.append((begins, "begin", number, side, begins + lasts))
            moments.append((begins + lasts, "end", number, side, None))
        open_now: dict[int, tuple[str, int]] = {}
        stopped, since = 0, None
        for hour, what, number, side, until in sorted(moments, key=lambda moment: (moment[0], moment[1] == "begin")):
            at = NOON + hour * HOUR
            if what == "begin":
                since = hour if not open_now else since
                open_now[number] = (side, until)
                clocks.stop_for_question(found, side, at=at, answer_by=NOON + until * HOUR)
            else:
                del open_now[number]
                others = [ends for whose, ends in open_now.values() if whose == side]
                clocks.end_question(found, side, at=at, open_until=NOON + max(others) * HOUR if others else None)
                if not open_now:
                    stopped += hour - since

        assert found.rule_by == NOON + (72 + stopped) * HOUR
        assert found.deadline_at == found.rule_by
        assert found.clock_stopped_at is None
