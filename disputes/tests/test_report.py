"""The report on moderators, against cases whose figures are reckoned by hand."""

import csv
import io
from datetime import timedelta

import pytest
from django.test import Client

from accounts.models import AuditRecord
from disputes import approvals, arbitration, assignment
from disputes.console import report_figures
from disputes.decisions import Decision
from disputes.tests.conftest import DAY, HOUR, appealed, replaced, ruled

pytestmark = pytest.mark.django_db
WHY = "The reasons do not say which chapters are there."
SELLER = Decision(seller_bps=10_000, bond_to="seller")
CLIENT = Decision(seller_bps=0, bond_to="seller")


@pytest.fixture
def review(noon):
    return noon + HOUR + 2 * DAY


@pytest.fixture
def quarter(case_at, job_at, alice, bob, credit, make_moderator, make_senior, review):
    """
    Five cases that came under review at `review`:

    A, 50 USDC: ann rules 30 % after 10 hours; appealed an hour later, sue replaces it 5 hours after that.
    B, 5 USDC: ann rules for the client after 20 hours.
    C, 150 USDC: ben rules for the seller after 30 hours, which cas returns, and again after 40, which cas approves.
    D, 50 USDC: ben has it and says nothing; the default comes after 72 hours.
    E, 150 USDC: ann rules after 6 hours; nobody says a second word, the default comes.
    """
    ann, ben, cas, sue = make_moderator("ann"), make_moderator("ben"), make_moderator("cas"), make_senior("sue")
    a, b, c, d, e = (case_at("under_review", job=job_at(price=units * 1_000_000)) for units in (50, 5, 150, 50, 150))

    a = assignment.take(a.pk, moderator=ann, at=review + HOUR)
    a = ruled(a, ann, at=review + 10 * HOUR)
    a = appealed(a, bob, at=review + 11 * HOUR)
    replaced(a, sue, at=review + 16 * HOUR, decision=Decision(seller_bps=6_000, bond_to="seller"))

    ruled(b, ann, at=review + 20 * HOUR, decision=CLIENT)

    c = ruled(c, ben, at=review + 30 * HOUR, decision=SELLER)
    c = approvals.send_back(c.pk, approver=cas, revision=c.revision, reason=WHY, at=review + 31 * HOUR)
    c = ruled(c, ben, at=review + 40 * HOUR, decision=SELLER)
    approvals.approve(c.pk, approver=cas, revision=c.revision, at=review + 41 * HOUR)

    assignment.take(d.pk, moderator=ben, at=review + HOUR)
    arbitration.rule_by_default(d.pk, at=review + 72 * HOUR)

    e = ruled(e, ann, at=review + 6 * HOUR)
    arbitration.rule_by_default(e.pk, at=e.deadline_at)


def read(review, *, since=timedelta(0), until=10 * DAY):
    return {figures.name: figures for figures in report_figures.read(review + since, review + until)}


def hours(number):
    return timedelta(hours=number)


@pytest.mark.usefixtures("quarter")
class TestFigures:
    def test_of_each_and_of_all(self, review):
        found = read(review)

        assert list(found) == ["All", "ann", "ben", "sue", "Nobody"]
        assert {name: one.held for name, one in found.items()} == {"All": 5, "ann": 3, "ben": 2, "sue": 1, "Nobody": 0}

    def test_of_the_first_response(self, review):
        found = read(review)

        # ann answered after 6, 10 and 20 hours, ben after 30; who hears an appeal is not the first
        assert [found[name].responses for name in ("ann", "ben", "sue", "All")] == [3, 1, 0, 4]
        assert [found[name].response_median for name in ("ann", "ben", "All")] == [hours(10), hours(30), hours(15)]
        assert [found[name].response_p90 for name in ("ann", "ben", "All")] == [hours(18), hours(30), hours(27)]

    def test_of_rulings(self, review):
        found = read(review)

        # ann 6, 10, 20; ben 30, 40; sue 5 hours after the appeal
        assert [found[name].rulings for name in ("ann", "ben", "sue", "All")] == [3, 2, 1, 6]
        assert [found[name].ruling_median for name in ("ann", "ben", "sue", "All")] == [
            hours(10), hours(35), hours(5), hours(15),
        ]  # fmt: skip
        assert [found[name].ruling_p90 for name in ("ann", "ben", "sue", "All")] == [
            hours(18), hours(39), hours(5), hours(35),
        ]  # fmt: skip

    def test_of_what_was_returned_and_overturned(self, review):
        found = read(review)

        assert [(one.returned, one.decided) for one in found.values()] == [(1, 2), (0, 0), (1, 2), (0, 0), (0, 0)]
        assert [(one.overturned, one.stood) for one in found.values()] == [(1, 4), (1, 2), (0, 1), (0, 1), (0, 0)]
        assert (found["ben"].returned_share, found["ann"].overturned_share) == (0.5, 0.5)
        assert found["ann"].returned_share is None

    def test_of_silence(self, review):
        found = read(review)

        assert {name: one.defaults for name, one in found.items()} == {
            "All": 2, "ann": 0, "ben": 1, "sue": 0, "Nobody": 1,
        }  # fmt: skip

    def test_of_outcomes_by_side_and_price(self, review):
        found = read(review)

        assert found["ann"].outcomes == {("middle", "split"): 1, ("small", "client"): 1}
        assert found["ben"].outcomes == {("large", "seller"): 1}
        assert found["sue"].outcomes == {("middle", "split"): 1}
        assert found["All"].by_side() == [1, 2, 1, 0]
        assert [counts for _, counts in found["All"].by_band()] == [[0, 0, 1, 0], [0, 2, 0, 0], [1, 0, 0, 0]]

    def test_are_of_the_span_alone(self, review):
        found = read(review, since=hours(10), until=hours(20))

        assert list(found) == ["All", "ann", "sue"]
        assert (found["ann"].rulings, found["ann"].ruling_median) == (1, hours(10))
        assert (found["sue"].rulings, found["All"].rulings) == (1, 2)
        assert found["All"].defaults == 0

    def test_take_six_statements_however_many_people_and_cases(self, review, django_assert_num_queries):
        with django_assert_num_queries(6):
            assert len(read(review)) == 5
        with django_assert_num_queries(6):
            assert len(read(review, since=hours(10), until=hours(20))) == 3


