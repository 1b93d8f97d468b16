"""The console: who sees what, the ruling by plain HTTP, strangers' text, and how many statements a page costs."""

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from accounts import clock, staff
from accounts.models import User
from accounts.tests.staff import fields_of, sign_in
from disputes import deadlines, evidence
from disputes.models import Dispute, Ruling
from disputes.tests.conftest import DAY, HOUR, REASONS
from marketplace.models import Job

pytestmark = pytest.mark.django_db
FORM = {
    "seller_bps": "3000",
    "bond": "seller",
    "deposit": "back",
    "reason_codes": ["not_as_agreed", "scope_changed"],
    "reasons": REASONS,
    "private_notes": "Both were polite.",
}


@pytest.fixture
def now(monkeypatch):
    """The moment of the database; the fixtures' noon is set to four days before it."""
    return clock.now()


@pytest.fixture
def noon(now):
    return now - timedelta(days=3)


@pytest.fixture
def page(moderator) -> Client:
    return sign_in(Client(), moderator)


def form_of(case: Dispute, **changed: object) -> dict[str, object]:
    """Fill in the form of a page that was just opened."""
    return FORM | {"key": str(uuid4()), "revision": case.revision} | changed


def signed_in(user: User) -> Client:
    return sign_in(Client(), user)


class TestSigningIn:
    def test_is_by_password_and_code(self, make_moderator):
        pat = make_moderator("pat")
        client = Client(enforce_csrf_checks=True)

        login = client.get("/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', login.content.decode())[1]
        answer = client.post(
            "/admin/login/",
            fields_of(pat, "a long password") | {"csrfmiddlewaretoken": token, "next": "/admin/cases/"},
        )

        assert (answer.status_code, answer["Location"]) == (302, "/admin/cases/")
        assert client.get("/admin/").status_code == 200

    def test_is_asked_of_strangers(self, case_at):
        case = case_at("under_review")

        for name in ("case", "case_preview"):
            assert Client().get(reverse(f"admin:{name}", args=[case.pk])).status_code == 302
        assert Client().post(reverse("admin:case_confirm", args=[case.pk]), FORM).status_code == 302
        assert not Ruling.objects.exists()

    def test_is_not_enough_without_a_group(self, case_at):
        case = case_at("under_review")
        nobody = signed_in(User.objects.create_user("nora", is_staff=True))

        assert nobody.get("/admin/cases/").status_code == 403
        assert nobody.get(reverse("admin:case", args=[case.pk])).status_code == 403
        assert nobody.post(reverse("admin:case_confirm", args=[case.pk]), FORM).status_code == 403


class TestPages:
    def test_have_no_inline_script_or_style_and_a_policy_that_forbids_it(self, page, case_at):
        case = case_at("under_review")

        for path in ("/admin/", "/admin/cases/", reverse("admin:case", args=[case.pk]), "/admin/disputes/dispute/"):
            answer = page.get(path)
            text = answer.content.decode()
            assert answer.status_code == 200
            assert "script-src 'self'" in answer["Content-Security-Policy"]
            assert "unsafe" not in answer["Content-Security-Policy"]
            assert not re.search(r"<script(?![^>]*\bsrc=)", text)
            assert not re.search(r"<style|\sstyle=|\son[a-z]+=", text)

    def test_show_the_case_to_an_auditor_without_a_form(self, case_at):
        staff.prepare_groups()
        auditor = signed_in(staff.prepare_account("aud", groups=["Auditors"]))
        case = case_at("under_review")

        text = auditor.get(reverse("admin:case", args=[case.pk])).content.decode()

        assert "You may read this case, not decide it" in text
        assert "ruling-form" not in text

    @pytest.mark.parametrize(
        "state", ["awaiting_answer", "evidence", "unanswered", "under_review", "ruled", "final", "settled", "withdrawn"]
    )
    def test_show_a_case_in_every_state(self, page, case_at, state):
        case = case_at(state)

        assert page.get(reverse("admin:case", args=[case.pk])).status_code == 200
        assert page.get("/admin/cases/?state=live").status_code == 200

    def test_show_an_unknown_case_as_none(self, page):
        assert page.get("/admin/cases/0190d6d0-0000-7000-8000-000000000000/").status_code == 404

    def test_filter_the_queue(self, page, case_at, job_at, moderator):
        from disputes import assignment

        case = case_at("under_review")
        other = case_at("under_review", job=job_at(price=5_000_000))
        assignment.take(case.pk, moderator=moderator)

        def found(query: str) -> set[str]:
            text = page.get(f"/admin/cases/?{query}").content.decode()
            return {str(one.pk) for one in (case, other) if str(one.pk) in text}

        assert found("") == {str(case.pk), str(other.pk)}
        assert found("assigned=me") == {str(case.pk)}
        assert found("assigned=nobody") == {str(other.pk)}
        assert found("amount=small") == {str(other.pk)}
        assert found("state=final") == set()
        assert found("reason=fraud") == set()
        assert found("after=rubbish") == {str(case.pk), str(other.pk)}

    @pytest.mark.parametrize("moment", ["0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59", "%00", "never"])
    def test_begin_at_the_start_where_the_cursor_is_no_moment(self, page, case_at, moment):
        case = case_at("under_review")

        shown = page.get(f"/admin/cases/?after={moment}~{case.pk}")

        assert shown.status_code == 200
        assert reverse("admin:case", args=[case.pk]) in shown.content.decode()

    def test_page_through_the_queue(self, page, case_at, monkeypatch):
        from disputes.console import queue

        monkeypatch.setattr(queue, "PAGE", 2)
        cases = {str(case_at("under_review").pk) for _ in range(3)}

        first = page.get("/admin/cases/").content.decode()
        more = re.search(r'class="button" href="(\?[^"]+)"', first)[1].replace("&amp;", "&")
        second = page.get(f"/admin/cases/{more}").content.decode()

        shown = [set(re.findall(r"/admin/cases/([0-9a-f-]{36})/", text)) for text in (first, second)]
        assert [len(ids) for ids in shown] == [2, 1]
        assert shown[0] | shown[1] == cases


class TestRulingByPlainHttp:
    def test_goes_by_a_form_and_a_page_that_asks_again(self, page, case_at, bob, balance_of):
        case = case_at("under_review")
        form = form_of(case)

        asked = page.post(reverse("admin:case_ruling", args=[case.pk]), form)
        text = asked.content.decode()
        assert asked.status_code == 200
        assert "Confirm the ruling" in text
        assert "+14.850000" in text
        assert not Ruling.objects.exists()
        hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text)
        names = {name for name, _ in hidden}
        assert names >= {"key", "revision", "seller_bps", "bond", "deposit", "reason_codes", "reasons", "private_notes"}

        done = page.post(reverse("admin:case_confirm", args=[case.pk]), form)

        assert (done.status_code, done["Location"]) == (302, f"/admin/cases/{case.pk}/")
        ruling = Ruling.objects.get()
        assert (ruling.seller_bps, ruling.author.username) == (3_000, "mona")
        assert ruling.reason_codes == ["not_as_agreed", "scope_changed"]
        assert ruling.private_notes == "Both were polite."
        assert Dispute.objects.get().state == "ruled"

    def test_twice_is_once(self, page, case_at):
        case = case_at("under_review")
        form = form_of(case)
        page.post(reverse("admin:case_confirm", args=[case.pk]), form)

        again = page.post(reverse("admin:case_confirm", args=[case.pk]), form, follow=True)

        assert "already made" in again.content.decode()
        assert Ruling.objects.count() == 1

    def test_a_colleague_who_comes_second_is_told(self, page, case_at, make_moderator):
        case = case_at("under_review")
        form = form_of(case)
        page.post(reverse("admin:case_confirm", args=[case.pk]), form)

        late = signed_in(make_moderator("max")).post(reverse("admin:case_confirm", args=[case.pk]), form)

        assert "Nobody can rule in a case that is ruled" in late.content.decode()
        assert Ruling.objects.count() == 1

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"seller_bps": "10001"}, "less than or equal to 10000"),
            ({"seller_bps": "-1"}, "greater than or equal to 0"),
            ({"seller_bps": "x"}, "Enter a whole number"),
            ({"reasons": "Too few words here."}, "at least 200 characters"),
            ({"reasons": " " * 300}, "This field is required"),
            ({"reason_codes": []}, "This field is required"),
            ({"reason_codes": ["mood"]}, "Select a valid choice"),
            ({"bond": "us"}, "Select a valid choice"),
            ({"deposit": "gone"}, "Select a valid choice"),
        ],
    )
    def test_bad_input_comes_back_with_what_is_wrong_and_changes_nothing(self, page, case_at, changed, said):
        case = case_at("under_review")
        form = form_of(case, **changed)

        for name in ("case_ruling", "case_confirm"):
            answer = page.post(reverse(f"admin:{name}", args=[case.pk]), form)
            assert answer.status_code == 200
            assert said in answer.content.decode()

        assert not Ruling.objects.exists()
        assert Dispute.objects.get().state == "under_review"

    def test_a_page_read_before_the_case_moved_on_is_refused(self, page, case_at, moderator):
        from disputes import assignment

        case = case_at("under_review")
        form = form_of(case)
        assignment.take(case.pk, moderator=moderator)

        answer = page.post(reverse("admin:case_confirm", args=[case.pk]), form)

        assert "Read the case again" in answer.content.decode()
        assert not Ruling.objects.exists()

    def test_change_brings_the_form_back_filled_in(self, page, case_at):
        case = case_at("under_review")

        answer = page.post(reverse("admin:case_ruling", args=[case.pk]), form_of(case, change="1"))

        assert 'value="3000"' in answer.content.decode()
        assert REASONS[:60] in answer.content.decode()

    def test_a_case_with_a_conflict_has_no_form(self, page, case_at, moderator, alice):
        case = case_at("under_review")
        type(alice).objects.filter(pk=alice.pk).update(owner=moderator)

        text = page.get(reverse("admin:case", args=[case.pk])).content.decode()
        refused = page.post(reverse("admin:case_confirm", args=[case.pk]), form_of(case))

        assert "You own one of the agents" in text
        assert "ruling-form" not in text
        assert "You own one of the agents" in refused.content.decode()
        assert not Ruling.objects.exists()

    def test_needs_the_token_of_the_page(self, moderator, case_at):
        case = case_at("under_review")
        client = Client(enforce_csrf_checks=True)
        sign_in(client, moderator)

        answer = client.post(reverse("admin:case_confirm", args=[case.pk]), form_of(case))

        assert answer.status_code == 403
        assert not Ruling.objects.exists()

    def test_is_never_done_by_get(self, page, case_at):
        case = case_at("under_review")

        for name in ("case_ruling", "case_confirm"):
            assert page.get(reverse(f"admin:{name}", args=[case.pk]), FORM).status_code == 405


