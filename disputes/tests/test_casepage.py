"""The page of a case for each who looks at it: the next step, the verbs, what is known, files, strangers' text."""

import re
import zipfile
from datetime import timedelta
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts import clock, staff
from accounts.models import AuditRecord, User
from disputes import assignment, decisions, evidence, questions
from disputes.decisions import Decision
from disputes.models import Appeal, Assignment, Dispute, Question, Ruling
from disputes.templatetags import console as named
from disputes.tests import quarrel
from disputes.tests.conftest import DAY, GROUNDS, HOUR, REASONS, appealed, replaced, ruled

pytestmark = pytest.mark.django_db
REASON = "I have worked with the seller's owner for years."


@pytest.fixture
def noon():
    """A case that is made at noon is under review now."""
    return clock.now() - timedelta(days=3)


@pytest.fixture
def visit(sign_in) -> Any:
    """Read a page of a case as somebody: `visit(case, user, "recuse")`."""

    def visit(case: Dispute, user: User, name: str = "", client: Client | None = None) -> str:
        answer = (client or sign_in(Client(), user)).get(address(case, name))
        assert answer.status_code == 200, answer
        return answer.content.decode()

    return visit


@pytest.fixture
def act(sign_in) -> Any:
    """Say yes on a page that asks: `act(case, user, "recuse", reason="…")`; answers the page that follows."""

    def act(case: Dispute, user: User, name: str, **said: Any) -> str:
        given = {"key": str(uuid4()), "revision": Dispute.objects.get(pk=case.pk).revision} | said
        answer = sign_in(Client(), user).post(address(case, name), given, follow=True)
        assert answer.status_code == 200
        return answer.content.decode()

    return act


def address(case: Dispute, name: str = "") -> str:
    return reverse(f"admin:case_{name}" if name else "admin:case", args=[case.pk])


def ruling_form(case: Dispute, **changed: Any) -> dict[str, Any]:
    return {
        "key": str(uuid4()),
        "revision": Dispute.objects.get(pk=case.pk).revision,
        "seller_bps": "3000",
        "bond": "seller",
        "deposit": "back",
        "reason_codes": ["not_as_agreed"],
        "reasons": REASONS,
        "private_notes": "",
    } | changed


def next_step(text: str) -> str:
    return re.search(r"<b>Next step</b> ([^<]*)", text)[1]


def verbs(text: str) -> set[str]:
    """Read which buttons the page has."""
    strip = re.search(r'<p class="verbs">(.*?)</p>', text, re.DOTALL)[1]
    return set(re.findall(r">([^<>]+)</a>", strip)) - {"Export as a signed pack"}


class TestNextStep:
    @pytest.mark.parametrize(
        ("state", "said"),
        [
            ("awaiting_answer", "the seller may answer until"),
            ("evidence", "both sides bring evidence until"),
            ("under_review", "Nobody has this case: take it, read it, and rule by"),
            (
                "awaiting_approval",
                "You wrote this ruling: the second word is a colleague&#x27;s. A second person decides",
            ),
            ("ruled", "unless a side appeals before then"),
            ("appealed", "Only senior moderators hear appeals. The appeal is decided by"),
            ("final", "the case is final and the money has moved"),
            ("settled", "the parties settled"),
            ("withdrawn", "the case was withdrawn"),
        ],
    )
    def test_is_said_in_every_state(self, case_at, moderator, visit, state, said):
        assert said in next_step(visit(case_at(state), moderator))

    def test_of_whom_it_is_assigned_to(self, case_at, moderator, visit):
        case = assignment.take(case_at("under_review").pk, moderator=moderator)

        text = visit(case, moderator)

        assert "You have this case: read it, ask if something is missing, and rule by" in next_step(text)
        assert "that is you" in text

    def test_of_a_colleague(self, case_at, moderator, make_moderator, visit):
        case = assignment.take(case_at("under_review").pk, moderator=moderator)

        text = visit(case, make_moderator("max"))

        assert "mona has this case and decides it; you may read it. A ruling is due by" in next_step(text)
        assert "ruling-form" not in text
        assert verbs(text) == set()

    def test_while_a_question_is_open(self, case_at, moderator, visit):
        case = case_at("under_review")
        ask(case, moderator)

        text = visit(case, moderator)

        assert "wait for the seller to answer until" in next_step(text)
        assert "clock stopped for a question" in text
        assert "ruling-form" not in text

    def test_of_the_second_person_on_appeal(self, case_at, senior, make_senior, noon, visit):
        case = case_at("appealed")
        replaced(case, senior, at=noon + 4 * DAY + HOUR, reason_codes=["fraud"])

        assert "You wrote this ruling" in next_step(visit(case, senior))
        text = visit(case, make_senior("sven"))
        assert "needs a second person, and that may be you" in next_step(text)
        assert verbs(text) >= {"Approve", "Send back"}
        assert "ruling-form" not in text


