"""The audit log as a page: what it shows, to whom, how it is searched, and what is taken away."""

import csv
import io
from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client

from accounts import audit, clock, staff
from accounts.models import AuditLink, AuditRecord, AuditSeal
from accounts.tests.staff import sign_in
from disputes.console import auditlog, spreadsheet

pytestmark = pytest.mark.django_db


@pytest.fixture
def auditor(db):
    staff.prepare_groups()
    return staff.prepare_account("otto", groups=["Auditors"])


@pytest.fixture
def page(auditor) -> Client:
    return sign_in(Client(), auditor)


@pytest.fixture
def tess(auditor):
    return staff.prepare_account("tess", groups=["Treasurers"])


@pytest.fixture
def written(tess, alice, page):
    """Four records: of a person, of an agent, of a command, and one of another day."""
    before = AuditRecord.objects.count()
    audit.record("pause.set", user=tess, subject="pause:withdrawals", before={"a": 1}, after={"a": 2}, reason="theft?")
    audit.record("token.created", agent=alice, subject="token:018f", facts={"prefix": "AbCd1234"})
    audit.command("rescan_deposits", from_block=7)
    audit.record("pause.lifted", user=tess, subject="pause:deposits", at=clock.now() - timedelta(days=9))
    return list(AuditRecord.objects.order_by("id"))[before:]


def shown(page, **query):
    answer = page.get("/admin/audit/", query)
    assert answer.status_code == 200
    return answer.context["rows"]


def actions(page, **query):
    return [row.record.action for row in shown(page, **query)]


class TestWho:
    def test_reads_it_is_said_by_a_permission(self, tess):
        assert sign_in(Client(), tess).get("/admin/audit/").status_code == 403
        assert sign_in(Client(), tess).post("/admin/audit/export/").status_code == 403

    @pytest.mark.parametrize("group", ["Moderators", "Senior moderators", "Operators"])
    def test_reads_it_is_no_moderator_and_no_operator(self, auditor, group):
        other = staff.prepare_account("nora", groups=[group])

        assert sign_in(Client(), other).get("/admin/audit/").status_code == 403

    def test_is_not_signed_in_is_sent_to_the_door(self):
        assert Client().get("/admin/audit/").status_code == 302
        assert Client().post("/admin/audit/export/").status_code == 302

    def test_reads_it_changes_nothing(self, page):
        assert page.post("/admin/audit/").status_code == 405
        assert page.get("/admin/audit/export/").status_code == 405


class TestPage:
    def test_shows_who_did_what_why_and_from_where(self, page, tess):
        come_from = audit.origin.set(("203.0.113.9", "req-77"))
        audit.record("pause.set", user=tess, subject="pause:deposits", before=1, after=2, facts={"a": 7}, reason="odd")
        audit.origin.reset(come_from)

        text = page.get("/admin/audit/").content.decode()

        record = AuditRecord.objects.latest("id")
        for said in ("tess", "pause.set", "pause:deposits", "odd", "203.0.113.9", "req-77", "&quot;a&quot;: 7"):
            assert said in text
        assert bytes(record.before).hex() in text
        assert bytes(record.after).hex() in text

    def test_shows_where_a_record_is_sealed_and_the_head(self, page, written, noon):
        AuditLink.objects.create(
            position=4711, record_id=written[0].pk, record_hash=b"", chain_hash=b"\x07" * 32, sealed_at=noon
        )
        AuditSeal.objects.create(position=4711, chain_hash=b"\x07" * 32, sealed_at=noon)

        text = page.get("/admin/audit/", {"action": "pause.set"}).content.decode()

        assert f"4711:{'07' * 32}" in text
        assert '<td class="number">4711</td>' in text
        assert "not yet" in page.get("/admin/audit/", {"action": "token.created"}).content.decode()

    def test_says_that_nothing_is_sealed_or_found(self, page):
        text = page.get("/admin/audit/", {"action": "no.such"}).content.decode()

        assert "Nothing is sealed yet." in text
        assert "No record matches." in text

    def test_escapes_what_people_wrote_and_makes_the_hidden_visible(self, page, tess):
        audit.record("pause.set", user=tess, reason="<script>alert(1)</script> \u202egnp.exe")

        text = page.get("/admin/audit/").content.decode()

        assert "<script>alert" not in text
        assert "\u202e" not in text

    def test_turns_pages_without_gap_or_repetition(self, page, tess, monkeypatch):
        monkeypatch.setattr(auditlog, "PAGE", 3)
        for number in range(8):
            audit.record("test.page", facts={"number": number})

        seen, address = [], "/admin/audit/?action=test.page"
        while address:
            answer = page.get(address)
            seen += [row.record.facts["number"] for row in answer.context["rows"]]
            address = answer.context["more"] and f"/admin/audit/{answer.context['more']}"

        assert seen == [7, 6, 5, 4, 3, 2, 1, 0]

    def test_costs_no_more_for_more_records(self, page, written, django_assert_num_queries):
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        with CaptureQueriesContext(connection) as few:
            page.get("/admin/audit/")
        for _ in range(30):
            audit.record("test.page", user=written[0].user)
        with CaptureQueriesContext(connection) as many:
            page.get("/admin/audit/")

        assert len(many) == len(few)