class TestPreview:
    def test_equals_what_is_posted_entry_by_entry(self, page, case_at, job_at):
        from escrow.models import Transfer
        from marketplace import effects

        case_at()
        case = case_at("under_review", job=job_at(price=33_333_333, seller_bond=7_777_777))
        shown = page.get(
            reverse("admin:case_preview", args=[case.pk]),
            {"seller_bps": 3_333, "bond": "seller", "deposit": "other_side"},
        ).json()["entries"]
        page.post(
            reverse("admin:case_confirm", args=[case.pk]),
            form_of(case, seller_bps="3333", deposit="other_side"),
        )
        Dispute.objects.filter(pk=case.pk).update(deadline_at=clock.now())
        deadlines.enforce(case.pk, at=clock.now() + 3 * DAY)

        from disputes.templatetags import console
        from escrow.ledger import Move

        transfer = Transfer.objects.get(reference=f"job:{case.job_id}:close")
        posted = [
            Move(entry.account.kind, entry.account.owner_key, entry.amount)
            for entry in transfer.entries.select_related("account").order_by("id")
        ]
        named = [
            {"name": console.account_words(effect.account), "amount": console.signed_usdc(effect.amount_units)}
            for effect in effects.named(Job.objects.get(pk=case.job_id), posted)
        ]
        assert sorted(map(str, named)) == sorted(map(str, shown))
        assert len(shown) == 6

    @pytest.mark.parametrize("bps", ["", "x", "-1", "10001", "1e3"])
    def test_refuses_what_is_no_share(self, page, case_at, bps):
        case = case_at("under_review")

        answer = page.get(
            reverse("admin:case_preview", args=[case.pk]), {"seller_bps": bps, "bond": "seller", "deposit": "back"}
        )

        assert answer.status_code == 400

    def test_says_when_a_second_person_is_needed(self, page, case_at, job_at):
        case = case_at("under_review", job=job_at(price=100_000_000))

        said = page.get(
            reverse("admin:case_preview", args=[case.pk]), {"seller_bps": 1, "bond": "seller", "deposit": "back"}
        ).json()

        assert "second person" in said["second"]


