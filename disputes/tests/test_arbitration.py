"""What moderators and time decide, and what that does to the money."""

import random
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from accounts import ids
from accounts.errors import Invalid, NotAllowed
from accounts.models import User
from disputes import arbitration, assignment, cases, conflicts, deadlines, decisions, evidence, lifecycle
from disputes.decisions import Decision
from disputes.models import Dispute, DisputeTransition, Evidence, Ruling
from disputes.tests.conftest import DAY, HOUR, STATEMENT, ruled
from escrow.models import Transfer
from marketplace import deliveries, jobs
from marketplace.models import Job

pytestmark = pytest.mark.django_db


class TestRule:
    def test_moves_no_money_until_it_is_final(self, case_at, alice, bob, moderator, balance_of, noon):
        case = case_at("under_review")
        before = [balance_of("available", agent) for agent in (alice, bob)]

        case = ruled(case, moderator, at=noon + 3 * DAY)
        assert [balance_of("available", agent) for agent in (alice, bob)] == before
        assert case.assigned_to == moderator
        arbitration.finalise(case.id, at=noon + 5 * DAY)

        # 30 % of 50 USDC less 1 % to the seller, 70 % to the client
        assert balance_of("available", bob) == before[1] + 14_850_000
        assert balance_of("available", alice) == before[0] + 35_000_000
        assert balance_of("fees") == 150_000
        assert Job.objects.get(pk=case.job_id).state == "resolved"

    def test_gives_bond_and_deposit_in_the_same_transfer(self, case_at, job_at, moderator, balance_of, bob, noon):
        case_at()
        case = case_at("under_review", job=job_at(seller_bond=5_000_000))
        ruled(
            case, moderator, at=noon + 3 * DAY,
            decision=Decision(seller_bps=10_000, bond_to="seller", deposit="other_side"),
        )  # fmt: skip
        before = balance_of("available", bob)

        arbitration.finalise(case.id, at=noon + 5 * DAY)

        assert balance_of("available", bob) == before + 49_500_000 + 5_000_000 + 1_000_000
        assert balance_of("dispute_deposit", case.deposit_key) == 0
        assert Transfer.objects.filter(reference=f"job:{case.job_id}:close").count() == 1
        assert Dispute.objects.get(pk=case.pk).deposit_went == "other_side"

    @pytest.mark.parametrize(
        ("given", "pointer"),
        [
            ({"decision": Decision(seller_bps=10_001, bond_to="seller")}, "/seller_bps"),
            ({"decision": Decision(seller_bps=-1, bond_to="seller")}, "/seller_bps"),
            ({"decision": Decision(seller_bps=0, bond_to="us")}, "/bond"),
            ({"decision": Decision(seller_bps=0, bond_to="seller", deposit="lost")}, "/deposit"),
            ({"reason_codes": []}, "/reason_codes"),
            ({"reason_codes": ["mood"]}, "/reason_codes"),
            ({"reasons": "I say so."}, "/reasons"),
            ({"reasons": " " * 400}, "/reasons"),
        ],
    )
    def test_refuses_what_it_must_not_say(self, case_at, moderator, noon, given, pointer):
        case = case_at("under_review")

        with pytest.raises(Invalid) as refusal:
            ruled(case, moderator, at=noon + 3 * DAY, **given)

        assert refusal.value.errors[0].pointer == pointer
        assert not Ruling.objects.exists()

    def test_needs_the_permission(self, case_at, noon):
        case = case_at("under_review")

        for user in (
            User.objects.create_user("nora", is_staff=True),
            User.objects.create_superuser("root", is_active=False),
        ):
            with pytest.raises(NotAllowed):
                ruled(case, user, at=noon + 3 * DAY)

    def test_needs_the_revision_that_was_read(self, case_at, moderator, noon):
        case = case_at("under_review")

        with pytest.raises(arbitration.CaseChanged):
            ruled(case, moderator, at=noon + 3 * DAY, revision=case.revision - 1)

    def test_is_the_colleagues_who_took_the_case(self, case_at, moderator, make_moderator, noon):
        case = assignment.take(case_at("under_review").id, moderator=moderator, at=noon + 3 * DAY)

        with pytest.raises(assignment.AssignedToAnother):
            ruled(case, make_moderator("max"), at=noon + 3 * DAY)
        with pytest.raises(assignment.AssignedToAnother):
            assignment.take(case.id, moderator=make_moderator("mia"), at=noon + 3 * DAY)

        assert ruled(case, moderator, at=noon + 3 * DAY).state == "ruled"


