"""The pages about agents: who sees what of them, and how they are found."""

import pytest
from django.test import Client

from accounts import staff, tokens
from accounts.models import Agent, AgentKey, LimitChange, Suspension
from accounts.tests.staff import sign_in
from disputes.models import Dispute, Ruling

pytestmark = pytest.mark.django_db


@pytest.fixture
def person(db):
    staff.prepare_groups()

    def person(name: str, *groups: str, **options) -> Client:
        return sign_in(Client(), staff.prepare_account(name, groups=groups, **options))

    return person


@pytest.fixture
def bobs(case_at, bob, alice) -> str:
    """The page of a seller with a job, a case, a token, a key and money."""
    case_at("final")
    owner = staff.prepare_account("olga", groups=[], email="olga@example.org")
    Agent.objects.filter(pk=bob.pk).update(owner=owner, description="Summaries.", capabilities=["summaries"])
    tokens.mint(bob, scopes=["jobs:read"], label="laptop")
    AgentKey.objects.create(agent=bob, public_key=b"\x07" * 32)
    return f"/admin/agents/{bob.pk}/"


class TestTheList:
    def test_finds_by_the_beginning_of_a_handle_or_an_id(self, person, alice, bob):
        page = person("mona", "Moderators")

        def found(query: str) -> set[str]:
            text = page.get(f"/admin/agents/?{query}").content.decode()
            return {agent.handle for agent in (alice, bob) if f"/admin/agents/{agent.pk}/" in text}

        assert found("") == {"alice", "bob"}
        assert found("q=ali") == {"alice"}
        assert found("q=lice") == set()
        assert found(f"q={bob.pk}") == {"bob"}
        assert found("q=%00") == set()
        assert found("status=suspended") == set()
        assert found("status=active&q=B") == {"bob"}

    def test_goes_on_where_a_page_ended(self, person, make_agent, monkeypatch):
        from disputes.console import agents

        monkeypatch.setattr(agents, "PAGE", 2)
        handles = [make_agent(f"agent-{name}").handle for name in ("carbon", "argon", "xenon")]
        page = person("mona", "Moderators")

        first = page.get("/admin/agents/?q=agent")
        second = page.get(f"/admin/agents/{first.context['more']}")

        assert [row.handle for row in first.context["rows"]] == sorted(handles)[:2]
        assert [row.handle for row in second.context["rows"]] == sorted(handles)[2:]
        assert second.context["more"] is None

    @pytest.mark.parametrize("cursor", ["rubbish", "%00~", "~", "x~01a1fd64-a7c3-74fe-83d5-fc9cd94639d5", "\u202e~"])
    def test_takes_any_cursor(self, person, alice, cursor):
        assert person("mona", "Moderators").get("/admin/agents/", {"after": cursor}).status_code == 200


class TestTheDoor:
    def test_is_for_those_who_may_see_agents(self, person, alice):
        nobody = person("nora")

        assert nobody.get("/admin/agents/").status_code == 403
        for name in ("", "suspend/", "reinstate/", "limits/"):
            assert nobody.get(f"/admin/agents/{alice.pk}/{name}").status_code == 403
        assert Client().get(f"/admin/agents/{alice.pk}/").status_code == 302

    def test_knows_no_unknown_agent(self, person):
        assert person("mona", "Moderators").get(f"/admin/agents/{'0' * 32}/").status_code == 404


class TestThePage:
    def test_shows_a_moderator_the_record_and_no_owner_key_or_money(self, person, bobs, bob):
        text = person("mona2", "Moderators").get(bobs).content.decode()

        for said in ("Trust level", "Attestations: none", "Silent approvals", "laptop", "claimed by an owner", "30 %"):
            assert said in text, said
        token = bob.tokens.get()
        assert f"{token.prefix}…" in text
        for hidden in ("olga", "Available", "Keys, by SHA-256", bytes(token.digest).hex()):
            assert hidden not in text, hidden

    def test_shows_an_auditor_money_and_keys_and_still_no_owner(self, person, bobs):
        import hashlib

        text = person("aud", "Auditors").get(bobs).content.decode()

        assert "Available" in text
        assert hashlib.sha256(b"\x07" * 32).hexdigest() in text
        assert "07" * 32 not in text
        assert "olga" not in text

    def test_shows_what_staff_did_and_why(self, person, bobs, bob, moderator, noon):
        Suspension.objects.create(agent=bob, suspended_by=moderator, reason="Stolen text\u202e.", suspended_at=noon)
        LimitChange.objects.create(agent=bob, level_by_staff=1, max_open_jobs=2, by=moderator, reason="Slow.", at=noon)
        Agent.objects.filter(pk=bob.pk).update(level_by_staff=1)

        text = person("aud", "Auditors").get(bobs).content.decode()

        assert "Stolen text\\u{202E}." in text
        assert "Set by mona: Slow." in text

    def test_proposes_a_suspension_to_whom_a_ruling_of_fraud_went_against(self, person, bobs, bob, alice):
        case = Dispute.objects.get()
        page = person("aud", "Auditors")
        assert "Suspension proposed" not in page.get(bobs).content.decode()
        ruling = Ruling.objects.get(dispute=case)
        _rewrite(ruling, reason_codes=["fraud"])
        Dispute.objects.filter(pk=case.pk).update(lost_by="seller")

        assert "Suspension proposed" in page.get(bobs).content.decode()
        assert "Suspension proposed" not in page.get(f"/admin/agents/{alice.pk}/").content.decode()
        assert "fraud found" in page.get(f"/admin/agents/{alice.pk}/").content.decode()
        assert Agent.objects.get(pk=bob.pk).status == "active"

    def test_costs_the_same_however_much_there_is(self, person, bobs, case_at, bob, django_assert_num_queries):
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        page = person("aud", "Auditors")
        page.get(bobs)
        with CaptureQueriesContext(connection) as first:
            page.get(bobs)
        for _ in range(3):
            case_at("final")
            tokens.mint(bob, scopes=["jobs:read"])

        with django_assert_num_queries(len(first)):
            page.get(bobs)


def _rewrite(ruling: Ruling, **columns) -> None:
    """Past the trigger that keeps rulings as they were made."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
    Ruling.objects.filter(pk=ruling.pk).update(**columns)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")
