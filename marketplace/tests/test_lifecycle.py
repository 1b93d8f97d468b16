"""
The table of jobs, written again from the specification: a test that reads the code's table cannot see that it is wrong.
"""

from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

import pytest
from django.db import transaction

from accounts.errors import NotFound
from accounts.models import Event
from marketplace import deadlines, deliveries, effects, jobs, lifecycle, offers, settlements
from marketplace.lifecycle import Action, Role, TransitionNotAllowed
from marketplace.models import Job, State, Transition
from marketplace.tests.trades import ABORT_FEE, BOND, CLIENT_FUNDS, PRICE, REASON, SELLER_FUNDS, WORK, terms_of

# jobs-and-money.md, section 2. `turn`: the party whose turn it is. `clock`: before it, after it, or `-` where it does
# not matter. Rows 1a, 1b, 16 and 18 (calls, instant hire, checks) come with the market.
TABLE = """
    row | from                                    | action           | by                 | clock  | to
    2   | negotiating                             | counter          | turn               | before | negotiating
    3   | negotiating                             | agree            | turn               | before | agreed
    4   | negotiating                             | decline          | client, seller     | -      | cancelled
    5   | negotiating                             | lapse            | system             | after  | expired
    6   | agreed                                  | fund             | client             | -      | funded
    7   | agreed                                  | decline          | client, seller     | -      | cancelled
    8   | agreed                                  | lapse            | system             | after  | expired
    9   | funded                                  | start            | seller             | before | in_progress
    10  | funded, in_progress                     | deliver          | seller             | before | delivered
    11  | funded, in_progress                     | abort            | client             | before | cancelled
    12  | funded, in_progress, revising           | abort            | seller             | -      | cancelled
    13  | funded, in_progress                     | fail             | system             | after  | failed
    14  | delivered                               | approve          | client             | -      | completed
    15  | delivered                               | auto_approve     | system             | after  | completed
    17  | delivered                               | request_revision | client             | before | revising
    19  | revising                                | deliver          | seller             | before | delivered
    20  | revising                                | fail             | system             | after  | failed
    21  | in_progress, revising                   | dispute          | client, seller     | before | disputed
    21  | delivered                               | dispute          | client             | before | disputed
    22  | funded, in_progress, delivered          | settle           | client, seller     | -      | resolved
    22  | revising, disputed                      | settle           | client, seller     | -      | resolved
    23  | disputed                                | resolve          | moderator, system  | -      | resolved
    23  | disputed                                | redo             | moderator, system  | -      | revising
    24  | disputed                                | resume           | client, seller     | -      | frozen
"""
STATES = [
    "negotiating", "agreed", "funded", "in_progress", "delivered", "revising", "disputed",
    "completed", "cancelled", "expired", "failed", "resolved",
]  # fmt: skip
TERMINAL = {"completed", "cancelled", "expired", "failed", "resolved"}
ACTIONS = [
    "propose", "counter", "agree", "decline", "lapse", "fund", "start", "deliver", "approve", "auto_approve",
    "request_revision", "abort", "fail", "dispute", "settle", "resolve", "redo", "resume",
]  # fmt: skip
ROLES = ["client", "seller", "system", "moderator"]


class Step(NamedTuple):
    row: str
    origins: list[str]
    action: str
    by: list[str]
    clock: str
    to: str


def _read(line: str) -> Step:
    row, origins, action, by, clock, to = (cell.strip() for cell in line.split("|"))
    return Step(row, origins.split(", "), action, by.split(", "), clock, to)


STEPS = [_read(line) for line in TABLE.strip().splitlines()[1:]]


def steps(state: str, role: str, moment: str, *, turn: bool = True) -> dict[str, str]:
    """Look up what the specification lets this role do in this state: action → the state after it."""
    return {
        step.action: step.to
        for step in STEPS
        if state in step.origins
        and (role in step.by or ("turn" in step.by and role in ("client", "seller") and turn))
        and step.clock in ("-", moment)
    }


def job_on_paper(state: str, noon, *, awaiting: str | None = None) -> Job:
    """Make a job that nothing but its state and clock speaks for or against."""
    return Job(
        state=state,
        awaiting=awaiting,
        deadline_at=None if state in TERMINAL else noon,
        frozen_state="delivered",
        max_rounds=5,
        max_revisions=2,
        max_deliveries=10,
    )


# The clock strikes at noon: at noon itself it is over.
MOMENTS = {"before": timedelta(microseconds=-1), "at": timedelta(0), "after": timedelta(days=365)}


