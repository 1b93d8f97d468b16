import tracemalloc
from datetime import timedelta
from io import StringIO
from unittest import mock

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from accounts import audit, audit_chain, audit_verification, clock
from accounts.audit_verification import Kept
from accounts.models import AuditLink, AuditRecord, AuditSeal, User
from accounts.tests.audit_log import forging, open_transaction, relink, reseal, seal_all, write

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sealed():
    """Six records under three seals (at 2, 4 and 6); their numbers."""
    for two in ("ab", "cd", "ef"):
        write(two[0])
        write(two[1])
        seal_all()
    assert audit.verify() == []
    return list(AuditLink.objects.order_by("position").values_list("record_id", flat=True))


def kept():
    head = audit.head()
    return Kept(head["position"], bytes.fromhex(head["chain_hash"]))


def only(found):
    [text] = found
    return text


class TestEdited:
    @pytest.mark.parametrize(
        "change",
        [
            "action = 'other'", "subject = 'x'", "before = '\\x01'", "after = '\\x01'", "facts = '{\"of\": 2}'",
            "reason = 'no'", "address = '1'", "request_id = '1'",
            "occurred_at = occurred_at + interval '1 microsecond'",
            "epoch = 0",
        ],
    )  # fmt: skip
    def test_record_is_named(self, sealed, change):
        with forging() as cursor:
            cursor.execute(f"UPDATE accounts_auditrecord SET {change} WHERE id = %s", [sealed[2]])

        assert f"record {sealed[2]} at position 3" in only(audit.verify())

    @pytest.mark.parametrize("who", ["user_id", "agent_id"])
    def test_who_it_was_of_a_record_is_named(self, sealed, alice, who):
        of = {"agent_id": alice.pk, "user_id": User.objects.create_user("ada").pk}
        with forging() as cursor:
            cursor.execute(f"UPDATE accounts_auditrecord SET {who} = %s WHERE id = %s", [of[who], sealed[2]])

        assert f"record {sealed[2]} at position 3 was edited" in only(audit.verify())

    def test_record_with_its_link_is_named(self, sealed):
        with forging() as cursor:
            cursor.execute("UPDATE accounts_auditrecord SET reason = 'no' WHERE id = %s", [sealed[2]])
            relink(cursor, 3)
            cursor.execute("UPDATE accounts_auditlink l SET chain_hash = '\\x00' WHERE position = 3")

        assert "link 3" in only(audit.verify())

    def test_record_with_all_links_after_it_differs_from_the_next_seal(self, sealed):
        with forging() as cursor:
            cursor.execute("UPDATE accounts_auditrecord SET reason = 'no' WHERE id = %s", [sealed[2]])
            relink(cursor, 3)

        assert only(audit.verify()).startswith(f"record {sealed[3]} at position 4 is not what the seal at 4")

    def test_record_with_all_links_and_seals_differs_from_a_head_that_was_kept(self, sealed):
        expect = kept()
        with forging() as cursor:
            cursor.execute("UPDATE accounts_auditrecord SET reason = 'no' WHERE id = %s", [sealed[2]])
            relink(cursor, 3)
            reseal(cursor)

        assert audit.verify() == [], "nothing that is stored contradicts it"
        assert "is not what was published" in only(audit.verify(expect))

    def test_seal_is_named(self, sealed):
        with forging() as cursor:
            cursor.execute("UPDATE accounts_auditseal SET sealed_at = sealed_at - interval '1 h' WHERE position = 4")

        assert "the seal at 4" in only(audit.verify())