class TestConflictOfInterest:
    def refused(self, case, user, at):
        for act in (lambda: ruled(case, user, at=at), lambda: assignment.take(case.id, moderator=user, at=at)):
            with pytest.raises(conflicts.ConflictOfInterest):
                act()
        return True

    @pytest.mark.parametrize("side", ["alice", "bob"])
    def test_of_an_owner(self, case_at, moderator, noon, request, side):
        agent = request.getfixturevalue(side)
        case = case_at("under_review")
        type(agent).objects.filter(pk=agent.pk).update(owner=moderator)

        assert self.refused(case, moderator, noon + 3 * DAY)

    def test_of_one_whose_agent_traded_with_a_party(self, case_at, job_at, moderator, make_agent, noon):
        case = case_at("under_review")
        theirs = make_agent("monas-agent", owner=moderator)
        Job.objects.filter(pk=job_at("completed").pk).update(client=theirs)

        assert self.refused(case, moderator, noon + 3 * DAY)

    def test_of_nobody_else(self, case_at, moderator, make_agent, noon):
        make_agent("monas-agent", owner=moderator)

        assert ruled(case_at("under_review"), moderator, at=noon + 3 * DAY).state == "ruled"


class TestDefaultRuling:
    def ended(self, case, noon):
        deadlines.enforce(case.pk, at=case.hard_stop_at)
        return Ruling.objects.get(dispute=case)

    def opened(self, job, opener, noon):
        return cases.open(
            job.id, opener=opener, reason="other", statement=STATEMENT, requested_seller_bps=0, at=noon + HOUR
        )

    def test_is_as_an_abort_where_the_client_came_before_the_time_and_nothing_had(
        self, job_at, alice, bob, balance_of, noon
    ):
        job = job_at("in_progress", price=7_777_777, client_abort_fee=333_333, seller_bond=1_000_000)
        before = {agent.pk: balance_of("available", agent) for agent in (alice, bob)}

        ruling = self.ended(self.opened(job, alice, noon), noon)

        assert ruling.is_default
        assert "as if the client had aborted" in ruling.reasons
        assert ruling.seller_units == 333_333
        assert balance_of("available", bob) - before[bob.pk] == 333_333 - 3_333 + 1_000_000
        assert balance_of("available", alice) - before[alice.pk] == 7_777_777 - 333_333
        assert balance_of("fees") == 3_333

    def test_is_nothing_for_a_seller_who_never_delivered(self, job_at, bob, alice, balance_of, noon):
        job = job_at("in_progress", seller_bond=1_000_000)
        before = {agent.pk: balance_of("available", agent) for agent in (alice, bob)}

        ruling = self.ended(self.opened(job, bob, noon), noon)

        assert (ruling.seller_bps, ruling.reason_codes) == (0, ["not_delivered"])
        assert balance_of("available", alice) - before[alice.pk] == 50_000_000
        assert balance_of("available", bob) - before[bob.pk] == 1_000_000

    def test_is_halves_while_the_time_of_delivery_still_runs(self, job_at, bob, noon):
        job = job_at("in_progress", delivery_seconds=90 * 86_400)

        assert self.ended(self.opened(job, bob, noon), noon).seller_bps == 5_000

    @pytest.mark.parametrize(("state", "side"), [("delivered", "alice"), ("revising", "alice"), ("revising", "bob")])
    def test_is_halves_where_something_was_delivered(self, job_at, noon, request, state, side):
        ruling = self.ended(self.opened(job_at(state), request.getfixturevalue(side), noon), noon)

        assert (ruling.seller_bps, ruling.bond_to, ruling.deposit) == (5_000, "seller", "back")

    def test_is_all_for_the_seller_whose_checks_passed(self, case_at, noon):
        case = case_at()
        Dispute.objects.filter(pk=case.pk).update(checks_passed_at_opening=True)

        assert self.ended(case, noon).seller_bps == 10_000

    def test_is_no_loss_for_anybody(self, case_at, noon):
        case = case_at("under_review")
        deadlines.enforce(case.pk, at=noon + 30 * DAY)

        assert Dispute.objects.get(pk=case.pk).lost_by is None

    def test_gives_way_to_a_ruling_that_stands(self, case_at, settings, moderator, noon):
        settings.APPEAL_SECONDS = 90 * 86_400
        case = case_at("ruled")
        assert case.deadline_at == noon + 30 * DAY

        ruling = self.ended(case, noon)

        assert (ruling.is_default, ruling.seller_bps) == (False, 3_000)