class TestWhoMayDoWhat:
    def test_by_role_under_review(self, case_at, moderator, make_moderator, senior, make_staff, alice, visit):
        case = case_at("under_review")
        owner = make_moderator("olga")
        type(alice).objects.filter(pk=alice.pk).update(owner=owner)

        assert verbs(visit(case, moderator)) == {"Take this case", "Ask a party"}
        assert verbs(visit(case, senior)) == {"Take this case", "Ask a party", "Give to a colleague"}
        assert verbs(visit(case, make_staff("aud", "Auditors"))) == set()
        assert verbs(visit(case, owner)) == set()
        assert "You own one of the agents" in next_step(visit(case, owner))
        assignment.take(case.pk, moderator=moderator)
        assert verbs(visit(case, moderator)) == {"Ask a party", "Give to a colleague", "Step back"}
        assert verbs(visit(case, senior)) == {"Give to a colleague"}

    def test_by_role_while_a_ruling_waits(self, case_at, moderator, make_moderator, senior, visit):
        case = case_at("awaiting_approval")

        assert verbs(visit(case, moderator)) == set()
        assert verbs(visit(case, make_moderator("max"))) == {"Approve", "Send back"}
        assert verbs(visit(case, senior)) == {"Approve", "Send back"}

    def test_by_role_on_appeal(self, case_at, moderator, senior, visit):
        case = case_at("appealed")

        text = visit(case, senior)
        assert verbs(text) == {"Take this case", "Uphold the ruling", "Give to a colleague"}
        assert "Replace the ruling" in text
        assert verbs(visit(case, moderator)) == set()

    def test_a_senior_who_had_a_part_in_the_ruling_is_told_why_not(self, case_at, senior, alice, noon, visit):
        case = ruled(case_at("under_review"), senior, at=noon + 3 * DAY)
        appealed(case, alice, at=noon + 3 * DAY + HOUR)

        assert "You took part in the ruling that is appealed" in next_step(visit(case, senior))


