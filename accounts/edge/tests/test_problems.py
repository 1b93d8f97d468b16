"""Every refusal is a problem document with a stable code, and none is a 500."""

import json

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import DataError, IntegrityError, OperationalError
from django.http import Http404
from django.test import Client

from accounts.edge.tests import views
from accounts.errors import FieldError, Invalid, NotAllowed, NotAvailable, NotFound, TryLater, Unauthenticated
from accounts.tests.http import ApiClient

pytestmark = [pytest.mark.django_db, pytest.mark.urls("accounts.edge.tests.views")]


@pytest.fixture
def http():
    return ApiClient()


@pytest.fixture
def fails(alice, client_for, monkeypatch):
    """Make an authenticated call raise, or run SQL, and answer its problem."""

    def fails(error=None, sql=""):
        monkeypatch.setattr(views.Fails, "error", error)
        monkeypatch.setattr(views.Fails, "sql", sql)
        return client_for(alice).post("/fails")

    return fails


def problem(answer, status, code):
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status
    assert found["code"] == code
    assert found["type"] == f"urn:bailee:problem:{code}"
    assert found["request_id"] == answer["X-Request-Id"] != ""
    assert found["title"]
    assert found["detail"]
    return found


def pointers(found):
    return {error["pointer"]: error["code"] for error in found["errors"]}


class TestRefusal:
    @pytest.mark.parametrize(
        "refusal", [Invalid, NotAvailable, NotAllowed, NotFound, TryLater, Unauthenticated, views.Odd]
    )
    def test_of_ours_keeps_its_status_and_code(self, fails, refusal):
        answer = fails(refusal("Because."))

        found = problem(answer, refusal.status, refusal.code)
        assert found["detail"] == "Because."
        assert found["title"] == refusal.title
        assert "errors" not in found

    def test_brings_its_members_and_headers(self, fails):
        answer = fails(views.Odd(short_by="1.000000", errors=[FieldError("/a", "b", "c")]))

        found = problem(answer, 418, "odd")
        assert found["short_by"] == "1.000000"
        assert found["errors"] == [{"pointer": "/a", "code": "b", "detail": "c"}]
        assert answer["X-Odd"] == "1"

    def test_says_when_to_come_again(self, http):
        answer = http.post("/closed")

        problem(answer, 503, "paused")
        assert answer["Retry-After"] == "1"

    def test_without_a_token_names_the_scheme(self, http):
        answer = http.post("/notes")

        problem(answer, 401, "unauthenticated")
        assert answer["WWW-Authenticate"] == "Bearer"

    @pytest.mark.parametrize(
        "header", ["Bearer", "Bearer ", "Basic YTpi", "Bearer \u00ff\u00fe", "blt_test_x", "Bearer a b"]
    )
    def test_of_a_credential_that_is_none(self, header):
        answer = Client(raise_request_exception=False).post("/v1/notes", headers={"Authorization": header})

        problem(answer, 401, "unauthenticated")

    def test_of_a_token_without_the_scope_names_it(self, alice, client_for):
        answer = client_for(alice, scopes=["jobs:read"]).post("/notes")

        assert problem(answer, 403, "scope_missing")["scope"] == "profile:write"
        assert views.notes() == 0

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (Http404(), 404, "not_found"),
            (PermissionDenied(), 403, "not_allowed"),
            (IntegrityError("no"), 409, "conflict"),
            (DataError("no"), 400, "invalid_request"),
            (OperationalError("no"), 503, "try_later"),
            (SuspiciousOperation("no"), 400, "invalid_request"),
        ],
    )
    def test_of_django_becomes_ours(self, fails, error, status, code):
        found = problem(fails(error), status, code)

        assert found["detail"] != "no"

    @pytest.mark.parametrize(
        ("sql", "status", "code"),
        [
            ("SELECT 99999999999999999999::bigint", 400, "invalid_request"),
            ("INSERT INTO accounts_eventepoch (number) VALUES (NULL)", 409, "conflict"),
            ("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(1)", 503, "try_later"),
        ],
    )
    def test_of_the_database_becomes_ours(self, fails, sql, status, code):
        problem(fails(sql=sql), status, code)

    def test_of_a_trigger_becomes_a_conflict(self, fails):
        sql = "DO $$ BEGIN RAISE 'no' USING ERRCODE = 'restrict_violation'; END $$"

        problem(fails(sql=sql), 409, "conflict")

    def test_of_a_bug_is_logged_and_tells_nothing(self, fails, caplog):
        answer = fails(RuntimeError("a secret of ours"))

        found = problem(answer, 500, "internal_error")
        assert "secret" not in json.dumps(found)
        assert "a secret of ours" in caplog.text


class TestUnknown:
    @pytest.mark.parametrize("path", ["/nothing", "/echo/", "/echo/more", "/", "/notes%00", "/%ff%fe", "/..%2fadmin"])
    def test_address_is_a_problem(self, http, path):
        problem(http.get(path), 404, "not_found")

    def test_address_elsewhere_is_a_page(self):
        answer = Client().get("/nothing")

        assert answer.status_code == 404
        assert answer["Content-Type"].startswith("text/html")

    def test_host_is_a_problem(self):
        answer = Client(raise_request_exception=False).get("/v1/echo", headers={"Host": "evil.example"})

        problem(answer, 400, "invalid_request")