PROBES = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</pre></textarea><svg onload=alert(1)>",
    "\"'><a href=javascript:alert(1)>click</a>",
    "{{ 7|add:7 }} {% csrf_token %}",
    "user‮gnp.exe​",
]


class TestStrangersText:
    def test_is_shown_as_text_wherever_it_can_come_from(self, page, job_at, alice, bob, noon, moderator):
        from disputes import cases
        from marketplace import deliveries, jobs, offers, terms

        poison = "\n".join(PROBES)
        agreed = terms.read(
            {
                "price": 5_000_000,
                "title": PROBES[1],
                "requirements": {PROBES[0]: [poison]},
                "delivery_seconds": 86_400,
            }
        )
        first = terms.read({"price": 4_000_000, "title": PROBES[2], "delivery_seconds": 86_400})
        job = offers.propose(alice, bob, terms=first, message=poison, at=noon)
        offers.counter(job.id, by=bob, terms=agreed, message=poison, at=noon)
        offers.agree(job.id, by=alice, terms_hash=agreed.hash, at=noon)
        jobs.fund(job.id, client=alice, at=noon)
        content = deliveries.from_json({PROBES[3]: poison})
        deliveries.deliver(job.id, seller=bob, content=content, note=poison, at=noon)
        deliveries.request_revision(job.id, client=alice, reason=poison, at=noon)
        said = {"reason": "other", "statement": poison.ljust(120, "."), "requested_seller_bps": 0}
        case = cases.open(job.id, opener=alice, at=noon, **said)
        cases.answer(case.id, by=bob, statement=poison.ljust(120, "."), requested_seller_bps=1, at=noon)
        evidence.submit(case.id, by=alice, item=evidence.from_text(poison), at=noon)
        evidence.submit(case.id, by=bob, item=evidence.from_json({PROBES[0]: poison}), at=noon)
        deadlines.enforce(case.id, at=noon + 2 * DAY)
        root = signed_in(User.objects.create_superuser("root"))
        paths = [f"/admin/cases/{case.pk}/", "/admin/cases/", "/admin/"]
        for model, row in (
            ("disputes/dispute", case),
            ("disputes/evidence", case.evidence.first()),
            ("marketplace/offer", job.offers.first()),
            ("marketplace/delivery", job.deliveries.first()),
            ("marketplace/transition", job.transitions.last()),
        ):
            paths += [f"/admin/{model}/", f"/admin/{model}/{row.pk}/change/"]

        for path in paths:
            answer = root.get(path)
            text = answer.content.decode()
            assert answer.status_code == 200, path
            for live in ("<script>alert", "<img src=x", "<svg onload", "<a href=javascript", "\u202e", "\u200b"):
                assert live not in text, (path, live)
        shown = root.get(f"/admin/cases/{case.pk}/").content.decode()
        assert "user\\u{202E}gnp.exe\\u{200B}" in shown
        assert "{{ 7|add:7 }}" in shown
        assert "submitted by a party, unverified" in shown


