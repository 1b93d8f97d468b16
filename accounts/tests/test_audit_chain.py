import hashlib
from datetime import timedelta

import pytest
from django.db import transaction

from accounts import alerts, audit, audit_chain, clock
from accounts.models import AuditLink, AuditRecord, AuditSeal, User
from accounts.tasks import seal_audit
from accounts.tests.audit_log import forging, open_transaction, seal_all, write

pytestmark = pytest.mark.django_db(transaction=True)


def linked_records():
    return list(AuditLink.objects.order_by("position").values_list("record_id", flat=True))


class TestSeal:
    def test_of_nothing_is_no_seal(self):
        assert audit.seal() is None
        assert audit.head() is None

    def test_links_every_record_in_the_order_of_transactions(self):
        numbers = write("a", "b", "c")

        seal_all()

        assert linked_records() == numbers
        assert list(AuditLink.objects.order_by("position").values_list("position", flat=True)) == [1, 2, 3]

    def test_hashes_as_the_documents_say(self, alice):
        user = User.objects.create_user("ada")
        audit.record("x", user=user, agent=alice, subject="token:é", before=1, facts={"b": 1, "a": "ü"}, reason="r")

        seal_all()

        record, link = AuditRecord.objects.get(), AuditLink.objects.get()
        canonical = (
            f'{{"action":"x","address":"","after":null,"agent_id":"{alice.pk}",'
            f'"before":"{hashlib.sha256(b"1").hexdigest()}","epoch":1,"facts":{{"a":"ü","b":1}},"id":{record.pk},'
            f'"occurred_at":"{record.occurred_at:%Y-%m-%dT%H:%M:%S.%fZ}","reason":"r","request_id":"",'
            f'"subject":"token:é","user_id":"{user.pk}","xid":"{record.xid}"}}'
        )
        assert bytes(link.record_hash) == hashlib.sha256(canonical.encode()).digest()
        assert bytes(link.chain_hash) == hashlib.sha256(bytes(32) + bytes(link.record_hash)).digest()

    def test_goes_on_where_the_last_one_ended(self):
        write("a")
        first = seal_all()
        numbers = write("b", "c")

        second = seal_all()

        assert (first["position"], second["position"]) == (1, 3)
        assert linked_records() == numbers
        before, link = AuditLink.objects.order_by("position")[:2]
        assert bytes(link.chain_hash) == hashlib.sha256(bytes(before.chain_hash) + bytes(link.record_hash)).digest()

    def test_takes_no_more_than_its_limit(self, monkeypatch):
        monkeypatch.setattr(audit_chain, "FINISHED", "true")
        write(*range(5))
        seal_all()
        numbers = write(*range(5, 12))

        assert [audit.seal(limit=3).position for _ in range(3)] == [8, 11, 12]
        assert audit.seal(limit=3) is None
        assert linked_records() == numbers

    def test_publishes_the_head(self, caplog):
        caplog.set_level("INFO", logger="accounts.audit_chain")
        write("a")

        head = seal_all()

        seal = AuditSeal.objects.get()
        assert head == {
            "position": 1,
            "chain_hash": bytes(seal.chain_hash).hex(),
            "sealed_at": audit_chain.time_text(seal.sealed_at),
        }
        [said] = [record.msg for record in caplog.records if record.name == "accounts.audit_chain"]
        assert (said["event"], said["position"], said["chain_hash"]) == ("audit_sealed", 1, head["chain_hash"])

    def test_waits_for_a_transaction_that_may_still_add_an_earlier_record(self):
        write("before")
        seal_all()

        with open_transaction(lambda: write("slow")[-1]) as slow:
            fast = write("fast")[-1]
            for _ in range(3):
                audit.seal()
            assert fast not in linked_records()
        seal_all()

        assert linked_records()[-2:] == [slow, fast]
        assert audit.verify() == []

    def test_makes_no_writer_wait(self):
        write("before")

        with open_transaction(seal_all) as head:
            assert head["position"] == 1
            with transaction.atomic():
                audit.record("test.written", subject="test:meanwhile")

            assert AuditRecord.objects.filter(subject="test:meanwhile").exists()
            assert not AuditSeal.objects.exists(), "the sealing is still open"
        seal_all()

        assert audit.verify() == []

    def test_leaves_it_to_the_sealer_who_is_at_it(self, monkeypatch):
        monkeypatch.setattr(audit_chain, "FINISHED", "true")  # or others' transactions leave nothing to seal
        write("a")

        with open_transaction(seal_all):
            assert audit.seal() is None

        assert AuditLink.objects.count() == 1

    def test_keeps_the_chain_whole_when_eight_write_and_four_seal(self, race):
        def writes(name):
            def run():
                for number in range(15):
                    with transaction.atomic():
                        audit.record("test.written", subject=f"test:{name}", facts={"number": number})

            return run

        def seals():
            return [audit.seal(limit=7) for _ in range(15)] and None

        outcomes = race(*(writes(name) for name in range(8)), seals, seals, seals, seals)

        assert outcomes == [None] * 12
        seal_all()
        in_order = AuditRecord.objects.order_by("epoch", "xid", "id").values_list("id", flat=True)
        assert linked_records() == list(in_order)
        assert len(in_order) == 120
        assert audit.verify() == []

    def test_adds_nothing_to_an_end_that_was_cut_off(self):
        write("a", "b")
        seal_all()
        with forging() as cursor:
            cursor.execute("DELETE FROM accounts_auditlink WHERE position = 2")
            cursor.execute("DELETE FROM accounts_auditrecord WHERE id = (SELECT max(id) FROM accounts_auditrecord)")
        write("c")

        with pytest.raises(audit_chain.ChainBroken):
            audit.seal()

    def test_adds_nothing_to_a_record_that_is_gone(self):
        write("a", "b")
        seal_all()
        with forging() as cursor:
            cursor.execute("DELETE FROM accounts_auditrecord WHERE id = (SELECT max(id) FROM accounts_auditrecord)")
        write("c")

        with pytest.raises(audit_chain.ChainBroken):
            audit.seal()


