"""What a hostile or careless agent sends to a case: refused as specified, and nothing is changed by it."""

import io
import json
import zipfile

import pytest
from django.conf import settings
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.utils.module_loading import import_string

from accounts import clock, ids
from accounts.models import Event
from disputes.models import Appeal, Dispute, DisputeTransition, Evidence, Question, Ruling
from disputes.tests.conftest import DAY, STATEMENT
from disputes.tests.test_evidence import EXE, GIF, HTML, PDF, PNG, SVG
from disputes.tests.uploads import TYPE, form, upload
from escrow.models import Entry
from marketplace.models import Job

pytestmark = pytest.mark.django_db
MB = 1024 * 1024
ANSWER = {"statement": STATEMENT, "requested_seller_bps": 9_000}
HOSTILE = "<script>alert(1)</script> \u202e\u200b ' OR 1=1 -- {{ 7*7 }} ${x} \r\nX-Header: 1 =HYPERLINK(1) "


@pytest.fixture
def noon():
    """Let the clocks of the database and of the test agree."""
    return clock.now()


@pytest.fixture
def case(case_at):
    return case_at()


@pytest.fixture
def client(client_for, alice):
    return client_for(alice)


@pytest.fixture
def seller(client_for, bob):
    return client_for(bob)


@pytest.fixture
def nothing_changes():
    """Compare every row of cases, jobs, money and events before and after."""

    def everything():
        tables = (Dispute, DisputeTransition, Evidence, Question, Ruling, Appeal, Job, Entry, Event)
        return {table.__name__: sorted(map(str, table.objects.values())) for table in tables}

    before = everything()
    yield
    assert everything() == before


