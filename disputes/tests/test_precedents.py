import uuid
from datetime import timedelta

import pytest
from django.db import transaction
from django.urls import reverse

from accounts import ids
from disputes import arbitration, evidence, precedents
from disputes.models import Dispute, Precedent
from disputes.precedents import Facts, Outcomes
from disputes.tests.conftest import DAY, HOUR, REASONS, STATEMENT, ruled
from marketplace import listings
from marketplace.models import Job

pytestmark = pytest.mark.django_db


def final(case_at, moderator, noon, *, reasons=REASONS, **given):
    """Bring a case to its end by a ruling with these reasons."""
    case = ruled(case_at("under_review"), moderator, at=noon + 3 * DAY, reasons=reasons, **given)
    return arbitration.finalise(case.id, at=noon + 5 * DAY)


@pytest.fixture
def precedent_with(db, case_at, moderator, noon):
    """Write the precedent of a case that was ruled with these reasons."""

    def write(reasons=REASONS, **given):
        found = precedents.write(final(case_at, moderator, noon, reasons=reasons, **given).pk)
        assert found is not None
        return found

    return write


@pytest.fixture
def make_precedent(db, case_at):
    """Make precedents of chosen outcomes, all of one case's numbers: rows of a search need no life of their own."""
    made = []

    def make(**given):
        if not made:
            made.append(case_at("final"))
        first = made[0]
        clone = Dispute.objects.get(pk=first.pk)
        if len(made) > 1 or Precedent.objects.filter(dispute=first).exists():
            clone.pk = ids.uuid7()
            fields = [f.attname for f in Dispute._meta.concrete_fields if not f.generated]
            Dispute.objects.bulk_create([Dispute(**{name: getattr(clone, name) for name in fields})])
        made.append(clone)
        row = {
            "dispute_id": clone.pk, "reason": "late", "reason_codes": ["late"], "price_band": "10_to_100",
            "opened_by": "client", "facts": {}, "seller_bps": 5_000, "redo": False, "is_default": False,
            "reasons": "The work came late and in parts.", "decided_at": first.closed_at.date(),
        }  # fmt: skip
        return Precedent.objects.create(**(row | given))

    return make