class TestDeleted:
    def test_record_is_named(self, sealed):
        with forging() as cursor:
            cursor.execute("DELETE FROM accounts_auditrecord WHERE id = %s", [sealed[2]])

        assert only(audit.verify()) == f"record {sealed[2]} at position 3 was deleted"

    def test_record_with_its_link_is_named(self, sealed):
        with forging() as cursor:
            cursor.execute("DELETE FROM accounts_auditrecord WHERE id = %s", [sealed[2]])
            cursor.execute("DELETE FROM accounts_auditlink WHERE position = 3")

        assert "link 3 is missing" in only(audit.verify())

    def test_record_with_its_link_is_named_though_the_gap_was_closed(self, sealed):
        with forging() as cursor:
            cursor.execute("DELETE FROM accounts_auditrecord WHERE id = %s", [sealed[2]])
            cursor.execute("DELETE FROM accounts_auditlink WHERE position = 3")
            for position in (4, 5, 6):
                cursor.execute("UPDATE accounts_auditlink SET position = %s WHERE position = %s",
                               [position - 1, position])  # fmt: skip
            relink(cursor, 3)
            cursor.execute("UPDATE accounts_auditseal SET position = 5 WHERE position = 6")

        assert only(audit.verify()) == f"the seal at 3 (record {sealed[3]}) is missing"

    def test_seal_is_named(self, sealed):
        with forging() as cursor:
            cursor.execute("DELETE FROM accounts_auditseal WHERE position = 4")

        assert only(audit.verify()) == f"the seal at 4 (record {sealed[3]}) is missing"


class TestReordered:
    def test_links_are_named(self, sealed):
        _swap_links(3, 4)

        assert f"record {sealed[3]} at position 3" in only(audit.verify())

    def test_links_with_their_hashes_are_named(self, sealed):
        _swap_links(3, 4)
        with forging() as cursor:
            relink(cursor, 3)
            reseal(cursor)

        assert only(audit.verify()).startswith(f"record {sealed[2]} at position 4 is out of order")

    def test_records_that_changed_their_numbers_are_named(self, sealed):
        first, second = sealed[2:4]
        with forging() as cursor:
            for origin, to in ((first, 999_999), (second, first), (999_999, second)):
                cursor.execute("UPDATE accounts_auditrecord SET id = %s WHERE id = %s", [to, origin])

        assert f"record {first} at position 3 was edited" in only(audit.verify())


class TestCutOff:
    def test_links_are_missed_by_the_seals(self, sealed):
        with forging() as cursor:
            cursor.execute("DELETE FROM accounts_auditlink WHERE position >= 5")

        assert "link 5 is missing: the log was cut off there, it was sealed up to 6" in only(audit.verify())

    def test_links_and_records_are_missed_by_the_seals(self, sealed):
        with forging() as cursor:
            cursor.execute("DELETE FROM accounts_auditlink WHERE position >= 5")
            cursor.execute("DELETE FROM accounts_auditrecord WHERE id = ANY(%s)", [sealed[4:]])

        assert "link 5 is missing: the log was cut off there, it was sealed up to 6" in only(audit.verify())

    def test_links_records_and_seals_are_missed_by_a_head_that_was_kept(self, sealed):
        expect = kept()
        with forging() as cursor:
            cursor.execute("DELETE FROM accounts_auditlink WHERE position >= 5")
            cursor.execute("DELETE FROM accounts_auditseal WHERE position >= 5")
            cursor.execute("DELETE FROM accounts_auditrecord WHERE id = ANY(%s)", [sealed[4:]])

        assert audit.verify() == [], "nothing that is stored contradicts it"
        assert "link 5 is missing: the log was cut off there, a head at 6" in only(audit.verify(expect))

    def test_links_and_seals_leave_records_that_are_not_sealed(self, sealed):
        with forging() as cursor:
            cursor.execute("DELETE FROM accounts_auditlink WHERE position >= 5")
            cursor.execute("DELETE FROM accounts_auditseal WHERE position >= 5")
            cursor.execute("UPDATE accounts_auditrecord SET occurred_at = occurred_at - interval '6 min'"
                           " WHERE id = ANY(%s)", [sealed[4:]])  # fmt: skip

        assert f"record {sealed[4]} of" in only(audit.verify())

    def test_all_of_it_is_missed_by_a_head_that_was_kept(self, sealed):
        expect = kept()
        with forging() as cursor:
            for table in ("link", "seal", "record"):
                cursor.execute(f"DELETE FROM accounts_audit{table}")

        assert "link 1 is missing" in only(audit.verify(expect))