class TestTable:
    @pytest.mark.parametrize("role", ROLES)
    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("moment", MOMENTS)
    def test_allows_what_is_specified_and_nothing_else(self, state, role, moment, noon):
        job = job_on_paper(state, noon, awaiting=role)
        at = noon + MOMENTS[moment]
        expected = steps(state, role, "before" if moment == "before" else "after")

        allowed = {}
        for action in ACTIONS:
            with suppress(TransitionNotAllowed):
                allowed[action] = lifecycle.rule_for(job, Action(action), Role(role), at).to

        # A job resumes to the state in which it was frozen, which no row can name.
        assert allowed.keys() == expected.keys()
        assert {a: to for a, to in allowed.items() if a != "resume"} == {
            a: to for a, to in expected.items() if a != "resume"
        }
        assert set(lifecycle.available(job, Role(role), at)) == expected.keys() - {"resume"}

    @pytest.mark.parametrize("role", ["client", "seller"])
    def test_lets_nobody_counter_or_agree_out_of_turn(self, role, noon):
        job = job_on_paper("negotiating", noon, awaiting=Role(role).other)

        available = lifecycle.available(job, Role(role), noon - timedelta(seconds=1))

        assert available == ["decline"]

    def test_has_one_time_row_for_each_living_state(self):
        by_time = {state: [s for s in STEPS if state in s.origins and s.clock == "after"] for state in STATES}

        assert {state for state, rows in by_time.items() if len(rows) == 1} == {*STATES} - TERMINAL - {"disputed"}
        assert {state: rows[0].action for state, rows in by_time.items() if rows} == lifecycle.TIME

    def test_names_every_state_and_every_action(self):
        assert [*State.values] == STATES
        assert [*Action] == ACTIONS

    def test_allows_no_counter_when_the_rounds_are_used(self, noon):
        job = job_on_paper("negotiating", noon, awaiting="seller")
        job.offers_count = job.max_rounds = 3

        assert lifecycle.available(job, Role.SELLER, noon - timedelta(seconds=1)) == ["agree", "decline"]

    def test_allows_no_revision_when_they_are_used(self, noon):
        job = job_on_paper("delivered", noon)
        job.revisions_used = 2

        assert "request_revision" not in lifecycle.available(job, Role.CLIENT, noon - timedelta(seconds=1))

    def test_allows_no_revision_after_the_tenth_delivery(self, noon):
        job = job_on_paper("delivered", noon)
        job.deliveries_count = 10

        assert "request_revision" not in lifecycle.available(job, Role.CLIENT, noon - timedelta(seconds=1))

    def test_allows_no_eleventh_delivery(self, noon):
        job = job_on_paper("revising", noon)
        job.deliveries_count = 10

        assert "deliver" not in lifecycle.available(job, Role.SELLER, noon - timedelta(seconds=1))

    @pytest.mark.parametrize("role", ["client", "seller"])
    def test_allows_no_settlement_after_a_ruling(self, role, noon):
        job = job_on_paper("disputed", noon)
        job.settlement_closed = True

        assert lifecycle.available(job, Role(role), noon) == []

    def test_tells_the_refused_what_they_may_do_instead(self, noon):
        job = job_on_paper("delivered", noon)

        with pytest.raises(TransitionNotAllowed) as refusal:
            lifecycle.rule_for(job, Action.APPROVE, Role.SELLER, noon - timedelta(seconds=1))

        assert refusal.value.members == {"state": "delivered", "available_actions": ["settle"]}


# --- every state × verb × party, on real rows -----------------------------------------------------------------------
def _counter(trade, job, agent, at):
    return offers.counter(job.id, by=agent, terms=terms_of(price="5.5"), at=at)


def _agree(trade, job, agent, at):
    return offers.agree(job.id, by=agent, terms_hash=job.offer.terms_hash, at=at)


def _decline(trade, job, agent, at):
    return offers.decline(job.id, by=agent, at=at)


def _fund(trade, job, agent, at):
    return jobs.fund(job.id, client=agent, at=at)


def _start(trade, job, agent, at):
    return jobs.start(job.id, seller=agent, at=at)


def _deliver(trade, job, agent, at):
    return deliveries.deliver(job.id, seller=agent, content=WORK, at=at)


def _approve(trade, job, agent, at):
    return jobs.approve(job.id, client=agent, at=at)


def _request_revision(trade, job, agent, at):
    return deliveries.request_revision(job.id, client=agent, reason=REASON, at=at)


