"""The queue: its order, filters, search and lights, and that ten thousand cases cost no more than ten."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.http import urlencode

from accounts import clock
from accounts.tests.staff import sign_in
from disputes import assignment, questions
from disputes.console import queue
from disputes.models import Dispute
from disputes.tests.conftest import DAY, HOUR
from disputes.tests.many import many

pytestmark = pytest.mark.django_db


@pytest.fixture
def now():
    return clock.now()


@pytest.fixture
def noon(now):
    return now - timedelta(days=3)


@pytest.fixture
def page(moderator) -> Client:
    return sign_in(Client(), moderator)


@pytest.fixture
def found(page):
    """Ask the queue; answers the cases it lists, in order."""

    def found(**query: str) -> list[str]:
        return [str(row.dispute.pk) for row in page.get(f"/admin/cases/?{urlencode(query)}").context["rows"]]

    return found


class TestFilters:
    def test_by_state(self, case_at, job_at, found):
        cases = {state: case_at(state) for state in ("awaiting_answer", "under_review", "ruled", "final", "settled")}

        def of(*states: str) -> list[str]:
            return sorted(str(cases[state].pk) for state in states)

        assert found() == of("under_review")
        assert sorted(found(state="live")) == of("awaiting_answer", "under_review", "ruled")
        assert sorted(found(state="all")) == of(*cases)
        assert found(state="staff") == of("under_review")
        for state in cases:
            assert found(state=state) == of(state)
        assert found(state="mood") == of("under_review")

    def test_by_whose_it_is(self, case_at, found, moderator, make_moderator):
        free, mine, theirs = (case_at("under_review") for _ in range(3))
        max_ = make_moderator("max")
        assignment.take(mine.pk, moderator=moderator)
        assignment.take(theirs.pk, moderator=max_)

        assert found(assigned="me") == [str(mine.pk)]
        assert found(assigned="nobody") == [str(free.pk)]
        assert found(assigned=str(max_.pk)) == [str(theirs.pk)]
        assert len(found(assigned="rubbish")) == 3

    def test_offers_everybody_who_may_have_a_case(self, page, make_moderator, django_user_model):
        make_moderator("max")
        django_user_model.objects.create_user("nora", is_staff=True)
        make_moderator("gone", is_active=False)

        options = dict(page.get("/admin/cases/").context["filters"][1][2])

        assert list(options.values()) == ["Anyone", "Me", "Nobody", "max", "mona"]

    @pytest.mark.parametrize(
        ("days", "age"),
        [(0, "day"), (1, "days"), (2, "days"), (3, "week"), (7, "fortnight"), (14, "older"), (90, "older")],
    )
    def test_by_age(self, case_at, moderator, days, age):
        case = case_at("under_review")
        at = case.created_at + days * DAY + HOUR

        assert [name for name in queue.AGES if queue.rows({"age": name}, user=moderator, at=at)[0]] == [age]

    def test_by_amount_and_reason(self, case_at, job_at, found):
        for price in (9_999_999, 10_000_000, 99_999_999, 100_000_000):
            case_at("under_review", job=job_at(price=price))

        assert [len(found(amount=name)) for name in ("small", "middle", "large")] == [1, 2, 1]
        assert len(found(reason="not_as_agreed")) == 4
        assert found(reason="fraud") == []

    def test_by_light(self, case_at, found, now):
        cases = {light: case_at("under_review") for light in ("calm", "soon", "late")}
        for light, left in (("calm", 40), ("soon", 30), ("late", -1)):
            Dispute.objects.filter(pk=cases[light].pk).update(deadline_at=now + left * HOUR)

        for light, case in cases.items():
            assert found(light=light) == [str(case.pk)]


class TestLights:
    @pytest.mark.parametrize(
        ("state", "left", "light"),
        [
            ("under_review", 37, "calm"),  # of 72 hours
            ("under_review", 35, "soon"),
            ("under_review", 0, "late"),
            ("awaiting_answer", -5, "calm"),  # the party's time, not ours
            ("ruled", 1, "calm"),
        ],
    )
    def test_tell_how_much_of_the_staffs_time_is_used(self, case_at, now, state, left, light):
        case = case_at(state)
        Dispute.objects.filter(pk=case.pk).update(deadline_at=now + left * HOUR)

        case = queue.lit(Dispute.objects.all(), now).get(pk=case.pk)

        assert case.light == light
        assert queue.light_of(case, now) == light

    def test_stand_still_while_a_question_is_open(self, case_at, moderator, now):
        case = case_at("under_review")
        Dispute.objects.filter(pk=case.pk).update(
            entered_review_at=now - 30 * HOUR, rule_by=now + 42 * HOUR, deadline_at=now + 42 * HOUR
        )
        asked_at = now + 5 * HOUR
        questions.ask(
            case.pk, moderator=moderator, to="client", text="Which tables were agreed on?", revision=case.revision,
            at=asked_at,
        )  # fmt: skip

        for later in (0, 20, 40):
            at = asked_at + later * HOUR
            case = queue.lit(Dispute.objects.all(), at).get(pk=case.pk)
            assert (case.light, queue.light_of(case, at)) == ("calm", "calm")


class TestSearch:
    def test_finds_by_id_job_and_handle_whole_or_as_pages_show_them(self, case_at, found, page):
        case, other = case_at("under_review"), case_at("final")

        for text in (str(case.pk), str(case.job_id), str(case.pk)[-6:], f"…{str(case.job_id)[-6:]}", case.pk.hex):
            assert found(q=text) == [str(case.pk)], text
            assert found(q=text.upper()) == [str(case.pk)], text
        assert sorted(found(q="ali")) == sorted(found(q="bob")) == sorted([str(case.pk), str(other.pk)])
        assert found(q="alice", state="final") == [str(other.pk)]

    @pytest.mark.parametrize("text", ["nobody", "%", "_lice", "lice", "\x00", "' OR 1=1 --", "ab", "zz" * 40, "\u202e"])
    def test_finds_nothing_for_what_is_none(self, case_at, found, text):
        case_at("under_review")

        assert found(q=text) == []


class TestPages:
    @pytest.mark.parametrize("state", ["under_review", "live", "staff", "all", "final"])
    def test_follow_each_other_without_gap_or_repetition(self, case_at, moderator, now, state):
        case = case_at("under_review")
        with many(case, 230):
            shown, after = [], ""
            while True:
                rows, after = queue.rows({"state": state, "after": after}, user=moderator, at=now, limit=20)
                shown += [row.dispute for row in rows]
                if after is None:
                    break
            expected = {
                "under_review": Dispute.objects.filter(state="under_review"),
                "live": Dispute.objects.filter(closed_at=None),
                "staff": Dispute.objects.filter(state__in=["under_review", "awaiting_approval", "appealed"]),
                "all": Dispute.objects.all(),
                "final": Dispute.objects.filter(state="final"),
            }[state]
            assert len(shown) == expected.count()
            assert {dispute.pk for dispute in shown} == set(expected.values_list("pk", flat=True))
        if state in ("under_review", "live", "staff"):
            assert [one.deadline_at for one in shown] == sorted(one.deadline_at for one in shown)
        if state == "final":
            assert [one.closed_at for one in shown] == sorted((one.closed_at for one in shown), reverse=True)


QUERIES = [
    {}, {"state": "live"}, {"state": "staff"}, {"state": "all"}, {"state": "final"}, {"assigned": "me"},
    {"assigned": "nobody", "state": "live"}, {"q": "alice"}, {"q": "beef01"}, {"light": "soon", "state": "live"},
    {"state": "live", "age": "week", "amount": "large", "reason": "fraud"},
]  # fmt: skip


class TestTenThousandCases:
    def test_cost_at_most_20_statements_and_read_an_index(self, case_at, page, django_assert_max_num_queries):
        case = case_at("under_review")
        with many(case):
            assert Dispute.objects.count() > 10_000
            for query in QUERIES:
                with django_assert_max_num_queries(20) as asked:
                    assert page.get(f"/admin/cases/?{urlencode(query)}").status_code == 200

                plan = _plan_of(asked)
                assert "Seq Scan on disputes_dispute" not in plan, (query, plan)
            with django_assert_max_num_queries(40):
                assert page.get("/admin/").status_code == 200

    def test_do_not_have_their_statements_counted_by_rows(self, case_at, page):
        case = case_at("under_review")
        counted = []
        for count in (1, 60):
            with many(case, count), CaptureQueriesContext(connection) as asked:
                page.get("/admin/cases/?state=live")
            counted.append(len(asked))

        assert counted[0] == counted[1]


def _plan_of(asked: CaptureQueriesContext) -> str:
    """Explain the statement that reads the page."""
    [statement] = [one["sql"] for one in asked.captured_queries if "LIMIT 51" in one["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement}")
        return "\n".join(line for (line,) in cursor.fetchall())