class TestEachVerb:
    def test_take(self, case_at, moderator, act, visit):
        case = case_at("under_review")
        assert "<h1>Take case" in visit(case, moderator, "take")

        assert "The case is yours." in act(case, moderator, "take")

        assert Dispute.objects.get().assigned_to == moderator

    def test_take_what_a_colleague_has(self, case_at, moderator, make_moderator, act):
        case = assignment.take(case_at("under_review").pk, moderator=moderator)

        said = act(case, make_moderator("max"), "take")

        assert "Ask for it to be given to you" in said
        assert Dispute.objects.get().assigned_to == moderator

    def test_take_next(self, case_at, moderator, sign_in):
        case = case_at("under_review")
        client = sign_in(Client(), moderator)
        assert "Take the next case" in client.get("/admin/cases/next/").content.decode()

        taken = client.post("/admin/cases/next/", {"key": str(uuid4()), "revision": 0})
        none = client.post("/admin/cases/next/", {"key": str(uuid4()), "revision": 0}, follow=True)

        assert taken["Location"] == address(case)
        assert "No case waits for you" in none.content.decode()

    def test_recuse(self, case_at, moderator, make_moderator, act):
        case = assignment.take(case_at("under_review").pk, moderator=moderator)
        other = make_moderator("max")

        act(case, moderator, "recuse", reason=REASON)

        assert Dispute.objects.get().assigned_to == other
        assert Assignment.objects.latest("pk").reason == REASON

    def test_recuse_without_a_reason_keeps_what_was_typed(self, case_at, moderator, act):
        case = assignment.take(case_at("under_review").pk, moderator=moderator)

        text = act(case, moderator, "recuse", reason="I know her.")

        assert "at least 20 characters" in text
        assert "I know her." in text
        assert Dispute.objects.get().assigned_to == moderator

    def test_reassign_offers_who_is_fit_alone(self, case_at, moderator, make_moderator, make_staff, alice, act, visit):
        case = assignment.take(case_at("under_review").pk, moderator=moderator)
        other, owner = make_moderator("max"), make_moderator("olga")
        make_staff("tess", "Treasurers")
        type(alice).objects.filter(pk=alice.pk).update(owner=owner)

        offered = re.findall(r'<option value="([^"]+)">(\w+)<', visit(case, moderator, "reassign"))
        assert [name for _, name in offered] == ["max"]
        refused = act(case, moderator, "reassign", to=str(owner.pk), reason=REASON)
        assert "Select a valid choice" in refused
        assert "You gave the case to max." in act(case, moderator, "reassign", to=str(other.pk), reason=REASON)

        assert Dispute.objects.get().assigned_to == other

    def test_ask(self, case_at, moderator, act, visit):
        case = assignment.take(case_at("under_review").pk, moderator=moderator)
        asked = "Where in the delivery are the twelve tables?"

        assert "The seller is asked" in act(case, moderator, "question", to="seller", text=asked)

        assert Question.objects.get().text == asked
        assert "The seller (1 left)" in visit(case, moderator, "question")
        assert "The client (2 left)" in visit(case, moderator, "question")

    def test_ask_keeps_what_was_typed_when_the_case_moved_on(self, case_at, moderator, act):
        case = assignment.take(case_at("under_review").pk, moderator=moderator)
        asked = "Where in the delivery are the twelve tables?"

        text = act(case, moderator, "question", to="seller", text=asked, revision=1)
        again = re.search(r'name="revision" value="(\d+)"', text)[1]

        assert "Read the case again" in text
        assert asked in text
        assert int(again) == Dispute.objects.get().revision
        assert not Question.objects.exists()

    def test_approve(self, case_at, moderator, make_moderator, act, visit):
        case = case_at("awaiting_approval")
        second = make_moderator("max")
        shown = visit(case, second, "approve")
        assert REASONS[:60] in shown
        assert "Held price: −50.000000 USDC" in shown

        act(case, second, "approve")

        assert Dispute.objects.get().state == "ruled"
        assert Ruling.objects.get().approvals.get().by == second

    def test_nobody_approves_their_own(self, case_at, moderator, act):
        case = case_at("awaiting_approval")

        assert "Nobody approves their own ruling" in act(case, moderator, "approve")
        assert Dispute.objects.get().state == "awaiting_approval"

    def test_send_back_needs_a_reason(self, case_at, make_moderator, moderator, act, visit):
        case = case_at("awaiting_approval")
        second = make_moderator("max")

        assert "at least 20 characters" in act(case, second, "send_back", reason="No.")
        assert Dispute.objects.get().state == "awaiting_approval"
        act(case, second, "send_back", reason="Fraud needs more than two equal digests.")

        assert Dispute.objects.get().state == "under_review"
        assert "Returned by max" in visit(case, moderator)
        assert "Fraud needs more than two equal digests." in visit(case, moderator)

    def test_uphold(self, case_at, senior, act, visit):
        case = case_at("appealed")
        shown = visit(case, senior, "uphold")
        assert GROUNDS[:60] in shown
        assert "Everything" not in shown

        act(case, senior, "uphold", reasons=REASONS, private_notes="As before.")

        assert Dispute.objects.get().state == "final"
        assert (Appeal.objects.get().outcome, Appeal.objects.get().private_notes) == ("upheld", "As before.")

    def test_replace_by_the_same_form(self, case_at, senior, sign_in):
        case = case_at("appealed")
        client = sign_in(Client(), senior)
        form = ruling_form(case, seller_bps="0")

        asked = client.post(address(case, "ruling"), form).content.decode()
        assert "There is no second appeal" in asked
        done = client.post(address(case, "confirm"), form, follow=True).content.decode()

        assert "The appeal is decided and the money has moved" in done
        assert Dispute.objects.get().state == "final"

    @pytest.mark.parametrize(
        "name", ["take", "recuse", "reassign", "question", "approve", "send_back", "uphold", "ruling", "confirm"]
    )
    @pytest.mark.parametrize("who", ["aud", "olga"])
    def test_none_by_who_may_not(self, case_at, make_staff, alice, sign_in, who, name):
        people = {"aud": make_staff("aud", "Auditors"), "olga": make_staff("olga", "Senior moderators")}
        type(alice).objects.filter(pk=alice.pk).update(owner=people["olga"])
        cases = [case_at("under_review"), case_at("awaiting_approval"), case_at("appealed")]
        before = list(Dispute.objects.order_by("pk").values())
        client = sign_in(Client(), people[who])

        for case in cases:
            said = ruling_form(case) | {"reason": REASON, "text": REASON, "to": str(people["aud"].pk)}
            answer = client.post(address(case, name), said, follow=True)
            assert answer.status_code == 200

        assert list(Dispute.objects.order_by("pk").values()) == before

    def test_none_without_seeing_cases(self, case_at, make_staff, sign_in):
        case = case_at("under_review")
        client = sign_in(Client(), make_staff("tess", "Treasurers"))

        for name in ("", "take", "recuse", "reassign", "question", "approve", "send_back", "uphold", "pack", "preview"):
            assert client.get(address(case, name)).status_code == 403, name


