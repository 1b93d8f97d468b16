"""
Many at once, with real commits: whatever the order, exactly one outcome, and the money that belongs to it.
"""

import contextlib
import itertools
import random
import threading
import time
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction

from accounts import clock
from escrow.models import Transfer
from marketplace import deadlines, deliveries, jobs, locking, offers, settlements
from marketplace.lifecycle import TransitionNotAllowed
from marketplace.models import Delivery, Job, Offer, Transition
from marketplace.tests.trades import (
    BOND,
    CLIENT_FUNDS,
    PRICE,
    REASON,
    SELLER_FUNDS,
    TERMS,
    WORK,
    Trade,
    terms_of,
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)
MANY = 50


def done(outcomes):
    """Pick what was done; whatever was not must have been refused by the table, and by nothing else."""
    unexpected = [o for o in outcomes if isinstance(o, Exception) and not isinstance(o, TransitionNotAllowed)]
    assert unexpected == []
    return [outcome for outcome in outcomes if not isinstance(outcome, Exception)]


class TestOneJob:
    def test_is_agreed_once(self, race, trade):
        job = trade.job()
        agree = partial(offers.agree, job.id, by=trade.seller, terms_hash=job.offer.terms_hash, at=trade.at)

        outcomes = race(*[agree] * MANY)

        assert len(done(outcomes)) == 1
        assert Transition.objects.filter(action="agree").count() == 1

    def test_is_countered_or_agreed_but_not_both(self, race, trade):
        for _ in range(8):
            job = trade.job()
            counter = partial(offers.counter, job.id, by=trade.seller, terms=terms_of(price="20"), at=trade.at)
            agree = partial(offers.agree, job.id, by=trade.seller, terms_hash=job.offer.terms_hash, at=trade.at)

            outcomes = race(*[counter, agree] * 4)

            assert len(done(outcomes)) == 1
            job.refresh_from_db()
            assert (job.state, job.offers_count, job.offers.count()) in [("agreed", 1, 1), ("negotiating", 2, 2)]

    def test_is_never_agreed_on_terms_that_were_replaced(self, race, trade):
        """The client agrees to the seller's counter the moment it appears, while the seller makes another one."""
        for _ in range(8):
            job = offers.counter(trade.job().id, by=trade.seller, terms=terms_of(price="20"), at=trade.at)
            agree = partial(offers.agree, job.id, by=trade.client, terms_hash=job.offer.terms_hash, at=trade.at)
            counter = partial(offers.counter, job.id, by=trade.client, terms=terms_of(price="15"), at=trade.at)

            outcomes = race(*[agree, counter] * 4)

            assert len(done(outcomes)) == 1
            job.refresh_from_db()
            if job.state == "agreed":
                assert Offer.objects.get(job=job, number=job.offers_count).terms_hash == job.agreed_terms_hash

    def test_is_funded_once(self, race, trade, money):
        job = trade.job("agreed")

        outcomes = race(*[partial(jobs.fund, job.id, client=trade.client, at=trade.at)] * MANY)

        assert len(done(outcomes)) == 1
        assert money(job) == {
            "client": CLIENT_FUNDS - PRICE, "seller": SELLER_FUNDS - BOND, "hold": PRICE, "bond": BOND, "fees": 0,
        }  # fmt: skip

    def test_is_delivered_once(self, race, trade):
        job = trade.job("in_progress")

        outcomes = race(*[partial(deliveries.deliver, job.id, seller=trade.seller, content=WORK, at=trade.at)] * MANY)

        assert len(done(outcomes)) == 1
        assert Delivery.objects.count() == 1

    def test_is_settled_once(self, race, trade, money):
        for _ in range(8):
            before = money("none")
            job = trade.job("delivered", **SMALL)

            race(*[
                partial(settlements.offer, job.id, by=agent, seller_bps=5_000, at=trade.at)
                for agent in [trade.client, trade.seller] * 8
            ])  # fmt: skip

            job.refresh_from_db()
            assert job.state == "resolved"
            assert Transition.objects.filter(job=job, action="settle").count() == 1
            assert money(job)["client"] - before["client"] == -500_000