class TestWhatTheSystemKnows:
    def findings(self, page, case) -> dict[str, str]:
        text = page.get(reverse("admin:case", args=[case.pk])).content.decode()
        rows = re.findall(r'<th scope="row">([^<]+)</th><td><span class="tone[^>]*>([^<]+)<', text)
        return dict(rows)

    def test_is_on_the_page(self, page, case_at):
        known = self.findings(page, case_at("under_review"))

        assert known["Terms both signed"] == "their hash matches what both agreed to"
        assert known["Delivered in time"] == "yes, with 1 d to spare"
        assert known["Digests of the deliveries"] == "the bytes are those that were delivered"
        assert known["Revisions used"] == "0 of 2"
        assert known["Clocks that ran out"] == "none"
        assert known["Settlement"] == "neither side has offered one"
        assert known["Shared by both parties"] == "no owner, no payout address, no funding address"

    def test_shows_silence_repetition_and_what_went_before(self, page, case_at, job_at, bob, alice, noon):
        from marketplace import deliveries

        case_at("final")
        job = job_at("revising")
        deliveries.deliver(job.id, seller=bob, content=deliveries.from_json({"chapters": [1, 2, 3]}), at=noon)
        known = self.findings(page, case_at("unanswered", job=job))

        assert known["Digests of the deliveries"] == "delivery 2 is byte for byte delivery 1"
        assert known["Revisions used"] == "1 of 2"
        assert known["Clocks that ran out"] == "the seller did not answer this case"

    def test_notices_a_changed_item_of_evidence(self, page, case_at, alice, noon):
        from django.db import connection

        case = case_at("awaiting_answer")
        evidence.submit(case.id, by=alice, item=evidence.from_text("As it was."), at=noon + HOUR)
        assert self.findings(page, case)["Chain of evidence"] == "1 item, unbroken"

        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute("UPDATE disputes_evidence SET content = 'As it WAS.'::bytea")
            cursor.execute("SET LOCAL session_replication_role = DEFAULT")

        assert self.findings(page, case)["Chain of evidence"] == "broken at item 1"


