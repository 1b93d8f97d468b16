from contextlib import contextmanager
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from escrow import books, ledger
from escrow.ledger import Move
from escrow.models import BooksCheckpoint, LedgerAccount

pytestmark = pytest.mark.django_db

SUM = "all balances sum to zero"
NEGATIVE = "only custody and shortfall are negative"
TRANSFERS = "the entries of a transfer sum to zero"
SUMS = "a balance is the sum of its entries"
LAST = "a balance is the last balance_after"
VERSIONS = "versions run from 1 without gaps"
RUNNING = "a balance_after is the one before plus the amount"

# A forgery, what the full check says of it, and what the check of recent entries does.
FORGERIES = [
    ("UPDATE escrow_ledgeraccount SET balance = balance + 1 WHERE owner_key = 'a'", {SUM, SUMS, LAST}, {SUM, LAST}),
    ("UPDATE escrow_ledgeraccount SET version = version + 1 WHERE owner_key = 'a'", {VERSIONS, LAST}, {LAST}),
    (
        "ALTER TABLE escrow_ledgeraccount DROP CONSTRAINT ledgeraccount_not_negative;"
        "UPDATE escrow_ledgeraccount SET balance = balance - 8 WHERE owner_key = 'b';"
        "UPDATE escrow_ledgeraccount SET balance = balance + 8 WHERE owner_key = 'a'",
        {NEGATIVE, SUMS, LAST},
        {NEGATIVE, LAST},
    ),
    ("UPDATE escrow_entry SET amount = 6 WHERE amount = 5", {TRANSFERS, SUMS, RUNNING}, {TRANSFERS, RUNNING}),
    ("UPDATE escrow_entry SET balance_after = 4 WHERE amount = 5", {LAST, RUNNING}, {LAST, RUNNING}),
    ("DELETE FROM escrow_entry WHERE amount = 5", {TRANSFERS, SUMS, LAST, VERSIONS}, {TRANSFERS}),
    (
        "DELETE FROM escrow_entry WHERE transfer_id = (SELECT min(id) FROM escrow_transfer)",
        {TRANSFERS, SUMS, VERSIONS, RUNNING},
        {RUNNING},
    ),
    ("UPDATE escrow_transfer SET entry_count = 3 WHERE reference = 't:2'", {TRANSFERS}, {TRANSFERS}),
]


@pytest.fixture
def traded(noon):
    """Three transfers: 10 and 2 come in for a, 5 of it go to b."""
    for reference, moves in {
        "t:1": [Move("custody", "chain:1", -10), Move("available", "a", 10)],
        "t:2": [Move("custody", "chain:1", -2), Move("available", "a", 2)],
        "t:3": [Move("available", "a", -5), Move("available", "b", 5)],
    }.items():
        ledger.post(reference, kind="test", moves=moves, at=noon)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


@contextmanager
def forged(statements):
    """Break the books past every guard, for as long as the block lasts."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL session_replication_role = replica; {statements}")
        yield
        transaction.set_rollback(True)


class TestCheck:
    def test_finds_nothing_in_good_books(self, traded):
        assert books.check(full=True) == []
        assert books.check(full=False) == []

    @pytest.mark.parametrize(("forgery", "broken", "_"), FORGERIES)
    def test_finds_a_forgery(self, traded, forgery, broken, _):
        with forged(forgery):
            found = books.check(full=True)

        assert {mismatch.invariant for mismatch in found} == broken

    @pytest.mark.parametrize(("forgery", "_", "broken"), FORGERIES)
    def test_finds_it_among_what_is_recent(self, traded, forgery, _, broken):
        with forged(forgery):
            found = books.check(full=False, after=0)

        assert {mismatch.invariant for mismatch in found} == broken

    def test_names_the_account_and_both_amounts(self, traded):
        with forged("UPDATE escrow_ledgeraccount SET balance = 9 WHERE owner_key = 'a'"):
            found = books.check(full=True)

        assert books.Mismatch("a balance is the sum of its entries", "available of a", "7", "9") in found

    def test_is_one_round_trip(self, traded, django_assert_num_queries):
        with django_assert_num_queries(1):
            books._ask([(name, each.full) for name, each in books.invariants.items() if isinstance(each.full, str)], 0)

    def test_asks_what_others_registered(self, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(books, "invariants", {})
            books.register("as rows", "SELECT 'x', 1, 2")
            books.register("as a function", lambda: [("y", 3, 4)], recent=lambda: [])
            full, recent = books.check(full=True), books.check(full=False)

        assert full == [books.Mismatch("as rows", "x", "1", "2"), books.Mismatch("as a function", "y", "3", "4")]
        assert recent == []


class TestCheckRecent:
    def test_answers_for_the_run_before_the_last(self, traded, noon):
        books.check_recent()
        first = BooksCheckpoint.objects.get()
        books.check_recent()
        second = BooksCheckpoint.objects.get()

        assert (first.checked_entry_id, second.checked_entry_id) == (0, first.seen_entry_id)
        assert first.seen_entry_id == second.seen_entry_id > 0
        assert second.checked_at is not None

    def test_does_not_go_past_a_mismatch(self, traded):
        with forged("UPDATE escrow_entry SET amount = 6 WHERE amount = 5"):
            found = books.check_recent()
            checkpoint = BooksCheckpoint.objects.get()

        assert found != []
        assert checkpoint.seen_entry_id == 0


class TestCommand:
    @pytest.mark.parametrize("options", [["--full"], []])
    def test_prints_every_invariant_it_asked(self, traded, options):
        out = StringIO()

        call_command("check_books", *options, stdout=out)

        asked = [name for name, each in books.invariants.items() if options or each.recent]
        assert [line.split(maxsplit=1)[1] for line in out.getvalue().splitlines()] == asked
        assert all(line.split()[0] == "ok" for line in out.getvalue().splitlines())

    def test_prints_the_rows_and_exits_1_on_a_mismatch(self, traded):
        out = StringIO()

        with (
            forged("UPDATE escrow_ledgeraccount SET balance = 9 WHERE owner_key = 'a'"),
            pytest.raises(CommandError) as failure,
        ):
            call_command("check_books", "--full", stdout=out)

        assert failure.value.returncode == 1
        assert "1 wrong  a balance is the sum of its entries" in out.getvalue()
        assert "available of a: expected 7, found 9" in out.getvalue()


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_two_runs_move_the_checkpoint_once(self, race, noon):
        moves = [Move("custody", "chain:1", -10), Move("available", "a", 10)]
        ledger.post("t:1", kind="test", moves=moves, at=noon)

        assert race(*[books.check_recent] * 8) == [[]] * 8
        checkpoint = BooksCheckpoint.objects.get()
        assert checkpoint.checked_entry_id <= checkpoint.seen_entry_id

    def test_the_books_are_right_while_money_moves(self, race, noon):
        """One statement is one snapshot: a check never sees half a transfer."""

        def trade(position):
            for turn in range(20):
                moves = [Move("custody", "chain:1", -3), Move("available", "a", 1), Move("available", "b", 2)]
                ledger.post(f"t:{position}:{turn}", kind="test", moves=moves, at=noon)

        def look():
            return [mismatch for _ in range(20) for mismatch in books.check(full=True)]

        outcomes = race(*[lambda n=n: trade(n) for n in range(6)], look, look)

        assert outcomes == [None] * 6 + [[], []]
        assert LedgerAccount.objects.get(owner_key="b").balance == 240
