"""The one challenge to a ruling."""

from datetime import timedelta

import pytest
from django.db import transaction

from accounts import spending, tokens
from accounts.errors import Invalid, NotAllowed, NotFound
from accounts.models import Agent, Event, User
from disputes import appeals, approvals, deadlines, lifecycle
from disputes.decisions import Decision
from disputes.models import Appeal, Dispute, Ruling
from disputes.tests.conftest import DAY, GROUNDS, PROPOSED, REASONS, appealed, replaced, ruled
from escrow import ledger
from escrow.models import Transfer
from marketplace.models import Job

pytestmark = pytest.mark.django_db


class TestFile:
    def test_puts_the_ruling_before_a_senior(self, case_at, alice, noon):
        case = appealed(case_at("ruled"), alice, at=noon + 4 * DAY)

        assert (case.state, case.assigned_to) == ("appealed", None)
        assert case.deadline_at == case.hear_appeal_by == noon + 7 * DAY
        appeal = Appeal.objects.get()
        assert (appeal.by, appeal.appellant, appeal.grounds, appeal.outcome) == ("client", alice, GROUNDS, None)
        assert appeal.against == Ruling.objects.get()
        assert (appeal.filed_at, appeal.decide_by) == (noon + 4 * DAY, noon + 7 * DAY)

    def test_tells_both_sides_and_the_job(self, case_at, alice, bob, noon):
        case = appealed(case_at("ruled"), alice, at=noon + 4 * DAY)

        told = Event.objects.filter(type="dispute.appealed", data__dispute_id=str(case.id))
        assert {event.recipient_id for event in told} == {alice.id, bob.id}
        job = Job.objects.get(pk=case.job_id)
        assert job.deadline_at == noon + 7 * DAY
        assert "If no senior moderator has decided the appeal by then" in job.deadline_effect
        assert "14.850000 USDC to the seller" in job.deadline_effect
        assert job.awaiting == "moderator"

    def test_may_be_until_its_clock_is_over(self, case_at, alice, noon):
        case = case_at("ruled")

        with pytest.raises(lifecycle.TransitionNotAllowed):
            appealed(case, alice, at=noon + 5 * DAY)
        assert appealed(case, alice, at=noon + 5 * DAY - timedelta(microseconds=1)).state == "appealed"

    def test_may_be_once(self, case_at, alice, bob, noon):
        case = appealed(case_at("ruled"), alice, at=noon + 4 * DAY)

        for agent in (alice, bob):
            with pytest.raises(lifecycle.TransitionNotAllowed):
                appealed(case, agent, at=noon + 4 * DAY)

    def test_is_refused_to_a_stranger_as_if_there_were_no_case(self, case_at, carol, noon):
        with pytest.raises(NotFound):
            appealed(case_at("ruled"), carol, at=noon + 4 * DAY)

    @pytest.mark.parametrize("grounds", ["", "x" * 99, " " * 200, "x" * 5_001])
    def test_states_its_grounds(self, case_at, alice, noon, grounds):
        case = case_at("ruled")

        with pytest.raises(Invalid) as refusal:
            appeals.file(case.id, appellant=alice, grounds=grounds, at=noon + 4 * DAY)

        assert refusal.value.errors[0].pointer == "/grounds"
        assert Dispute.objects.get().state == "ruled"

    @pytest.mark.parametrize("grounds", ["x" * 100, "x" * 5_000])
    def test_may_be_as_short_and_as_long_as_that(self, case_at, alice, noon, grounds):
        assert appeals.file(case_at("ruled").id, appellant=alice, grounds=grounds, at=noon + 4 * DAY)

    @pytest.mark.parametrize(
        ("terms", "given", "may"),
        [
            ({}, {"decision": Decision(seller_bps=3_000, bond_to="seller")}, {"client", "seller"}),
            ({}, {"decision": Decision(seller_bps=10_000, bond_to="seller")}, {"client"}),
            ({}, {"decision": Decision(seller_bps=0, bond_to="seller")}, {"seller"}),
            ({}, {"decision": Decision(seller_bps=0, bond_to="seller", redo=True)}, {"client", "seller"}),
            (
                {},
                {"decision": Decision(seller_bps=0, bond_to="seller", deposit="other_side")},
                {"seller"},
            ),  # the first case costs no deposit
        ],
    )
    def test_is_for_whoever_did_not_get_what_it_asked_for(
        self, case_at, moderator, alice, bob, noon, terms, given, may
    ):
        case = ruled(case_at("under_review", **terms), moderator, at=noon + 3 * DAY, **given)

        for side, agent in (("client", alice), ("seller", bob)):
            allowed = lifecycle.Action.APPEAL in lifecycle.available(
                case, lifecycle.who_of(agent, case), noon + 4 * DAY
            )
            assert allowed == (side in may), side