# A price that a hundred rounds do not use up, and a balance that tells the endings apart.
SMALL = {"price": "1", "seller_bond": "0.1", "client_abort_fee": "0.5"}
ROUNDS = 32


class TestOneEnding:
    """approve ∥ dispute ∥ deadline: one of them happens, and the money is that one's."""

    # What the client, the seller and the platform have more or less of, and what is held, after each ending.
    ENDINGS = {
        "completed": (-1_000_000, 990_000, 10_000, 0, 0),
        "disputed": (-1_000_000, -100_000, 0, 1_000_000, 100_000),
        "failed": (100_000, -100_000, 0, 0, 0),
        "revising": (-1_000_000, -100_000, 0, 1_000_000, 100_000),
        "cancelled by client": (-500_000, 495_000, 5_000, 0, 0),
        "cancelled by seller": (100_000, -100_000, 0, 0, 0),
        "delivered": (-1_000_000, -100_000, 0, 1_000_000, 100_000),
    }

    def money_moved(self, money, before, job):
        after = money(job)
        moved = [after[whose] - before[whose] for whose in ("client", "seller", "fees")]
        return (*moved, after["hold"], after["bond"])

    def test_of_a_review(self, race, trade, money):
        seen = set()
        for turn in range(ROUNDS):
            before = money("none")
            job = trade.job("delivered", **SMALL)
            # Half of them act at the last moment, in which all three are allowed to try.
            strike = job.deadline_at
            early = strike - (strike - trade.at) / 2
            acts = [
                partial(jobs.approve, job.id, client=trade.client, at=early),
                partial(trade.freeze, job, at=early),
                partial(deliveries.request_revision, job.id, client=trade.client, reason=REASON, at=early),
                partial(deadlines.enforce, job.id, at=strike),
            ]
            shift = turn % len(acts)

            outcomes = race(*(acts[shift:] + acts[:shift]) * 2)

            job.refresh_from_db()
            done(outcomes)
            steps = list(job.transitions.filter(revision__gt=5).values_list("action", flat=True))
            assert len(steps) in (1, 2)
            assert steps in SEQUENCES, steps
            seen.add(steps[-1])
            assert self.money_moved(money, before, job) == self.ENDINGS[job.state]
        assert len(seen) > 1, f"no race took place: it was always {seen}"

    def test_of_the_work(self, race, trade, money):
        seen = set()
        for turn in range(ROUNDS):
            before = money("none")
            job = trade.job("in_progress", **SMALL)
            strike = job.deadline_at
            early = strike - (strike - trade.at) / 2
            acts = [
                partial(jobs.abort, job.id, by=trade.client, reason="x", at=early),
                partial(jobs.abort, job.id, by=trade.seller, reason="x", at=early),
                partial(deliveries.deliver, job.id, seller=trade.seller, content=WORK, at=early),
                partial(deadlines.enforce, job.id, at=strike),
            ]
            shift = turn % len(acts)

            outcomes = race(*(acts[shift:] + acts[:shift]) * 2)

            job.refresh_from_db()
            done(outcomes)
            last = job.transitions.order_by("revision").last()
            assert job.transitions.filter(revision__gt=4).count() == 1
            ending = f"cancelled by {last.by}" if job.state == "cancelled" else job.state
            seen.add(ending)
            assert self.money_moved(money, before, job) == self.ENDINGS[ending]
        assert len(seen) > 1, f"no race took place: it was always {seen}"


