"""The pages about agents: who sees what of them, and how they are found."""

import pytest
from django.test import Client

from accounts import staff, tokens
from accounts.models import Agent, AgentKey, LimitChange, Suspension, User
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


REASON = "Two reports of copied work, both true."


def asked(page: Client, address: str, **typed) -> dict[str, str]:
    """Open a page that asks, and fill in its form."""
    form = page.get(address).context["form"]
    return {name: "" if form[name].value() is None else str(form[name].value()) for name in form.fields} | typed


class TestSuspending:
    def test_asks_first_and_counts_once(self, person, alice):
        page, address = person("mona", "Senior moderators"), f"/admin/agents/{alice.pk}/suspend/"
        form = asked(page, address, reason=REASON)
        assert Agent.objects.get(pk=alice.pk).status == "active"

        first, second = page.post(address, form), page.post(address, form, follow=True)

        assert (first.status_code, first["Location"]) == (302, f"/admin/agents/{alice.pk}/")
        assert "your second click changed nothing" in second.content.decode()
        assert Suspension.objects.get().reason == REASON
        assert REASON in page.get(f"/admin/agents/{alice.pk}/").content.decode()

    def test_is_taken_back(self, person, alice):
        page = person("mona", "Senior moderators")
        for verb in ("suspend", "reinstate"):
            address = f"/admin/agents/{alice.pk}/{verb}/"
            page.post(address, asked(page, address, reason=REASON))

        assert Agent.objects.get(pk=alice.pk).status == "active"
        assert Suspension.objects.get().lift_reason == REASON

    @pytest.mark.parametrize(("reason", "said"), [("Bad.", "20"), ("", "This field is required")])
    def test_asks_for_a_reason(self, person, alice, reason, said):
        page, address = person("mona", "Senior moderators"), f"/admin/agents/{alice.pk}/suspend/"

        answer = page.post(address, asked(page, address, reason=reason))

        assert said in answer.content.decode()
        assert Agent.objects.get(pk=alice.pk).status == "active"

    @pytest.mark.parametrize("verb", ["suspend", "limits"])
    def test_is_refused_in_words_to_who_owns_the_agent(self, person, alice, verb):
        page, address = person("mona", "Senior moderators"), f"/admin/agents/{alice.pk}/{verb}/"
        Agent.objects.filter(pk=alice.pk).update(owner=User.objects.get(username="mona"))

        answer = page.post(address, asked(page, address, reason=REASON, **({"level": "1"} if verb == "limits" else {})))

        assert "You own" in answer.content.decode()
        assert not Suspension.objects.exists()
        assert not LimitChange.objects.exists()

    def test_is_for_who_may(self, person, alice):
        page = person("aud", "Auditors")

        for verb in ("suspend", "reinstate", "limits"):
            assert page.get(f"/admin/agents/{alice.pk}/{verb}/").status_code == 403
            assert page.post(f"/admin/agents/{alice.pk}/{verb}/", {"reason": REASON}).status_code == 403
        text = page.get(f"/admin/agents/{alice.pk}/").content.decode()
        assert f"/admin/agents/{alice.pk}/suspend/" not in text


class TestLimits:
    def set(self, page: Client, agent: Agent, **typed):
        address = f"/admin/agents/{agent.pk}/limits/"
        return page.post(address, asked(page, address, reason=REASON, **typed), follow=True)

    def test_are_lowered_and_lifted(self, person, alice):
        page = person("mona", "Senior moderators")

        self.set(page, alice, level="1", max_open_jobs="2", max_job_units="12.5", max_open_units="0")

        row = Agent.objects.get(pk=alice.pk)
        assert (row.level_by_staff, row.max_open_jobs, row.max_job_units, row.max_open_units) == (1, 2, 12_500_000, 0)
        text = page.get(f"/admin/agents/{alice.pk}/").content.decode()
        assert f"Set by mona: {REASON}" in text
        assert "level 1, open jobs 2, one job 12.500000, all 0.000000" in text

        self.set(page, alice, level="", max_open_jobs="", max_job_units="", max_open_units="")

        row.refresh_from_db()
        assert (row.level_by_staff, row.max_open_jobs, row.max_job_units, row.max_open_units) == (None,) * 4

    def test_are_not_set_over_a_colleagues(self, person, alice):
        page, address = person("mona", "Senior moderators"), f"/admin/agents/{alice.pk}/limits/"
        form = asked(page, address, reason=REASON, level="1")
        self.set(person("sue", "Senior moderators"), alice, level="2")

        answer = page.post(address, form)

        assert "A colleague has set other limits" in answer.content.decode()
        assert Agent.objects.get(pk=alice.pk).level_by_staff == 2

    @pytest.mark.parametrize(
        ("typed", "said"),
        [
            ({"level": "4"}, "Select a valid choice"),
            ({"max_open_jobs": "-1"}, "greater than or equal to 0"),
            ({"max_job_units": "1e3"}, "An amount of USDC"),
            ({"max_open_units": "-1"}, "An amount of USDC"),
            ({"seen": "1,2"}, "open it anew"),
            ({"seen": "x,,,"}, "open it anew"),
            ({"seen": f"{'9' * 5000},,,"}, "open it anew"),
            ({"seen": "²,,,"}, "open it anew"),
            ({}, "already"),
        ],
    )
    def test_come_back_with_what_is_wrong(self, person, alice, typed, said):
        page, address = person("mona", "Senior moderators"), f"/admin/agents/{alice.pk}/limits/"

        answer = page.post(address, asked(page, address, reason=REASON, **typed))

        assert answer.status_code == 200
        assert said in answer.content.decode()
        assert not LimitChange.objects.exists()