class TestLostBy:
    @pytest.mark.parametrize(
        ("client_asked", "seller_asked", "ruled_bps", "lost"),
        [
            (0, 10_000, 3_000, "seller"),
            (0, 10_000, 7_000, "client"),
            (0, 10_000, 5_000, None),
            (4_000, 6_000, 10_000, "client"),
            (4_000, 6_000, 0, "seller"),
            (0, None, 6_000, "client"),
            (None, 10_000, 4_999, "seller"),
            (5_000, 5_000, 0, None),
        ],
    )
    def test_is_the_side_whose_request_is_further_away(self, client_asked, seller_asked, ruled_bps, lost):
        case = Dispute(requested_by_client_bps=client_asked, requested_by_seller_bps=seller_asked)

        assert decisions.lost_by(case, seller_bps=ruled_bps) == lost


class TestSplits:
    def test_of_ten_thousand_random_cases_sum_exactly(self):
        from escrow import holds

        rolled = random.Random(7)
        client, seller = UUID(int=1), UUID(int=2)
        for number in range(10_000):
            price = rolled.randint(10_000, 10**12)
            due = rolled.randint(0, price)
            opener, other = rolled.sample([client, seller], 2)
            dispute = SimpleNamespace(
                opened_by="client" if opener == client else "seller",
                hear_appeal_by=None,
                opener_id=opener,
                respondent_id=other,
                client_id=client,
                seller_id=seller,
                deposit_key=f"dispute:{number}:opening",
                deposit_due_units=due,
                deposit_held_units=(held := rolled.randint(0, due)),
                deposit_missing_units=due - held,
            )
            job = SimpleNamespace(
                hold_key="job:x",
                client_id=client,
                seller_id=seller,
                price_units=price,
                bond_units=rolled.choice([0, rolled.randint(1, price)]),
                fee_bps=rolled.randint(0, 10_000),
            )
            decision = Decision(
                seller_bps=rolled.randint(0, 10_000),
                bond_to=rolled.choice(["client", "seller"]),
                deposit=rolled.choice(["back", "other_side", "penalties"]),
            )

            moves = holds.closing_moves(decisions.closing(dispute, job, decision))

            assert sum(move.amount_units for move in moves) == 0
            gained = {move[:2]: move.amount_units for move in moves}
            for agent in (client, seller):
                assert gained.get(("available", str(agent)), 0) >= 0  # nobody is billed beyond its share
            assert gained.get(("hold", "job:x")) == -price
            assert gained.get(("bond", "job:x"), 0) == -job.bond_units
            assert gained.get(("dispute_deposit", dispute.deposit_key), 0) == -held


