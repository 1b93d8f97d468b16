from datetime import timedelta

import pytest
from django.db import transaction

from accounts import spending, tokens
from accounts.models import TokenFamily

pytestmark = pytest.mark.django_db


@pytest.fixture
def capped(alice, noon):
    return tokens.mint(alice, max_per_job_units=6_000_000, max_per_day_units=10_000_000, at=noon).token


class TestSpend:
    def test_counts_up_to_the_cap_of_the_day(self, capped, noon):
        spending.spend(capped, units=6_000_000, at=noon)
        spending.spend(capped, units=4_000_000, at=noon)

        with pytest.raises(spending.SpendingCapExceeded) as refusal:
            spending.spend(capped, units=1, at=noon)
        assert refusal.value.members == {"cap": "max_per_day", "limit": "10.000000"}

    def test_refuses_a_job_over_its_cap_and_counts_nothing(self, capped, noon):
        with pytest.raises(spending.SpendingCapExceeded) as refusal:
            spending.spend(capped, units=6_000_001, at=noon)

        assert refusal.value.members["cap"] == "max_per_job"
        assert TokenFamily.objects.get().spent_units == 0

    def test_counts_what_was_refused_not_at_all(self, capped, noon):
        spending.spend(capped, units=5_000_000, at=noon)
        with pytest.raises(spending.SpendingCapExceeded):
            spending.spend(capped, units=5_500_000, at=noon)

        spending.spend(capped, units=5_000_000, at=noon)

    def test_begins_anew_each_day(self, capped, noon):
        spending.spend(capped, units=6_000_000, at=noon)

        spending.spend(capped, units=6_000_000, at=noon + timedelta(hours=12))

        assert TokenFamily.objects.get().spent_units == 6_000_000

    def test_counts_for_the_family_and_not_for_the_token(self, capped, noon):
        spending.spend(capped, units=6_000_000, at=noon)
        successor = tokens.rotate(capped.pk, by=capped, overlap_seconds=60, at=noon).token

        with pytest.raises(spending.SpendingCapExceeded):
            spending.spend(successor, units=5_000_000, at=noon)

    def test_costs_nothing_without_caps(self, alice, noon, django_assert_num_queries):
        free = tokens.mint(alice, at=noon).token

        with django_assert_num_queries(0):
            spending.spend(free, units=10**12, at=noon)
            spending.spend(None, units=10**12, at=noon)

    def test_costs_one_statement_with_a_cap(self, capped, noon, django_assert_num_queries):
        with django_assert_num_queries(1):
            spending.spend(capped, units=1, at=noon)

    def test_is_undone_with_what_was_bought(self, capped, noon):
        with transaction.atomic():
            spending.spend(capped, units=6_000_000, at=noon)
            transaction.set_rollback(True)

        assert TokenFamily.objects.get().spent_units == 0


class TestSpendAtOnce:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_never_passes_the_cap(self, race, capped, noon):
        outcomes = race(*[lambda: spending.spend(capped, units=3_000_000, at=noon)] * 20)

        assert outcomes.count(None) == 3
        assert sum(isinstance(outcome, spending.SpendingCapExceeded) for outcome in outcomes) == 17
        assert TokenFamily.objects.get().spent_units == 9_000_000
