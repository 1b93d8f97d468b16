from contextlib import nullcontext
from datetime import timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from escrow import ledger
from escrow.ledger import Move
from escrow.models import Entry, LedgerAccount, Transfer

CUSTODY = ("custody", "chain:31337")


@pytest.fixture
def post(noon):
    """Post with what the test does not care about filled in."""

    def post(reference, *moves, kind="test", **options):
        return ledger.post(reference, kind=kind, moves=[Move(*move) for move in moves], at=options.pop("at", noon))

    return post


@pytest.mark.django_db
class TestPost:
    def test_moves_money_and_writes_who_when_and_why(self, alice, noon):
        moves = [Move(*CUSTODY, -5_000_000), Move("available", str(alice.id), 5_000_000)]

        posting = ledger.post("t:1", kind="deposit", moves=moves, actor="scanner", memo="block 7", at=noon)

        transfer = Transfer.objects.get(pk=posting.transfer_id)
        assert (transfer.reference, transfer.kind, transfer.actor, transfer.memo) == (
            "t:1",
            "deposit",
            "scanner",
            "block 7",
        )
        assert (transfer.occurred_at, transfer.entry_count, posting.replayed) == (noon, 2, False)
        assert list(transfer.entries.order_by("id").values_list("amount", "balance_after", "account_version")) == [
            (-5_000_000, -5_000_000, 1),
            (5_000_000, 5_000_000, 1),
        ]
        assert ledger.balance("available", str(alice.id)) == 5_000_000

    def test_is_one_statement(self, post, django_assert_num_queries):
        with django_assert_num_queries(1):
            post("t:1", (*CUSTODY, -3), ("available", "a", 1), ("available", "b", 2))

    def test_counts_versions_per_account(self, post):
        for n in range(1, 4):
            post(f"t:{n}", (*CUSTODY, -n), ("available", "a", n))

        entries = Entry.objects.filter(account__owner_key="a").order_by("id")
        assert list(entries.values_list("account_version", "balance_after")) == [(1, 1), (2, 3), (3, 6)]

    def test_keeps_the_order_of_the_moves(self, post):
        post("t:0", ("available", "z", 5), (*CUSTODY, -5))

        posting = post("t:1", ("hold", "job:9", 4), ("available", "z", -5), ("available", "a", 1))

        names = Entry.objects.filter(transfer_id=posting.transfer_id).order_by("id")
        assert list(names.values_list("account__owner_key", flat=True)) == ["job:9", "z", "a"]
        post("t:2", ("hold", "job:9", -4), ("available", "a", 4))

    def test_merges_the_moves_of_one_account(self, post):
        posting = post("t:1", (*CUSTODY, -7), ("available", "a", 5), ("available", "a", 2))

        assert Entry.objects.get(transfer_id=posting.transfer_id, account__owner_key="a").amount == 7

    def test_refuses_moves_that_do_not_sum_to_zero(self, post):
        with pytest.raises(ledger.Unbalanced), transaction.atomic():
            post("t:1", (*CUSTODY, -5), ("available", "a", 6))

        assert not Transfer.objects.exists()

    @pytest.mark.parametrize(
        "moves",
        [
            [],
            [(*CUSTODY, 0), ("available", "a", 0)],
            [(*CUSTODY, -5), ("available", "a", 5), ("available", "b", 0)],
            [("available", "a", 5), ("available", "a", -5)],
            [(*CUSTODY, -5), ("pocket", "a", 5)],
        ],
        ids=["none", "all zero", "one zero", "one account", "unknown kind"],
    )
    def test_refuses_what_is_no_transfer(self, post, moves):
        with pytest.raises(ledger.Malformed), transaction.atomic():
            post("t:1", *moves)

        assert not Transfer.objects.exists()
        assert not LedgerAccount.objects.exists()

    def test_an_account_named_twice_is_refused_by_the_function_too(self, noon):
        with (
            pytest.raises(Exception, match="names an account twice"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(
                "SELECT ledger_post('t:1', 'test', %s, %s, %s::bigint[], '', '', %s)",
                [["custody", "available", "available"], ["chain:1", "a", "a"], [-5, 2, 3], noon],
            )

    def test_an_account_may_not_fall_below_zero_and_the_shortage_is_told(self, post):
        post("t:1", (*CUSTODY, -1_000_000), ("available", "a", 1_000_000))

        with pytest.raises(ledger.InsufficientFunds) as refusal, transaction.atomic():
            post("t:2", ("available", "a", -1_500_001), ("available", "b", 1_500_001))

        assert refusal.value.account == ("available", "a")
        assert refusal.value.short_by_units == 500_001
        assert refusal.value.members == {"short_by": "0.500001"}
        assert (refusal.value.status, refusal.value.code) == (402, "insufficient_funds")
        assert ledger.balance("available", "a") == 1_000_000
        assert not LedgerAccount.objects.filter(owner_key="b").exists()

    def test_of_two_that_are_short_the_first_named_is_told(self, post):
        with pytest.raises(ledger.InsufficientFunds) as refusal, transaction.atomic():
            post("t:1", ("available", "z", -2), ("available", "a", -3), (*CUSTODY, 5))

        assert refusal.value.account == ("available", "z")

    @pytest.mark.parametrize("kind", ["custody", "shortfall"])
    def test_custody_and_shortfall_may_be_negative(self, post, kind):
        post("t:1", (kind, "platform", -5), ("available", "a", 5))

        assert ledger.balance(kind, "platform") == -5

    def test_the_same_again_answers_the_earlier_transfer(self, post, noon):
        first = post("t:1", (*CUSTODY, -5), ("available", "a", 3), ("available", "b", 2))

        again = post("t:1", ("available", "b", 2), ("available", "a", 3), (*CUSTODY, -5), at=noon + timedelta(days=1))

        assert again == ledger.Posting(first.transfer_id, replayed=True)
        assert ledger.balance("available", "a") == 3

    @pytest.mark.parametrize(
        "moves",
        [
            [(*CUSTODY, -6), ("available", "a", 6)],
            [(*CUSTODY, -5), ("available", "b", 5)],
            [(*CUSTODY, -5), ("available", "a", 4), ("available", "b", 1)],
        ],
        ids=["another amount", "another account", "one more"],
    )
    def test_other_moves_under_a_known_reference_are_refused(self, post, moves):
        post("t:1", (*CUSTODY, -5), ("available", "a", 5))

        with pytest.raises(ledger.ReferenceReused), transaction.atomic():
            post("t:1", *moves)

    def test_fewer_moves_under_a_known_reference_are_refused(self, post):
        post("t:1", (*CUSTODY, -5), ("available", "a", 5), ("shortfall", "platform", -1), ("available", "b", 1))

        with pytest.raises(ledger.ReferenceReused), transaction.atomic():
            post("t:1", (*CUSTODY, -5), ("available", "a", 5))

    def test_another_kind_under_a_known_reference_is_refused(self, post):
        post("t:1", (*CUSTODY, -5), ("available", "a", 5), kind="deposit")

        with pytest.raises(ledger.ReferenceReused), transaction.atomic():
            post("t:1", (*CUSTODY, -5), ("available", "a", 5), kind="withdrawal")


@pytest.mark.django_db
class TestBalance:
    def test_is_zero_where_nothing_was_ever_posted(self):
        assert ledger.balance("available", "nobody") == 0
        assert ledger.balances("nobody", ["available", "stake"]) == {"available": 0, "stake": 0}

    def test_fee_income_is_the_sum_of_its_accounts(self, post):
        accounts = {ledger.fee_account(f"job:{n}:close") for n in range(40)}
        for n, account in enumerate(sorted(accounts)):
            post(f"t:{n}", (*CUSTODY, -10), (*account, 10))

        assert len(accounts) > 8
        assert ledger.balance("fees", "platform") == 10 * len(accounts)

    def test_a_reference_has_one_fee_account(self):
        assert ledger.fee_account("job:1:close") == ledger.fee_account("job:1:close")


@pytest.mark.django_db
class TestRecording:
    def test_collects_what_is_posted_inside(self, post):
        with ledger.recording() as moves:
            post("t:1", (*CUSTODY, -5), ("available", "a", 2), ("available", "a", 3))
        post("t:2", (*CUSTODY, -5), ("available", "a", 5))

        assert moves == [Move(*CUSTODY, -5), Move("available", "a", 5)]

    def test_collects_nothing_of_what_was_refused(self, post):
        with ledger.recording() as moves, pytest.raises(ledger.InsufficientFunds), transaction.atomic():
            post("t:1", ("available", "a", -5), ("available", "b", 5))

        assert moves == []


OWNERS = st.sampled_from(["a", "b", "c", "d"])
POSTS = st.lists(
    st.tuples(st.integers(0, 5), st.dictionaries(OWNERS, st.integers(-40, 40), min_size=1, max_size=4)), max_size=25
)


@pytest.mark.django_db
class TestConservation:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(posts=POSTS)
    def test_random_posts_neither_make_nor_lose_money(self, noon, posts):
        """Against a model of three lines: a dictionary of balances and one of references."""
        balances, taken = dict.fromkeys("abcd", 0) | {"chain": 0}, {}
        with transaction.atomic():
            for number, amounts in posts:
                changes = {**amounts, "chain": -sum(amounts.values())}
                moves = [Move("custody" if who == "chain" else "available", who, n) for who, n in changes.items()]
                reference = f"t:{number}"

                outcome = self._outcome(balances, taken.get(reference), changes)

                with self._expected(outcome), transaction.atomic():
                    ledger.post(reference, kind="test", moves=moves, at=noon)
                if outcome is None and reference not in taken:
                    taken[reference] = changes
                    balances = {who: balances[who] + changes.get(who, 0) for who in balances}
                assert {who: ledger.balance("available", who) for who in "abcd"} == {w: balances[w] for w in "abcd"}
                assert ledger.balance("custody", "chain") == balances["chain"]
            assert sum(LedgerAccount.objects.values_list("balance", flat=True)) == 0
            transaction.set_rollback(True)

    @staticmethod
    def _outcome(balances, earlier, changes):
        if 0 in changes.values():
            return ledger.Malformed
        if earlier is not None:
            return None if earlier == changes else ledger.ReferenceReused
        return ledger.InsufficientFunds if any(balances[w] + changes.get(w, 0) < 0 for w in "abcd") else None

    @staticmethod
    def _expected(outcome):
        return nullcontext() if outcome is None else pytest.raises(outcome)