class TestOnceAndInOrder:
    def test_a_page_sent_twice_counts_once(self, case_at, moderator, sign_in):
        case = assignment.take(case_at("under_review").pk, moderator=moderator)
        client = sign_in(Client(), moderator)
        said = {
            "key": str(uuid4()), "revision": case.revision, "to": "seller", "text": "Where are the twelve tables?",
        }  # fmt: skip

        client.post(address(case, "question"), said)
        again = client.post(address(case, "question"), said, follow=True)

        assert "your second click changed nothing" in again.content.decode()
        assert Question.objects.count() == 1

    def test_an_old_page_with_other_words_is_refused(self, case_at, moderator, sign_in):
        case = case_at("under_review")
        client = sign_in(Client(), moderator)
        form = ruling_form(case)
        client.post(address(case, "confirm"), form)

        again = client.post(address(case, "confirm"), form | {"seller_bps": "9000"}, follow=True)

        assert "with something else on it; nothing was changed" in again.content.decode()
        assert Ruling.objects.get().seller_bps == 3_000

    def test_a_case_that_moved_on_says_what_happened_and_keeps_the_words(self, case_at, moderator, alice, sign_in):
        case = case_at("under_review")
        form = ruling_form(case, private_notes="Both were polite.")
        asked = ask(case, moderator, to="client")
        questions.answer(case.pk, by=alice, question_id=asked.pk, text="They are all missing.")
        client = sign_in(Client(), moderator)

        text = client.post(address(case, "confirm"), form).content.decode()

        assert not Ruling.objects.exists()
        assert "What happened since you opened the page" in text
        assert "answer question by client" in text
        assert REASONS[:80] in text
        assert "Both were polite." in text
        again = form | {
            name: re.search(rf'name="{name}" value="([^"]+)"', text)[1] for name in ("key", "revision")
        }  # as the page that came back has it
        client.post(address(case, "confirm"), again)
        assert Ruling.objects.get().seller_bps == 3_000

    def test_who_is_late_keeps_their_words_without_a_form(self, case_at, moderator, make_moderator, sign_in):
        case = case_at("under_review")
        form = ruling_form(case)
        late = sign_in(Client(), make_moderator("max"))
        ruled(case, moderator)

        text = late.post(address(case, "confirm"), form).content.decode()

        assert "Nobody can rule in a case that is ruled" in text
        assert "Your ruling was not made" in text
        assert REASONS[:80] in text
        assert "ruling-form" not in text

    def test_two_second_words_are_one(self, case_at, make_moderator, act):
        case = case_at("awaiting_approval")
        revision = case.revision
        act(case, make_moderator("max"), "send_back", reason="Fraud needs more than two equal digests.")

        late = act(case, make_moderator("moritz"), "approve", revision=revision)

        assert "Nobody can approve in a case that is under review" in late
        assert Dispute.objects.get().state == "under_review"