class TestWrite:
    def test_keeps_what_was_found_and_decided(self, precedent_with):
        found = precedent_with()

        assert (found.reason, found.reason_codes, found.opened_by) == ("not_as_agreed", ["not_as_agreed"], "client")
        assert (found.price_band, found.category) == ("10_to_100", "")
        assert (found.seller_bps, found.redo, found.is_default) == (3_000, False, False)
        assert (found.bond_to, found.deposit) == ("", "")
        assert found.reasons == REASONS
        assert found.facts == {
            "delivered_in_time": True, "deliveries": 1, "revisions_used": 0, "answered": True, "checks": None,
            "appeal": None,
        }  # fmt: skip

    def test_keeps_the_day_alone_and_an_id_without_a_time(self, precedent_with, noon):
        found = precedent_with()

        assert found.decided_at == (noon + 5 * DAY).date()
        assert uuid.UUID(str(found.id)).version == 4

    def test_says_where_the_bond_went(self, case_at, job_at, moderator, noon):
        case = case_at("under_review", job=job_at(seller_bond=1_000_000))
        ruled(case, moderator, at=noon + 3 * DAY)
        arbitration.finalise(case.id, at=noon + 5 * DAY)

        assert precedents.write(case.pk).bond_to == "seller"

    def test_says_that_a_side_was_silent_and_nobody_ruled(self, case_at, noon):
        case = case_at("unanswered")
        arbitration.stop_hard(case.id, at=noon + 40 * DAY)

        found = precedents.write(case.pk)

        assert (found.is_default, found.facts["answered"]) == (True, False)

    @pytest.mark.parametrize(
        "told",
        [
            "alice", "Alice", "@bob", "BOB", "Summaries", "mona", "50 USDC", "50.000000",
            STATEMENT[:60], STATEMENT[30:80].upper(),
        ],
    )  # fmt: skip
    def test_tells_no_name_amount_title_or_quotation(self, precedent_with, told):
        found = precedent_with(f"{REASONS} Here it is: {told}. So it is decided.")

        assert found.reasons.startswith(REASONS)
        assert told.lower().strip("@") not in found.reasons.lower()

    def test_tells_no_id_of_the_case(self, case_at, moderator, noon):
        case = case_at("under_review")
        job = Job.objects.get(pk=case.job_id)
        reasons = f"{REASONS} {case.pk} {job.pk} {job.agreed_terms_hash} {job.client_id}"
        ruled(case, moderator, at=noon + 3 * DAY, reasons=reasons)
        arbitration.finalise(case.id, at=noon + 5 * DAY)

        assert precedents.write(case.pk).reasons == f"{REASONS} [id] [id] [hash] [id]"

    def test_tells_no_quotation_of_evidence(self, case_at, moderator, noon, alice, bob):
        case = case_at("evidence")
        told = "my own hard disk broke down on the very evening of the delivery"
        evidence.submit(case.id, by=bob, item=evidence.from_json({"why": told}), at=noon + 2 * HOUR)
        from disputes import deadlines

        case = deadlines.enforce(case.id, at=noon + HOUR + 2 * DAY)
        ruled(case, moderator, at=noon + 3 * DAY, reasons=f"{REASONS} It was said that {told}.")
        arbitration.finalise(case.id, at=noon + 5 * DAY)

        assert precedents.write(case.pk).reasons == f"{REASONS} It was said that [quotation]."

    def test_tells_no_handle_of_another_agent(self, precedent_with, make_agent):
        make_agent("carol-7")

        found = precedent_with(f"{REASONS} The work is that of carol-7, in twenty-four parts.")

        assert found.reasons == f"{REASONS} The work is that of [agent], in twenty-four parts."

    @pytest.mark.parametrize(
        ("skills", "category"), [(["summaries", "pdf"], "summaries"), (["bob-work"], ""), ([], "")]
    )
    def test_takes_the_category_from_the_listing(self, case_at, job_at, moderator, noon, bob, skills, category):
        listing = listings.create(
            bob,
            title="Short texts",
            description="I write.",
            skills=skills,
            price_units=50_000_000,
            delivery_seconds=86_400,
        )
        job = job_at()
        Job.objects.filter(pk=job.pk).update(listing=listing)
        case = case_at("under_review", job=job)
        ruled(case, moderator, at=noon + 3 * DAY)
        arbitration.finalise(case.id, at=noon + 5 * DAY)

        assert precedents.write(case.pk).category == category

    @pytest.mark.parametrize("state", ["evidence", "under_review", "ruled", "settled", "withdrawn"])
    def test_writes_nothing_of_a_case_that_is_not_final(self, case_at, state):
        case = case_at(state)

        assert precedents.write(case.pk) is None
        assert precedents.write_due(limit=10) == 0
        assert not Precedent.objects.exists()

    @pytest.mark.parametrize(
        ("units", "band"),
        [
            (10_000, "under_10"), (9_999_999, "under_10"), (10_000_000, "10_to_100"), (99_999_999, "10_to_100"),
            (100_000_000, "100_to_1000"), (1_000_000_000, "1000_to_10000"), (10_000_000_000, "from_10000"),
            (10**12, "from_10000"),
        ],
    )  # fmt: skip
    def test_puts_prices_into_bands(self, units, band):
        assert precedents.band_of(units) == band


class TestOnce:
    def test_a_case_that_is_summarised_is_left_alone(self, case_at):
        case = case_at("final")
        first = precedents.write(case.pk)

        assert precedents.write(case.pk) is None
        assert list(Precedent.objects.all()) == [first]


class TestWriteDue:
    def test_writes_each_final_case_once(self, case_at):
        case_at("final")

        assert [precedents.write_due(limit=10) for _ in range(2)] == [1, 0]
        assert Precedent.objects.count() == 1

    def test_goes_on_after_one_that_raises_which_waits(self, case_at, monkeypatch, make_agent):
        case = case_at("final")

        def broken(*_):
            raise RuntimeError

        monkeypatch.setattr(precedents, "_facts", broken)

        assert precedents.write_due(limit=10) == 0
        assert Dispute.objects.get(pk=case.pk).due_retry_at is not None
        monkeypatch.undo()
        assert precedents.write_due(limit=10) == 0  # it waits

        Dispute.objects.filter(pk=case.pk).update(due_retry_at=None)
        assert precedents.write_due(limit=10) == 1


@pytest.mark.django_db(transaction=True)
class TestRace:
    def test_eight_sweeps_write_one_summary(self, case_at, race):
        case_at("final")

        outcomes = race(*[lambda: precedents.write_due(limit=10)] * 8)

        assert sorted(outcomes) == [0, 0, 0, 0, 0, 0, 0, 1]
        assert Precedent.objects.count() == 1
        assert Dispute.objects.get().due_attempts == 0  # and none of them stumbled over another

    def test_a_case_that_somebody_holds_is_passed_by(self, case_at, race):
        case = case_at("final")
        with transaction.atomic():
            Dispute.objects.select_for_update(no_key=True).get(pk=case.pk)

            (outcome,) = race(lambda: precedents.write_due(limit=10))

        assert outcome == 0
        assert precedents.write_due(limit=10) == 1


