import pytest

from accounts.models import Event
from escrow import holds
from marketplace import deliveries, jobs, settlements
from marketplace.lifecycle import TransitionNotAllowed
from marketplace.tests.trades import CLIENT_FUNDS, REASON, SELLER_FUNDS, WORK

pytestmark = pytest.mark.django_db


class TestOffer:
    def test_waits_for_the_other_side(self, trade, money):
        job = trade.job("delivered")
        before = money(job)

        job = settlements.offer(job.id, by=trade.client, seller_bps=4_000, at=trade.later(9))

        assert (job.state, job.client_settlement_bps, job.seller_settlement_bps) == ("delivered", 4_000, None)
        assert money(job) == before

    def test_is_no_transition(self, trade):
        job = trade.job("delivered")
        revision, clock = job.revision, job.deadline_at

        job = settlements.offer(job.id, by=trade.client, seller_bps=4_000, at=trade.later(9))

        assert (job.revision, job.deadline_at) == (revision, clock)
        assert not job.transitions.filter(action="settle").exists()

    def test_tells_both(self, trade):
        job = trade.job("delivered")

        settlements.offer(job.id, by=trade.client, seller_bps=4_000, at=trade.at)

        told = Event.objects.filter(type="job.settlement_offered")
        assert {event.recipient.handle for event in told} == {"alice", "bob"}
        assert told[0].data == {"job_id": str(job.id), "by": "client", "seller_bps": 4_000, "sequence": 6}

    @pytest.mark.parametrize(
        ("client_bps", "seller_bps", "agreed_bps"),
        [
            (5_000, 5_000, 5_000),
            (6_000, 5_000, 5_500),
            (5_001, 5_000, 5_000),
            (10_000, 0, 5_000),
            (0, 0, 0),
            (10_000, 10_000, 10_000),
            (9_999, 9_998, 9_998),
        ],
    )
    @pytest.mark.parametrize("first", ["client", "seller"])
    def test_settles_at_the_floored_midpoint(self, trade, money, client_bps, seller_bps, agreed_bps, first):
        job = trade.job("delivered", price="10", seller_bond="1", client_abort_fee="0")
        offers = [(trade.client, client_bps), (trade.seller, seller_bps)]

        for agent, bps in offers if first == "client" else reversed(offers):
            job = settlements.offer(job.id, by=agent, seller_bps=bps, at=trade.at)

        share = 10_000_000 * agreed_bps // 10_000
        assert job.state == "resolved"
        assert job.transitions.get(action="settle").note == f"seller_bps {agreed_bps}"
        assert money(job) == {
            "client": CLIENT_FUNDS - share, "seller": SELLER_FUNDS + share - share // 100, "hold": 0, "bond": 0,
            "fees": share // 100,
        }  # fmt: skip

    @pytest.mark.parametrize("first", ["client", "seller"])
    def test_does_not_settle_while_they_are_apart(self, trade, first):
        job = trade.job("delivered")
        offers = [(trade.client, 4_999), (trade.seller, 5_000)]

        for agent, bps in offers if first == "client" else reversed(offers):
            job = settlements.offer(job.id, by=agent, seller_bps=bps, at=trade.at)

        assert (job.state, job.client_settlement_bps, job.seller_settlement_bps) == ("delivered", 4_999, 5_000)

    def test_replaces_ones_earlier_offer(self, trade):
        job = trade.job("delivered")
        settlements.offer(job.id, by=trade.client, seller_bps=1_000, at=trade.at)
        settlements.offer(job.id, by=trade.client, seller_bps=2_000, at=trade.at)

        job = settlements.offer(job.id, by=trade.seller, seller_bps=1_500, at=trade.at)

        assert job.transitions.get(action="settle").note == "seller_bps 1750"

    @pytest.mark.parametrize(
        "step",
        [
            lambda trade, job: deliveries.request_revision(job.id, client=trade.client, reason=REASON, at=trade.at),
            lambda trade, job: trade.freeze(job),
            lambda trade, job: jobs.approve(job.id, client=trade.client, at=trade.at),
        ],
        ids=["revision", "dispute", "approval"],
    )
    def test_dies_with_any_transition(self, trade, step):
        job = trade.job("delivered")
        settlements.offer(job.id, by=trade.client, seller_bps=4_000, at=trade.at)
        settlements.offer(job.id, by=trade.seller, seller_bps=6_000, at=trade.at)

        step(trade, job)

        job.refresh_from_db()
        assert (job.client_settlement_bps, job.seller_settlement_bps) == (None, None)

    def test_that_died_does_not_meet_a_later_one(self, trade):
        job = trade.job("revising")
        settlements.offer(job.id, by=trade.client, seller_bps=9_000, at=trade.at)
        deliveries.deliver(job.id, seller=trade.seller, content=WORK, at=trade.at)

        job = settlements.offer(job.id, by=trade.seller, seller_bps=1_000, at=trade.at)

        assert (job.state, job.client_settlement_bps) == ("delivered", None)

    def test_takes_deposits_along(self, trade, money, balance_of):
        job = trade.job("disputed")
        held = holds.take_deposit("dispute:7:opening", agent_id=trade.client.id, wanted_units=1_000_000, at=trade.at)
        back = tuple(holds.deposit_moves("dispute:7:opening", held, to=("available", str(trade.client.id))))
        settlements.offer(job.id, by=trade.client, seller_bps=0, at=trade.at)

        settlements.offer(job.id, by=trade.seller, seller_bps=0, extra=back, at=trade.at)

        assert money(job)["client"] == CLIENT_FUNDS
        assert balance_of("dispute_deposit", "dispute:7:opening") == 0

    @pytest.mark.parametrize("state", ["negotiating", "agreed", "completed", "cancelled", "failed", "resolved"])
    def test_needs_the_price_to_be_held(self, trade, state):
        job = trade.job(state)

        with pytest.raises(TransitionNotAllowed):
            settlements.offer(job.id, by=trade.client, seller_bps=5_000, at=trade.at)


class TestWithdraw:
    def test_takes_ones_own_offer_back(self, trade):
        job = trade.job("delivered")
        settlements.offer(job.id, by=trade.client, seller_bps=4_000, at=trade.at)
        settlements.offer(job.id, by=trade.seller, seller_bps=6_000, at=trade.at)

        job = settlements.withdraw(job.id, by=trade.client, at=trade.at)

        job.refresh_from_db()
        assert (job.client_settlement_bps, job.seller_settlement_bps) == (None, 6_000)
        told = Event.objects.filter(recipient=trade.seller, type="job.settlement_offered").latest("id")
        assert (told.data["by"], told.data["seller_bps"]) == ("client", None)

    def test_has_nothing_to_take_back_but_ones_own(self, trade):
        job = trade.job("delivered")
        settlements.offer(job.id, by=trade.client, seller_bps=4_000, at=trade.at)

        with pytest.raises(settlements.NoOffer):
            settlements.withdraw(job.id, by=trade.seller, at=trade.at)

        job.refresh_from_db()
        assert job.client_settlement_bps == 4_000

    def test_leaves_nothing_to_meet(self, trade):
        job = trade.job("delivered")
        settlements.offer(job.id, by=trade.client, seller_bps=9_000, at=trade.at)
        settlements.withdraw(job.id, by=trade.client, at=trade.at)

        job = settlements.offer(job.id, by=trade.seller, seller_bps=1_000, at=trade.at)

        assert job.state == "delivered"
