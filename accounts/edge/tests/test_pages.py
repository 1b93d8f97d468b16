import base64
import json
from datetime import timedelta

import pytest
from django.db import connection
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from accounts import clock
from accounts.edge.pages import page
from accounts.edge.tests import views
from accounts.errors import Invalid
from accounts.models import Event

pytestmark = pytest.mark.django_db


@pytest.fixture
def at():
    return clock.now()


@pytest.fixture
def tell(alice, at):
    def tell(count, *, seconds=0):
        for _ in range(count):
            Event.objects.create(
                recipient=alice, type="test.note", data={}, occurred_at=at + timedelta(seconds=seconds)
            )

    return tell


def read(cursor=None, *, keys=("-id",), limit=None, during=lambda: None):
    """Read from one page to the end, with something happening between two pages."""
    found = []
    while True:
        query = {name: value for name, value in {"cursor": cursor, "limit": limit}.items() if value is not None}
        request = Request(APIRequestFactory().get("/", query))
        answer = page(request, Event.objects.all(), keys=keys, render=lambda event: {"id": event.pk}).data
        found += [row["id"] for row in answer["data"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            return found
        assert len(answer["data"]) == int(limit or 20)
        during()


class TestPage:
    def test_holds_twenty_unless_it_is_told_otherwise(self, tell):
        tell(45)

        first = page(Request(APIRequestFactory().get("/")), Event.objects.all(), render=lambda event: {"id": event.pk})

        assert len(first.data["data"]) == 20
        assert first.data["next_cursor"]
        assert len(read()) == 45

    @pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 10])
    def test_ends_with_null_and_shows_everything_once(self, tell, count):
        tell(count)

        assert read(limit=5) == list(Event.objects.order_by("-id").values_list("id", flat=True))

    def test_costs_one_statement(self, tell, django_assert_num_queries):
        tell(6)

        with django_assert_num_queries(2):
            read(limit=5)

    def test_is_stable_while_rows_are_inserted(self, tell):
        tell(12)
        there = list(Event.objects.order_by("-id").values_list("id", flat=True))

        assert read(limit=5, during=lambda: tell(3)) == there

    def test_is_stable_when_the_last_row_of_a_page_goes(self, tell):
        tell(12)
        there = list(Event.objects.order_by("-id").values_list("id", flat=True))

        def lose():
            with connection.cursor() as cursor:  # as if its month went: what was told is not deleted
                cursor.execute("SET LOCAL session_replication_role = replica")
                cursor.execute("DELETE FROM accounts_event WHERE id = %s", [there[4]])
                cursor.execute("SET LOCAL session_replication_role = DEFAULT")

        assert read(limit=5, during=lose) == there

    @pytest.mark.parametrize(
        "keys",
        [("-id",), ("id",), ("-occurred_at", "id"), ("occurred_at", "-id"), ("-occurred_at", "-id"), ("type", "id")],
    )
    def test_keeps_the_order_of_mixed_keys(self, tell, keys):
        for seconds in (3, 1, 2, 1, 3):
            tell(3, seconds=seconds)

        expected = list(Event.objects.order_by(*keys).values_list("id", flat=True))
        for limit in (1, 2, 4, 7):
            assert read(limit=limit, keys=keys) == expected

    @pytest.mark.parametrize("limit", ["0", "101", "-1", "1.5", "", "x", "1e1", "９", "00000001", "9" * 40, " 5"])
    def test_refuses_other_limits(self, limit):
        with pytest.raises(Invalid) as refusal:
            read(limit=limit)
        assert refusal.value.errors[0].pointer == "/limit"


def sealed(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


class TestCursor:
    @pytest.mark.parametrize(
        "cursor",
        [
            "x", "!!!!", "ä", "a" * 10_000, "\x00", "null", "W10",
            sealed([]), sealed({}), sealed(None), sealed("1"), sealed(1), sealed([1]), sealed([None]), sealed([["1"]]),
            sealed(["1", "2"]), sealed(["x"]), sealed([""]), sealed(["1; DROP TABLE"]),
            sealed(["1.5"]), sealed(["\x00"]),
            sealed(["9" * 30]), sealed(["-" + "9" * 30]), sealed([str(2**63)]), sealed(["9" * 5_000]),
            sealed(["\ud800"]),
        ],
    )  # fmt: skip
    def test_that_was_made_up_is_refused(self, cursor, tell):
        tell(1)

        with pytest.raises(Invalid) as refusal:
            read(cursor)
        assert refusal.value.errors[0].pointer == "/cursor"

    @pytest.mark.parametrize(
        "moment", ["x", "", "2026-13-01", "2026-01-01T00:00:00+99:99", "9" * 20, "infinity", "now", "\x00"]
    )
    def test_with_a_made_up_moment_is_refused(self, moment, tell):
        tell(1)

        with pytest.raises(Invalid):
            read(sealed([moment, "1"]), keys=("-occurred_at", "id"))

    @pytest.mark.urls("accounts.edge.tests.views")
    def test_goes_round_over_http(self, alice, client_for):
        client = client_for(alice)
        for _ in range(3):
            client.post("/notes")

        first = client.get("/notes", limit=2).json()
        second = client.get("/notes", limit=2, cursor=first["next_cursor"]).json()
        refused = client.get("/notes", cursor="garbage")

        assert len(first["data"]) == 2
        assert len(second["data"]) == 1
        assert second["next_cursor"] is None
        assert views.notes() == 3
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["pointer"] == "/cursor"