class TestPreview:
    @pytest.mark.parametrize("bps", [0, 1, 3_333, 10_000])
    @pytest.mark.parametrize("redo", [False, True])
    def test_on_appeal_equals_what_is_posted(self, case_at, senior, sign_in, balance_of, bps, redo):
        case_at("final")  # the next case and its appeal have deposits
        case = case_at("appealed")
        client = sign_in(Client(), senior)
        split = {"seller_bps": bps, "bond": "seller", "deposit": "other_side"} | ({"redo": "on"} if redo else {})
        shown = client.get(address(case, "preview"), split).json()["entries"]
        before = balances(case, balance_of)

        client.post(address(case, "confirm"), ruling_form(case, **split))

        assert Dispute.objects.get(pk=case.pk).state == "final"
        moved = {name: units - before[name] for name, units in balances(case, balance_of).items()}
        expected = {row["name"]: row["amount"] for row in shown if row["name"] in moved}
        assert {name: named.signed_usdc(units) for name, units in moved.items() if units} == expected
        assert "Held deposit of the appeal" in {row["name"] for row in shown}

    def test_says_that_fraud_takes_a_second_person(self, case_at, moderator, sign_in):
        case = case_at("under_review")
        query = {"seller_bps": 0, "bond": "seller", "deposit": "back", "reason_codes": ["late", "fraud"]}

        said = sign_in(Client(), moderator).get(address(case, "preview"), query).json()

        assert said["second"] == "A finding of fraud needs a second person."

    def test_the_page_of_a_proposed_ruling_has_its_entries(self, case_at, make_moderator, visit):
        case = case_at("awaiting_approval")
        text = visit(case, make_moderator("max"))

        shown = re.search(r'id="proposed-entries">(.*?)</tbody>', text, re.DOTALL)[1]
        entries = decisions.entries(case, case.job, Decision(seller_bps=3_000, bond_to="seller"))
        assert re.findall(r'class="number">([^<]+)<', shown) == [named.signed_usdc(one.amount_units) for one in entries]


class TestWhatIsKnownOfBothSides:
    def test_shows_records_and_outcomes(self, case_at, moderator, visit):
        case_at("final")
        text = visit(case_at("under_review"), moderator)

        rows = dict(re.findall(r'<tr><th scope="row">([^<]+)</th>(.*?)</tr>', text, re.DOTALL))
        cells = {name: re.findall(r"<td>(.*?)</td>", row, re.DOTALL) for name, row in rows.items()}
        plain = {name: [re.sub(r"<[^>]+>|\s+", " ", cell).split() for cell in row] for name, row in cells.items()}
        assert plain["Earlier disputes"][0] == ["1", "(1", "opened", "by", "it,", "0", "settled)"]
        assert plain["Of these lost"] == [["0"], ["1"]]
        assert plain["Median time to review"][1] == ["never", "reviewed"]
        assert "won: 30 % to the seller, as client, opened by it" in cells["Its latest disputes"][0]
        assert "lost: 30 % to the seller, as seller, opened by the other side" in cells["Its latest disputes"][1]

    def test_names_addresses_that_both_have(self, case_at, alice, bob, make_agent, fund, payout_address):
        from disputes.console import parties

        case = case_at("under_review")
        assert parties.ties(case) == []

        fund(alice, b"\x11" * 20)
        fund(bob, b"\x11" * 20)
        assert [tie.what for tie in parties.ties(case)] == ["the same funding address"]
        for number in range(4):
            fund(make_agent(f"other-{number}"), b"\x11" * 20)
        assert [tie.telling for tie in parties.ties(case)] == [False], "six agents: an exchange's"
        payout_address(alice, b"\x22" * 20)
        payout_address(bob, b"\x22" * 20)
        fund(bob, b"\x22" * 20)

        assert {tie.what for tie in parties.ties(case) if tie.telling} == {
            "the same payout address",
            "the client's payout address is the seller's funding address",
        }

    def test_names_a_shared_owner(self, case_at, alice, bob, moderator, visit):
        case = case_at("under_review")
        owner = User.objects.create_user("owner")
        type(alice).objects.filter(pk__in=[alice.pk, bob.pk]).update(owner=owner)

        assert "the same owner" in visit(case, moderator)

    def test_counts_similar_cases(self, case_at, moderator, visit):
        from disputes import precedents

        assert "No case for this reason is final yet" in visit(case_at("under_review"), moderator)
        precedents.write(case_at("final").pk)

        text = visit(case_at("under_review"), moderator)

        assert re.search(r'Divided</th><td class="number">1</td>', text)
        assert "The median of the rulings gives <b>30 %</b>" in text
        assert "30 % to the seller</a>" in text