class TestInserted:
    def test_record_with_an_old_transaction_is_in_no_chain(self, sealed):
        number = _forge(xid=AuditRecord.objects.get(pk=sealed[2]).xid)

        assert f"record {number} of" in only(audit.verify())
        assert "backdated" in only(audit.verify())
        write("later")
        with mock.patch.object(audit_chain, "FINISHED", "true"):
            assert audit.seal().position == 7
        assert f"record {number} of" in only(audit.verify()), "no sealer ever takes it in"

    def test_record_with_an_old_transaction_that_was_linked_at_the_end_is_out_of_order(self, sealed):
        number = _forge(xid=AuditRecord.objects.get(pk=sealed[2]).xid)
        _link_at_the_end(number)

        assert only(audit.verify()).startswith(f"record {number} at position 7 is out of order")

    def test_record_with_an_old_time_is_backdated(self, sealed):
        number = _forge(at=clock.now() - timedelta(days=3))
        seal_all()

        assert only(audit.verify()).startswith(f"record {number} at position 7 is backdated")

    def test_record_with_an_old_time_of_the_first_sealing_is_backdated(self):
        write("a")
        number = _forge(at=clock.now() - timedelta(days=3))
        seal_all()

        assert only(audit.verify()).startswith(f"record {number} at position 2 is backdated")

    def test_record_of_the_future_is_named(self, sealed):
        number = _forge(at=clock.now() + timedelta(days=3))
        seal_all()

        assert f"record {number} at position 7 is dated" in only(audit.verify())

    def test_record_of_a_transaction_that_never_was_is_named(self, sealed):
        number = _forge(xid=2**62, at=clock.now() + timedelta(days=3))

        assert f"record {number} of" in only(audit.verify())
        assert "never was" in only(audit.verify())

    def test_record_of_an_epoch_that_never_was_is_named(self, sealed):
        number = _forge(epoch=2)

        assert f"record {number} of" in only(audit.verify())

    def test_link_without_a_seal_is_named(self, sealed):
        number = write("g")[-1]
        with forging() as cursor:
            cursor.execute(
                "INSERT INTO accounts_auditlink VALUES (7, %s, '\\x00', '\\x00', clock_timestamp())", [number]
            )

        assert only(audit.verify()) == f"record {number} at position 7 is linked, but under no seal"


class TestUnsealed:
    def test_record_is_in_order_for_five_minutes(self, sealed):
        audit.record("test.written", at=clock.now() - timedelta(minutes=4))

        assert audit.verify() == []

    def test_record_of_an_earlier_time_is_named(self, sealed):
        audit.record("test.written", at=clock.now() - timedelta(minutes=6))

        assert "is not sealed, though it is older than 5 minutes" in only(audit.verify())

    def test_record_is_named_though_nothing_was_ever_sealed(self):
        audit.record("test.written", at=clock.now() - timedelta(minutes=6))

        assert "is not sealed" in only(audit.verify())

    def test_record_of_an_open_transaction_is_nobodys_business_yet(self, sealed):
        with open_transaction(lambda: audit.record("test.written", at=clock.now() - timedelta(minutes=6)) or True):
            assert audit.verify() == []


class TestSince:
    def test_begins_after_a_link(self, sealed):
        with forging() as cursor:
            cursor.execute("UPDATE accounts_auditrecord SET reason = 'no' WHERE id = %s", [sealed[1]])

        assert audit.verify(since=4) == []
        assert f"record {sealed[1]}" in only(audit.verify(since=1))

    def test_compares_the_link_it_begins_after_with_what_was_kept(self, sealed):
        seal = AuditSeal.objects.get(position=4)

        assert audit.verify(Kept(4, bytes(seal.chain_hash)), since=4) == []
        assert "is not what was published" in only(audit.verify(Kept(4, bytes(32)), since=4))

    def test_needs_the_link_it_begins_after(self, sealed):
        assert "link 99 is missing" in only(audit.verify(since=99))


