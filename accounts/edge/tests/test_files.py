"""Multipart bodies: a file in, bounded, and as strict about everything beside it."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

from accounts import tokens
from accounts.edge.tests.views import notes

pytestmark = [pytest.mark.django_db, pytest.mark.urls("accounts.edge.tests.views")]

FORM = "multipart/form-data; boundary"
FIELD = b"Content-Disposition: form-data"


@pytest.fixture
def upload(alice):
    """Send a file, a whole form, or a raw body as multipart."""
    _, secret = tokens.mint(alice)

    def upload(content=b"work", *, name="work.bin", key=None, raw=None, content_type=MULTIPART_CONTENT, **fields):
        file = SimpleUploadedFile(name, content)
        body = encode_multipart(BOUNDARY, {"file": file, **fields}) if raw is None else raw
        headers = {"Authorization": f"Bearer {secret}"} | ({"Idempotency-Key": key} if key else {})
        http = Client(raise_request_exception=False)
        return http.generic("POST", "/v1/files", body, content_type=content_type, headers=headers)

    return upload


def refused(answer):
    assert answer.status_code == 400, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "invalid_request"
    assert notes() == 0


class TestFile:
    def test_arrives_whole(self, upload):
        answer = upload(bytes(range(256)) * 100, note="mine")

        assert answer.status_code == 201
        assert answer.json() == {"size": 25_600, "name": "work.bin"}

    def test_is_replayed_by_its_content(self, upload):
        first, same = upload(b"one", key="k"), upload(b"one", key="k")
        other = upload(b"two", key="k")

        assert same["Idempotent-Replayed"] == "true"
        assert same.json() == first.json()
        assert other.status_code == 422
        assert notes() == 1

    def test_that_is_too_large_is_refused_by_its_length(self, upload, settings):
        settings.MAX_FILE_BYTES, settings.MAX_BODY_BYTES = 1_000, 500

        answer = upload(b"x" * 2_000)

        assert answer.status_code == 413
        assert answer.json()["code"] == "body_too_large"

    @pytest.mark.parametrize(
        "fields",
        [{"note": "a\x00b"}, {"note": "x" * 51}, {"more": "1"}, {"file": "no file"}, {"note": ["a", "b" * 60]}],
    )
    def test_with_something_wrong_beside_it_is_refused(self, upload, fields):
        answer = upload(**fields)

        refused(answer)
        assert answer.json()["errors"]

    @pytest.mark.parametrize(
        "name", ["../../etc/passwd", "a\x00b", "\u202egnp.exe", "x" * 49, "\r\nX-Evil: 1", "Zoë.txt"]
    )
    def test_may_have_an_odd_name_and_brings_no_path(self, upload, name):
        answer = upload(name=name)

        assert answer.status_code == 201, answer.content
        assert not {"/", "\\", "\x00", "\r", "\n"} & set(answer.json()["name"])

    @pytest.mark.parametrize("content_type", ["multipart/form-data", f"{FORM}=", f"{FORM}=\xff"])
    def test_without_a_boundary_is_refused(self, upload, content_type):
        refused(upload(raw=b"x", content_type=content_type))

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"nothing",
            b"--",
            b"--a\r\n" + FIELD + b'; name="file"; filename=""\r\n\r\n\r\n--a--',
            b"--a\r\n" + FIELD + b"\r\n\r\nx\r\n--a--",
            b"--a\r\n" + FIELD + b'; name="note"\r\n\r\n\xff\xfe\r\n--a--',
            b"--a\r\n" + FIELD + b'; name="note"\r\nContent-Transfer-Encoding: base64\r\n\r\n!\r\n--a--',
            b"".join(b"--a\r\n" + FIELD + b'; name="n%d"\r\n\r\nx\r\n' % n for n in range(1_100)) + b"--a--",
        ],
        ids=["empty", "text", "dashes", "no name", "no field", "not utf-8", "not base64", "many"],
    )
    def test_that_is_none_is_refused(self, upload, raw):
        refused(upload(raw=raw, content_type=f"{FORM}=a"))

    def test_comes_as_json_where_json_is_read_too(self, upload):
        answer = upload(raw=b'{"file": "text"}', content_type="application/json")

        assert answer.status_code == 400
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/file"]
