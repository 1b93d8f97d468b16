"""
Random histories of trades, played on the real database beside a model that knows the specification's table.

Whatever anybody tries, in whatever order and at whatever time: the job is where the table says, each balance is what
the model reckons, and the books are right after every step.
"""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)  # fmt: skip

from accounts import ids
from accounts.errors import DomainError
from accounts.models import Agent
from escrow import books, holds, ledger
from marketplace import deadlines, deliveries, effects, jobs, lifecycle, locking, offers, settlements
from marketplace.lifecycle import Role
from marketplace.models import Job
from marketplace.tests.test_lifecycle import TERMINAL, steps
from marketplace.tests.trades import REASON, WORK, terms_of

HANDLES = ("alice", "bob", "carol")
FUNDS = 30_000_000
ATTEMPTS = [
    "counter", "agree", "agree_to_other_terms", "decline", "fund", "start", "deliver", "request_revision", "approve",
    "abort", "offer_a_settlement", "withdraw_a_settlement", "dispute", "a_ruling_is_announced", "resolve", "resume",
]  # fmt: skip
BPS = st.one_of(st.integers(0, 10_000), st.sampled_from([0, 1, 5_000, 9_999, 10_000]))
PARTY = st.sampled_from(["client", "seller", "client", "seller", "stranger"])


class Model:
    """A job as the specification has it: its state, its clock, whose turn it is, and what is held for it."""

    def __init__(self, client: int, seller: int, terms: dict[str, int], rounds: int, at: datetime) -> None:
        self.client, self.seller, self.terms = client, seller, terms
        self.state, self.awaiting, self.revision = "negotiating", "seller", 1
        self.rounds, self.offers, self.latest = rounds, 1, 0
        self.deadline: datetime | None = at + timedelta(seconds=3_600)
        self.deliver_by: datetime | None = None
        self.clock: datetime | None = None
        self.revisions = self.deliveries = 0
        self.settlement: dict[str, int] = {}
        self.closed = False
        self.frozen: tuple[str, datetime, datetime] | None = None
        self.deposit, self.opened = (0, 0), 0
        self.disputes = {"client": 1, "seller": 1}
        self.held = self.bond = 0

    def party(self, role: str) -> int:
        """Name the agent by its number; the stranger is the third one."""
        return {"client": self.client, "seller": self.seller, "stranger": 3 - self.client - self.seller}[role]

    def allows(self, action: str, role: str, at: datetime) -> bool:
        """Ask the specification: its table, and the numbers that its third column names."""
        moment = "before" if self.deadline and at < self.deadline else "after"
        if action not in steps(self.state, role, moment, turn=self.awaiting == role):
            return False
        return {
            "counter": self.offers < self.rounds,
            "request_revision": self.revisions < self.terms["max_revisions"] and self.deliveries < 10,
            "settle": not self.closed,
            "dispute": self.disputes.get(role, 0) > 0,
        }.get(action, True)

    def enter(self, state: str, at: datetime, deadline: datetime | None = None) -> None:
        self.state, self.revision, self.settlement, self.deadline = state, self.revision + 1, {}, deadline
        self.awaiting = {
            "agreed": "client", "funded": "seller", "in_progress": "seller", "delivered": "client",
            "revising": "seller",
        }.get(state, self.awaiting)  # fmt: skip


def hours(count: int) -> timedelta:
    return timedelta(hours=count)


