import hashlib

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, OperationalError, ProgrammingError, transaction
from psycopg.errors import DeadlockDetected

from accounts.errors import Invalid
from marketplace import deliveries
from marketplace.lifecycle import TransitionNotAllowed
from marketplace.models import Delivery, Job
from marketplace.tests.trades import REASON, WORK

pytestmark = pytest.mark.django_db
TEN_MB = 10 * 1024 * 1024


def sha256(body):
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


@pytest.fixture
def upload(client_for):
    """Send a file as multipart/form-data."""

    def upload(agent, job, body, **fields):
        client = client_for(agent)
        file = SimpleUploadedFile("page.pdf", body, content_type="application/pdf")
        return client.http.post(
            f"/v1/jobs/{job.id}/deliveries", {"file": file} | fields, headers=client._headers()
        )  # fmt: skip

    return upload


class TestFromJson:
    def test_writes_canonical_bytes(self):
        content = deliveries.from_json({"b": [1.0, 2.5], "a": "Ko\u0308ln"})

        assert content.body == '{"a":"Köln","b":[1,2.5]}'.encode()

    @pytest.mark.parametrize("value", ["text", 7, None, True])
    def test_takes_objects_and_arrays_only(self, value):
        with pytest.raises(Invalid) as refusal:
            deliveries.from_json(value)

        assert refusal.value.errors[0][:2] == ("/content", "not_an_object")

    def test_refuses_an_integer_that_floats_do_not_hold(self):
        with pytest.raises(Invalid) as refusal:
            deliveries.from_json([2**53])

        assert refusal.value.errors[0][:2] == ("/content/0", "integer_too_large")

    def test_keeps_a_large_float(self):
        assert deliveries.from_json({"avogadro": 6.022e23}).body == b'{"avogadro":6.022e+23}'


class TestFromFile:
    def test_shows_hidden_characters_of_a_type_that_a_stranger_named(self):
        content = deliveries.from_file(b"", content_type="text/\u202eplain\x00", filename="a")

        assert content.content_type == "text/\\u{202E}plain\\u{0000}"


class TestDeliver:
    def test_stores_the_work_with_its_digest(self, trade):
        job = trade.job("in_progress")

        job = deliveries.deliver(job.id, seller=trade.seller, content=WORK, note="Done", at=trade.later(60))

        row = Delivery.objects.get(job=job)
        assert (job.state, job.awaiting, job.deliveries_count) == ("delivered", "client", 1)
        assert (row.number, row.note, row.delivered_at) == (1, "Done", trade.later(60))
        assert bytes(row.body) == b'{"text":"Guten Tag"}'
        assert (row.sha256, row.size) == (sha256(b'{"text":"Guten Tag"}'), 20)

    def test_is_refused_from_the_moment_it_was_due(self, trade):
        job = trade.job("in_progress")

        with pytest.raises(TransitionNotAllowed):
            deliveries.deliver(job.id, seller=trade.seller, content=WORK, at=job.deliver_by)

        assert not Delivery.objects.exists()

    def test_numbers_the_attempts(self, trade):
        job = trade.job("revising")

        deliveries.deliver(job.id, seller=trade.seller, content=WORK, at=trade.later(60))

        assert list(job.deliveries.order_by("number").values_list("number", flat=True)) == [1, 2]

    def test_stops_at_ten(self, trade):
        job = trade.job("revising")
        Job.objects.filter(pk=job.pk).update(deliveries_count=9)

        tenth = deliveries.deliver(job.id, seller=trade.seller, content=WORK, at=trade.later(60))
        with pytest.raises(TransitionNotAllowed):
            deliveries.request_revision(job.id, client=trade.client, reason=REASON, at=trade.later(60))

        assert tenth.deliveries_count == 10

    def test_once_made_does_not_change(self, trade):
        trade.job("delivered")

        with pytest.raises(ProgrammingError), transaction.atomic():
            Delivery.objects.update(body=b"other")
        with pytest.raises(ProgrammingError), transaction.atomic():
            Delivery.objects.all().delete()

    def test_has_its_number_once(self, trade):
        trade.job("delivered")
        row = Delivery.objects.get()
        row.pk = None

        with pytest.raises(IntegrityError), transaction.atomic():
            row.save(force_insert=True)