class TestFiles:
    def test_pictures_are_encoded_anew(self, case_at, alice, moderator, noon, sign_in, visit):
        case = with_item(case_at, alice, noon, quarrel.picture(kind="JPEG"), "scan.jpg")

        shown = sign_in(Client(), moderator).get(reverse("admin:case_picture", args=[case.pk, 1]))

        assert shown.status_code == 200
        assert shown.content.startswith(b"\x89PNG")
        assert shown["Content-Type"] == "image/png"
        assert shown["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in shown["Content-Security-Policy"]
        assert "no-store" in shown["Cache-Control"]
        assert f'src="{reverse("admin:case_picture", args=[case.pk, 1])}"' in visit(case, moderator)

    def test_a_broken_picture_is_none(self, case_at, alice, moderator, noon, sign_in):
        case = with_item(case_at, alice, noon, quarrel.picture()[:300], "half.png")

        assert sign_in(Client(), moderator).get(reverse("admin:case_picture", args=[case.pk, 1])).status_code == 404

    def test_others_are_saved_and_never_shown(self, case_at, alice, moderator, noon, sign_in, visit):
        content = b"%PDF-1.7\n<script>alert(1)</script>"
        case = with_item(case_at, alice, noon, content, "<b>.pdf\u202e")
        client = sign_in(Client(), moderator)

        saved = client.get(reverse("admin:case_item", args=[case.pk, 1]))

        assert saved.content == content
        assert saved["Content-Type"] == "application/octet-stream"
        assert saved["Content-Disposition"] == 'attachment; filename="evidence-1.pdf"'
        assert saved["X-Content-Type-Options"] == "nosniff"
        assert client.get(reverse("admin:case_picture", args=[case.pk, 1])).status_code == 404
        read = AuditRecord.objects.filter(action="read.evidence").get()
        assert (read.user, read.subject) == (moderator, f"dispute:{case.pk}")
        text = visit(case, moderator)
        assert "A file, not shown here (application/pdf)" in text
        assert "&lt;b&gt;.pdf\\u{202E}" in text
        assert "alert(1)" not in text

    def test_deliveries_are_saved_too(self, case_at, moderator, sign_in):
        case = case_at("under_review")

        saved = sign_in(Client(), moderator).get(reverse("admin:case_delivery", args=[case.pk, 1]))

        assert saved.content == b'{"chapters":[1,2,3]}'
        assert saved["Content-Disposition"] == 'attachment; filename="delivery-1"'
        assert AuditRecord.objects.filter(action="read.delivery", user=moderator).exists()

    def test_the_whole_case_is_exported_as_a_pack(self, case_at, moderator, make_staff, sign_in):
        case = case_at("under_review")

        saved = sign_in(Client(), moderator).get(address(case, "pack"))

        names = zipfile.ZipFile(BytesIO(b"".join(saved.streaming_content))).namelist()
        assert len(names) >= 2
        assert saved["Content-Disposition"] == f'attachment; filename="case-{case.pk}.zip"'
        assert saved["X-Content-Type-Options"] == "nosniff"
        assert AuditRecord.objects.filter(action="read.exported_case", user=moderator).count() == 1
        user = make_staff("nan")
        user.user_permissions.set(Permission.objects.filter(codename="view_dispute"))
        assert sign_in(Client(), user).get(address(case, "pack")).status_code == 403

    def test_erased_ones_say_so(self, case_at, alice, moderator, noon, sign_in, visit):
        from django.db import connection

        case = with_item(case_at, alice, noon, quarrel.picture(), "scan.png")
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute("UPDATE disputes_evidence SET content = NULL")
            cursor.execute("SET LOCAL session_replication_role = DEFAULT")
        client = sign_in(Client(), moderator)

        text = visit(case, moderator)

        assert "Erased: it was kept for its time. Its digest stays." in text
        assert reverse("admin:case_item", args=[case.pk, 1]) not in text
        assert "1 item, unbroken" in text
        for name in ("case_picture", "case_item"):
            assert client.get(reverse(f"admin:{name}", args=[case.pk, 1])).status_code == 404
            assert client.get(reverse(f"admin:{name}", args=[case.pk, 99])).status_code == 404


PROBES = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</pre></textarea></title><svg onload=alert(1)>",
    "\"'><a href=javascript:alert(1)>https://click.example</a>",
    "{{ 7|add:7 }} {% csrf_token %}",
    "user\u202egnp.exe\u200b",
)