def _abort(trade, job, agent, at):
    return jobs.abort(job.id, by=agent, reason="no time", at=at)


def _dispute(trade, job, agent, at):
    return trade.freeze(job, by=lifecycle.role_of(agent, job), at=at)


def _settle(trade, job, agent, at):
    other = trade.seller if agent == trade.client else trade.client
    settlements.offer(job.id, by=other, seller_bps=5_000, at=at)
    return settlements.offer(job.id, by=agent, seller_bps=5_000, at=at)


VERBS = {
    "counter": _counter,
    "agree": _agree,
    "decline": _decline,
    "fund": _fund,
    "start": _start,
    "deliver": _deliver,
    "approve": _approve,
    "request_revision": _request_revision,
    "abort": _abort,
    "dispute": _dispute,
    "settle": _settle,
}
SECOND = timedelta(seconds=1)


def tried(verb, *arguments):
    """Do it and undo it: the state it led to, or None where the table refused."""
    try:
        with transaction.atomic():
            state = verb(*arguments).state
            transaction.set_rollback(True)
            return state
    except TransitionNotAllowed:
        return None


@pytest.mark.django_db
class TestVerbs:
    @pytest.mark.parametrize("moment", ["before", "after"])
    @pytest.mark.parametrize("role", ["client", "seller"])
    @pytest.mark.parametrize("state", STATES)
    def test_obey_the_table(self, trade, state, role, moment):
        job = trade.job(state)
        clock = job.deadline_at or trade.at
        at = clock - SECOND if moment == "before" else clock
        agent = lifecycle.party_of(Role(role), job)
        expected = steps(state, role, moment, turn=job.awaiting == role)

        led_to = {action: tried(verb, trade, job, agent, at) for action, verb in VERBS.items()}

        assert {action: to for action, to in led_to.items() if to} == {a: expected[a] for a in VERBS if a in expected}

    @pytest.mark.parametrize("state", STATES)
    def test_of_the_clock_obey_the_table(self, trade, state):
        job = trade.job(state)
        clock = job.deadline_at or trade.at
        expected = next(iter(steps(state, "system", "after").values()), None) if state != "disputed" else None

        early = deadlines.enforce(job.id, at=clock - SECOND)
        due = deadlines.enforce(job.id, at=clock)

        assert early is None
        assert (due.state if due else None) == expected

    @pytest.mark.parametrize("state", STATES)
    def test_of_the_moderator_obey_the_table(self, trade, state):
        job = trade.job(state)
        ruling = tried(lambda: jobs.resolve(job.id, plan=lambda job: effects.split(job, 5_000), at=trade.at))
        withdrawal = tried(lambda: jobs.resume(job.id, by=Role.CLIENT, consented=True, at=trade.at))

        assert (ruling, withdrawal) == (("resolved", "delivered") if state == "disputed" else (None, None))

    @pytest.mark.parametrize("action", VERBS)
    def test_do_not_know_strangers(self, trade, carol, action):
        job = trade.job("delivered")

        with pytest.raises(NotFound):
            VERBS[action](trade, job, carol, trade.at)

        job.refresh_from_db()
        assert (job.state, job.revision) == ("delivered", 5)

    @pytest.mark.parametrize("action", VERBS)
    def test_change_nothing_when_they_refuse(self, trade, money, action):
        job = trade.job("completed")
        before = money(job), Job.objects.values().get(pk=job.pk), Transition.objects.count(), Event.objects.count()

        with pytest.raises(TransitionNotAllowed):
            VERBS[action](trade, job, trade.client, trade.at)

        after = money(job), Job.objects.values().get(pk=job.pk), Transition.objects.count(), Event.objects.count()
        assert after == before