class TestDeposit:
    """The same rule as for opening a case: what the first of either costs is nothing."""

    def due(self, case, agent, noon):
        appealed(case, agent, at=noon + 4 * DAY)
        appeal = Appeal.objects.get()
        return appeal.deposit_due_units, appeal.deposit_held_units

    def test_is_nothing_for_whoever_never_brought_anything(self, case_at, bob, noon):
        assert self.due(case_at("ruled"), bob, noon) == (0, 0)

    def test_is_held_from_whoever_opened_a_case_for_nothing(self, case_at, alice, balance_of, noon):
        case = case_at("ruled")
        before = balance_of("available", alice)

        assert self.due(case, alice, noon) == (1_000_000, 1_000_000)
        assert balance_of("available", alice) == before - 1_000_000
        assert balance_of("dispute_deposit", f"dispute:{case.pk}:appeal") == 1_000_000

    def test_is_two_per_cent_of_a_larger_price(self, case_at, alice, noon):
        assert self.due(case_at("ruled", price=99_000_000), alice, noon) == (1_980_000, 1_980_000)

    def test_costs_a_later_case_of_the_appellant(self, case_at, job_at, bob, noon):
        appealed(case_at("ruled"), bob, at=noon + 4 * DAY)
        case = case_at(job=job_at("revising"), opener=bob)

        assert case.deposit_due_units == 1_000_000

    def test_of_an_owner_counts_what_their_other_agents_brought(self, case_at, make_agent, alice, bob, noon):
        owner = User.objects.create(username="olga")
        case = case_at("ruled")
        for agent in (alice, bob):  # as if the seller's owner had opened the case
            Agent.objects.filter(pk=agent.pk).update(owner=owner)
        bob.refresh_from_db()

        assert self.due(case, bob, noon)[0] == 1_000_000

    def test_is_doubled_after_two_losses(self, case_at, job_at, alice, moderator, noon):
        for _ in range(2):
            lost = ruled(
                case_at("under_review", job=job_at()), moderator, at=noon + 3 * DAY,
                decision=Decision(seller_bps=10_000, bond_to="seller"),
            )  # fmt: skip
            assert deadlines.enforce(lost.pk, at=noon + 5 * DAY).lost_by == "client"
        case = ruled(case_at("under_review", job=job_at()), moderator, at=noon + 5 * DAY)

        case = appealed(case, alice, at=noon + 6 * DAY)

        assert case.appeal.deposit_due_units == 2_000_000

    def test_is_held_as_far_as_the_balance_reaches_the_rest_taken_from_the_share(
        self, case_at, alice, bob, senior, balance_of, noon
    ):
        case = case_at("ruled")
        spend_all_but(alice, 300_000, noon)
        assert self.due(case, alice, noon) == (1_000_000, 300_000)
        before = balance_of("available", bob)

        case.refresh_from_db()
        appeals.uphold(case.id, senior=senior, revision=case.revision, reasons=REASONS, at=noon + 5 * DAY)

        assert balance_of("available", bob) == before + 14_850_000 + 1_000_000
        assert balance_of("available", alice) == 35_000_000 - 700_000

    def test_comes_back_if_nobody_decides(self, case_at, alice, balance_of, noon):
        case = case_at("appealed")
        before = balance_of("available", alice)

        deadlines.enforce(case.pk, at=noon + 30 * DAY)  # the last day: as the end of its own time

        appeal = Appeal.objects.get()
        assert (appeal.outcome, appeal.deposit_went) == ("lapsed", "back")
        assert balance_of("available", alice) == before + 35_000_000 + 1_000_000

    def test_goes_to_the_other_side_if_the_appellant_fares_no_better(self, case_at, senior, bob, balance_of, noon):
        case = case_at("appealed")  # by the client, against 30 %
        before = balance_of("available", bob)

        replaced(case, senior, at=noon + 5 * DAY, decision=Decision(seller_bps=4_000, bond_to="seller"))

        assert balance_of("available", bob) == before + 19_800_000 + 1_000_000
        assert Appeal.objects.get().deposit_went == "other_side"

    def test_counts_against_the_caps_of_the_token(self, case_at, alice, noon):
        case = case_at("ruled")
        token, _ = tokens.mint(alice, scopes=["disputes:write"], max_per_day_units=999_999)

        with pytest.raises(spending.SpendingCapExceeded), transaction.atomic():
            appeals.file(case.id, appellant=alice, grounds=GROUNDS, token=token, at=noon + 4 * DAY)

        assert Dispute.objects.get().state == "ruled"
        assert not Appeal.objects.exists()

    def test_goes_with_a_redo(self, case_at, senior, alice, bob, balance_of, noon):
        case = case_at("appealed")
        before = balance_of("available", bob)

        case = replaced(case, senior, at=noon + 5 * DAY, decision=Decision(seller_bps=0, bond_to="seller", redo=True))

        assert case.state == "final"
        assert Job.objects.get().state == "revising"
        assert balance_of("available", bob) == before + 1_000_000  # a redo is as good as 50 % to the client, who had 70
        assert balance_of("dispute_deposit", f"dispute:{case.pk}:appeal") == 0


