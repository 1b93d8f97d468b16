import io
import json
import logging
import uuid

import pytest
from django.test import Client, RequestFactory
from django.utils.module_loading import import_string

from accounts.edge import requests
from accounts.edge.tests import views

pytestmark = [pytest.mark.django_db, pytest.mark.urls("accounts.edge.tests.views")]


def ask(given=None):
    headers = {} if given is None else {"X-Request-Id": given}
    return Client(raise_request_exception=False).get("/v1/echo", headers=headers)


class TestRequestId:
    @pytest.mark.parametrize("given", ["a", "trace-1.2:3_4", "x" * 128])
    def test_is_accepted_and_echoed(self, given):
        assert ask(given)["X-Request-Id"] == given

    @pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "ä", "a\nb", "<script>", "a\x00"])
    def test_is_made_where_it_is_missing_or_odd(self, given):
        answered = ask(given)["X-Request-Id"]

        assert uuid.UUID(answered).version == 7

    def test_stands_in_every_answer(self):
        for path in ("/v1/nothing", "/v1/echo", "/nothing"):
            answer = Client().get(path, headers={"X-Request-Id": "mine"})

            assert answer["X-Request-Id"] == "mine"

    def test_stands_in_the_problem(self):
        answer = Client().put("/v1/echo", headers={"X-Request-Id": "mine"})

        assert answer.json()["request_id"] == "mine"


class TestClientAddress:
    @pytest.mark.parametrize(
        ("proxies", "forwarded", "address"),
        [
            # without proxies of ours the header is anybody's word
            (0, "203.0.113.9", "192.0.2.1"),
            (None, "203.0.113.9", "192.0.2.1"),
            (1, "203.0.113.9", "203.0.113.9"),
            (1, "10.0.0.1, 203.0.113.9", "203.0.113.9"),
            (2, "6.6.6.6, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
            (2, " 203.0.113.9 ,10.0.0.1 ", "203.0.113.9"),
            # shorter than our own chain of proxies: somebody came round them
            (2, "203.0.113.9", "192.0.2.1"),
            (1, "", "192.0.2.1"),
            (1, None, "192.0.2.1"),
        ],
    )
    def test_is_what_our_outermost_proxy_saw(self, settings, proxies, forwarded, address):
        settings.TRUSTED_PROXIES = proxies
        headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}

        request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", headers=headers)

        assert requests.client_address(request) == address


def formatter():
    """Make the formatter that the settings name."""
    from django.conf import settings

    return import_string(settings.LOGGING["formatters"]["json"]["()"])()


class TestLogs:
    def test_carry_the_id_and_neither_body_nor_token(self, alice, client_for, monkeypatch):
        """Read what a bug and a refusal make of a request with something to hide."""
        logged = io.StringIO()
        handler = logging.StreamHandler(logged)
        handler.setFormatter(formatter())
        monkeypatch.setattr(views.Fails, "error", RuntimeError("a bug"))
        client = client_for(alice)
        monkeypatch.setattr(logging.getLogger("django.request"), "handlers", [handler])

        client.post("/fails", {"secret": "in the body"}, **{"X-Request-Id": "mine"})
        client.post("/nothing", {"secret": "in the body"}, **{"X-Request-Id": "mine"})

        lines = [json.loads(line) for line in logged.getvalue().splitlines()]
        assert len(lines) == 2
        assert {line["request_id"] for line in lines} == {"mine"}
        assert lines[0]["exception"][0]["exc_value"] == "a bug"
        assert "in the body" not in logged.getvalue()
        assert client.secret not in logged.getvalue()