class TestMethod:
    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "BREW"])
    def test_that_is_not_there_names_those_that_are(self, method):
        answer = Client().generic(method, "/v1/echo", b"{}", content_type="application/json")

        assert problem(answer, 405, "method_not_allowed")["title"] == "Method Not Allowed"
        assert answer["Allow"] == "GET, POST, HEAD, OPTIONS"

    def test_head_answers_as_get_without_the_body(self):
        answer = Client().head("/v1/echo")

        assert answer.status_code == 200
        assert answer["Content-Type"] == "application/json"
        assert answer.content == b""

    def test_head_needs_the_scope_of_get(self, alice, client_for, monkeypatch):
        monkeypatch.setattr(views.Notes, "scopes", {"GET": "jobs:read"})
        client = client_for(alice, scopes=["jobs:write"])

        assert client.http.head("/v1/notes", headers=client._headers()).status_code == 403

    def test_options_needs_no_token(self):
        answer = Client().options("/v1/notes")

        assert answer.status_code == 204
        assert answer["Allow"] == "GET, POST, DELETE, HEAD, OPTIONS"
        assert answer.content == b""


class TestFields:
    def test_names_every_wrong_field_by_its_pointer(self, http):
        answer = http.post("/echo", {
            "text": 5,
            "whole": "1",
            "share": 10_001,
            "truth": "true",
            "money": 1.5,
            "object": [],
            "items": [{"name": "fine"}, {"name": "much too long"}, {"name": "a", "more": 1}, 7, {}],
            "words": ["fine", "too long", None],
            "a/b~c": 1,
        })  # fmt: skip

        found = problem(answer, 400, "invalid_request")
        # an unknown field stops the reading of its object, as nothing else in it can be meant
        assert pointers(found) == {"/a~1b~0c": "unknown_field"}

    def test_names_nested_and_listed_fields_by_their_pointers(self, http):
        answer = http.post("/echo", {
            "text": 5,
            "whole": "1",
            "share": 10_001,
            "truth": "true",
            "money": 1.5,
            "object": [],
            "items": [{"name": "fine"}, {"name": "much too long"}, {"name": "a", "more": 1}, 7, {}],
            "words": ["fine", "too long", None],
        })  # fmt: skip

        assert pointers(problem(answer, 400, "invalid_request")) == {
            "/text": "invalid",
            "/whole": "invalid",
            "/share": "max_value",
            "/truth": "invalid",
            "/money": "not_text",
            "/object": "not_an_object",
            "/items/1/name": "max_length",
            "/items/2/more": "unknown_field",
            "/items/3": "invalid",
            "/items/4/name": "required",
            "/words/1": "max_length",
            "/words/2": "null",
        }

    @pytest.mark.parametrize("body", [[], "text", 5, None, True, [{}]])
    def test_a_body_that_is_no_object(self, http, body):
        raw = json.dumps(body).encode()

        answer = http.post("/echo", raw)

        assert pointers(problem(answer, 400, "invalid_request")).keys() == {""}

    @pytest.mark.parametrize("number", [11, -1, 2**31, 2**63, 2**64, 10**30, -(2**63) - 1, 1.0, True, None, "5"])
    def test_a_whole_number_out_of_bounds_or_of_another_type(self, http, number):
        answer = http.post("/echo", {"whole": number})

        assert pointers(problem(answer, 400, "invalid_request")).keys() == {"/whole"}

    @pytest.mark.parametrize(
        "money",
        ["1.0000000", "1.", ".5", "-1", "+1", " 1", "1 ", "1e3", "١.0", "01.0", "NaN", "", "0.999999", "5.000001", 1,
         True, None, "9" * 50, "1,0", "1_0"],
    )  # fmt: skip
    def test_money_that_is_none_or_out_of_bounds(self, http, money):
        answer = http.post("/echo", {"money": money})

        assert pointers(problem(answer, 400, "invalid_request")).keys() == {"/money"}

    def test_an_empty_body_is_an_empty_object(self, http):
        assert http.post("/echo", b"").status_code == 201


class TestQuery:
    @pytest.mark.parametrize("query", ["a=%00", "a=%00&a=fine", "limit=5&b=x%00y"])
    def test_with_nul_is_refused(self, query):
        answer = Client(raise_request_exception=False).get(f"/v1/echo?{query}")

        problem(answer, 400, "invalid_request")

    def test_that_is_not_utf_8_is_read_with_replacements(self):
        answer = Client(raise_request_exception=False).get("/v1/echo?a=%ff%ed%a0%80")

        assert answer.status_code == 200
        assert "\ufffd" in answer.json()["query"]["a"]

    def test_a_path_with_nul_is_refused(self):
        answer = Client(raise_request_exception=False).get("/v1/named/a%00b")

        problem(answer, 400, "invalid_request")
