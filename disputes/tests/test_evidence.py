"""What the parties bring: types by magic bytes, limits, the chain, retention."""

import hashlib
import io
import zipfile
from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction

from accounts import clock
from accounts.errors import DomainError, Invalid, NotFound
from accounts.models import Event
from disputes import cases, evidence, filetypes, lifecycle
from disputes.models import Dispute, Evidence
from disputes.models.evidence import MAX_ITEM_BYTES
from disputes.tests.conftest import DAY, HOUR

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!DOCTYPE html><script>alert(1)</script>"
GIF = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xf9\x04"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(40)
PDF = b"%PDF-1.7\n1 0 obj\n"
EXE = b"MZ\x90\x00\x03\x00\x00\x00"
NOTHING_YET = (0, [])


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, "x")
    return out.getvalue()


class TestFromFile:
    @pytest.mark.parametrize(
        ("content", "filename", "content_type"),
        [
            (b"Twelve chapters were agreed.", "note.txt", "text/plain; charset=utf-8"),
            ("Zwölf Kapitel, سلام".encode(), "note", "text/plain; charset=utf-8"),
            (b"print('hello')", "worker.py", "text/plain; charset=utf-8"),
            (HTML, "page.txt", "text/plain; charset=utf-8"),
            (SVG, "picture.TXT", "text/plain; charset=utf-8"),
            (b'{"a": 1}', "log.json", "application/json"),
            (b"[1, 2]", "", "application/json"),
            (b"12", "number.json", "text/plain; charset=utf-8"),
            (b"[" * 100_000, "deep.json", "text/plain; charset=utf-8"),
            (PDF, "terms.pdf", "application/pdf"),
            (PNG, "screen.png", "image/png"),
            (JPEG, "photo.JPG", "image/jpeg"),
            (JPEG, "photo", "image/jpeg"),
            (zipped("a.txt"), "all.zip", "application/zip"),
            (zipped(), "none.zip", "application/zip"),
            (zipped("word/document.xml"), "letter.docx", "application/zip"),
        ],
    )
    def test_tells_the_type_by_the_first_bytes(self, content, filename, content_type):
        item = evidence.from_file(content, filename)

        assert (item.kind, item.content, item.content_type) == ("file", content, content_type)

    @pytest.mark.parametrize(
        ("content", "filename"),
        [
            (SVG, "picture.svg"),
            (SVG, "picture.png"),
            (SVG, "picture"),
            (SVG, "picture.txt.svg"),
            (b"\xef\xbb\xbf \n" + SVG, "picture"),
            (b" " * 5_000 + SVG, "picture"),
            (b'<?xml version="1.0"?>' + SVG, "picture.xml"),
            (HTML, "page.html"),
            (HTML, "page.HTM"),
            (HTML, "page"),
            (b"plain words", "page.html"),
            (b"plain words", "screen.png"),
            (b"plain words", "terms.pdf"),
            (GIF, "moving.gif"),
            (GIF, "moving.png"),
            (b"GIF89a no more", "moving"),
            (EXE, "setup.exe"),
            (EXE, "setup.txt"),
            (b"\x7fELF\x02\x01\x01\x00", "tool"),
            (PNG, "screen.jpg"),
            (PNG, "screen.svg"),
            (PNG, "screen.txt.exe"),
            (PDF, "terms.html"),
            (zipped("a.txt"), "all.jar"),
            (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "picture.webp"),
            (b"text with a \x00 in it", "note.txt"),
            (b"latin-1 \xe4\xf6\xfc", "note.txt"),
            ("UTF-16".encode("utf-16"), "note.txt"),
            (b"\x1f\x8b\x08\x00", "all.gz"),
        ],
    )
    def test_refuses_every_other_type_and_names_that_lie(self, content, filename):
        with pytest.raises(filetypes.UnsupportedFile) as refusal:
            evidence.from_file(content, filename)

        assert (refusal.value.status, refusal.value.code) == (415, "unsupported_file")

    def test_opens_no_archive(self, monkeypatch):
        bomb = io.BytesIO()
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", bytes(50_000_000))
        monkeypatch.setattr(zipfile, "ZipFile", None)

        item = evidence.from_file(bomb.getvalue(), "bomb.zip")

        assert item.content == bomb.getvalue()
        assert len(item.content) < 100_000

    def test_keeps_the_name_as_people_can_read_it(self):
        item = evidence.from_file(b"words", "invoice\u202egnp.\u200bscr\x00.txt")

        assert item.filename == "invoice\\u{202E}gnp.\\u{200B}scr\\u{0000}.txt"

    def test_cuts_a_long_name(self):
        assert evidence.from_file(b"words", "n" * 250 + ".txt").filename == "n" * 200

    def test_refuses_nothing(self):
        with pytest.raises(Invalid):
            evidence.from_file(b"", "empty.txt")

    def test_refuses_a_byte_too_many(self):
        assert evidence.from_file(b"x" * MAX_ITEM_BYTES, "big.txt")

        with pytest.raises(evidence.EvidenceTooLarge):
            evidence.from_file(b"x" * (MAX_ITEM_BYTES + 1), "big.txt")