class TestManyRows:
    def test_are_read_in_batches_with_word_of_how_far(self, sealed, monkeypatch):
        monkeypatch.setattr(audit_verification, "BATCH", 2)
        told = []

        assert audit.verify(progress=lambda done, end: told.append((done, end))) == []

        assert told == [(2, 6), (4, 6), (6, 6)]

    @pytest.mark.long
    def test_of_a_hundred_thousand_need_no_memory_for_all_of_them(self):
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO accounts_auditrecord (action, subject, facts, reason, address, request_id)"
                " SELECT 'test.many', 'test:' || n, jsonb_build_object('n', n), repeat('because ', 40), '', ''"
                " FROM generate_series(1, 100000) n"
            )
        while AuditLink.objects.count() < 100_000:
            with mock.patch.object(audit_chain, "FINISHED", "true"):
                audit.seal()
        with forging() as cursor:
            cursor.execute("UPDATE accounts_auditrecord SET reason = 'no' WHERE id = (SELECT max(id) - 1"
                           " FROM accounts_auditrecord)")  # fmt: skip
        told = []

        tracemalloc.start()
        found = only(audit.verify(progress=lambda done, end: told.append(done)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert "at position 99999 was edited" in found
        assert peak < 32 * 2**20
        assert told[-1] == 98_000

    def test_a_change_in_a_later_batch_is_named(self, sealed, monkeypatch):
        monkeypatch.setattr(audit_verification, "BATCH", 2)
        with forging() as cursor:
            cursor.execute("UPDATE accounts_auditrecord SET reason = 'no' WHERE id = %s", [sealed[4]])

        assert f"record {sealed[4]} at position 5 was edited" in only(audit.verify())


class TestCommand:
    def test_prints_the_head_of_a_log_that_is_whole(self, sealed):
        said = StringIO()
        head = audit.head()

        call_command("verify_audit", expect=f"{head['position']}:{head['chain_hash']}", stdout=said)

        assert f"6:{head['chain_hash']}" in said.getvalue()

    def test_says_that_nothing_is_sealed_yet(self):
        said = StringIO()

        call_command("verify_audit", stdout=said)

        assert "nothing is sealed yet" in said.getvalue()

    def test_fails_with_the_row(self, sealed):
        with forging() as cursor:
            cursor.execute("DELETE FROM accounts_auditrecord WHERE id = %s", [sealed[2]])

        with pytest.raises(CommandError, match=f"record {sealed[2]} at position 3 was deleted") as failed:
            call_command("verify_audit")

        assert failed.value.returncode == 1

    @pytest.mark.parametrize("options", [{"expect": "6"}, {"expect": "6:zz"}, {"since": -1},
                                         {"expect": f"3:{'0' * 64}", "since": 4}])  # fmt: skip
    def test_says_what_it_does_not_understand(self, sealed, options):
        with pytest.raises(CommandError) as failed:
            call_command("verify_audit", **options)

        assert failed.value.returncode == 2


def _swap_links(one, other):
    with forging() as cursor:
        cursor.execute("SELECT record_id FROM accounts_auditlink WHERE position IN (%s, %s) ORDER BY position",
                       [one, other])  # fmt: skip
        (first,), (second,) = cursor.fetchall()
        cursor.execute("UPDATE accounts_auditlink SET record_id = -1 WHERE position = %s", [one])
        cursor.execute("UPDATE accounts_auditlink SET record_id = %s WHERE position = %s", [first, other])
        cursor.execute("UPDATE accounts_auditlink SET record_id = %s WHERE position = %s", [second, one])


def _forge(*, xid=None, epoch=1, at=None):
    """Insert a record with a transaction, an epoch or a time that are not its own: the triggers allow it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_auditrecord (action, subject, facts, reason, address, request_id, epoch, xid,"
            " occurred_at) VALUES ('test.forged', '', '{}', '', '', '', %s,"
            " coalesce(%s::text::xid8, pg_current_xact_id()), coalesce(%s, clock_timestamp())) RETURNING id",
            [epoch, None if xid is None else str(xid), at],
        )
        return cursor.fetchone()[0]


def _link_at_the_end(number):
    with forging() as cursor:
        cursor.execute("INSERT INTO accounts_auditlink VALUES (7, %s, '\\x00', '\\x00', clock_timestamp())", [number])
        relink(cursor, 7)
        cursor.execute("INSERT INTO accounts_auditseal SELECT position, chain_hash, sealed_at FROM accounts_auditlink"
                       " WHERE position = 7")  # fmt: skip