class Trading(RuleBasedStateMachine):
    agents: tuple[Agent, ...] = ()
    beginning: datetime

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.at = self.beginning
        self.models: dict[Any, Model] = {}
        self.available = [FUNDS] * 3
        self.fees = self.penalties = 0
        self.history = transaction.atomic()
        self.history.__enter__()
        for agent in self.agents:
            moves = [ledger.Move("custody", "chain:31337", -FUNDS), ledger.Move("available", str(agent.id), FUNDS)]
            ledger.post(f"test:{ids.uuid7()}", kind="deposit", moves=moves, at=self.at)

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.history.__exit__(None, None, None)

    # --- time -------------------------------------------------------------------------------------------------------
    @rule(seconds=st.sampled_from([1, 60, 600, 3_600]))
    def time_passes(self, seconds: int) -> None:
        self.at += timedelta(seconds=seconds)

    @rule(job=jobs, early=st.booleans())
    def time_passes_until_the_clock_strikes(self, job: Any, early: bool) -> None:
        deadline = self.models[job].deadline
        if deadline:
            self.at = max(self.at, deadline - timedelta(microseconds=early))

    @rule(job=jobs)
    def the_sweep_comes_by(self, job: Any) -> None:
        model = self.models[job]
        action = next(iter(steps(model.state, "system", "after")), "")
        due = model.state != "disputed" and model.allows(action, "system", self.at)

        done = deadlines.enforce(job, at=self.at)

        assert (done is not None) == due
        if due:
            self.ends(model, {"lapse": "expired", "fail": "failed", "auto_approve": "completed"}[action])

    @rule(job=jobs, what=st.sampled_from(ATTEMPTS), by=PARTY, number=BPS)
    def somebody_tries(self, job: Any, what: str, by: str, number: int) -> None:
        """Let anybody try anything on any job, allowed or not; the number is a share, or what else the verb needs."""
        match what:
            case "counter":
                self.counter(job, by, price=10_000 + 499 * number, bond=number)
            case "offer_a_settlement":
                self.offer_a_settlement(job, by, number)
            case "dispute":
                self.dispute(job, by, deposit=[0, 20_003, 10**9][number % 3])
            case "a_ruling_is_announced":
                self.a_ruling_is_announced(job)
            case "resolve":
                role = [*Role, Role.MODERATOR][number % 5]
                self.resolve(job, number, "client" if number % 2 else "seller", role, winner=number % 4 - 1)
            case "resume":
                self.resume(job, [*Role][number % 4], consented=bool(number % 2))
            case _:
                getattr(self, what)(job, by)

    # --- negotiation ------------------------------------------------------------------------------------------------
    @initialize(target=jobs, steps=st.lists(st.integers(0, 8), min_size=3, max_size=3))
    def some_jobs_are_under_way(self, steps: list[int]) -> Any:
        terms = {"price": 1_234_567, "bond": 100_003, "abort_fee": 50_501, "max_revisions": 1}
        several = [self.proposed(number, (number + 1) % 3, terms, rounds=3) for number in range(3)]
        for job, count in zip(several, steps, strict=True):
            self.a_trade_goes_on(job, count)
            if count > 6:
                self.dispute(job, "client", 20_003)
        return multiple(*several)

    @rule(job=jobs, steps=st.integers(1, 4))
    def a_trade_goes_on(self, job: Any, steps: int) -> None:
        """Without this, most of what is tried at random is refused and no history gets far."""
        for _ in range(steps):
            model = self.models[job]
            if model.deadline is None or self.at >= model.deadline:
                return
            match model.state:
                case "negotiating":
                    self.agree(job, model.awaiting)
                case "agreed":
                    self.fund(job, "client")
                case "funded":
                    self.start(job, "seller")
                case "in_progress" | "revising":
                    self.deliver(job, "seller")
                case "delivered":
                    self.request_revision(job, "client")

    @rule(job=jobs, how=st.sampled_from(["approve", "abort", "dispute", "rule", "settle", "silence"]), bps=BPS)
    def a_trade_ends(self, job: Any, how: str, bps: int) -> None:
        """Or begins to: each of these is refused where the table refuses it, as when it comes by itself."""
        match how:
            case "approve":
                self.approve(job, "client")
            case "abort":
                self.abort(job, "client" if bps % 2 else "seller")
            case "dispute":
                self.dispute(job, "client" if bps % 2 else "seller", 20_003)
            case "rule":
                self.resolve(job, bps, "client" if bps % 2 else "seller", Role.MODERATOR, bps % 4 - 1)
            case "settle":
                self.offer_a_settlement(job, "seller", bps)
                self.offer_a_settlement(job, "client", min(10_000, bps + 1))
            case "silence":
                self.time_passes_until_the_clock_strikes(job, False)
                self.the_sweep_comes_by(job)

    @rule(
        target=jobs,
        client=st.integers(0, 2),
        step=st.integers(0, 2),
        price=st.integers(10_000, 20_000_000),
        bond=st.integers(0, 10_000),
        abort_fee=st.integers(0, 10_000),
        max_revisions=st.integers(0, 3),
        rounds=st.integers(1, 4),
    )
    def propose(
        self, client: int, step: int, price: int, bond: int, abort_fee: int, max_revisions: int, rounds: int
    ) -> Any:
        terms = {
            "price": price, "bond": price * bond // 10_000, "abort_fee": price * abort_fee // 10_000,
            "max_revisions": max_revisions,
        }  # fmt: skip
        if step == 0:
            with pytest.raises(DomainError):
                self.proposed(client, client, terms, rounds)
            return multiple()
        return self.proposed(client, (client + step) % 3, terms, rounds)

    def proposed(self, client: int, seller: int, terms: dict[str, int], rounds: int) -> Any:
        job = offers.propose(
            self.agents[client], self.agents[seller], terms=self.read(terms), max_rounds=rounds, offer_seconds=3_600,
            at=self.at,
        )  # fmt: skip
        self.models[job.id] = Model(client, seller, terms, rounds, self.at)
        self.models[job.id].latest = job.offer.terms_hash
        return job.id

    def read(self, terms: dict[str, int]) -> Any:
        return terms_of(
            price=text(terms["price"]), seller_bond=text(terms["bond"]), client_abort_fee=text(terms["abort_fee"]),
            max_revisions=terms["max_revisions"], delivery_seconds=3_600, review_seconds=7_200, revision_seconds=3_600,
        )  # fmt: skip

    def counter(self, job: Any, by: str, price: int, bond: int) -> None:
        model = self.models[job]
        terms = {"price": price, "bond": price * bond // 10_000, "abort_fee": 0, "max_revisions": 2}
        done = self.tried("counter", job, by, lambda agent: offers.counter(
            job, by=agent, terms=self.read(terms), at=self.at
        ))  # fmt: skip
        if done:
            model.terms, model.latest = terms, done.offer.terms_hash
            model.enter("negotiating", self.at, self.at + hours(1))
            model.offers += 1
            model.awaiting = "seller" if by == "client" else "client"

    def agree(self, job: Any, by: str) -> None:
        model = self.models[job]
        if self.tried("agree", job, by, lambda agent: offers.agree(
            job, by=agent, terms_hash=model.latest, at=self.at
        )):  # fmt: skip
            model.enter("agreed", self.at, self.at + timedelta(seconds=86_400))

    def agree_to_other_terms(self, job: Any, by: str) -> None:
        with pytest.raises(DomainError):
            offers.agree(
                job, by=self.agents[self.models[job].party(by)], terms_hash="sha256:" + "0" * 64, at=self.at
            )  # fmt: skip

    def decline(self, job: Any, by: str) -> None:
        if self.tried("decline", job, by, lambda agent: offers.decline(job, by=agent, at=self.at)):
            self.ends(self.models[job], "cancelled")

    # --- work -------------------------------------------------------------------------------------------------------
    def fund(self, job: Any, by: str) -> None:
        model = self.models[job]
        price, bond = model.terms["price"], model.terms["bond"]
        covered = self.available[model.client] >= price and self.available[model.seller] >= bond
        if self.tried("fund", job, by, lambda agent: jobs.fund(job, client=agent, at=self.at), also=covered):
            model.deliver_by = self.at + hours(1)
            model.enter("funded", self.at, model.deliver_by)
            self.available[model.client] -= price
            self.available[model.seller] -= bond
            model.held, model.bond = price, bond

    def start(self, job: Any, by: str) -> None:
        model = self.models[job]
        if self.tried("start", job, by, lambda agent: jobs.start(job, seller=agent, at=self.at)):
            model.enter("in_progress", self.at, model.deliver_by)

    def deliver(self, job: Any, by: str) -> None:
        model = self.models[job]
        if self.tried("deliver", job, by, lambda agent: deliveries.deliver(
            job, seller=agent, content=WORK, at=self.at
        )):  # fmt: skip
            model.deliveries += 1
            model.enter("delivered", self.at, self.at + hours(2))

    def request_revision(self, job: Any, by: str) -> None:
        model = self.models[job]
        if self.tried("request_revision", job, by, lambda agent: deliveries.request_revision(
            job, client=agent, reason=REASON, at=self.at
        )):  # fmt: skip
            model.revisions += 1
            model.enter("revising", self.at, max(model.deliver_by, self.at + hours(1)))

    def approve(self, job: Any, by: str) -> None:
        if self.tried("approve", job, by, lambda agent: jobs.approve(job, client=agent, at=self.at)):
            self.ends(self.models[job], "completed")

    def abort(self, job: Any, by: str) -> None:
        if self.tried("abort", job, by, lambda agent: jobs.abort(job, by=agent, reason="x", at=self.at)):
            self.ends(self.models[job], f"cancelled by {by}")

    # --- quarrels ---------------------------------------------------------------------------------------------------
    def offer_a_settlement(self, job: Any, by: str, bps: int) -> None:
        model = self.models[job]
        extra = self.deposit_back(job, model.deposit[0])
        done = self.tried("settle", job, by, lambda agent: settlements.offer(
            job, by=agent, seller_bps=bps, extra=extra, at=self.at
        ))  # fmt: skip
        if not done:
            return
        model.settlement[by] = bps
        client, seller = model.settlement.get("client"), model.settlement.get("seller")
        if client is not None and seller is not None and client >= seller:
            self.give_deposit(model, model.deposit[0])
            self.ends(model, "resolved", share=model.held * ((client + seller) // 2) // 10_000)

    def withdraw_a_settlement(self, job: Any, by: str) -> None:
        model = self.models[job]
        agent = self.agents[model.party(by)]
        if by in model.settlement:
            settlements.withdraw(job, by=agent, at=self.at)
            del model.settlement[by]
        else:
            with pytest.raises(DomainError):
                settlements.withdraw(job, by=agent, at=self.at)

    def dispute(self, job: Any, by: str, deposit: int) -> None:
        model = self.models[job]
        frozen = model.state, self.at, model.deadline

        def open_case(agent: Agent) -> Job:
            with transaction.atomic():
                locked = locking.lock(job, at=self.at)
                role = lifecycle.role_of(agent, locked)
                jobs.freeze(
                    locked, by=role, dispute_id=ids.uuid7(), deadline_at=self.at + hours(72), effect="A ruling.",
                    awaiting=role.other,
                )  # fmt: skip
                holds.take_deposit(
                    f"dispute:{job}:{model.revision}", agent_id=agent.id, wanted_units=deposit, at=self.at
                )
                return locked

        if self.tried("dispute", job, by, open_case):
            opener = model.party(by)
            taken = min(deposit, self.available[opener])
            self.available[opener] -= taken
            model.deposit, model.opened = (opener, taken), model.revision
            model.disputes[by] -= 1
            model.frozen, model.closed = frozen, False
            model.enter("disputed", self.at, self.at + hours(72))
            model.awaiting = "seller" if by == "client" else "client"

    def a_ruling_is_announced(self, job: Any) -> None:
        model = self.models[job]
        announce = {"deadline_at": self.at + hours(48), "effect": "Final.", "awaiting": None}
        if model.state != "disputed":
            with pytest.raises(DomainError):
                jobs.show_dispute_clock(job, settlement_closed=True, **announce)
            return
        jobs.show_dispute_clock(job, settlement_closed=True, **announce)
        model.closed, model.settlement, model.deadline, model.awaiting = True, {}, self.at + hours(48), None

    def resolve(self, job: Any, bps: int, bond_to: Any, by: Role, winner: int) -> None:
        model = self.models[job]
        allowed = model.allows("resolve", by, self.at)
        extra = self.deposit_back(job, winner) if allowed else ()
        try:
            jobs.resolve(job, plan=lambda job: effects.split(job, bps, bond_to=bond_to, extra=extra), by=by, at=self.at)
        except lifecycle.TransitionNotAllowed:
            assert not allowed
            return
        assert allowed
        self.give_deposit(model, winner)
        self.ends(model, "resolved", share=model.held * bps // 10_000, bond_to=bond_to)

    def resume(self, job: Any, by: Role, consented: bool) -> None:
        model = self.models[job]
        allowed = model.allows("resume", by, self.at)
        extra = self.deposit_back(job, model.deposit[0]) if allowed else ()
        try:
            with transaction.atomic():
                jobs.resume(job, by=by, consented=consented, at=self.at)
                if extra:
                    key = self.deposit_key(job)
                    ledger.post(f"{key}:back", kind="deposit.back", moves=extra, at=self.at)
        except lifecycle.TransitionNotAllowed:
            assert not allowed
            return
        assert allowed
        self.give_deposit(model, model.deposit[0])
        state, since, clock = model.frozen
        model.closed = False
        model.enter(state, self.at, clock + (self.at - since) if consented else clock)
        if state == "in_progress":
            model.deliver_by = model.deadline

    # --- what the money does ----------------------------------------------------------------------------------------
    def tried(self, action: str, job: Any, by: str, act: Any, *, also: bool = True) -> Any:
        """Do it; it must be done if the model allows it, and refused as a refusal if not."""
        model = self.models[job]
        allowed = model.allows(action, by, self.at) and also
        try:
            done = act(self.agents[model.party(by)])
        except DomainError:
            if allowed:
                raise
            return None
        assert allowed, f"{by} could {action} a job that is {model.state}"
        return done

    def ends(self, model: Model, ending: str, *, share: int = 0, bond_to: str = "seller") -> None:
        """Close the money of a job by the last column of the specification's table."""
        if ending in ("completed", "cancelled by client"):
            share = model.held if ending == "completed" else model.terms["abort_fee"]
        if ending in ("failed", "cancelled by seller"):
            bond_to = "client"
        fee = share * 100 // 10_000
        self.fees += fee
        self.available[model.seller] += share - fee
        self.available[model.client] += model.held - share
        self.available[model.party(bond_to)] += model.bond
        model.held = model.bond = 0
        model.enter(ending.partition(" ")[0], self.at)
        model.awaiting = None

    def deposit_key(self, job: Any) -> str:
        """Every dispute of a job has a deposit of its own; the revision in which it was opened tells them apart."""
        return f"dispute:{job}:{self.models[job].opened}"

    def deposit_back(self, job: Any, winner: int) -> tuple[ledger.Move, ...]:
        model = self.models[job]
        if not model.deposit[1]:
            return ()
        to = ("penalties", "platform") if winner < 0 else ("available", str(self.agents[winner].id))
        return tuple(holds.deposit_moves(self.deposit_key(job), model.deposit[1], to=to))

    def give_deposit(self, model: Model, winner: int) -> None:
        if winner < 0:
            self.penalties += model.deposit[1]
        else:
            self.available[winner] += model.deposit[1]
        model.deposit = (0, 0)

    # --- what is true after every step ------------------------------------------------------------------------------
    @invariant()
    def the_books_are_right(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
        assert books.check(full=True) == []

    @invariant()
    def everybody_has_what_the_model_says(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT kind, owner_key, balance FROM escrow_ledgeraccount WHERE balance <> 0 AND kind <> 'custody'"
            )
            found: dict[tuple[str, str], int] = {}
            for kind, owner, balance in cursor.fetchall():
                key = (kind, owner.partition(":")[0] if kind in ("fees", "penalties") else owner)
                found[key] = found.get(key, 0) + balance
        names = {str(agent.id): HANDLES[number] for number, agent in enumerate(self.agents)}
        expected = {("available", str(a.id)): units for a, units in zip(self.agents, self.available, strict=True)}
        expected |= {("fees", "platform"): self.fees, ("penalties", "platform"): self.penalties}
        for job, model in self.models.items():
            expected |= {("hold", f"job:{job}"): model.held, ("bond", f"job:{job}"): model.bond}
            if model.deposit[1]:
                expected[("dispute_deposit", self.deposit_key(job))] = model.deposit[1]
        assert found == {key: units for key, units in expected.items() if units}, names
        assert sum(found.values()) == 3 * FUNDS

    @invariant()
    def every_job_is_where_the_model_says(self) -> None:
        rows = Job.objects.in_bulk(list(self.models))
        for job, model in self.models.items():
            row = rows[job]
            assert (row.state, row.revision, row.awaiting, row.deadline_at) == (
                model.state, model.revision, model.awaiting, model.deadline,
            )  # fmt: skip
            assert {"client": row.client_settlement_bps, "seller": row.seller_settlement_bps} == {
                "client": model.settlement.get("client"), "seller": model.settlement.get("seller"),
            }  # fmt: skip
            assert (row.closed_at is not None) == (row.state in TERMINAL)


def text(units: int) -> str:
    return f"{units // 1_000_000}.{units % 1_000_000:06}"


@pytest.mark.django_db(transaction=True)
class TestTrading:
    @pytest.fixture(autouse=True)
    def agents(self, make_agent, noon):
        Trading.agents = tuple(make_agent(handle) for handle in HANDLES)
        Trading.beginning = noon

    def play(self, histories):
        run_state_machine_as_test(
            Trading,
            settings=settings(
                max_examples=histories,
                stateful_step_count=15,
                deadline=None,
                database=None,
                suppress_health_check=[*HealthCheck],
            ),
        )

    def test_holds_in_forty_histories(self):
        self.play(40)

    @pytest.mark.long
    def test_holds_in_a_thousand_histories(self):
        self.play(1_000)
