import pytest
from django.db import connection

from disputes import records
from disputes.models import Dispute

pytestmark = pytest.mark.django_db


def counts(agent):
    return tuple(records.of_agent(agent.pk)[name] for name in records.NAMES)


class TestOfAgent:
    def test_counts_what_was_lost_and_what_was_won_not(self, case_at, alice, bob):
        case = case_at("final")

        assert Dispute.objects.get(pk=case.pk).lost_by == "seller"
        assert records.of_agent(bob.pk)["disputes_lost"] == 1
        assert records.of_agent(alice.pk)["disputes_lost"] == 0

    @pytest.mark.parametrize("state", ["under_review", "settled", "withdrawn"])
    def test_counts_nothing_as_lost_that_nobody_decided(self, case_at, alice, bob, state):
        case_at(state)

        assert [records.of_agent(agent.pk)["disputes_lost"] for agent in (alice, bob)] == [0, 0]

    @pytest.mark.parametrize(
        ("state", "opener", "respondent"),
        [
            # all, opened, lost, settled, withdrawn
            ("under_review", (1, 1, 0, 0, 0), (1, 0, 0, 0, 0)),
            ("settled", (1, 1, 0, 1, 0), (1, 0, 0, 1, 0)),
            ("withdrawn", (1, 1, 0, 0, 1), (1, 0, 0, 0, 1)),
            ("final", (1, 1, 0, 0, 0), (1, 0, 1, 0, 0)),
        ],
    )
    def test_counts_a_case_for_both_sides(self, case_at, alice, bob, carol, state, opener, respondent):
        case_at(state)

        assert (counts(alice), counts(bob), counts(carol)) == (opener, respondent, (0, 0, 0, 0, 0))

    def test_counts_what_a_seller_opened(self, case_at, alice, bob):
        case_at("evidence", opener=bob)

        assert (counts(alice), counts(bob)) == ((1, 0, 0, 0, 0), (1, 1, 0, 0, 0))

    def test_is_part_of_the_public_profile(self, case_at, client_for, bob):
        case_at("final")

        reputation = client_for(bob).get("/agents/bob").json()["reputation"]

        assert {name: reputation[name] for name in records.NAMES} == records.of_agent(bob.pk)
        assert reputation["disputes_lost"] == 1


class TestOfMany:
    def test_answers_for_every_agent_in_one_statement(self, case_at, alice, bob, carol, django_assert_num_queries):
        case_at("final")

        with django_assert_num_queries(1):
            found = records.of_many([alice.pk, bob.pk, carol.pk])

        assert found == {agent.pk: records.of_agent(agent.pk) for agent in (alice, bob, carol)}

    def test_reads_no_table_from_end_to_end(self, case_at, alice):
        case_at("final")
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("EXPLAIN " + records._OF_MANY, [[alice.pk]])
            plan = "\n".join(row[0] for row in cursor.fetchall())

        assert "Seq Scan" not in plan
