import pytest

from accounts.models import Agent
from accounts.tests.http import ApiClient
from marketplace import listings

pytestmark = pytest.mark.django_db


@pytest.fixture
def publish(bob, noon):
    def publish(title, **fields):
        fields = {"description": "Work", "skills": [], "price_units": 10_000_000, "delivery_seconds": 3_600} | fields
        return listings.create(fields.pop("seller", bob), at=noon, title=title, **fields)

    return publish


def titles(**asked):
    answer = ApiClient().get("/listings", **asked)
    assert answer.status_code == 200, answer.content
    return [row["title"] for row in answer.json()["data"]]


class TestListings:
    def test_are_open_to_everybody_newest_first(self, publish):
        publish("old")
        publish("new")

        assert titles() == ["new", "old"]

    def test_leave_out_what_is_not_for_sale(self, publish, carol, bob):
        publish("active")
        for status in ("paused", "archived"):
            publish(status, status=status)
        publish("of a suspended seller", seller=carol)
        Agent.objects.filter(pk=carol.pk).update(status="suspended")

        assert titles() == ["active"]

    def test_are_found_by_words_in_any_form(self, publish):
        publish("Translating pages")
        publish("Drawing", description="I also translate")
        publish("Drawing cats")

        assert titles(q="translation") == ["Translating pages", "Drawing"]

    def test_are_found_by_a_skill_as_a_query(self, publish):
        publish("A", skills=["zz-top"])
        publish("B")

        assert titles(q="ZZ-top") == ["A"]

    def test_take_a_query_as_words_never_as_syntax(self, publish):
        publish("Drawing cats")

        for query in ("'; DROP TABLE marketplace_listing; --", "((((", "a & | !", "\\", "%", '"unclosed', "-"):
            assert titles(q=query) == []

    @pytest.mark.parametrize(
        ("asked", "found"),
        [
            ({"skill": "German"}, ["b"]),
            ({"max_price": "2"}, ["b", "a"]),
            ({"max_price": "1.999999"}, ["a"]),
            ({"max_delivery_seconds": "100"}, ["a"]),
            ({"min_score": "1"}, []),
            ({"min_score": "0"}, ["c", "b", "a"]),
            ({"sort": "price"}, ["a", "b", "c"]),
            ({"sort": "newest"}, ["c", "b", "a"]),
            ({"sort": "score"}, ["c", "b", "a"]),
            ({"sort": "relevance"}, ["c", "b", "a"]),
            ({"max_price": "2", "skill": "german", "sort": "price"}, ["b"]),
        ],
    )
    def test_are_filtered_and_sorted(self, publish, asked, found):
        publish("a", price_units=1_000_000, delivery_seconds=100)
        publish("b", price_units=2_000_000, delivery_seconds=101, skills=["german"])
        publish("c", price_units=3_000_000, delivery_seconds=102)

        assert titles(**asked) == found

    @pytest.mark.parametrize(
        ("asked", "pointer"),
        [
            ({"sort": "random"}, "/sort"),
            ({"max_price": "cheap"}, "/max_price"),
            ({"max_price": "1.0000000"}, "/max_price"),
            ({"max_delivery_seconds": "-1"}, "/max_delivery_seconds"),
            ({"max_delivery_seconds": "1e3"}, "/max_delivery_seconds"),
            ({"min_score": "best"}, "/min_score"),
            ({"q": "x" * 201}, "/q"),
            ({"limit": "0"}, "/limit"),
            ({"limit": "101"}, "/limit"),
            ({"limit": "ten"}, "/limit"),
            ({"cursor": "made up"}, "/cursor"),
            ({"cursor": "WyJ4Il0"}, "/cursor"),
        ],
    )
    def test_say_what_they_cannot_read(self, asked, pointer):
        answer = ApiClient().get("/listings", **asked)

        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert answer.json()["errors"][0]["pointer"] == pointer

    @pytest.mark.parametrize("name", ["q", "skill"])
    def test_refuse_nul(self, name):
        assert ApiClient().get("/listings", **{name: "a\x00b"}).status_code == 400

    @pytest.mark.parametrize("asked", [{"sort": "price"}, {"sort": "newest"}, {"q": "work"}])
    def test_are_read_page_by_page_without_gap_or_repetition(self, publish, asked):
        for number in range(7):
            publish(f"work {number}", price_units=1_000_000 * (1 + number // 3))
        everything = titles(**asked)

        read, cursor = [], None
        while True:
            answer = ApiClient().get("/listings", limit=2, **asked, **({"cursor": cursor} if cursor else {})).json()
            read += [row["title"] for row in answer["data"]]
            cursor = answer["next_cursor"]
            if cursor is None:
                break
            publish(f"work that came later {cursor[-5:]}", price_units=10_000) if asked == {"sort": "newest"} else None

        assert read == everything
        assert len(read) == 7

    def test_cost_two_statements_at_most(self, publish, django_assert_max_num_queries):
        for number in range(5):
            publish(f"work {number}")

        with django_assert_max_num_queries(2):
            titles(q="work")
