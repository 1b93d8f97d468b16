import pytest
from django.db import IntegrityError, transaction

from accounts import limits
from accounts.errors import Invalid, NotAvailable, NotFound
from accounts.models import Agent, Event
from marketplace import listings
from marketplace.models import Listing

pytestmark = pytest.mark.django_db
FIELDS = {
    "title": "Translations",
    "description": "Any page into German",
    "skills": ["translation", "german"],
    "price_units": 10_000_000,
    "delivery_seconds": 3_600,
}
BODY = {name: value for name, value in FIELDS.items() if name != "price_units"} | {"price": "10"}


@pytest.fixture
def listing(bob, noon):
    return listings.create(bob, at=noon, **FIELDS)


class TestCreate:
    def test_publishes(self, bob, noon):
        listing = listings.create(bob, at=noon, **FIELDS)

        stored = Listing.objects.get(pk=listing.pk)
        assert (stored.seller, stored.status, stored.price_units, stored.created_at) == (
            bob, "active", 10_000_000, noon,
        )  # fmt: skip

    def test_needs_an_active_seller(self, bob, noon):
        bob.status = "suspended"

        with pytest.raises(limits.AgentNotActive):
            listings.create(bob, at=noon, **FIELDS)

    def test_needs_a_seller_that_may_trade(self, bob, noon, settings):
        settings.OPEN_TRUST_LEVEL = 0

        with pytest.raises(limits.LimitExceeded):
            listings.create(bob, at=noon, **FIELDS)

    @pytest.mark.parametrize("name", ["instant", "instant_bond"])
    def test_has_no_instant_hire_yet(self, bob, noon, name):
        with pytest.raises(NotAvailable):
            listings.create(bob, at=noon, **FIELDS, **{name: True})

    @pytest.mark.parametrize("name", ["input_schema", "output_schema", "default_terms"])
    def test_takes_documents_of_16_kib_and_not_a_byte_more(self, bob, noon, name):
        listings.create(bob, at=noon, **FIELDS, **{name: {"a": "x" * (16_384 - 8)}})

        with pytest.raises(Invalid) as refusal:
            listings.create(bob, at=noon, **FIELDS, **{name: {"a": "x" * (16_384 - 7)}})

        assert refusal.value.errors[0][:2] == (f"/{name}", "too_large")


class TestChange:
    def test_changes_what_is_given_and_nothing_else(self, bob, listing, noon):
        listings.change(listing.id, seller=bob, at=noon, title="Better translations")

        stored = Listing.objects.get(pk=listing.pk)
        assert (stored.title, stored.description, stored.price_units) == (
            "Better translations", "Any page into German", 10_000_000,
        )  # fmt: skip

    def test_does_not_know_another_sellers(self, alice, listing, noon):
        with pytest.raises(NotFound):
            listings.change(listing.id, seller=alice, at=noon, title="Mine")

    def test_ends_with_archiving(self, bob, listing, noon):
        listings.change(listing.id, seller=bob, at=noon, status="archived")

        with pytest.raises(listings.ListingArchived):
            listings.change(listing.id, seller=bob, at=noon, status="active")

    @pytest.mark.parametrize("change", [{"status": "active"}, {"price_units": 20_000}])
    def test_of_what_is_sold_asks_the_limits_again(self, bob, listing, noon, change):
        Agent.objects.filter(pk=bob.pk).update(status="suspended")

        with pytest.raises(limits.AgentNotActive):
            listings.change(listing.id, seller=bob, at=noon, **change)

        assert listings.change(listing.id, seller=bob, at=noon, status="paused").status == "paused"


class TestFind:
    @pytest.mark.parametrize(
        ("status", "seen_by"),
        [("active", {"seller", "other", "nobody"}), ("paused", {"seller"}), ("archived", {"seller"})],
    )
    def test_shows_what_is_active_to_all_and_the_rest_to_its_seller(self, alice, bob, listing, status, seen_by):
        Listing.objects.filter(pk=listing.pk).update(status=status)
        viewers = {"seller": bob, "other": alice, "nobody": None}

        found = set()
        for name, viewer in viewers.items():
            try:
                listings.find(listing.id, viewer=viewer)
            except NotFound:
                continue
            found.add(name)

        assert found == seen_by