class TestRequestRevision:
    def test_uses_one_up_and_says_why(self, trade):
        job = trade.job("delivered")

        job = deliveries.request_revision(job.id, client=trade.client, reason=REASON, at=trade.later(60))

        assert (job.state, job.awaiting, job.revisions_used) == ("revising", "seller", 1)
        assert job.transitions.get(action="request_revision").note == REASON

    def test_is_refused_when_none_are_left(self, trade):
        job = trade.job("revising", max_revisions=1)
        deliveries.deliver(job.id, seller=trade.seller, content=WORK, at=trade.later(60))

        with pytest.raises(TransitionNotAllowed):
            deliveries.request_revision(job.id, client=trade.client, reason=REASON, at=trade.later(60))

    def test_is_refused_where_none_were_agreed(self, trade):
        job = trade.job("delivered", max_revisions=0)

        with pytest.raises(TransitionNotAllowed):
            deliveries.request_revision(job.id, client=trade.client, reason=REASON, at=trade.at)

    def test_is_refused_from_the_moment_the_review_is_over(self, trade):
        job = trade.job("delivered")

        with pytest.raises(TransitionNotAllowed):
            deliveries.request_revision(job.id, client=trade.client, reason=REASON, at=job.review_by)

    @pytest.mark.parametrize(("length", "status"), [(19, 400), (20, 201)])
    def test_needs_a_reason_of_twenty_characters(self, trade, client_for, length, status):
        job = trade.now("delivered")

        answer = client_for(trade.client).post(f"/jobs/{job.id}/revisions", {"reason": "x" * length})

        assert answer.status_code == status
        if status == 400:
            assert answer.json()["errors"][0]["pointer"] == "/reason"


