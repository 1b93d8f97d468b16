"""Jobs in any state, brought there by the real verbs and nothing else."""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from accounts import clock, ids
from accounts.models import Agent
from marketplace import deadlines, deliveries, jobs, lifecycle, locking, offers, settlements, terms
from marketplace.models import Job
from marketplace.terms import Terms, TermsBody

# Numbers whose fees do not come out even: 1 % of 12.345678 is 0.12345678, of 2.000099 is 0.02000099.
PRICE, BOND, ABORT_FEE = 12_345_678, 3_000_001, 2_000_099
TERMS = {
    "price": "12.345678",
    "title": "Translate a page",
    "delivery_seconds": 3_600,
    "review_seconds": 7_200,
    "revision_seconds": 7_200,
    "seller_bond": "3.000001",
    "client_abort_fee": "2.000099",
}
CLIENT_FUNDS, SELLER_FUNDS = 100_000_000, 50_000_000
REASON = "The second half is missing entirely."
WORK = deliveries.from_json({"text": "Guten Tag"})


def terms_of(**fields: Any) -> Terms:
    """Read terms as the API does."""
    asked = TermsBody(data=TERMS | fields)
    asked.is_valid(raise_exception=True)
    return terms.read(asked.validated_data)


class Trade:
    """
    A client, a seller, and a moment.

    `trade.job("delivered")` plays the verbs up to that state, all at `trade.at`; the keywords are fields of the terms.
    """

    def __init__(self, client: Agent, seller: Agent, at: datetime) -> None:
        self.client, self.seller, self.at = client, seller, at

    def later(self, seconds: float) -> datetime:
        return self.at + timedelta(seconds=seconds)

    def job(self, state: str = "negotiating", **fields: Any) -> Job:
        job = offers.propose(self.client, self.seller, terms=terms_of(**fields), at=self.at)
        for step in ROADS[state]:
            job = getattr(self, f"_{step}")(job)
        assert job.state == state
        return job

    def now(self, state: str, **fields: Any) -> Job:
        """Bring a job to a state by the database's own clock, as a caller over HTTP would find it."""
        return Trade(self.client, self.seller, clock.now()).job(state, **fields)

    def freeze(self, job: Job, by: str = "client", at: datetime | None = None) -> Job:
        """Open a dispute as the app above does: the job locked, then taken out of its clock."""
        with transaction.atomic():
            locked = locking.lock(job.id, at=at or self.at)
            return jobs.freeze(
                locked,
                by=lifecycle.Role(by),
                dispute_id=ids.uuid7(),
                deadline_at=locked.at + timedelta(days=3),
                effect="A moderator decides.",
                awaiting="seller" if by == "client" else "client",
            )

    def _agree(self, job: Job) -> Job:
        return offers.agree(job.id, by=self.seller, terms_hash=job.offer.terms_hash, at=self.at)

    def _fund(self, job: Job) -> Job:
        return jobs.fund(job.id, client=self.client, at=self.at)

    def _start(self, job: Job) -> Job:
        return jobs.start(job.id, seller=self.seller, at=self.at)

    def _deliver(self, job: Job) -> Job:
        return deliveries.deliver(job.id, seller=self.seller, content=WORK, at=self.at)

    def _revise(self, job: Job) -> Job:
        return deliveries.request_revision(job.id, client=self.client, reason=REASON, at=self.at)

    def _approve(self, job: Job) -> Job:
        return jobs.approve(job.id, client=self.client, at=self.at)

    def _decline(self, job: Job) -> Job:
        return offers.decline(job.id, by=self.seller, at=self.at)

    def _dispute(self, job: Job) -> Job:
        return self.freeze(job)

    def _settle(self, job: Job) -> Job:
        settlements.offer(job.id, by=self.seller, seller_bps=5_000, at=self.at)
        return settlements.offer(job.id, by=self.client, seller_bps=5_000, at=self.at)

    def _time_out(self, job: Job) -> Job:
        enforced = deadlines.enforce(job.id, at=job.deadline_at)
        assert enforced is not None
        return enforced


FUNDED = ["agree", "fund"]
ROADS: dict[str, list[str]] = {
    "negotiating": [],
    "agreed": ["agree"],
    "funded": FUNDED,
    "in_progress": [*FUNDED, "start"],
    "delivered": [*FUNDED, "start", "deliver"],
    "revising": [*FUNDED, "start", "deliver", "revise"],
    "disputed": [*FUNDED, "start", "deliver", "dispute"],
    "completed": [*FUNDED, "deliver", "approve"],
    "cancelled": ["decline"],
    "expired": ["time_out"],
    "failed": [*FUNDED, "time_out"],
    "resolved": [*FUNDED, "settle"],
}