class TestTheLastMoment:
    """By the database's own clock: acts and sweeps strike while the time runs out."""

    def play(self, race, trade, money, state, act, *, times):
        """Round by round, let a job's clock run out while four act and four enforce it; answer all last steps."""
        before = money("none")
        several = [trade.now(state, **SMALL) for _ in range(times)]
        rounds, strikes = iter(several), {}

        def run_out():
            pk = next(rounds).pk
            strikes[pk] = clock.now() + timedelta(milliseconds=random.uniform(0, 20))
            Job.objects.filter(pk=pk).update(deadline_at=strikes[pk], deliver_by=strikes[pk], near_at=None)

        gate = threading.Barrier(8, action=run_out)

        def strike(function):
            for job in several:
                gate.wait(60)
                time.sleep(random.uniform(0, 0.02))
                with contextlib.suppress(TransitionNotAllowed):
                    function(job.pk)

        assert race(*[partial(strike, act), partial(strike, deadlines.enforce)] * 4) == [None] * 8
        for job in several:
            deadlines.enforce(job.pk)  # all may have come too early, or too late
            job.refresh_from_db()
            assert job.transitions.count() == job.revision
        last = [job.transitions.order_by("revision").last() for job in several]
        moved = [TestOneEnding.ENDINGS[job.state] for job in several]
        for position, whose in enumerate(("client", "seller", "fees")):
            assert money("none")[whose] - before[whose] == sum(each[position] for each in moved)
        assert [(money(job)["hold"], money(job)["bond"]) for job in several] == [each[3:] for each in moved]
        assert len({step.action for step in last}) == 2, "no race took place"
        return zip(last, [strikes[job.pk] for job in several], strict=True)

    @pytest.mark.parametrize("rounds", [50, pytest.param(500, marks=pytest.mark.long)])
    def test_of_a_delivery(self, race, trade, money, credit, rounds):
        credit(trade.client, rounds * 1_000_000)
        deliver = partial(deliveries.deliver, seller=trade.seller, content=WORK)

        for step, strike in self.play(race, trade, money, "funded", deliver, times=rounds):
            assert step.action == ("deliver" if step.occurred_at < strike else "fail")

    @pytest.mark.parametrize("rounds", [20, pytest.param(500, marks=pytest.mark.long)])
    def test_of_an_approval(self, race, trade, money, credit, rounds):
        """Approving has no last moment: who commits first decides, and the same is paid once."""
        credit(trade.client, rounds * 1_000_000)
        approve = partial(jobs.approve, client=trade.client)

        for step, strike in self.play(race, trade, money, "delivered", approve, times=rounds):
            assert step.action == "approve" or step.occurred_at >= strike


# What the table allows from `delivered` when all four knock: a revision that was asked for fails when its time is over,
# and may be disputed; everything else stands alone.
SEQUENCES = [["approve"], ["auto_approve"], ["dispute"], ["request_revision"], ["request_revision", "dispute"]]


class TestOneKey:
    """Over HTTP, as agents that time out and try again do."""

    def test_funds_once_for_fifty_requests(self, race, trade, client_for, money):
        job = trade.now("agreed")
        clients = [client_for(trade.client) for _ in range(MANY)]

        answers = race(*[partial(client.post, f"/jobs/{job.id}/funding", key="one") for client in clients])

        self.check(answers)
        assert (money(job)["client"], money(job)["hold"]) == (CLIENT_FUNDS - PRICE, PRICE)
        assert Transfer.objects.filter(reference=f"job:{job.id}:fund").count() == 1

    def test_proposes_once_for_fifty_requests(self, race, trade, client_for):
        client = client_for(trade.client)

        answers = race(*[partial(client.post, "/jobs", {"seller": "bob", "terms": TERMS}, key="one")] * MANY)

        self.check(answers)
        assert Job.objects.count() == 1

    def check(self, answers):
        """One effect; whoever came later was told the same, whoever came at the same time to wait."""
        first = [a for a in answers if a.status_code in (200, 201) and "Idempotent-Replayed" not in a]
        replayed = [a for a in answers if "Idempotent-Replayed" in a]
        waiting = [a for a in answers if a.status_code == 409]
        assert len(first) == 1
        assert all(a.json() == first[0].json() for a in replayed)
        assert {a.json()["code"] for a in waiting} <= {"idempotency_in_progress"}
        assert len(first) + len(replayed) + len(waiting) == MANY

    def test_of_its_own_for_each_request_funds_once(self, race, trade, client_for, money):
        job = trade.now("agreed")
        clients = [client_for(trade.client) for _ in range(MANY)]

        answers = race(*[partial(client.post, f"/jobs/{job.id}/funding") for client in clients])

        codes = [answer.json().get("code", "done") for answer in answers]
        assert sorted(set(codes)) == ["done", "transition_not_allowed"], codes
        assert codes.count("done") == 1
        assert money(job)["hold"] == PRICE


