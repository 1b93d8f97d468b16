"""What a person with a psql prompt, superuser included, cannot do to the books."""

import pytest
from django.db import IntegrityError, connection, transaction

from escrow import ledger
from escrow.ledger import Move
from escrow.models import LedgerAccount, Transfer

pytestmark = pytest.mark.django_db


@pytest.fixture
def booked(noon):
    """One deposit of 100, as account ids: (custody, available)."""
    moves = [Move("custody", "chain:31337", -100), Move("available", "a", 100)]
    ledger.post("t:1", kind="deposit", moves=moves, at=noon)
    with connection.cursor() as cursor:  # as its commit would
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    return (
        LedgerAccount.objects.get(kind="custody").id,
        LedgerAccount.objects.get(kind="available").id,
    )


def refused(*statements):
    """Run statements up to where a commit would be; answer the guard that refused them."""
    with pytest.raises(IntegrityError) as refusal, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("; ".join([*statements, "SET CONSTRAINTS ALL IMMEDIATE"]))
    return refusal.value.__cause__.diag.constraint_name


def test_the_connection_is_a_superusers():
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == (True,)


class TestAppendOnly:
    @pytest.mark.parametrize("table", ["escrow_transfer", "escrow_entry"])
    @pytest.mark.parametrize("statement", ["UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
    def test_transfers_and_entries_are_never_changed(self, booked, table, statement):
        assert refused(statement.format(table)).endswith("_append_only")

    @pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
    def test_accounts_are_never_removed(self, booked, statement):
        assert refused(statement.format("escrow_ledgeraccount")) == "ledgeraccount_stays"

    def test_not_even_an_account_without_entries(self, noon):
        LedgerAccount.objects.create(kind="available", owner_key="empty")

        assert refused("DELETE FROM escrow_ledgeraccount") == "ledgeraccount_stays"


class TestBalanceOnlyWithItsEntry:
    def test_a_balance_is_never_set(self, booked):
        assert refused("UPDATE escrow_ledgeraccount SET balance = 500 WHERE kind = 'available'") == (
            "ledgeraccount_follows_entry"
        )

    def test_nor_with_its_version(self, booked):
        assert refused(
            "UPDATE escrow_ledgeraccount SET balance = balance + 1, version = version + 1 WHERE kind = 'available'"
        ) == ("ledgeraccount_follows_entry")

    @pytest.mark.parametrize("change", ["version = 7", "kind = 'stake'", "owner_key = 'b'"])
    def test_nothing_else_of_an_account_changes(self, booked, change):
        assert refused(f"UPDATE escrow_ledgeraccount SET {change} WHERE kind = 'available'") == (
            "ledgeraccount_follows_entry"
        )

    @pytest.mark.parametrize(("balance", "version"), [(5, 0), (0, 1), (5, 1)])
    def test_an_account_starts_empty(self, balance, version):
        assert refused(
            "INSERT INTO escrow_ledgeraccount (kind, owner_key, balance, version)"
            f" VALUES ('available', 'new', {balance}, {version})"
        ) == ("ledgeraccount_starts_empty")

    def test_an_entry_without_its_balance_is_refused(self, booked):
        custody, available = booked

        assert refused(
            _transfer("t:2", 2),
            _entry("t:2", custody, -5, -105, 2),
            _entry("t:2", available, 5, 105, 2),
        ) == ("entry_is_booked")

    def test_an_entry_with_another_amount_than_its_balance_is_refused(self, booked):
        custody, available = booked

        assert refused(
            _transfer("t:2", 2),
            _booked("t:2", custody, change=-5, amount=-5),
            _booked("t:2", available, change=50, amount=5),
        ) == ("ledgeraccount_follows_entry")


class TestBalanced:
    def test_a_transfer_that_does_not_sum_to_zero_is_refused_at_commit(self, booked):
        custody, available = booked

        assert refused(
            _transfer("t:2", 2),
            _booked("t:2", custody, change=-5, amount=-5),
            _booked("t:2", available, change=6, amount=6),
        ) == ("transfer_is_balanced")

    def test_a_transfer_without_entries_is_refused_at_commit(self, booked):
        assert refused(_transfer("t:2", 2)) == "transfer_is_balanced"

    def test_a_balanced_one_made_by_hand_passes_the_same_road(self, booked):
        custody, available = booked
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_transfer("t:2", 2))
            cursor.execute(_booked("t:2", custody, change=-5, amount=-5))
            cursor.execute(_booked("t:2", available, change=5, amount=5))
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

        assert ledger.balance("available", "a") == 105

    def test_entries_never_join_a_complete_transfer(self, booked):
        custody, available = booked

        assert refused(
            _booked("t:1", custody, change=-5, amount=-5),
            _booked("t:1", available, change=5, amount=5),
        ) == ("entry_is_booked")

    @pytest.mark.parametrize("count", [0, 1, -2])
    def test_a_transfer_has_two_entries_at_least(self, count):
        assert refused(_transfer("t:2", count)) == "transfer_moves_between_accounts"

    def test_a_reference_exists_once(self, booked):
        assert refused(_transfer("t:1", 2)) == "transfer_reference_once"


class TestNotNegative:
    def test_a_balance_below_zero_is_refused_even_with_its_entries(self, booked):
        custody, available = booked

        assert refused(
            _transfer("t:2", 2),
            _booked("t:2", custody, change=101, amount=101),
            _booked("t:2", available, change=-101, amount=-101),
        ) == ("ledgeraccount_not_negative")

    def test_an_unknown_kind_is_refused(self):
        assert refused("INSERT INTO escrow_ledgeraccount (kind, owner_key) VALUES ('pocket', 'a')") == (
            "ledgeraccount_kind_known"
        )

    def test_an_entry_moves_something(self, booked):
        assert refused(_transfer("t:2", 2), _entry("t:2", booked[1], 0, 100, 2)) == "entry_moves_something"

    def test_a_version_exists_once(self, booked):
        assert refused(_transfer("t:2", 2), _entry("t:2", booked[1], 5, 105, 1)) == "entry_version_once"


class TestUnderReplication:
    def test_the_tests_own_flush_is_the_one_door(self, booked):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute("TRUNCATE escrow_entry, escrow_transfer, escrow_ledgeraccount")
            cursor.execute("SET LOCAL session_replication_role = DEFAULT")

        assert not Transfer.objects.exists()


def _transfer(reference, entry_count):
    return (
        "INSERT INTO escrow_transfer (reference, kind, occurred_at, actor, memo, entry_count)"
        f" VALUES ('{reference}', 'test', now(), 'psql', '', {entry_count})"
    )


def _entry(reference, account_id, amount, balance_after, version):
    return (
        "INSERT INTO escrow_entry (transfer_id, account_id, amount, balance_after, account_version)"
        f" SELECT id, {account_id}, {amount}, {balance_after}, {version} FROM escrow_transfer"
        f" WHERE reference = '{reference}'"
    )


def _booked(reference, account_id, *, change, amount):
    """Change a balance and write its entry in one statement, as ledger_post does."""
    return f"""
        WITH moved AS (
            UPDATE escrow_ledgeraccount SET balance = balance + {change}, version = version + 1
            WHERE id = {account_id} RETURNING id, balance, version
        )
        INSERT INTO escrow_entry (transfer_id, account_id, amount, balance_after, account_version)
        SELECT transfer.id, moved.id, {amount}, moved.balance, moved.version
        FROM moved, escrow_transfer transfer WHERE transfer.reference = '{reference}'
    """


class TestTemporaryTables:
    def test_an_entry_of_a_temporary_table_does_not_stand_in_for_a_real_one(self, booked):
        _, available = booked

        assert refused(
            "CREATE TEMP TABLE escrow_entry (LIKE public.escrow_entry) ON COMMIT DROP",
            "INSERT INTO escrow_entry (id, transfer_id, account_id, amount, balance_after, account_version)"
            f" VALUES (1, 1, {available}, 1000, 1100, 2)",
            "UPDATE public.escrow_ledgeraccount SET balance = balance + 1000, version = version + 1"
            f" WHERE id = {available}",
        ) == ("ledgeraccount_follows_entry")