class TestFilters:
    def test_by_person(self, page, written, tess):
        assert actions(page, user=tess.pk, action="pause") == ["pause.lifted", "pause.set"]
        assert actions(page, user=uuid4()) == actions(page, user="x") == []

    def test_by_agent_by_handle_or_id(self, page, written, alice):
        assert actions(page, agent="alice") == actions(page, agent=str(alice.pk)) == ["token.created"]
        assert actions(page, agent="nobody-here") == []

    def test_by_action_or_the_noun_it_begins_with(self, page, written):
        assert actions(page, action="pause.set") == ["pause.set"]
        assert actions(page, action="pause") == ["pause.lifted", "pause.set"]
        assert actions(page, action="pau") == []

    def test_by_subject_with_or_without_what_it_is(self, page, written):
        assert actions(page, subject="pause:withdrawals") == actions(page, subject="withdrawals") == ["pause.set"]

    def test_by_days(self, page, written):
        day = written[3].occurred_at.date().isoformat()

        assert actions(page, since=day, until=day) == ["pause.lifted"]
        assert "pause.lifted" not in actions(page, since=clock.now().date().isoformat())

    @pytest.mark.parametrize("query", [{"since": "soon"}, {"before": "x"}, {"before": "9" * 30}, {"user": "²"},
                                       {"agent": "\x00"}, {"until": "9999-12-31"}, {"user": "9" * 30}])  # fmt: skip
    def test_that_make_no_sense_break_nothing(self, page, written, query):
        shown(page, **query)


class TestExport:
    def lines(self, page, **query):
        answer = page.post("/admin/audit/export/", query)
        assert answer.status_code == 200
        assert answer["Content-Disposition"] == 'attachment; filename="audit-log.csv"'
        return list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))

    def test_has_what_was_found(self, page, written):
        [first, second] = self.lines(page, action="pause")

        assert (first["action"], second["action"]) == ("pause.lifted", "pause.set")
        assert (second["who"], second["reason"], second["subject"]) == ("staff: tess", "theft?", "pause:withdrawals")
        assert second["before"] == bytes(written[0].before).hex()
        assert second["position"] == ""

    def test_reads_on_beyond_a_batch(self, page, monkeypatch):
        monkeypatch.setattr(auditlog, "BATCH", 2)
        for number in range(5):
            audit.record("test.page", facts={"number": number})

        assert [line["facts"] for line in self.lines(page, action="test.page")] == [
            f'{{"number": {number}}}' for number in (4, 3, 2, 1, 0)
        ]

    def test_is_written_down_with_its_filters(self, page, auditor, written):
        self.lines(page, action="pause", user="")

        found = AuditRecord.objects.get(action="audit.exported")
        assert (found.user, found.facts) == (auditor, {"filters": {"action": "pause"}})
        assert found.address

    def test_runs_nothing_in_a_spreadsheet(self, page, tess):
        audit.record("test.page", user=tess, reason='=HYPERLINK("http://x","y")')

        assert self.lines(page, action="test.page")[0]["reason"] == '\'=HYPERLINK("http://x","y")'

    @pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", "\r=", "\n="])
    def test_makes_every_beginning_of_a_formula_text(self, begin):
        assert spreadsheet.harmless(f"{begin}1") == f"'{begin}1"
        assert spreadsheet.harmless("1+1=2") == "1+1=2"


def test_a_cell_stays_one_where_columns_end_with_a_semicolon():
    answer = spreadsheet.stream([["ada;=1+1"]], filename="x.csv")

    assert b"".join(answer.streaming_content) == b'"ada;=1+1"\r\n'