class TestTask:
    def test_seals_batch_by_batch(self, monkeypatch):
        monkeypatch.setattr(audit_chain, "LIMIT", 3)
        monkeypatch.setattr(audit_chain, "FINISHED", "true")
        write(*range(10))

        seal_audit()

        assert _seals() == [3, 6, 9, 10]
        assert not alerts.is_sounding("audit_seal_late")

    def test_tells_of_a_committed_record_that_waits_too_long(self):
        long_ago = clock.now() - timedelta(minutes=6)
        audit.record("test.written", at=long_ago)
        seal_all()

        with open_transaction(lambda: write("holds the sealer back")):
            audit.record("test.written", subject="test:late", at=long_ago)
            seal_audit()
            assert alerts.is_sounding("audit_seal_late")
        seal_all()
        seal_audit()

        assert not alerts.is_sounding("audit_seal_late")

    def test_is_patient_for_five_minutes(self):
        with open_transaction(lambda: write("holds the sealer back")):
            audit.record("test.written", at=clock.now() - timedelta(minutes=4))
            seal_audit()

        assert not alerts.is_sounding("audit_seal_late")

    def test_tells_of_a_chain_that_is_broken(self):
        write("a", "b")
        seal_all()
        with forging() as cursor:
            cursor.execute("DELETE FROM accounts_auditlink WHERE position = 2")

        seal_audit()

        assert alerts.is_sounding("audit_broken")


class TestHash:
    def test_covers_every_column(self):
        """A column that is added must be thought of: in the hash, or with a word here why not."""
        assert set(audit_chain.COLUMNS) == {field.attname for field in AuditRecord._meta.concrete_fields}

    def test_reads_facts_of_any_kind(self):
        audit.record("test.written", facts={"wei": 10**30, "share": 0.1, "deep": {"ü": ["\u202e", None, True]}})

        seal_all()

        assert audit.verify() == []


def _seals():
    return list(AuditSeal.objects.order_by("position").values_list("position", flat=True))
