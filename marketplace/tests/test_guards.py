"""What a person with a psql prompt cannot do to jobs."""

import pytest
from django.db import DatabaseError, connection, transaction

from marketplace import deliveries, jobs, offers, terms

pytestmark = pytest.mark.django_db


@pytest.fixture
def funded(alice, bob, credit, noon):
    credit(alice, 20_000_000)
    asked = terms.read({"price": 10_000_000, "title": "Ten lines", "delivery_seconds": 3_600})
    job = offers.propose(alice, bob, terms=asked, at=noon)
    offers.agree(job.id, by=bob, terms_hash=asked.hash, at=noon)
    jobs.fund(job.id, client=alice, at=noon)
    return job


def refusal_of(statement):
    """Run one statement as a superuser; answer what refused it."""
    with pytest.raises(DatabaseError) as refusal, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    return str(refusal.value)


class TestMoneyColumns:
    @pytest.mark.parametrize("column", ["price_units", "bond_units", "client_abort_fee_units", "fee_bps"])
    def test_are_as_funded_for_ever(self, funded, column):
        assert "Cannot update of" in refusal_of(f"UPDATE marketplace_job SET {column} = {column}")

    def test_may_still_change_while_they_negotiate(self, alice, bob, noon):
        asked = terms.read({"price": 10_000_000, "title": "Ten lines", "delivery_seconds": 3_600})
        job = offers.propose(alice, bob, terms=asked, at=noon)
        more = terms.read({"price": 12_000_000, "title": "Ten lines", "delivery_seconds": 3_600})

        assert offers.counter(job.id, by=bob, terms=more, at=noon).price_units == 12_000_000


class TestRows:
    def test_a_job_is_never_deleted(self, funded):
        assert "Cannot delete rows" in refusal_of("DELETE FROM marketplace_job")

    @pytest.mark.parametrize("table", ["offer", "transition", "delivery"])
    @pytest.mark.parametrize(
        ("statement", "words"),
        [
            ("UPDATE marketplace_{} SET id = id", "update or delete"),
            ("DELETE FROM marketplace_{}", "update or delete"),
            ("TRUNCATE marketplace_{} CASCADE", "is kept"),
        ],
    )
    def test_offers_transitions_and_deliveries_stay(self, funded, bob, noon, table, statement, words):
        deliveries.deliver(funded.id, seller=bob, content=deliveries.from_json({}), at=noon)
        with connection.cursor() as cursor:  # as its commit would
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

        assert words in refusal_of(statement.format(table))