def spend_all_but(agent: Agent, units: int, noon) -> None:
    rest = ledger.balance("available", str(agent.id)) - units
    moves = [ledger.Move("available", str(agent.id), -rest), ledger.Move("custody", "chain:31337", rest)]
    ledger.post("test:spent", kind="withdrawal", moves=moves, at=noon)


class TestUphold:
    def test_carries_the_first_ruling_out(self, case_at, senior, alice, bob, balance_of, noon):
        case = case_at("appealed")
        before = {agent: balance_of("available", agent) for agent in (alice, bob)}

        case = appeals.uphold(
            case.id, senior=senior, revision=case.revision, reasons=REASONS, private_notes="Weak.", at=noon + 5 * DAY
        )

        assert (case.state, case.lost_by) == ("final", "seller")
        # the appeal cost alice 1 USDC, her second deposit: the first was free
        assert balance_of("available", bob) - before[bob] == 14_850_000 + 1_000_000
        assert balance_of("available", alice) - before[alice] == 35_000_000
        appeal = Appeal.objects.get()
        assert (appeal.outcome, appeal.decided_by, appeal.reasons) == ("upheld", senior, REASONS)
        assert (appeal.private_notes, appeal.deposit_went) == ("Weak.", "other_side")
        assert Ruling.objects.get().standing == "standing"