class TestArchiveAll:
    def test_archives_an_agents_listings_and_nobody_elses(self, alice, bob, listing, noon):
        paused = listings.create(bob, at=noon, status="paused", **FIELDS)
        other = listings.create(alice, at=noon, **FIELDS)

        listings.archive_all(bob.id, at=noon)
        listings.archive_all(bob.id, at=noon)

        assert [Listing.objects.get(pk=row.pk).status for row in (listing, paused, other)] == [
            "archived", "archived", "active",
        ]  # fmt: skip


class TestPauseAll:
    def test_pauses_what_is_active_and_says_so_once(self, bob, listing, noon):
        archived = listings.create(bob, at=noon, **FIELDS)
        listings.change(archived.id, seller=bob, at=noon, status="archived")

        listings.pause_all(bob.id, at=noon)
        listings.pause_all(bob.id, at=noon)

        assert [Listing.objects.get(pk=row.pk).status for row in (listing, archived)] == ["paused", "archived"]
        assert Event.objects.get(type="listing.suspended").data == {"listing_id": str(listing.id)}


class TestRow:
    @pytest.mark.parametrize("change", [{"price_units": 9_999}, {"price_units": 10**12 + 1}, {"status": "lost"}])
    def test_keeps_its_bounds(self, listing, change):
        with pytest.raises(IntegrityError), transaction.atomic():
            Listing.objects.filter(pk=listing.pk).update(**change)


class TestOverHttp:
    def test_is_created_changed_and_read(self, bob, client_for):
        client = client_for(bob)

        made = client.post("/listings", BODY | {"skills": ["German"]})
        changed = client.patch(f"/listings/{made.json()['id']}", {"price": "11.5"})
        read = client_for(bob).get(f"/listings/{made.json()['id']}")

        assert (made.status_code, changed.status_code) == (201, 200)
        assert made.json()["skills"] == ["german"]
        assert read.json() == changed.json()
        assert read.json()["price"] == "11.500000"

    def test_of_another_seller_is_not_found(self, alice, listing, client_for):
        answer = client_for(alice).patch(f"/listings/{listing.id}", {"price": "11.5"})

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    def test_shows_hidden_characters(self, bob, client_for):
        made = client_for(bob).post("/listings", BODY | {"title": "pay\u202eme"})

        assert made.json()["title"] == "pay\\u{202E}me"

    @pytest.mark.parametrize(
        ("change", "pointer", "code"),
        [
            ({"title": ""}, "/title", "blank"),
            ({"title": "x" * 141}, "/title", "max_length"),
            ({"description": "x" * 8_001}, "/description", "max_length"),
            ({"skills": ["x"] * 21}, "/skills", "max_length"),
            ({"skills": ["x" * 41]}, "/skills/0", "max_length"),
            ({"skills": "german"}, "/skills", "not_a_list"),
            ({"price": 10}, "/price", "not_text"),
            ({"price": "10.0000001"}, "/price", "invalid_money"),
            ({"price": "0.009999"}, "/price", "too_small"),
            ({"price": "1000000.000001"}, "/price", "too_large"),
            ({"unit": "hour"}, "/unit", "invalid_choice"),
            ({"delivery_seconds": 59}, "/delivery_seconds", "min_value"),
            ({"delivery_seconds": 31_536_001}, "/delivery_seconds", "max_value"),
            ({"max_open_jobs": 0}, "/max_open_jobs", "min_value"),
            ({"status": "archived"}, "/status", "invalid_choice"),
            ({"input_schema": []}, "/input_schema", "not_an_object"),
            ({"colour": "red"}, "/colour", "unknown_field"),
            ({"seller": "alice"}, "/seller", "unknown_field"),
        ],
    )
    def test_refuses_what_is_out_of_bounds(self, bob, client_for, change, pointer, code):
        answer = client_for(bob).post("/listings", BODY | change)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert {(error["pointer"], error["code"]) for error in answer.json()["errors"]} == {(pointer, code)}
        assert not Listing.objects.exists()

    def test_instant_hire_is_not_available(self, bob, client_for):
        answer = client_for(bob).post("/listings", BODY | {"instant": True})

        assert (answer.status_code, answer.json()["code"]) == (400, "not_available")

    def test_needs_the_scope(self, bob, client_for):
        answer = client_for(bob, ["jobs:write"]).post("/listings", BODY)

        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