@pytest.mark.django_db
class TestAdvance:
    def test_writes_the_time_line(self, trade):
        job = trade.job("revising")

        line = job.transitions.order_by("revision").values_list("revision", "action", "by", "from_state", "to_state")

        assert list(line) == [
            (1, "propose", "client", "", "negotiating"),
            (2, "agree", "seller", "negotiating", "agreed"),
            (3, "fund", "client", "agreed", "funded"),
            (4, "start", "seller", "funded", "in_progress"),
            (5, "deliver", "seller", "in_progress", "delivered"),
            (6, "request_revision", "client", "delivered", "revising"),
        ]

    def test_tells_both_parties_once_a_step(self, trade):
        trade.job("delivered")

        told = list(Event.objects.order_by("id").values_list("type", "recipient__handle"))

        steps = ["job.proposed", "job.agreed", "job.funded", "job.started", "job.delivered"]
        assert sorted(told) == sorted((step, handle) for step in steps for handle in ("alice", "bob"))

    def test_starts_the_clocks_of_the_terms(self, trade):
        job = trade.job("delivered", delivery_seconds=3_600, review_seconds=7_200)

        assert job.deliver_by == trade.later(3_600)
        assert job.review_by == job.deadline_at == trade.later(7_200)

    def test_gives_a_revision_its_window_but_never_less_than_the_delivery_had(self, trade):
        long = trade.job("revising", delivery_seconds=86_400, revision_seconds=7_200)
        short = trade.job("revising", delivery_seconds=3_600, revision_seconds=7_200)

        assert long.revise_by == trade.later(86_400)
        assert short.revise_by == trade.later(7_200)

    def test_starts_the_review_anew_at_each_delivery(self, trade):
        job = trade.job("revising")

        job = deliveries.deliver(job.id, seller=trade.seller, content=WORK, at=trade.later(1_000))

        assert job.review_by == trade.later(1_000 + 7_200)

    def test_says_in_words_what_silence_will_do(self, trade):
        job = trade.job("delivered")

        assert (job.deadline_action, job.deadline_effect) == (
            "auto_approve",
            "If the client neither approves, asks for a revision nor disputes by then, silence is approval: "
            "12.222222 USDC go to the seller and 0.123456 USDC to the platform as its fee, "
            "and the seller's bond of 3.000001 USDC goes back to the seller.",
        )


# --- the money column -----------------------------------------------------------------------------------------------
@pytest.mark.django_db
class TestMoney:
    """1 % is the fee. Of 12.345678 that is 0.123456|78 and of 2.000099 it is 0.020000|99: always the floor."""

    def test_row_6_holds_price_and_bond(self, trade, money):
        job = trade.job("funded")

        assert money(job) == {
            "client": CLIENT_FUNDS - PRICE, "seller": SELLER_FUNDS - BOND, "hold": PRICE, "bond": BOND, "fees": 0,
        }  # fmt: skip

    @pytest.mark.parametrize("state", ["funded", "in_progress"])
    def test_row_11_pays_the_abort_fee_less_the_platforms(self, trade, money, state):
        job = trade.job(state)

        jobs.abort(job.id, by=trade.client, reason="no need", at=trade.at)

        assert money(job) == {
            "client": CLIENT_FUNDS - ABORT_FEE, "seller": SELLER_FUNDS + 1_980_099, "hold": 0, "bond": 0,
            "fees": 20_000,
        }  # fmt: skip

    @pytest.mark.parametrize("state", ["funded", "in_progress", "revising"])
    def test_row_12_gives_everything_to_the_client(self, trade, money, state):
        job = trade.job(state)

        jobs.abort(job.id, by=trade.seller, reason="cannot", at=trade.at)

        assert money(job) == {
            "client": CLIENT_FUNDS + BOND, "seller": SELLER_FUNDS - BOND, "hold": 0, "bond": 0, "fees": 0,
        }  # fmt: skip

    @pytest.mark.parametrize("state", ["funded", "in_progress", "revising"])
    def test_rows_13_and_20_give_everything_to_the_client(self, trade, money, state):
        job = trade.job(state)

        deadlines.enforce(job.id, at=job.deadline_at)

        assert money(job) == {
            "client": CLIENT_FUNDS + BOND, "seller": SELLER_FUNDS - BOND, "hold": 0, "bond": 0, "fees": 0,
        }  # fmt: skip

    def test_row_14_pays_the_seller_less_the_fee(self, trade, money):
        job = trade.job("delivered")

        jobs.approve(job.id, client=trade.client, at=trade.at)

        assert money(job) == {
            "client": CLIENT_FUNDS - PRICE, "seller": SELLER_FUNDS + 12_222_222, "hold": 0, "bond": 0,
            "fees": 123_456,
        }  # fmt: skip

    def test_row_15_pays_as_an_approval_does(self, trade, money):
        job = trade.job("delivered")

        deadlines.enforce(job.id, at=job.deadline_at)

        assert money(job) == {
            "client": CLIENT_FUNDS - PRICE, "seller": SELLER_FUNDS + 12_222_222, "hold": 0, "bond": 0,
            "fees": 123_456,
        }  # fmt: skip

    @pytest.mark.parametrize("state", ["funded", "in_progress", "delivered", "revising", "disputed"])
    def test_row_22_splits_with_the_fee_on_the_sellers_share(self, trade, money, state):
        job = trade.job(state)

        settlements.offer(job.id, by=trade.seller, seller_bps=3_333, at=trade.at)
        settlements.offer(job.id, by=trade.client, seller_bps=3_333, at=trade.at)

        # 33.33 % of 12.345678 is 4.114814|47..., its fee 0.041148|14: the client has the rest.
        assert money(job) == {
            "client": CLIENT_FUNDS - 4_114_814, "seller": SELLER_FUNDS + 4_114_814 - 41_148, "hold": 0, "bond": 0,
            "fees": 41_148,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("seller_bps", "bond_to", "client", "seller", "fees"),
        [
            (10_000, "seller", -PRICE, 12_222_222, 123_456),
            (0, "client", BOND, -BOND, 0),
            (0, "seller", 0, 0, 0),
            (5_000, "client", -6_172_839 + BOND, 6_172_839 - 61_728 - BOND, 61_728),
            (1, "seller", -1_234, 1_234 - 12, 12),
        ],
    )
    def test_row_23_pays_as_ruled(self, trade, money, seller_bps, bond_to, client, seller, fees):
        job = trade.job("disputed")

        jobs.resolve(job.id, plan=lambda job: effects.split(job, seller_bps, bond_to=bond_to), at=trade.at)

        assert money(job) == {
            "client": CLIENT_FUNDS + client, "seller": SELLER_FUNDS + seller, "hold": 0, "bond": 0, "fees": fees,
        }  # fmt: skip

    @pytest.mark.parametrize("state", ["negotiating", "agreed", "cancelled", "expired"])
    def test_nothing_moves_before_funding(self, trade, money, state):
        job = trade.job(state)

        assert money(job) == {"client": CLIENT_FUNDS, "seller": SELLER_FUNDS, "hold": 0, "bond": 0, "fees": 0}

    def test_the_smallest_price_pays_a_floored_fee(self, trade, money):
        job = trade.job("completed", price="0.010099", seller_bond="0", client_abort_fee="0")

        # 1 % of 0.010099 is 0.000100|99.
        assert money(job) == {
            "client": CLIENT_FUNDS - 10_099, "seller": SELLER_FUNDS + 9_999, "hold": 0, "bond": 0, "fees": 100,
        }  # fmt: skip