class TestReplace:
    def test_decides_otherwise_for_good(self, case_at, senior, alice, bob, balance_of, noon):
        case = case_at("appealed")
        before = {agent: balance_of("available", agent) for agent in (alice, bob)}

        case = replaced(case, senior, at=noon + 5 * DAY)

        assert case.state == "final"
        assert balance_of("available", bob) == before[bob]
        assert balance_of("available", alice) - before[alice] == 50_000_000 + 1_000_000
        first, second = Ruling.objects.order_by("number")
        assert (first.standing, second.standing, second.on_appeal) == ("replaced", "standing", True)
        assert (second.author, second.seller_bps, second.appeal_deposit) == (senior, 0, "back")
        appeal = Appeal.objects.get()
        assert (appeal.outcome, appeal.decided_by, appeal.deposit_went) == ("replaced", senior, "back")
        assert Transfer.objects.filter(reference=f"job:{case.job_id}:close").count() == 1

    def test_takes_a_second_senior_where_a_ruling_would(self, case_at, senior, make_senior, moderator, noon):
        case = replaced(case_at("appealed"), senior, at=noon + 5 * DAY, **PROPOSED)
        assert case.state == "appealed"
        assert list(Ruling.objects.order_by("number").values_list("standing", flat=True)) == ["standing", "proposed"]

        with pytest.raises(NotAllowed):
            approvals.approve(case.id, approver=senior, revision=case.revision, at=noon + 5 * DAY)
        with pytest.raises(lifecycle.TransitionNotAllowed):  # one proposal at a time
            replaced(case, senior, at=noon + 5 * DAY)
        with pytest.raises(NotAllowed):
            approvals.approve(case.id, approver=moderator, revision=case.revision, at=noon + 5 * DAY)
        case = approvals.approve(case.id, approver=make_senior("ada"), revision=case.revision, at=noon + 5 * DAY)

        assert case.state == "final"
        assert list(Ruling.objects.order_by("number").values_list("standing", flat=True)) == ["replaced", "standing"]
        assert Appeal.objects.get().outcome == "replaced"


class TestLapse:
    def test_carries_the_first_ruling_out(self, case_at, noon):
        case = case_at("appealed")

        case = deadlines.enforce(case.pk, at=noon + 7 * DAY)

        assert case.state == "final"
        appeal = Appeal.objects.get()
        assert (appeal.outcome, appeal.decided_by, appeal.deposit_went) == ("lapsed", None, "back")

    def test_puts_away_what_was_proposed(self, case_at, senior, noon):
        case = replaced(case_at("appealed"), senior, at=noon + 5 * DAY, **PROPOSED)

        case = deadlines.enforce(case.pk, at=noon + 7 * DAY)

        assert case.state == "final"
        assert list(Ruling.objects.order_by("number").values_list("standing", flat=True)) == ["standing", "replaced"]


class TestBond:
    def test_touched_on_appeal_takes_two_seniors(self, case_at, job_at, alice, moderator, make_moderator, senior, noon):
        case = case_at("under_review", job=job_at(seller_bond=1_000_000))
        taken = {"decision": Decision(seller_bps=3_000, bond_to="client")}
        case = ruled(case, moderator, at=noon + 3 * DAY, **taken)
        case = approvals.approve(case.id, approver=make_moderator("max"), revision=case.revision, at=noon + 3 * DAY)
        case = appealed(case, alice, at=noon + 4 * DAY)

        case = replaced(case, senior, at=noon + 5 * DAY)  # gives the bond back

        assert case.state == "appealed"
        assert Ruling.objects.get(standing="proposed").needs_approval


class TestFindingThatTookTwo:
    """One person alone does not undo what two found."""

    @pytest.mark.parametrize(
        "found",
        [
            {"decision": Decision(seller_bps=3_000, bond_to="seller", deposit="penalties")},
            {"reason_codes": ["fraud", "not_as_agreed"]},
        ],
        ids=["frivolous", "fraud"],
    )
    def test_undone_on_appeal_takes_two_seniors(
        self, case_at, alice, moderator, make_moderator, senior, make_senior, noon, found
    ):
        case = ruled(case_at("under_review"), moderator, at=noon + 3 * DAY, **found)
        case = approvals.approve(case.id, approver=make_moderator("max"), revision=case.revision, at=noon + 3 * DAY)
        case = appealed(case, alice, at=noon + 4 * DAY)

        case = replaced(case, senior, at=noon + 5 * DAY)

        assert case.state == "appealed"
        case = approvals.approve(case.id, approver=make_senior("ada"), revision=case.revision, at=noon + 5 * DAY)
        assert (case.state, case.deposit_went) == ("final", "back")