class TestHowMuchAPageCosts:
    def test_the_queue_at_most_20_statements(self, page, case_at, django_assert_max_num_queries):
        for _ in range(6):
            case_at("under_review")

        with django_assert_max_num_queries(20):
            page.get("/admin/cases/")
        with django_assert_max_num_queries(20):
            page.get("/admin/")

    def test_a_case_at_most_40_however_long_its_time_line(
        self, page, case_at, alice, bob, noon, django_assert_max_num_queries
    ):
        from disputes.models import DisputeTransition

        case = case_at("evidence")
        for number in range(6):
            item = evidence.from_text(f"item {number}")
            evidence.submit(case.id, by=alice if number % 2 else bob, item=item, at=noon + 2 * HOUR)
        deadlines.enforce(case.id, at=noon + 3 * DAY - HOUR)
        DisputeTransition.objects.bulk_create(
            DisputeTransition(
                dispute=case, revision=1_000 + number, action="submit_evidence", by="client", to_state="evidence",
                occurred_at=noon,
            )
            for number in range(200)
        )  # fmt: skip

        with django_assert_max_num_queries(40):
            assert page.get(reverse("admin:case", args=[case.pk])).status_code == 200


class TestRowsAreReadOnly:
    """That nobody edits them is tried in test_readonly.py."""

    @pytest.mark.parametrize("app", ["disputes.Dispute", "marketplace.Job"])
    def test_and_are_found_by_whatever_is_typed(self, case_at, app):
        case = case_at("under_review")
        root = signed_in(User.objects.create_superuser("root", password="a long password"))
        rows = reverse(f"admin:{app.lower().replace('.', '_')}_changelist")

        for typed in (case.client.handle, str(case.job_id)):
            assert "1 result" in root.get(rows, {"q": typed}).content.decode()
        assert "0 results" in root.get(rows, {"q": "nobody-of-this-name"}).content.decode()

    def test_and_no_secret_is_on_their_pages(self, client_for, alice):
        from accounts.models import Token

        client_for(alice)
        root = signed_in(User.objects.create_superuser("root", password="a long password"))
        token, user = Token.objects.get(), User.objects.get(username="root")

        shown = root.get(f"/admin/accounts/token/{token.pk}/change/").content.decode()
        shown += root.get(f"/admin/accounts/user/{user.pk}/change/").content.decode()

        assert bytes(token.digest).hex() not in shown
        assert user.password not in shown