class TestTextOfStrangersAndColleagues:
    def test_is_text_wherever_it_stands(self, case_at, moderator, senior, make_senior, job_at, alice, bob, noon, visit):
        poison = "\n".join(PROBES)
        case = case_at("evidence", job=job_at(price=100_000_000))
        evidence.submit(case.pk, by=alice, item=evidence.from_text(poison), at=noon + HOUR)
        evidence.submit(case.pk, by=bob, item=evidence.from_file(b"%PDF-1.7", PROBES[1] + PROBES[5]), at=noon + HOUR)
        review_from = noon + HOUR + 2 * DAY
        from disputes import approvals, deadlines

        deadlines.enforce(case.pk, at=review_from)
        asked = ask(case, moderator, text=poison, at=review_from)
        questions.answer(case.pk, by=bob, question_id=asked.pk, text=poison, at=review_from + HOUR)
        case = Dispute.objects.get(pk=case.pk)
        case = ruled(case, moderator, at=review_from + HOUR, reasons=poison.ljust(220, "."), private_notes=poison)
        second = make_senior("sven")
        approvals.approve(case.pk, approver=second, revision=case.revision, reason=poison, at=review_from + HOUR)
        from disputes import appeals

        appeals.file(case.pk, appellant=bob, grounds=poison.ljust(120, "."), at=review_from + 2 * HOUR)

        for name in ("", "uphold"):
            text = visit(case, senior, name)
            for live in ("<script>alert", "<img src=x", "<svg onload", "<a href=javascript", "\u202e", "\u200b"):
                assert live not in text, (name, live)
            assert "user\\u{202E}gnp.exe\\u{200B}" in text
            assert "{{ 7|add:7 }}" in text
            assert not re.search(r'href="https://click', text)
            assert not re.search(r"<style|\sstyle=|<script(?![^>]*\bsrc=)|\son[a-z]+=\"", text)

    def test_private_notes_reach_no_party(self, case_at, moderator, client_for, alice, bob, noon):
        case = case_at("under_review")
        ruled(case, moderator, at=noon + 3 * DAY, private_notes="Look at both digests.")

        for agent in (alice, bob):
            for path in (f"/disputes/{case.pk}", f"/jobs/{case.job_id}", "/events"):
                answer = client_for(agent).get(path)
                assert answer.status_code == 200, path
                assert "Look at both digests" not in answer.content.decode()
                assert "mona" not in answer.content.decode()


class TestTheTimeLine:
    def test_tells_the_whole_story_in_order_with_names(self, case_at, moderator, make_moderator, visit):
        case = assignment.take(case_at("under_review").pk, moderator=moderator)
        other = make_moderator("max")
        assignment.reassign(case.pk, by=moderator, to=other, reason=REASON)
        ask(case, other)

        text = visit(case, other)
        steps = re.findall(r'<li class="step[^"]*">(.*?)</li>', text, re.DOTALL)
        told = [" ".join(re.sub(r"<[^>]+>", " ", step).split()) for step in steps]

        assert [line.split(" UTC ")[1].split(" by ")[0] for line in told] == [
            "offer 1", "agree", "fund", "start", "deliver", "open", "answer", "close evidence", "take", "reassign",
            "ask",
        ]  # fmt: skip
        assert "take by moderator mona to mona (taken)" in told[8]
        assert f"reassign by moderator mona to max: {REASON}" in told[9].replace("&#x27;", "'")
        assert "ask by moderator max question 1 to the seller" in told[10]