def brought(case: Dispute) -> tuple[int, list[str]]:
    """Count the items of a case, and list what was told of them."""
    told = Event.objects.filter(type="dispute.evidence_added", data__dispute_id=str(case.pk))
    return Evidence.objects.filter(dispute=case).count(), [event.data["number"] for event in told]


@pytest.mark.django_db
class TestSubmit:
    def test_stores_a_file_with_its_digest(self, case_at, alice, noon):
        case = case_at()

        evidence.submit(case.pk, by=alice, item=evidence.from_file(PDF, "terms.pdf"), at=noon)

        item = Evidence.objects.get()
        assert (item.number, item.by, item.kind, item.filename) == (1, "client", "file", "terms.pdf")
        assert bytes(item.content) == PDF
        assert bytes(item.sha256) == hashlib.sha256(PDF).digest()
        assert evidence.broken_links(case.evidence.order_by("number")) == []

    def test_is_refused_at_the_very_moment_evidence_closes(self, case_at, alice, noon):
        case = case_at("evidence")
        closes, item = case.evidence_by, evidence.from_text("words")

        with pytest.raises(lifecycle.TransitionNotAllowed):
            evidence.submit(case.pk, by=alice, item=item, at=closes)
        assert brought(case) == NOTHING_YET

        assert evidence.submit(case.pk, by=alice, item=item, at=closes - timedelta(microseconds=1))

    @pytest.mark.parametrize("state", ["under_review", "ruled", "final", "settled", "withdrawn"])
    def test_is_refused_late(self, case_at, alice, noon, state):
        case = case_at(state)

        with pytest.raises(lifecycle.TransitionNotAllowed):
            evidence.submit(case.pk, by=alice, item=evidence.from_text("words"), at=noon + 3 * DAY)

        assert brought(case) == NOTHING_YET
        assert Dispute.objects.get(pk=case.pk).revision == case.revision

    def test_is_refused_to_a_stranger(self, case_at, carol, noon):
        case = case_at()

        with pytest.raises(NotFound, match="There is no such case"):
            evidence.submit(case.pk, by=carol, item=evidence.from_text("words"), at=noon)

        assert brought(case) == NOTHING_YET

    def test_takes_ten_items_a_side(self, case_at, alice, bob, noon):
        case = case_at()
        for number in range(10):
            evidence.submit(case.pk, by=alice, item=evidence.from_text(f"item {number}"), at=noon)
        before = Dispute.objects.get(pk=case.pk).revision

        with pytest.raises(evidence.EvidenceFull):
            evidence.submit(case.pk, by=alice, item=evidence.from_text("one too many"), at=noon)

        assert Evidence.objects.count() == 10
        assert Dispute.objects.get(pk=case.pk).revision == before
        assert evidence.submit(case.pk, by=bob, item=evidence.from_text("the other side"), at=noon)

    def test_takes_25_megabytes_a_side(self, case_at, alice, bob, noon):
        case = case_at()
        large = evidence.Item("text", b"x" * MAX_ITEM_BYTES, "text/plain; charset=utf-8")
        half = evidence.Item("text", b"x" * (MAX_ITEM_BYTES // 2), "text/plain; charset=utf-8")
        for item in (large, large, half):
            evidence.submit(case.pk, by=alice, item=item, at=noon)

        with pytest.raises(evidence.EvidenceTooLarge):
            evidence.submit(case.pk, by=alice, item=evidence.from_text("x"), at=noon)

        assert Evidence.objects.count() == 3
        assert evidence.submit(case.pk, by=bob, item=half, at=noon)


@pytest.mark.django_db
class TestChain:
    @pytest.fixture
    def case(self, case_at, alice, bob, noon):
        case = case_at()
        for by, item in [
            (alice, evidence.from_text("first")),
            (bob, evidence.from_file(PDF, "terms.pdf")),
            (alice, evidence.from_json({"third": 3})),
        ]:
            evidence.submit(case.pk, by=by, item=item, at=noon)
        return case

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("filename", "other.pdf"),
            ("content_type", "text/html"),
            ("by", "client"),
            ("size", 3),
            ("sha256", bytes(32)),
            ("kind", "json"),
        ],
    )
    def test_shows_what_was_changed_behind_the_triggers(self, case, column, value):
        item = case.evidence.get(number=2)
        setattr(item, column, value)

        assert evidence.chained(case.evidence.get(number=1).chain_hash, item) != bytes(item.chain_hash)

    def test_shows_an_item_that_is_gone(self, case):
        first, third = case.evidence.get(number=1), case.evidence.get(number=3)

        assert evidence.chained(first.chain_hash, third) != bytes(third.chain_hash)

    def test_cannot_be_changed(self, case):
        for change in [{"filename": "other.pdf"}, {"sha256": bytes(32)}, {"content": b"other"}]:
            with pytest.raises(DatabaseError), transaction.atomic():
                Evidence.objects.filter(dispute=case, number=2).update(**change)
        with pytest.raises(DatabaseError), transaction.atomic():
            Evidence.objects.filter(dispute=case).delete()