@pytest.mark.django_db
class TestResume:
    """Row 24: a dispute is withdrawn."""

    def test_with_consent_gives_back_the_time_that_was_left(self, trade):
        job = trade.job("delivered")
        job = trade.freeze(job, at=trade.later(1_000))

        job = jobs.resume(job.id, by=Role.SELLER, consented=True, at=trade.later(50_000))

        assert job.state == "delivered"
        assert job.deadline_at == job.review_by == trade.later(50_000 + 7_200 - 1_000)

    def test_without_consent_leaves_the_old_clock_standing(self, trade):
        job = trade.job("delivered")
        job = trade.freeze(job, at=trade.later(1_000))

        job = jobs.resume(job.id, by=Role.CLIENT, consented=False, at=trade.later(2_000))

        assert job.deadline_at == trade.later(7_200)

    def test_fires_at_once_where_the_old_clock_is_over(self, trade, money):
        job = trade.job("in_progress")
        job = trade.freeze(job, at=trade.later(1_000))
        job = jobs.resume(job.id, by=Role.CLIENT, consented=False, at=trade.later(50_000))

        failed = deadlines.enforce(job.id, at=trade.later(50_000))

        assert failed.state == "failed"
        assert money(job)["client"] == CLIENT_FUNDS + BOND

    def test_leaves_the_opener_no_second_dispute_and_the_other_side_its_first(self, trade):
        job = trade.freeze(trade.job("revising"), by="client")
        job = jobs.resume(job.id, by=Role.CLIENT, consented=True, at=trade.at)

        with pytest.raises(TransitionNotAllowed):
            trade.freeze(job, by="client")

        assert trade.freeze(job, by="seller").state == "disputed"

    @pytest.mark.parametrize("state", ["in_progress", "delivered", "revising"])
    def test_goes_back_to_the_state_that_was_frozen(self, trade, state):
        job = trade.freeze(trade.job(state))

        job = jobs.resume(job.id, by=Role.CLIENT, consented=True, at=trade.at)

        assert job.state == state
        assert job.transitions.order_by("revision").last().to_state == state