class TestWhatWasSaidStays:
    """Guards of the database itself."""

    def refuses(self, statement: str, *values) -> bool:
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, values)
        return True

    def test_evidence_is_neither_changed_nor_deleted(self, case_at, alice, noon):
        case = case_at()
        evidence.submit(case.id, by=alice, item=evidence.from_text("As it was."), at=noon + HOUR)

        assert self.refuses("UPDATE disputes_evidence SET content = 'As it were.'::bytea")
        assert self.refuses("UPDATE disputes_evidence SET content = NULL, by = 'seller'")
        assert self.refuses("DELETE FROM disputes_evidence")
        assert self.refuses("TRUNCATE disputes_evidence CASCADE")
        Evidence.objects.update(content=None)  # what retention does: the hashes stay
        assert self.refuses("UPDATE disputes_evidence SET content = 'As it were.'::bytea")

    def test_a_ruling_is_neither_changed_nor_deleted(self, case_at):
        case_at("ruled")

        assert self.refuses("UPDATE disputes_ruling SET seller_bps = 9999")
        assert self.refuses("UPDATE disputes_ruling SET reasons = reasons || '.'")
        assert self.refuses("DELETE FROM disputes_ruling")

    def test_the_time_line_is_append_only(self, case_at):
        case_at()

        assert self.refuses("UPDATE disputes_disputetransition SET by = 'moderator'")
        assert self.refuses("DELETE FROM disputes_disputetransition")

    def test_a_case_keeps_its_matter_and_stays_closed(self, case_at, job_at):
        case_at("evidence")

        assert self.refuses("UPDATE disputes_dispute SET statement_of_client = statement_of_client || '!'")
        assert self.refuses("UPDATE disputes_dispute SET requested_by_seller_bps = 1")
        assert self.refuses("UPDATE disputes_dispute SET deposit_held_units = 1, deposit_due_units = 1")
        assert self.refuses("DELETE FROM disputes_dispute")
        closed = case_at("withdrawn", job=job_at())
        assert self.refuses("UPDATE disputes_dispute SET state = 'final' WHERE id = %s", closed.pk)

    def test_a_job_has_one_live_case(self, case_at):
        case = case_at()
        case.pk = None
        case.id = ids.uuid7()

        with pytest.raises(IntegrityError, match="dispute_one_live_a_job"), transaction.atomic():
            case.save(force_insert=True)

    def test_the_chain_shows_a_changed_item(self, case_at, alice, bob, noon):
        case = case_at()
        for agent in (alice, bob, alice):
            evidence.submit(case.id, by=agent, item=evidence.from_text("Said."), at=noon + HOUR)
        assert evidence.broken_links(case) == []

        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute("UPDATE disputes_evidence SET by = 'client' WHERE number = 2")
            cursor.execute("SET LOCAL session_replication_role = DEFAULT")

        assert evidence.broken_links(case) == [2]


class TestTheSweep:
    @pytest.fixture
    def noon(self):
        from accounts import clock

        return clock.now() - 5 * DAY

    def test_takes_every_due_step_once(self, case_at, job_at):
        for _ in range(3):
            case_at("awaiting_answer", job=job_at())

        assert deadlines.enforce_due() == 3
        assert deadlines.enforce_due() == 0
        assert set(Dispute.objects.values_list("state", flat=True)) == {"under_review"}

    def test_goes_on_after_one_that_raises(self, case_at, job_at, monkeypatch):
        bad, good = case_at("awaiting_answer"), case_at("awaiting_answer", job=job_at())
        show_clock = cases.show_clock

        def sometimes(dispute, **given):
            if dispute.pk == bad.pk:
                raise RuntimeError("made for this test")
            show_clock(dispute, **given)

        monkeypatch.setattr(cases, "show_clock", sometimes)
        assert deadlines.enforce_due() == 1

        bad.refresh_from_db()
        good.refresh_from_db()
        assert (good.state, good.due_attempts) == ("under_review", 0)
        assert (bad.state, bad.due_attempts) == ("awaiting_answer", 1)
        assert bad.due_retry_at is not None
        assert not DisputeTransition.objects.filter(dispute=bad, action="go_unanswered").exists()
        monkeypatch.setattr(cases, "show_clock", show_clock)
        Dispute.objects.filter(pk=bad.pk).update(due_retry_at=None)
        assert deadlines.enforce_due() == 1

    def test_is_a_task(self):
        from disputes import tasks

        assert tasks.enforce_deadlines() is None


class TestAJobAfterwards:
    def test_a_withdrawn_case_lets_it_be_delivered_approved_and_paid(
        self, case_at, job_at, alice, bob, noon, balance_of
    ):
        job = job_at("in_progress")
        case = case_at("awaiting_answer", job=job)
        with pytest.raises(lifecycle.DomainError):
            deliveries.deliver(job.id, seller=bob, content=deliveries.from_json({}), at=noon + HOUR)

        cases.withdraw(case.id, by=alice, at=noon + HOUR)
        deliveries.deliver(job.id, seller=bob, content=deliveries.from_json({}), at=noon + HOUR)
        jobs.approve(job.id, client=alice, at=noon + HOUR)

        assert balance_of("hold", job) == 0

    def test_whose_clock_ran_out_meanwhile_fails_at_once(self, case_at, job_at, alice, noon):
        from marketplace import deadlines as job_deadlines

        job = job_at("in_progress")
        case = case_at("awaiting_answer", job=job)

        cases.withdraw(case.id, by=alice, at=noon + 2 * DAY)

        assert job_deadlines.enforce(job.id, at=noon + 2 * DAY).state == "failed"