@pytest.mark.django_db
class TestEraseDue:
    def closed(self, case_at, alice, noon):
        case = case_at()
        evidence.submit(case.pk, by=alice, item=evidence.from_file(PDF, "terms.pdf"), at=noon)
        return cases.withdraw(case.pk, by=alice, at=noon + HOUR)

    def test_erases_the_bytes_and_leaves_the_digests(self, case_at, alice, noon):
        case = self.closed(case_at, alice, noon)
        due = noon + HOUR + 180 * DAY

        assert evidence.erase_due(at=due - timedelta(microseconds=1)) == 0
        assert bytes(Evidence.objects.get().content) == PDF
        assert evidence.erase_due(at=due) == 1
        assert evidence.erase_due(at=due) == 0

        item = Evidence.objects.get()
        assert item.content is None
        assert (bytes(item.sha256), item.size) == (hashlib.sha256(PDF).digest(), len(PDF))
        assert Dispute.objects.get().evidence_erased_at == due
        assert evidence.broken_links(case.evidence.order_by("number")) == []
        with pytest.raises(NotFound):
            evidence.read(case.pk, 1, by=alice)

    def test_leaves_living_cases_alone(self, case_at, alice, noon):
        case = case_at()
        evidence.submit(case.pk, by=alice, item=evidence.from_text("words"), at=noon)

        assert evidence.erase_due(at=noon + 999 * DAY) == 0

        assert Evidence.objects.get().content is not None

    def test_goes_by_the_setting(self, case_at, alice, noon, settings):
        settings.EVIDENCE_RETENTION_SECONDS = 60
        self.closed(case_at, alice, noon)

        assert evidence.erase_due(at=noon + HOUR + timedelta(seconds=60)) == 1

    def test_one_that_raises_does_not_stop_the_others(self, case_at, job_at, alice, noon, monkeypatch):
        bad, good = self.closed(case_at, alice, noon), self.closed(case_at, alice, noon)
        erase = evidence._erase
        monkeypatch.setattr(evidence, "_erase", lambda pk, at: 1 / 0 if pk == bad.pk else erase(pk, at))

        assert evidence.erase_due(at=noon + 200 * DAY) == 1

        assert Dispute.objects.get(evidence_erased_at__isnull=False) == good


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    @pytest.fixture
    def noon(self):
        return clock.now() - HOUR

    def test_of_twenty_items_ten_come_in_and_the_chain_holds(self, case_at, alice, race):
        case = case_at()

        outcomes = race(*[
            lambda number=number: evidence.submit(case.pk, by=alice, item=evidence.from_text(f"item {number}"))
            for number in range(20)
        ])  # fmt: skip

        refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert {type(error) for error in refused} == {evidence.EvidenceFull}
        assert all(isinstance(error, DomainError) for error in refused)
        assert sorted(Evidence.objects.values_list("number", flat=True)) == list(range(1, 11))
        assert evidence.broken_links(case.evidence.order_by("number")) == []

    def test_erasing_by_eight_sweeps_erases_once(self, case_at, alice, race, noon):
        case = case_at()
        evidence.submit(case.pk, by=alice, item=evidence.from_text("words"), at=noon)
        cases.withdraw(case.pk, by=alice, at=noon)

        outcomes = race(*[lambda: evidence.erase_due(at=noon + 181 * DAY)] * 8)

        assert sorted(outcomes) == [0] * 7 + [1]