class TestPage:
    @pytest.fixture
    def page(self, sign_in, make_senior):
        return sign_in(Client(), make_senior("sigrid"))

    def asked(self, review):
        return {"since": f"{review:%Y-%m-%d}", "until": f"{review + 10 * DAY:%Y-%m-%d}"}

    @pytest.mark.usefixtures("quarter")
    def test_shows_the_figures(self, page, review):
        answer = page.get("/admin/report/", self.asked(review))

        shown = " ".join(answer.content.decode().split())
        assert '<th scope="row">ann</th> <td class="number">3</td>' in shown
        assert '50 % <span class="quiet">1 of 2</span>' in shown
        assert "1 d 6 h" in shown

    def test_shows_the_last_thirty_days_unless_asked(self, page):
        answer = page.get("/admin/report/")

        span = answer.context["span"]
        assert (span.until - span.since).days == 29

    @pytest.mark.parametrize(
        "query",
        [
            {"since": "2026-02-02", "until": "2026-02-01"},
            {"since": "2024-01-01", "until": "2026-01-01"},
            {"since": "yesterday", "until": "2026-01-01"},
            {"since": "2026-01-01"},
            {"since": "0000-00-00", "until": "9999-99-99"},
            {"since": "' OR 1=1 --", "until": "2026-01-01"},
        ],
    )
    def test_says_what_is_wrong_with_the_days(self, page, query):
        answer = page.get("/admin/report/", query)

        assert answer.status_code == 200
        assert answer.context["span"] is None
        assert 'role="alert"' in answer.content.decode()
        assert page.post("/admin/report/export/", query).status_code == 400

    @pytest.mark.parametrize(
        ("group", "status"),
        [("Moderators", 403), ("Senior moderators", 200), ("Auditors", 200), ("Treasurers", 403), ("Operators", 403)],
    )
    def test_is_for_seniors_and_auditors(self, sign_in, make_staff, group, status):
        client = sign_in(Client(), make_staff("pat", group))

        assert client.get("/admin/report/").status_code == status
        exported = client.post("/admin/report/export/", {"since": "2026-01-01", "until": "2026-01-31"})
        assert exported.status_code == status


class TestExport:
    @pytest.fixture
    def page(self, sign_in, make_senior):
        return sign_in(Client(), make_senior("sigrid"))

    def rows(self, page, review):
        answer = page.post("/admin/report/export/", TestPage().asked(review))
        assert answer.status_code == 200
        assert answer["Content-Disposition"].startswith("attachment;")
        return list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))

    @pytest.mark.usefixtures("quarter")
    def test_has_what_the_page_has(self, page, review):
        ann = next(row for row in self.rows(page, review) if row["moderator"] == "ann")

        assert (ann["cases_held"], ann["response_median_seconds"], ann["ruling_p90_seconds"]) == ("3", "36000", "64800")
        assert (ann["stood"], ann["overturned"], ann["split_middle"], ann["client_small"]) == ("2", "1", "1", "1")

    @pytest.mark.parametrize("name", ["@SUM(A1:A9)", "+1", "-1", "=1+1", "\t=1", "\r=1"])
    def test_has_no_cell_that_a_spreadsheet_would_run(self, page, case_at, make_moderator, review, name):
        person = make_moderator("pat")
        type(person).objects.filter(pk=person.pk).update(username=name)
        assignment.take(case_at("under_review").pk, moderator=person, at=review)

        rows = self.rows(page, review)

        assert [row["moderator"] for row in rows] == ["All", f"'{name}"]

    def test_is_audited(self, page, review):
        self.rows(page, review)

        record = AuditRecord.objects.get(action="report.exported")
        assert (record.user.username, record.subject) == ("sigrid", "report:moderators")
        assert record.facts["since"] == f"{review:%Y-%m-%d}"

    def test_goes_by_post_alone(self, page):
        assert page.get("/admin/report/export/").status_code == 405
        assert not AuditRecord.objects.filter(action="report.exported").exists()
