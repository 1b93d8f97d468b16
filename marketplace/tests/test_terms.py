import hashlib
import json

import pytest
from django.db import IntegrityError, transaction

from accounts.errors import Invalid
from marketplace import terms
from marketplace.models import Job, Offer
from marketplace.tests.trades import TERMS, terms_of

REQUIRED = {"price": "10", "title": "Translate a page", "delivery_seconds": 3_600}


def nested(depth):
    """Nest objects so that the whole has this many levels."""
    value = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def padded(size):
    """Make requirements of exactly this many canonical bytes."""
    return {"a": "x" * (size - len('{"a":""}'))}


class TestHash:
    def test_is_the_digest_of_canonical_json_computed_by_hand(self, settings):
        settings.FEE_BPS = 100
        written_out = {
            "acceptance": {"mode": "review"},
            "client_abort_fee": "0.000000",
            "delivery_seconds": 3600,
            "fee_bps": 100,
            "max_revisions": 2,
            "price": "10.000000",
            "requirements": {"words": 250, "Ziel": "Köln", "a": [1, 0.5, None, True]},
            "reveal": "on_delivery",
            "review_seconds": 259200,
            "revision_seconds": 86400,
            "seller_bond": "0.000000",
            "title": "Translate a page",
        }
        canonical = json.dumps(written_out, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        by_hand = "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()

        read = terms_of(
            requirements={"a": [1, 0.5, None, True], "Ziel": "Köln", "words": 250},
            review_seconds=259_200, revision_seconds=86_400, price="10", seller_bond="0", client_abort_fee="0",
        )  # fmt: skip

        assert read.hash == by_hand
        assert by_hand == "sha256:fe19d4cdd2500fcd0604820bfff9e6f840d82a13d67624489f3e59eeb6997078"

    @pytest.mark.parametrize("price", ["1", "1.0", "1.000000", "1.00"])
    def test_is_one_for_every_way_to_write_an_amount(self, price):
        assert terms_of(price=price, seller_bond="0", client_abort_fee="0").hash == (
            terms_of(price="1.000", seller_bond="0.0", client_abort_fee="0.000000").hash
        )

    def test_does_not_depend_on_the_order_of_keys(self):
        forwards = terms_of(requirements={"a": 1, "b": {"c": 1, "d": 2}})
        backwards = terms_of(requirements={"b": {"d": 2, "c": 1}, "a": 1})

        assert forwards.hash == backwards.hash

    def test_sorts_keys_by_utf_16_units_as_rfc_8785_asks(self):
        # By code points the emoji comes last; by UTF-16 units it comes before the ligature.
        assert terms.canonical({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()

    def test_is_one_for_composed_and_decomposed_letters(self):
        assert terms_of(title="Ko\u0308ln").hash == terms_of(title="K\u00f6ln").hash
        assert terms_of(requirements={"o\u0308": 1}).hash == terms_of(requirements={"\u00f6": 1}).hash
        assert terms_of(title="Ko\u0308ln").document["title"] == "K\u00f6ln"

    def test_is_one_whether_defaults_are_written_or_not(self):
        written = terms_of(
            requirements={}, max_revisions=2, reveal="on_delivery", acceptance={"mode": "review"}, fee_bps=100
        )

        assert written.hash == terms_of().hash

    @pytest.mark.parametrize(
        "change",
        [
            {"price": "12.345679"},
            {"title": "Translate a page."},
            {"delivery_seconds": 3_601},
            {"review_seconds": 7_201},
            {"revision_seconds": 7_201},
            {"max_revisions": 1},
            {"seller_bond": "3"},
            {"client_abort_fee": "2"},
            {"requirements": {"a": 1}},
        ],
    )
    def test_changes_with_every_field(self, change):
        assert terms_of(**change).hash != terms_of().hash


class TestRead:
    def test_writes_every_default_out(self):
        asked = terms.TermsBody(data=REQUIRED)
        asked.is_valid(raise_exception=True)

        assert terms.read(asked.validated_data).document == {
            "price": "10.000000",
            "title": "Translate a page",
            "requirements": {},
            "delivery_seconds": 3_600,
            "review_seconds": 259_200,
            "max_revisions": 2,
            "revision_seconds": 86_400,
            "seller_bond": "0.000000",
            "client_abort_fee": "0.000000",
            "reveal": "on_delivery",
            "acceptance": {"mode": "review"},
            "fee_bps": 100,
        }

    @pytest.mark.parametrize(
        ("delivery_seconds", "revision_seconds"),
        [(60, 86_400), (345_600, 86_400), (345_604, 86_401), (4_838_400, 1_209_600), (31_536_000, 1_209_600)],
    )
    def test_gives_a_revision_a_quarter_of_the_delivery_within_bounds(self, delivery_seconds, revision_seconds):
        asked = terms.TermsBody(data=REQUIRED | {"delivery_seconds": delivery_seconds})
        asked.is_valid(raise_exception=True)

        assert terms.read(asked.validated_data).revision_seconds == revision_seconds

    def test_measures_the_title_that_is_stored(self):
        letter = "\u0958"  # one character, two in NFC

        assert len(terms_of(title=letter * 70).document["title"]) == 140
        with pytest.raises(Invalid) as refusal:
            terms_of(title=letter * 71)

        assert refusal.value.errors[0][:2] == ("/terms/title", "max_length")

    def test_refuses_two_keys_that_become_one(self):
        with pytest.raises(Invalid) as refusal:
            terms_of(requirements={"list": [{"o\u0308": 1, "\u00f6": 2}]})

        assert refusal.value.errors[0][:2] == ("/terms/requirements/list/0/\u00f6", "duplicate_key")

    @pytest.mark.parametrize("number", [2**53, -(2**53), 10**30, 1e21, -1e300])
    def test_refuses_numbers_that_are_not_the_same_everywhere(self, number):
        with pytest.raises(Invalid) as refusal:
            terms_of(requirements={"seed": [number]})

        assert refusal.value.errors[0][:2] == ("/terms/requirements/seed/0", "integer_too_large")

    @pytest.mark.parametrize("number", [2**53 - 1, -(2**53) + 1, 1.5, 0, True])
    def test_keeps_numbers_that_are_the_same_everywhere(self, number):
        assert terms_of(requirements={"seed": number}).document["requirements"] == {"seed": number}

    def test_takes_requirements_of_16_kib_and_not_a_byte_more(self):
        terms_of(requirements=padded(16_384))

        with pytest.raises(Invalid) as refusal:
            terms_of(requirements=padded(16_385))

        assert refusal.value.errors[0][:2] == ("/terms/requirements", "too_large")

    def test_takes_requirements_of_16_levels_and_not_one_more(self):
        terms_of(requirements=nested(16))

        with pytest.raises(Invalid) as refusal:
            terms_of(requirements=nested(17))

        assert refusal.value.errors[0][:2] == ("/terms/requirements", "too_deep")


# Every bound of the specification: at the edge, and over it with the code that says why.
EDGES = [
    ("price", "0.010000", "0.009999", "too_small"),
    ("price", "1000000", "1000000.000001", "too_large"),
    ("title", "x", "", "blank"),
    ("title", "x" * 140, "x" * 141, "max_length"),
    ("delivery_seconds", 60, 59, "min_value"),
    ("delivery_seconds", 31_536_000, 31_536_001, "max_value"),
    ("review_seconds", 3_600, 3_599, "min_value"),
    ("review_seconds", 1_209_600, 1_209_601, "max_value"),
    ("max_revisions", 0, -1, "min_value"),
    ("max_revisions", 3, 4, "max_value"),
    ("revision_seconds", 3_600, 3_599, "min_value"),
    ("revision_seconds", 1_209_600, 1_209_601, "max_value"),
    ("seller_bond", "10.000000", "10.000001", "above_price"),
    ("client_abort_fee", "10.000000", "10.000001", "above_price"),
    ("reveal", "on_delivery", "never", "invalid_choice"),
    ("fee_bps", 100, 99, "fee_differs"),
    ("fee_bps", 100, 101, "fee_differs"),
]
WRONG = [
    ("price", 10, "not_text"),
    ("price", 10.5, "not_text"),
    ("price", None, "null"),
    ("price", "10.0000000", "invalid_money"),
    ("price", "10.", "invalid_money"),
    ("price", "-1", "invalid_money"),
    ("price", "+1", "invalid_money"),
    ("price", "1e3", "invalid_money"),
    ("price", " 1", "invalid_money"),
    ("price", "1\n", "invalid_money"),
    ("price", "01", "invalid_money"),
    ("price", "1,000", "invalid_money"),
    ("price", "\u0661", "invalid_money"),
    ("price", "NaN", "invalid_money"),
    ("seller_bond", 1, "not_text"),
    ("seller_bond", "-0", "invalid_money"),
    ("client_abort_fee", 0, "not_text"),
    ("title", 7, "invalid"),
    ("delivery_seconds", "3600", "invalid"),
    ("delivery_seconds", 3600.0, "invalid"),
    ("delivery_seconds", True, "invalid"),
    ("requirements", [], "not_an_object"),
    ("requirements", "text", "not_an_object"),
    ("reveal", "on_payment", "needs_checks"),
    ("fee_bps", 10_001, "max_value"),
    ("colour", "red", "unknown_field"),
]


def problem(answer):
    """Name a refusal: status, code, and the first field's pointer and code."""
    body = answer.json()
    assert answer["Content-Type"] == "application/problem+json"
    return answer.status_code, body["code"], body["errors"][0]["pointer"], body["errors"][0]["code"]


@pytest.mark.django_db
class TestPropose:
    """Terms as they come in by `POST /v1/jobs`."""

    @pytest.fixture
    def propose(self, alice, bob, client_for):
        client = client_for(alice)

        def propose(**fields):
            given = {name: value for name, value in (REQUIRED | fields).items() if value is not ...}
            return client.post("/jobs", {"seller": "bob", "terms": given})

        return propose

    @pytest.mark.parametrize(("field", "edge", "beyond", "code"), EDGES)
    def test_takes_the_edge_and_refuses_what_is_beyond(self, propose, field, edge, beyond, code):
        taken = propose(**{field: edge})
        refused = propose(**{field: beyond})

        assert taken.status_code == 201, taken.content
        assert taken.json()["offer"]["terms"][field] in (edge, f"{edge}.000000")
        assert problem(refused) == (400, "invalid_request", f"/terms/{field}", code)
        assert Job.objects.count() == 1

    @pytest.mark.parametrize(("field", "value", "code"), WRONG)
    def test_refuses_the_wrong_kind_of_value(self, propose, field, value, code):
        assert problem(propose(**{field: value})) == (400, "invalid_request", f"/terms/{field}", code)
        assert Job.objects.count() == 0

    @pytest.mark.parametrize("field", REQUIRED)
    def test_needs_what_has_no_default(self, propose, field):
        assert problem(propose(**{field: ...})) == (400, "invalid_request", f"/terms/{field}", "required")

    @pytest.mark.parametrize(
        "acceptance",
        [
            {"mode": "checks", "checks": [{"name": "json"}], "approve_on_pass": True},
            {"mode": "checks"},
        ],
    )
    def test_has_no_checks_yet(self, propose, acceptance):
        assert problem(propose(acceptance=acceptance)) == (
            400, "not_available", "/terms/acceptance/mode", "not_available",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("acceptance", "pointer", "code"),
        [
            ({}, "/terms/acceptance/mode", "required"),
            ({"mode": "trust"}, "/terms/acceptance/mode", "invalid_choice"),
            ({"mode": "review", "approve_on_pass": True}, "/terms/acceptance", "checks_without_mode"),
            ({"mode": "checks", "checks": []}, "/terms/acceptance/checks", "min_length"),
            ({"mode": "checks", "checks": [{}] * 21}, "/terms/acceptance/checks", "max_length"),
        ],
    )
    def test_refuses_an_acceptance_that_means_nothing(self, propose, acceptance, pointer, code):
        refused = problem(propose(acceptance=acceptance))

        assert refused[0] == 400
        assert refused[2:] == (pointer, code)

    def test_stores_the_hash_that_the_document_has(self, propose):
        offer = propose(requirements={"o\u0308": [1, 2.5]}).json()["offer"]

        stored = Offer.objects.get()
        assert offer["terms_hash"] == stored.terms_hash == terms.hash_of(stored.terms) == terms.hash_of(offer["terms"])


@pytest.mark.django_db
class TestAbortFeeAbovePrice:
    """Refused at every door, the last of which is the database."""

    def test_is_refused_in_a_proposal(self, alice, bob, client_for):
        answer = client_for(alice).post("/jobs", {"seller": "bob", "terms": REQUIRED | {"client_abort_fee": "10.1"}})

        assert problem(answer) == (400, "invalid_request", "/terms/client_abort_fee", "above_price")

    def test_is_refused_in_a_counter(self, trade, client_for):
        job = trade.job("negotiating")

        answer = client_for(trade.seller).post(f"/jobs/{job.id}/offers", {"terms": TERMS | {"price": "2.000098"}})

        assert problem(answer) == (400, "invalid_request", "/terms/seller_bond", "above_price")
        lowered = client_for(trade.seller).post(
            f"/jobs/{job.id}/offers", {"terms": TERMS | {"price": "2.000098", "seller_bond": "0"}}
        )
        assert problem(lowered) == (400, "invalid_request", "/terms/client_abort_fee", "above_price")
        job.refresh_from_db()
        assert (job.revision, job.offers_count) == (1, 1)

    @pytest.mark.parametrize("column", ["client_abort_fee_units", "bond_units"])
    def test_is_refused_by_the_database(self, trade, column):
        job = trade.job("negotiating")

        with pytest.raises(IntegrityError), transaction.atomic():
            Job.objects.filter(pk=job.id).update(**{column: job.price_units + 1})

        assert Job.objects.filter(pk=job.id).update(**{column: job.price_units}) == 1

    def test_is_refused_by_the_verb_itself(self):
        with pytest.raises(Invalid) as refusal:
            terms_of(price="2.000098", seller_bond="0")

        assert refusal.value.errors[0][:2] == ("/terms/client_abort_fee", "above_price")