class TestSearch:
    def test_finds_words_of_the_reasons(self, make_precedent):
        found = make_precedent(reasons="The summaries lack their tables.")
        make_precedent(reasons="The translation is a copy.")

        assert list(precedents.search(q="table summary")) == [found]
        assert list(precedents.search(q='"their tables" -copy')) == [found]

    def test_finds_categories(self, make_precedent):
        found = make_precedent(category="translation")
        make_precedent()

        assert list(precedents.search(q="translations")) == [found]

    def test_finds_what_a_case_was_opened_for(self, make_precedent):
        make_precedent(reason="late")
        found = make_precedent(reason="unusable")

        assert list(precedents.search(reason="unusable")) == [found]

    def test_puts_the_newest_day_first(self, make_precedent):
        rows = [make_precedent() for _ in range(3)]
        day = rows[0].decided_at
        old = make_precedent(decided_at=day - timedelta(days=1))

        found = list(precedents.search())

        assert found[-1] == old
        assert found[:3] == sorted(rows, key=lambda row: row.id, reverse=True)


class TestSimilar:
    def test_counts_how_they_ended(self, make_precedent):
        for bps in (10_000, 10_000, 2_000, 0):
            make_precedent(seller_bps=bps)
        make_precedent(seller_bps=None, redo=True)
        make_precedent(seller_bps=5_000, is_default=True)

        found = precedents.similar(Facts("late", 50_000_000))

        assert found == Outcomes(
            seller_full=2, split=1, client_full=1, redo=1, defaults=1, total=6, median_seller_bps=6_000, any_price=False
        )

    def test_takes_other_prices_when_too_few_are_alike(self, make_precedent):
        for _ in range(4):
            make_precedent()
        make_precedent(price_band="under_10", seller_bps=0)
        make_precedent(reason="fraud")

        found = precedents.similar(Facts("late", 50_000_000))

        assert (found.total, found.client_full, found.any_price) == (5, 1, True)

    def test_keeps_to_the_price_when_enough_are_alike(self, make_precedent):
        for _ in range(5):
            make_precedent()
        make_precedent(price_band="under_10")

        found = precedents.similar(Facts("late", 50_000_000))

        assert (found.total, found.any_price) == (5, False)

    def test_does_not_count_the_case_itself(self, case_at):
        case = Dispute.objects.get(pk=case_at("final").pk)
        precedents.write(case.pk)

        assert precedents.similar(case).total == 0
        assert precedents.similar(Facts(case.reason, case.price_units)).total == 1

    def test_says_nothing_of_a_median_without_rulings(self):
        assert precedents.similar(Facts("late", 1)) == Outcomes(0, 0, 0, 0, 0, 0, None, True)

    def test_takes_two_statements_however_many_there_are(self, make_precedent, django_assert_max_num_queries):
        for _ in range(7):
            make_precedent()

        with django_assert_max_num_queries(2):
            precedents.similar(Facts("late", 50_000_000))


class TestApi:
    def test_shows_what_was_decided_and_nothing_that_leads_to_it(self, precedent_with, client_for, carol):
        found = precedent_with(f"{REASONS} For alice, 50 USDC.")
        case = found.dispute

        answer = client_for(carol).get("/precedents")

        (row,) = answer.json()["data"]
        assert set(row) == {
            "id", "reason", "reason_codes", "category", "price_band", "opened_by", "facts", "outcome", "reasons",
            "decided_on",
        }  # fmt: skip
        assert row["outcome"] == {
            "seller_bps": 3_000, "redo": False, "bond": "", "deposits": "", "is_default": False,
        }  # fmt: skip
        for secret in (case.pk, case.job_id, case.client_id, case.seller_id, "alice", "bob", "mona", "Summaries"):
            assert str(secret) not in answer.content.decode()

    def test_goes_from_page_to_page(self, make_precedent, client_for, carol):
        rows = {str(make_precedent().id) for _ in range(5)}
        client, seen, cursor = client_for(carol), [], ""

        while cursor is not None:
            page = client.get("/precedents" + f"?limit=2&cursor={cursor}").json()
            seen += [row["id"] for row in page["data"]]
            cursor = page["next_cursor"]

        assert len(seen) == 5
        assert set(seen) == rows

    def test_filters_by_reason_and_words(self, make_precedent, client_for, carol):
        found = make_precedent(reason="unusable", reasons="A broken archive.")
        make_precedent(reason="unusable")
        make_precedent(reasons="A broken archive.")

        (row,) = client_for(carol).get("/precedents?reason=unusable&q=archives").json()["data"]

        assert row["id"] == str(found.id)

    @pytest.mark.parametrize(
        "query",
        [
            "q=" + "%22" * 150, "q=%27%3B--", "q=%5C", "q=%21%26%7C%3A%2A%28%29", "q=-%20-%20or%20or", "q=%3C%3E%20and",
            "q=%FF%FE", "q=%F0%9F%98%80", "q=%ED%A0%80", "q=the", "q=" + "(" * 200, "q=a:*%20%26", "q=%20", "q=",
            "q=a&q=b", "cursor=%20&q=a",
        ],
    )  # fmt: skip
    def test_answers_whatever_the_words_are(self, make_precedent, client_for, carol, query):
        make_precedent()

        assert client_for(carol).get(f"/precedents?{query}").status_code in (200, 400)

    @pytest.mark.parametrize(
        ("query", "pointer"),
        [
            ("reason=tired", "/reason"), ("q=" + "a" * 201, "/q"), ("limit=0", "/limit"), ("limit=101", "/limit"),
            ("cursor=abc", "/cursor"), ("cursor=WyJhIiwgImIiXQ", "/cursor"),
        ],
    )  # fmt: skip
    def test_refuses_what_it_cannot_read(self, client_for, carol, query, pointer):
        answer = client_for(carol).get(f"/precedents?{query}")

        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == pointer

    def test_refuses_nul(self, client_for, carol):
        assert client_for(carol).get("/precedents?q=%00").status_code == 400

    def test_is_for_agents_that_are_signed_in(self, client_for, carol):
        from accounts.tests.http import ApiClient

        assert ApiClient().get("/precedents").status_code == 401
        assert client_for(carol, ["wallet:read"]).get("/precedents").status_code == 403


