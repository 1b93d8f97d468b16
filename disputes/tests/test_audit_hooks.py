"""Every page of the console that acts on a case or an agent, or hands something out, leaves a record of who did it."""

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from accounts import clock, suspensions
from accounts.models import AuditRecord
from accounts.tests.staff import sign_in
from disputes import assignment
from disputes.console import agents, auditlog, precedents, report, urls
from disputes.tests.conftest import REASONS

pytestmark = pytest.mark.django_db
REASON = "Long enough a reason for whatever it is."
READING = {
    "cases", "case", "case_preview", "case_ruling", "agents", "agent", "report", "precedents", "audit_log",
    "case_picture",
    # they hand something out, and leave a record of that: test_console, test_evidence, test_packs
    "case_item", "case_delivery", "case_pack",
}  # fmt: skip
RULING = {
    "seller_bps": "3000", "bond": "seller", "deposit": "back", "reason_codes": ["not_as_agreed"], "reasons": REASONS,
    "private_notes": "",
}  # fmt: skip
# the page of a verb → state of the case, what is typed, the record it leaves
CASES = {
    "case_next": ("under_review", {}, "dispute.take"),
    "case_take": ("under_review", {}, "dispute.take"),
    "case_recuse": ("mine", {"reason": REASON}, "dispute.recuse"),
    "case_reassign": ("mine", {"reason": REASON, "to": "colleague"}, "dispute.reassign"),
    "case_question": ("mine", {"to": "client", "text": "Which of the chapters are missing, please?"}, "dispute.ask"),
    "case_confirm": ("mine", RULING, "dispute.rule"),
    "case_approve": ("awaiting_approval", {"reason": REASON}, "dispute.approve"),
    "case_send_back": ("awaiting_approval", {"reason": REASON}, "dispute.return"),
    "case_uphold": ("appealed", {"reasons": REASONS, "private_notes": ""}, "dispute.uphold"),
}
AGENTS = {
    "agent_suspend": (False, {}, "agent.suspend"),
    "agent_reinstate": (True, {}, "agent.reinstate"),
    "agent_limits": (False, {"max_open_jobs": "3"}, "agent.limits_set"),
}
EXPORTS = {"report_export": "report.exported", "audit_export": "audit.exported"}


@pytest.fixture
def noon():
    return clock.now() - timedelta(days=4)


@pytest.fixture
def ada(make_staff):
    return make_staff("ada", "Senior moderators", "Auditors", is_superuser=True)


@pytest.fixture
def page(ada):
    return sign_in(Client(), ada)


@pytest.fixture
def given(case_at, ada):
    def given(state):
        if state != "mine":
            return case_at(state)
        return assignment.take(case_at("under_review").pk, moderator=ada)

    return given


def hidden(page, url):
    """What the page that asks sends back unseen."""
    shown = page.get(url).content.decode()
    return dict(re.findall(r'<input type="hidden" name="(key|revision|seen)" value="([^"]*)"', shown))


def records_by(user, action):
    return AuditRecord.objects.filter(user=user, action__startswith=action)


def test_every_page_is_here():
    pages = {url.name for module in (urls, agents, auditlog, precedents, report) for url in module.under(lambda v: v)}

    assert pages - READING == {*CASES, *AGENTS, *EXPORTS}


@pytest.mark.parametrize("name", CASES)
def test_a_step_of_a_case_leaves_a_record(name, page, ada, given, make_moderator):
    state, typed, action = CASES[name]
    case = given(state)
    if "colleague" in typed.values():
        typed = typed | {"to": str(make_moderator("carl").pk)}
    before = records_by(ada, action).count()
    url = reverse(f"admin:{name}", args=[] if name == "case_next" else [case.pk])
    case.refresh_from_db()
    asked = {"key": str(uuid4()), "revision": case.revision} if name == "case_confirm" else hidden(page, url)

    answer = page.post(url, asked | typed)

    assert answer.status_code == 302, re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))
    found = records_by(ada, action)
    assert found.count() == before + 1
    record = found.latest("id")
    assert record.subject == f"dispute:{case.pk}"
    assert record.address == "127.0.0.1"
    assert None not in (record.before, record.after)
    if "reason" in typed:
        assert record.reason == REASON


@pytest.mark.parametrize("name", AGENTS)
def test_what_is_decided_about_an_agent_leaves_a_record(name, page, ada, alice):
    suspended, typed, action = AGENTS[name]
    if suspended:
        suspensions.suspend(alice.pk, by=ada, reason=REASON)
    url = reverse(f"admin:{name}", args=[alice.pk])

    answer = page.post(url, hidden(page, url) | {"reason": REASON} | typed)

    assert answer.status_code == 302, answer.content.decode()
    record = records_by(ada, action).latest("id")
    assert (record.subject, record.reason) == (f"agent:{alice.pk}", REASON)


@pytest.mark.parametrize("name", EXPORTS)
def test_what_is_taken_away_leaves_a_record(name, page, ada):
    assert page.post(reverse(f"admin:{name}"), {}).status_code == 200

    assert records_by(ada, EXPORTS[name]).count() == 1