class TestHowMuchAPageCosts:
    def test_at_most_40_statements_with_everything_on_it(
        self, case_at, moderator, senior, job_at, alice, bob, noon, sign_in, django_assert_max_num_queries
    ):
        from disputes import deadlines
        from disputes.models import DisputeTransition

        case_at("final")
        case = case_at("evidence", job=job_at(price=100_000_000))
        for number in range(6):
            item = evidence.from_text(f"item {number}")
            evidence.submit(case.pk, by=alice if number % 2 else bob, item=item, at=noon + 2 * HOUR)
        at = noon + HOUR + 2 * DAY
        deadlines.enforce(case.pk, at=at)
        for to in ("client", "seller"):
            ask(case, moderator, to=to, at=at)
        for question in Question.objects.all():
            who = alice if question.to == "client" else bob
            questions.answer(case.pk, by=who, question_id=question.pk, text="There.", at=at)
        from disputes import approvals

        case = ruled(Dispute.objects.get(pk=case.pk), moderator, at=at)
        approvals.approve(case.pk, approver=staff_member(), revision=case.revision, at=at)
        appealed(case, bob, at=at + HOUR)
        case = assignment.take(case.pk, moderator=senior, at=at + HOUR)
        DisputeTransition.objects.bulk_create(
            DisputeTransition(
                dispute=case, revision=1_000 + number, action="submit_evidence", by="client", to_state="evidence",
                note=f"item {number % 6 + 1}", occurred_at=noon,
            )
            for number in range(200)
        )  # fmt: skip
        client = sign_in(Client(), senior)

        with django_assert_max_num_queries(40) as counted:
            answer = client.get(address(case))

        assert answer.status_code == 200
        assert answer.content.decode().count('class="step ') > 200
        assert "ruling-form" in answer.content.decode(), "with the form and everything beside it"
        assert len(counted) > 10


def ask(case: Dispute, moderator: User, **given: Any) -> Question:
    case = Dispute.objects.get(pk=case.pk)
    said = {"to": "seller", "text": "Where in the delivery are the twelve tables?", "revision": case.revision}
    return questions.ask(case.pk, moderator=moderator, **(said | given))


def with_item(case_at: Any, by: Any, noon: Any, content: bytes, filename: str) -> Dispute:
    case = case_at("awaiting_answer")
    return evidence.submit(case.pk, by=by, item=evidence.from_file(content, filename), at=noon + HOUR)


def balances(case: Dispute, balance_of: Any) -> dict[str, int]:
    return {
        "Client": balance_of("available", case.client),
        "Seller": balance_of("available", case.seller),
        "Platform fee": balance_of("fees"),
        "Platform penalties": balance_of("penalties"),
    }


def staff_member() -> User:
    return staff.prepare_account("moritz", groups=["Moderators"])


@pytest.fixture
def fund() -> Any:
    """Write down that an address paid USDC to an agent; nothing is credited."""
    from escrow.models import Deposit

    def fund(agent: Any, sender: bytes) -> None:
        Deposit.objects.create(
            chain_id=31337, tx_hash=uuid4().bytes * 2, log_index=0, block_number=1, block_hash=b"\x01" * 32,
            sender=sender, receiver=b"\x03" * 20, amount_units=1_000_000, agent=agent, state=Deposit.State.SEEN,
        )  # fmt: skip

    return fund


@pytest.fixture
def payout_address() -> Any:
    from escrow.models import AddressBookEntry

    def enter(agent: Any, address: bytes) -> None:
        now = clock.now()
        AddressBookEntry.objects.create(agent=agent, address=address, created_at=now, usable_at=now)

    return enter