class TestOverHttp:
    def test_json_comes_back_as_it_went_in(self, trade, client_for):
        job = trade.now("funded")
        content = {"pages": [{"n": 1, "text": "Köln \u202e"}], "ratio": 0.25}

        made = client_for(trade.seller).post(f"/jobs/{job.id}/deliveries", {"content": content, "note": "Done"})
        read = client_for(trade.client).get(f"/jobs/{job.id}/deliveries/1").json()

        assert made.status_code == 201
        assert made.json()["deliveries"][0]["sha256"] == read["sha256"]
        assert (read["content"], read["note"], read["number"]) == (content, "Done", 1)

    def test_the_digest_can_be_checked_by_anyone(self, trade, client_for):
        job = trade.now("funded")

        client_for(trade.seller).post(f"/jobs/{job.id}/deliveries", {"content": {"b": 1, "a": [True]}})
        read = client_for(trade.client).get(f"/jobs/{job.id}/deliveries/1").json()

        assert (read["sha256"], read["size"]) == (sha256(b'{"a":[true],"b":1}'), 18)

    def test_a_file_is_whole_when_the_transaction_is_tried_again(self, trade, upload, monkeypatch):
        job, deliver, tried = trade.now("funded"), deliveries.deliver, []

        def deadlocked_once(*arguments, **options):
            tried.append(options)
            if len(tried) == 1:
                raise OperationalError from DeadlockDetected()
            return deliver(*arguments, **options)

        monkeypatch.setattr(deliveries, "deliver", deadlocked_once)
        made = upload(trade.seller, job, b"work")

        assert (len(tried), made.status_code) == (2, 201)
        assert made.json()["deliveries"][0]["sha256"] == sha256(b"work")

    def test_a_file_comes_back_byte_for_byte(self, trade, upload, client_for):
        job = trade.now("funded")
        body = bytes(range(256)) * 16

        made = upload(trade.seller, job, body, note="Done")
        file = client_for(trade.client).get(f"/jobs/{job.id}/deliveries/1/file")
        read = client_for(trade.client).get(f"/jobs/{job.id}/deliveries/1").json()

        assert made.status_code == 201, made.content
        assert file.content == body
        assert (read["sha256"], read["size"]) == (sha256(body), 4_096)
        assert (read["content_type"], read["filename"], read["note"]) == ("application/pdf", "page.pdf", "Done")
        assert "content" not in read

    def test_a_file_is_never_something_a_browser_would_show(self, trade, upload, client_for):
        job = trade.now("funded")
        upload(trade.seller, job, b"<script>alert(1)</script>")

        file = client_for(trade.client).get(f"/jobs/{job.id}/deliveries/1/file")

        assert file["Content-Type"] == "application/octet-stream"
        assert file["Content-Disposition"].startswith("attachment")
        assert file["X-Content-Type-Options"] == "nosniff"

    def test_a_file_of_ten_megabytes_is_taken(self, trade, upload, client_for):
        job = trade.now("funded")
        body = b"\x07" * TEN_MB

        made = upload(trade.seller, job, body)

        assert made.status_code == 201, made.content
        assert made.json()["deliveries"][0] | {"delivered_at": None} == {
            "number": 1, "sha256": sha256(body), "size": TEN_MB, "delivered_at": None, "checks": None,
        }  # fmt: skip
        assert client_for(trade.client).get(f"/jobs/{job.id}/deliveries/1/file").content == body

    def test_a_byte_more_is_refused(self, trade, upload):
        job = trade.now("funded")

        answer = upload(trade.seller, job, b"\x07" * (TEN_MB + 1))

        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        job.refresh_from_db()
        assert (job.state, job.deliveries_count) == ("funded", 0)

    def test_much_more_is_refused_too(self, trade, upload):
        job = trade.now("funded")

        answer = upload(trade.seller, job, b"\x07" * (TEN_MB + 1024 * 1024))

        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")

    def test_an_empty_file_is_a_delivery(self, trade, upload):
        job = trade.now("funded")

        assert upload(trade.seller, job, b"").json()["deliveries"][0]["size"] == 0

    def test_a_form_without_a_file_is_refused(self, trade, client_for):
        job = trade.now("funded")
        client = client_for(trade.seller)

        answer = client.http.post(
            f"/v1/jobs/{job.id}/deliveries", {"note": "no file"}, headers=client._headers()
        )  # fmt: skip

        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == "/file"

    def test_the_same_key_with_another_file_is_refused(self, trade, client_for):
        job = trade.now("funded")
        client = client_for(trade.seller)
        headers = client._headers() | {"Idempotency-Key": "once"}

        def send(body):
            file = SimpleUploadedFile("a.bin", body)
            return client.http.post(f"/v1/jobs/{job.id}/deliveries", {"file": file}, headers=headers)

        first, again, other = send(b"one"), send(b"one"), send(b"two")

        assert (first.status_code, again.status_code, other.status_code) == (201, 201, 422)
        assert again["Idempotent-Replayed"] == "true"
        assert Delivery.objects.count() == 1

    def test_lists_every_attempt_without_its_content(self, trade, client_for):
        job = trade.now("revising")
        client_for(trade.seller).post(f"/jobs/{job.id}/deliveries", {"content": [1]})

        listed = client_for(trade.client).get(f"/jobs/{job.id}/deliveries").json()

        assert [row["number"] for row in listed["data"]] == [1, 2]
        assert all("content" not in row for row in listed["data"])
        assert listed["next_cursor"] is None

    @pytest.mark.parametrize("path", ["", "/1", "/1/file"])
    def test_strangers_cannot_tell_it_from_nothing(self, trade, carol, client_for, path):
        job = trade.now("delivered")
        unknown = "01900000-0000-7000-8000-000000000000"

        foreign = client_for(carol).get(f"/jobs/{job.id}/deliveries{path}")
        nothing = client_for(carol).get(f"/jobs/{unknown}/deliveries{path}")

        assert (foreign.status_code, nothing.status_code) == (404, 404)
        assert foreign.json() | {"request_id": ""} == nothing.json() | {"request_id": ""}

    @pytest.mark.parametrize("path", ["/2", "/0", "/99999", "/99999999999999999999", "/1/file"])
    def test_what_is_not_there_is_not_found(self, trade, client_for, path):
        job = trade.now("delivered")

        assert client_for(trade.client).get(f"/jobs/{job.id}/deliveries{path}").status_code == 404
