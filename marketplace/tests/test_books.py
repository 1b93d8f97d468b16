from contextlib import contextmanager

import pytest
from django.db import transaction

from accounts import ids
from escrow import books, ledger, wallet
from escrow.ledger import Move
from marketplace import jobs
from marketplace.models import Job

LIVE = "a live job holds exactly its price and its bond"
OTHERS = "a job that is over, unfunded or unknown holds nothing"

pytestmark = pytest.mark.django_db


def broken():
    full, recent = books.check(full=True), books.check(full=False, after=0)
    assert full == recent
    return [(mismatch.invariant, mismatch.subject, mismatch.expected, mismatch.found) for mismatch in full]


@pytest.fixture
def moved(noon):
    """Move money between accounts that no verb would, and take it back afterwards."""

    @contextmanager
    def moved(*moves):
        with transaction.atomic():
            ledger.post("t:moved", kind="test", moves=[Move(*move) for move in moves], at=noon)
            yield
            transaction.set_rollback(True)

    return moved


class TestLiveJobs:
    def test_a_hold_below_the_price_is_found(self, trade, moved):
        job = trade.job("funded")

        with moved(("hold", f"job:{job.id}", -1), ("custody", "chain:1", 1)):
            found = broken()

        assert found == [(LIVE, f"hold of job:{job.id}", str(job.price_units), str(job.price_units - 1))]

    def test_a_live_job_without_its_money_is_found(self, trade, noon):
        job = trade.job("agreed")

        with transaction.atomic():
            Job.objects.filter(pk=job.pk).update(state="funded")
            found = broken()
            transaction.set_rollback(True)

        assert (LIVE, f"hold of job:{job.id}", str(job.price_units), "0") in found


class TestOtherJobs:
    def test_a_hold_that_outlives_its_job_is_found(self, trade, moved):
        job = trade.job("completed")

        with moved(("hold", f"job:{job.id}", 5), ("custody", "chain:1", -5)):
            found = broken()

        assert found == [(OTHERS, f"hold of job:{job.id}", "0", "5")]

    def test_a_bond_of_no_job_at_all_is_found(self, trade, moved):
        key = f"job:{ids.uuid7()}"

        with moved(("bond", key, 5), ("custody", "chain:1", -5)):
            found = broken()

        assert found == [(OTHERS, f"bond of {key}", "0", "5")]


class TestPledged:
    def test_tells_each_side_what_is_held_for_it(self, trade, alice, bob, noon):
        job = trade.job("funded")

        client, seller = wallet.of(alice.id), wallet.of(bob.id)

        assert (client.held_units, client.bonded_units) == (job.price_units, 0)
        assert (seller.held_units, seller.bonded_units) == (0, job.bond_units)
        jobs.abort(job.id, by=bob, reason="I cannot do it after all.", at=noon)
        assert wallet.of(alice.id).held_units == wallet.of(bob.id).bonded_units == 0
