"""Cases change hands at once: real commits, eight threads behind a barrier."""

from collections import Counter

import pytest

from accounts import clock
from disputes import assignment, conflicts
from disputes.models import Assignment, Dispute
from disputes.tests.conftest import DAY
from disputes.tests.test_races import won

pytestmark = pytest.mark.django_db(transaction=True)
REASON = "I know the person behind one of the agents."


@pytest.fixture
def noon():
    return clock.now() - 3 * DAY


@pytest.fixture
def twenty(case_at, job_at):
    return [case_at("under_review", job=job_at(price=5_000_000)) for _ in range(20)]


class TestTakeNext:
    def test_by_eight_at_once_gives_each_case_one_holder(self, twenty, make_moderator, race):
        people = [make_moderator(f"m{number}") for number in range(8)]

        def take_all(person):
            taken = []
            while True:
                try:
                    taken.append(assignment.take_next(moderator=person).pk)
                except assignment.NothingToTake:
                    return taken

        taken = won(race(*(lambda person=person: take_all(person) for person in people)))

        assert sorted(pk for found in taken for pk in found) == sorted(case.pk for case in twenty)
        for person, found in zip(people, taken, strict=True):
            assert set(Dispute.objects.filter(assigned_to=person).values_list("pk", flat=True)) == set(found)
        assert Assignment.objects.count() == 20


class TestAssignDue:
    def test_by_eight_sweeps_at_once_is_even_and_gives_each_case_once(self, twenty, make_moderator, race):
        for number in range(3):
            make_moderator(f"m{number}")

        won(race(*[lambda: assignment.assign_due(200)] * 8))

        held = Counter(Dispute.objects.values_list("assigned_to__username", flat=True))
        assert sorted(held.values()) == [5, 5, 5, 5]  # mona is there with the cases
        assert Assignment.objects.count() == 20

    def test_beside_eight_who_take_gives_each_case_once(self, twenty, make_moderator, race):
        people = [make_moderator(f"m{number}") for number in range(4)]

        won(
            race(
                *[lambda: assignment.assign_due(200)] * 4,
                *(lambda person=person: assignment.take_next(moderator=person) for person in people),
            )
        )

        assert Dispute.objects.filter(assigned_to=None).count() == 0
        assert Assignment.objects.count() == 20


class TestOneCase:
    def test_taken_by_ten_at_once_is_ones(self, case_at, make_moderator, race):
        case = case_at("under_review")
        people = [make_moderator(f"m{number}") for number in range(10)]

        assert len(won(race(*(lambda p=person: assignment.take(case.pk, moderator=p) for person in people)))) == 1
        assert Assignment.objects.count() == 1

    def test_recused_and_swept_at_once_never_comes_back(self, case_at, moderator, make_moderator, race):
        case = assignment.take(case_at("under_review").pk, moderator=moderator)
        make_moderator("max")

        won(
            race(
                *[lambda: assignment.recuse(case.pk, moderator=moderator, reason=REASON)] * 4,
                *[lambda: assignment.assign_due(10)] * 4,
            )
        )

        case.refresh_from_db()
        assert case.assigned_to.username == "max"
        assert Assignment.objects.filter(how="recused").count() == 1
        assert conflicts.found(moderator, case)