@pytest.fixture
def connection_stays():
    """Keep the connection of the test, which a server would hang up after the request."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def refused(answer, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    assert answer["Content-Type"] == "application/problem+json"
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.usefixtures("nothing_changes")
class TestFiles:
    @pytest.fixture(autouse=True)
    def _first_the_case(self, case, client, nothing_changes):
        """(The token of the client is there before anything is counted.)"""

    @pytest.mark.parametrize("size", [30 * MB, 10 * MB + 1])
    def test_too_large_are_refused(self, client, case, size):
        refused(upload(client, case.id, ("big.txt", b"x" * size)), 413, "body_too_large")

    @pytest.mark.usefixtures("connection_stays")
    def test_too_large_are_refused_without_reading_them(self, client, case):
        refused(self.sent(client, case, CONTENT_LENGTH=str(30 * MB)), 413, "body_too_large")
        assert self.read < MB

    @pytest.mark.usefixtures("connection_stays")
    def test_too_large_are_refused_while_reading_when_no_length_is_given(self, client, case):
        refused(self.sent(client, case, HTTP_TRANSFER_ENCODING="chunked"), 413, "body_too_large")
        assert self.read < 11 * MB

    def sent(self, client, case, **environ):
        """Speak WSGI, with a body of 30 MB that tells how much of it was read."""
        whole = io.BytesIO(form(("big.txt", b"x" * 30 * MB)))
        test = self
        test.read = 0

        class Stream:
            def read(self, size=-1):
                piece = whole.read(size)
                test.read += len(piece)
                return piece

            readline = read

        environ |= {
            "REQUEST_METHOD": "POST", "PATH_INFO": f"/v1/disputes/{case.id}/evidence", "CONTENT_TYPE": TYPE,
            "SERVER_NAME": "localhost", "SERVER_PORT": "80", "HTTP_HOST": "localhost", "wsgi.input": Stream(),
            "wsgi.url_scheme": "http", "wsgi.errors": io.StringIO(), "HTTP_AUTHORIZATION": f"Bearer {client.secret}",
        }  # fmt: skip
        return Answered(environ)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("picture.png", SVG),
            ("picture.svg", SVG),
            ("page.html", HTML),
            ("moving.gif", GIF),
            ("moving.png", GIF),
            ("setup.exe", EXE),
            ("setup.txt", EXE),
            ("terms.pdf", PNG),
            ("terms.html", PDF),
            ("note.txt", b"a NUL \x00 in text"),
            ("note.txt", b"\xff\xfe\x00"),
            ("invoice\u202egnp.svg", SVG),
        ],
    )
    def test_of_other_types_are_refused(self, client, case, name, content):
        refused(upload(client, case.id, (name, content)), 415, "unsupported_file")

    def test_that_are_empty_missing_two_or_under_another_name_are_refused(self, client, case):
        refused(upload(client, case.id, ("empty.txt", b"")), 400, "invalid_request", "/file")
        refused(upload(client, case.id), 400, "invalid_request", "/file")
        refused(upload(client, case.id, ("a.txt", b"a"), ("b.txt", b"b")), 400, "invalid_request", "/file")
        refused(upload(client, case.id, ("a.txt", b"a"), field="other"), 400, "invalid_request")

    @pytest.mark.parametrize(
        "body", [b"", b"--limit", b"--limit\r\n\r\n", b"no form at all", form(("a.txt", b"a"))[:-12]]
    )
    def test_in_a_broken_form_are_refused(self, client, case, body):
        answer = client.http.post(
            f"/v1/disputes/{case.id}/evidence",
            body,
            content_type=TYPE,
            headers={"Authorization": f"Bearer {client.secret}"},
        )

        refused(answer, 400, "invalid_request")

    def test_in_a_form_of_many_parts_are_refused(self, client, case):
        answer = upload(client, case.id, *[(f"{number}.txt", b"x") for number in range(500)])

        assert answer.status_code in (400, 413)


class Answered:
    """What the application answered to a WSGI request."""

    def __init__(self, environ):
        body = import_string(settings.WSGI_APPLICATION)(environ, self._start)
        self.content = b"".join(body)

    def _start(self, status, headers, error=None):
        self.status_code, self.headers = int(status.split()[0]), dict(headers)

    def __getitem__(self, name):
        return self.headers[name]

    def json(self):
        return json.loads(self.content)


class TestFilesThatAreTaken:
    def test_a_bomb_of_an_archive_is_stored_as_it_came_and_never_opened(self, client, seller, case, monkeypatch):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(20):
                archive.writestr(f"zeros{number}", bytes(10 * MB))
        bomb = out.getvalue()
        monkeypatch.setattr(zipfile, "ZipFile", None)

        answer = upload(client, case.id, ("bomb.zip", bomb))

        assert answer.status_code == 201
        assert answer.json()["evidence"][0]["size"] == len(bomb) < MB
        assert seller.get(f"/disputes/{case.id}/evidence/1/file").content == bomb

    @pytest.mark.parametrize(
        ("sent", "shown"),
        [
            ("invoice\u202etxt.exe.txt", "invoice\\u{202E}txt.exe.txt"),
            ("a\u200bb\u2066c.txt", "a\\u{200B}b\\u{2066}c.txt"),
            ("../../etc/passwd", "passwd"),
            ("C:\\\\Windows\\\\system.txt", "system.txt"),
            ("a&#x202e;b.txt", "a\\u{202E}b.txt"),
            ("<img src=x onerror=alert(1)>.txt", "<img src=x onerror=alert(1)>.txt"),
            ("=HYPERLINK(1).csv", "=HYPERLINK(1).csv"),
            ("n" * 300 + ".txt", None),
        ],
    )
    def test_names_are_kept_as_people_can_read_them_and_reach_no_header(self, client, case, sent, shown):
        answer = upload(client, case.id, (sent, b"words"))

        assert answer.status_code == 201, answer.content
        name = answer.json()["evidence"][0]["filename"]
        assert len(name) <= 200
        assert shown is None or name == shown
        file = client.get(f"/disputes/{case.id}/evidence/1/file")
        assert file["Content-Disposition"] == 'attachment; filename="evidence-1.txt"'


class TestEvidence:
    def test_in_files_of_strangers_is_refused_as_for_an_unknown_case(self, client_for, carol, case, request):
        stranger = client_for(carol)

        request.getfixturevalue("nothing_changes")
        foreign = upload(stranger, case.id, ("a.txt", b"a"))
        unknown = upload(stranger, ids.uuid7(), ("a.txt", b"a"))

        refused(foreign, 404, "not_found")
        assert foreign.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}

    def test_beyond_the_tenth_item_is_refused(self, client, case, request):
        for number in range(10):
            assert upload(client, case.id, (f"{number}.txt", b"words")).status_code == 201

        request.getfixturevalue("nothing_changes")
        refused(upload(client, case.id, ("10.txt", b"words")), 409, "evidence_full")
        refused(client.post(f"/disputes/{case.id}/evidence", {"kind": "text", "content": "x"}), 409, "evidence_full")

    @pytest.mark.parametrize("state", ["under_review", "ruled", "withdrawn"])
    def test_that_comes_late_is_refused(self, client, case_at, request, state):
        case = case_at(state)

        request.getfixturevalue("nothing_changes")
        refused(upload(client, case.id, ("late.txt", b"words")), 409, "transition_not_allowed")

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            (b'{"kind": "json", "content": ' + b"[" * 40 + b"]" * 40 + b"}", ""),
            (b'{"kind": "json", "content": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
            (b'{"kind": "text", "content": "NUL \\u0000"}', ""),
            (b'{"kind": "text", "content": "\\ud800"}', ""),
            (b'{"kind": "json", "content": NaN}', ""),
            (b'{"kind": "json", "content": {"a": 1, "a": 2}}', ""),
            (b'{"kind": "json", "content": 9007199254740993}', "/content"),
            (b'{"kind": "json"}', "/content"),
            (b'{"kind": "file", "content": "x"}', "/kind"),
            (b"\xff", ""),
        ],
    )
    def test_in_json_that_is_wrong_is_refused(self, client, case, request, body, pointer):
        request.getfixturevalue("nothing_changes")
        refused(client.post(f"/disputes/{case.id}/evidence", body), 400, "invalid_request", pointer)

    def test_of_300_kilobytes_in_json_is_refused(self, client, case, request):
        request.getfixturevalue("nothing_changes")
        body = {"kind": "text", "content": "x" * 300_000}
        refused(client.post(f"/disputes/{case.id}/evidence", body), 413, "body_too_large")

    @pytest.mark.parametrize("number", ["0", "2", "70000", "99999999999999999999"])
    def test_that_is_not_there_is_not_found(self, client, case, number):
        client.post(f"/disputes/{case.id}/evidence", {"kind": "text", "content": "words"})

        refused(client.get(f"/disputes/{case.id}/evidence/{number}/file"), 404, "not_found")


class TestTexts:
    def test_are_given_back_with_hidden_characters_visible(self, client, seller, job_at, noon):
        job = job_at("delivered", at=noon)
        opening = {"reason": "late", "statement": HOSTILE * 3, "requested_seller_bps": 0}

        case = client.post(f"/jobs/{job.id}/dispute", opening).json()
        answer = seller.post(f"/disputes/{case['id']}/answer", ANSWER | {"statement": HOSTILE * 3}).json()

        for side in ("by_client", "by_seller"):
            said = answer["statements"][side]
            assert not {"\u202e", "\u200b", "\r"} & set(said)
            assert "\\u{202E}\\u{200B}" in said
            assert "<script>alert(1)</script>" in said  # data, not markup: whoever shows it escapes it

    @pytest.mark.parametrize("bps", [10_001, -1, 2**63, 0.5, "5000", True, None])
    def test_with_shares_out_of_bounds_are_refused(self, seller, case, request, bps):
        request.getfixturevalue("nothing_changes")
        body = ANSWER | {"requested_seller_bps": bps}
        refused(seller.post(f"/disputes/{case.id}/answer", body), 400, "invalid_request", "/requested_seller_bps")

    @pytest.mark.parametrize("call", ["answer", "answers", "appeal", "withdrawal", "evidence"])
    def test_of_strangers_change_nothing(self, client_for, carol, case, request, call):
        stranger = client_for(carol)
        body = {
            "answer": ANSWER,
            "answers": {"question_id": str(ids.uuid7()), "text": "words"},
            "appeal": {"grounds": STATEMENT},
            "withdrawal": {},
            "evidence": {"kind": "text", "content": "words"},
        }[call]

        request.getfixturevalue("nothing_changes")
        foreign = stranger.post(f"/disputes/{case.id}/{call}", body)
        unknown = stranger.post(f"/disputes/{ids.uuid7()}/{call}", body)
        preview = stranger.preview(f"/disputes/{case.id}/{call}", body)

        refused(foreign, 404, "not_found")
        assert foreign.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}
        assert preview.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}

    @pytest.mark.parametrize("call", ["answer", "answers", "appeal", "withdrawal", "evidence"])
    def test_of_tokens_without_the_scope_change_nothing(self, client_for, alice, case, request, call):
        reader = client_for(alice, scopes=["jobs:read", "jobs:write"])

        request.getfixturevalue("nothing_changes")
        refused(reader.post(f"/disputes/{case.id}/{call}", {}), 403, "scope_missing")


class TestLateSteps:
    def test_an_answer_after_the_time_is_refused(self, seller, case, request):
        Dispute.objects.filter(pk=case.pk).update(
            answer_by=clock.now() - DAY, deadline_at=clock.now() - DAY, hard_stop_at=clock.now() + DAY
        )

        request.getfixturevalue("nothing_changes")
        refused(seller.post(f"/disputes/{case.id}/answer", ANSWER), 409, "transition_not_allowed")