class TestTwoThatHireEachOther:
    """A hires B while B hires A: both accounts are client's in one job and seller's in the other."""

    def test_never_see_a_deadlock(self, race, trade, client_for, balance_of):
        there, back = trade, Trade(trade.seller, trade.client, trade.at)
        clients = {agent.id: client_for(agent) for agent in (trade.client, trade.seller)}
        fields = {"price": "0.5", "seller_bond": "0.3", "client_abort_fee": "0"}
        for _ in range(4):
            pairs = list(itertools.islice(itertools.cycle([there, back]), 40))
            several = [pair.now("agreed", **fields) for pair in pairs]

            funded = race(*[
                partial(clients[pair.client.id].post, f"/jobs/{job.id}/funding")
                for pair, job in zip(pairs, several, strict=True)
            ])  # fmt: skip
            delivered = race(*[
                partial(clients[pair.seller.id].post, f"/jobs/{job.id}/deliveries", {"content": [1]})
                for pair, job in zip(pairs, several, strict=True)
            ])  # fmt: skip
            approved = race(*[
                partial(clients[pair.client.id].post, f"/jobs/{job.id}/approval")
                for pair, job in zip(pairs, several, strict=True)
            ])  # fmt: skip

            statuses = [[answer.status_code for answer in answers] for answers in (funded, delivered, approved)]
            assert statuses == [[200] * 40, [201] * 40, [200] * 40]
        # Forty a round, twenty each way: both paid the fee of eighty jobs, and nothing else changed hands.
        assert balance_of("available", trade.client) == CLIENT_FUNDS - 80 * 5_000
        assert balance_of("available", trade.seller) == SELLER_FUNDS - 80 * 5_000
        assert balance_of("fees") == 160 * 5_000

    def test_agree_with_each_other_through_a_whole_negotiation(self, race, trade, client_for):
        first, second = client_for(trade.client), client_for(trade.seller)
        fields = TERMS | {"price": "0.5", "seller_bond": "0.3", "client_abort_fee": "0"}

        def hire(client, seller, name):
            job = client.post("/jobs", {"seller": name, "terms": fields}).json()
            path = f"/jobs/{job['id']}"
            job = seller.post(f"{path}/offers", {"terms": fields | {"price": "0.6"}}).json()
            agreed = client.post(f"{path}/agreement", {"terms_hash": job["offer"]["terms_hash"]})
            return agreed.status_code, client.post(f"{path}/funding").status_code

        outcomes = race(*[partial(hire, first, second, "bob"), partial(hire, second, first, "alice")] * 20)

        assert outcomes == [(200, 200)] * 40


class TestClock:
    def test_is_read_when_the_lock_is_got(self, race, trade):
        """One that waits for the lock is judged by the moment it gets it, not by the moment it began to wait."""
        job = trade.now("delivered")
        held = []

        def hold():
            with transaction.atomic():
                locking.lock(job.id)
                held.append(clock.now())
                wait_until_somebody_waits()
                held.append(clock.now())

        def wait():
            while not held:
                pass
            with transaction.atomic():
                return locking.lock(job.id).at

        _, got = race(hold, wait)

        assert got > held[1]


def wait_until_somebody_waits():
    """Hold on until another backend waits for a lock of ours."""
    with connection.cursor() as cursor:
        for _ in range(2_000):
            cursor.execute(
                "SELECT pg_sleep(0.005), count(*) FROM pg_stat_activity"
                " WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            )
            if cursor.fetchone()[1]:
                return
    raise AssertionError("nobody waited")