class TestPreviewOfADispute:
    BODY = {"reason": "late", "statement": STATEMENT, "requested_seller_bps": 0}

    def test_shows_how_similar_cases_ended(self, make_precedent, job_at, client_for, alice):
        from accounts import clock

        for bps in (0, 0, 10_000, 4_000, 4_000):
            make_precedent(seller_bps=bps)
        job = job_at(at=clock.now())

        answer = client_for(alice).post(f"/jobs/{job.id}/dispute?preview=true", self.BODY)

        assert answer.json()["precedents"] == {
            "seller_full": 1, "split": 2, "client_full": 2, "redo": 0, "defaults": 0, "total": 5,
            "median_seller_bps": 4_000, "any_price": False,
        }  # fmt: skip
        assert answer.json()["allowed"] is True

    def test_shows_none_where_it_is_refused(self, job_at, client_for, alice):
        from accounts import clock

        job = job_at("completed", at=clock.now())

        answer = client_for(alice).post(f"/jobs/{job.id}/dispute?preview=true", self.BODY)

        assert (answer.json()["allowed"], answer.json()["precedents"]) == (False, None)


class TestPage:
    def see(self, client, query=""):
        return client.get(reverse("admin:precedents") + query)

    @pytest.fixture
    def reader(self, client, sign_in, moderator):
        return sign_in(client, moderator)

    def test_shows_what_was_decided(self, make_precedent, reader):
        make_precedent(reasons="<script>alert(1)</script> came \u202elate.")

        text = self.see(reader).content.decode()

        assert "&lt;script&gt;alert(1)&lt;/script&gt; came \\u{202E}late." in text
        assert "50 % to the seller" in text
        assert "alice" not in text

    def test_finds_by_words_and_reason(self, make_precedent, reader):
        make_precedent(reason="unusable", reasons="A broken archive.")
        make_precedent(reasons="A copied text.")

        assert "broken archive" in self.see(reader, "?q=archives&reason=unusable").content.decode()
        assert "No precedent matches." in self.see(reader, "?q=archives&reason=late").content.decode()

    def test_goes_from_page_to_page(self, make_precedent, reader, monkeypatch):
        from disputes.console import precedents as pages

        monkeypatch.setattr(pages, "SHOWN", 2)
        rows, seen, query = {make_precedent().pk for _ in range(5)}, [], ""

        while query is not None:
            answer = self.see(reader, query)
            seen += [row.pk for row in answer.context["rows"]]
            query = answer.context["more"]

        assert (len(seen), set(seen)) == (5, rows)

    @pytest.mark.parametrize(
        "query", ["?reason=tired", "?q=" + "a" * 300, "?q=%00", "?after=x", "?after=2026-11-26~y", "?after=~", "?q=%FF"]
    )
    def test_answers_whatever_is_asked(self, make_precedent, reader, query):
        make_precedent()

        assert self.see(reader, query).status_code == 200

    def test_is_for_staff_who_may_see_them(self, client, sign_in, make_staff):
        sign_in(client, make_staff("tilda", "Treasurers"))

        assert self.see(client).status_code == 403

    def test_takes_as_many_statements_for_many_rows(self, make_precedent, reader, django_assert_max_num_queries):
        for _ in range(10):
            make_precedent()

        with django_assert_max_num_queries(8):
            self.see(reader)
