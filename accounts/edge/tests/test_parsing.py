import io
import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import Client

from accounts.edge import parsing
from accounts.edge.lengths import Measured
from accounts.errors import Invalid

pytestmark = [pytest.mark.django_db, pytest.mark.urls("accounts.edge.tests.views")]


def send(raw, content_type="application/json", **headers):
    return Client(raise_request_exception=False).post("/v1/echo", raw, content_type=content_type, headers=headers)


def refused(answer, status, code, field_code=None):
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code
    if field_code:
        assert [error["code"] for error in answer.json()["errors"]] == [field_code]


class TestStrictJson:
    @pytest.mark.parametrize(
        ("raw", "code"),
        [
            (b"{", "not_json"),
            (b"{} {}", "not_json"),
            (b"{'text': 1}", "not_json"),
            (b'{"text": "a",}', "not_json"),
            (b"\xef\xbb\xbf{}", "not_json"),
            (b'{"text": NaN}', "not_json"),
            (b'{"text": Infinity}', "not_json"),
            (b'{"text": -Infinity}', "not_json"),
            (b'{"text": 1e999}', "not_json"),
            (b'{"text": [-1e999]}', "not_json"),
            (b'{"text": ' + b"9" * 5_000 + b"}", "not_json"),
            (b'{"text": "a", "text": "b"}', "duplicate_key"),
            (b'{"object": {"a": {"b": 1, "b": 1}}}', "duplicate_key"),
            (b'{"text": "\xff"}', "not_utf8"),
            (b'{"text": "\xed\xa0\x80"}', "not_utf8"),
            ('{"text": "a"}'.encode("utf-16"), "not_utf8"),
            (b'{"text": "\\u0000"}', "invalid_text"),
            (b'{"te\\u0000xt": 1}', "invalid_text"),
            (b'{"object": {"a\\ud800": 1}}', "invalid_text"),
            (b'{"text": "\\ud83d"}', "invalid_text"),
            (b'{"words": ["\\ude00"]}', "invalid_text"),
        ],
    )
    def test_refuses_what_json_leaves_open(self, raw, code):
        refused(send(raw), 400, "invalid_request", code)

    def test_reads_a_whole_surrogate_pair(self):
        answer = send(b'{"text": "\\ud83d\\ude00"}')

        assert answer.json() == {"text": "\N{GRINNING FACE}"}

    @pytest.mark.parametrize("opening", ["[", '{"a":'])
    def test_counts_levels(self, opening, settings):
        closing = {"[": "]", '{"a":': "}"}[opening]
        inner = {"[": "", '{"a":': "1"}[opening]

        def nested(levels):
            return (opening * levels + inner + closing * levels).encode()

        parsing.loads(nested(settings.MAX_JSON_DEPTH))
        with pytest.raises(Invalid) as refusal:
            parsing.loads(nested(settings.MAX_JSON_DEPTH + 1))
        assert refusal.value.errors[0].code == "too_deep"

    def test_survives_a_depth_that_would_end_the_interpreter(self):
        refused(send(b"[" * 100_000 + b"]" * 100_000), 400, "invalid_request", "too_deep")

    def test_reads_up_to_the_limit_and_not_a_byte_more(self, settings):
        fits = json.dumps({"text": "a"}).encode().ljust(settings.MAX_BODY_BYTES)

        assert len(fits) == 256 * 1024
        assert send(fits).status_code == 201
        refused(send(fits + b" "), 413, "body_too_large")

    @pytest.mark.parametrize(
        "content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "x"]
    )
    def test_refuses_other_types(self, content_type):
        refused(send(b'{"text": "a"}', content_type), 415, "unsupported_media_type")

    def test_refuses_multipart_where_there_is_no_file(self):
        answer = Client().post("/v1/echo", {"file": SimpleUploadedFile("a", b"a")})

        refused(answer, 415, "unsupported_media_type")

    def test_takes_parameters_of_the_type(self):
        assert send(b"{}", "application/json; charset=utf-8").status_code == 201


@pytest.fixture
def _connection_stays():
    """Keep the connection of the test, which a server would hang up after the request."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


class TestMeasured:
    """A body without Content-Length, as granian hands a chunked one over."""

    def through(self, body, **environ):
        seen = {}

        def application(environ, start_response):
            seen.update(environ)
            return [environ["wsgi.input"].read()]

        given = {"wsgi.input": io.BytesIO(body), "HTTP_TRANSFER_ENCODING": "chunked"} | environ
        return seen, b"".join(Measured(application)(given, None))

    def test_gets_its_length(self):
        seen, read = self.through(b"x" * 200_000)

        assert seen["CONTENT_LENGTH"] == "200000"
        assert read == b"x" * 200_000

    def test_is_read_no_further_than_anything_accepts(self, settings):
        most = settings.MAX_FILE_BYTES + settings.MAX_BODY_BYTES

        seen, _ = self.through(b"x" * (most + 500))

        assert seen["CONTENT_LENGTH"] == str(most + 1)

    def test_is_left_alone_when_it_says_its_length(self):
        seen, read = self.through(b"abc", CONTENT_LENGTH="3", HTTP_TRANSFER_ENCODING="")

        assert seen["CONTENT_LENGTH"] == "3"
        assert read == b"abc"

    @pytest.mark.usefixtures("_connection_stays")
    @pytest.mark.parametrize(("size", "status"), [(100, 201), (256 * 1024 + 1, 413)])
    def test_is_bounded_like_any_other(self, size, status):
        application = Measured(get_wsgi_application())
        statuses = []
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/v1/echo",
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "CONTENT_TYPE": "application/json",
            "HTTP_TRANSFER_ENCODING": "chunked",
            "wsgi.input": io.BytesIO(b'{"text": "a"}'.ljust(size)),
            "wsgi.url_scheme": "http",
        }

        answer = b"".join(application(environ, lambda status, headers: statuses.append(status)))

        assert statuses[0].startswith(str(status)), answer
        if status == 201:
            assert json.loads(answer) == {"text": "a"}
