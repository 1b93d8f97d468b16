"""Who could have a case: staff with the permission, of their own or of a group, who have no stake in it."""

from collections.abc import Collection
from uuid import UUID

from django.db import connection
from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from accounts.models import User
from disputes import conflicts
from disputes.models import Dispute

RULES, HEARS_APPEALS, APPROVES = "disputes.rule", "disputes.hear_appeals", "disputes.approve"
# Several backends sign people in; this one knows their permissions.
_BACKEND = "django.contrib.auth.backends.ModelBackend"


def may(user: User, *permissions: str) -> bool:
    """Tell whether a person works here and may do this; a superuser may do everything."""
    return user.is_active and user.is_staff and user.has_perms(permissions)


def next_for(dispute: Dispute, *, permissions: Collection[str], without: Collection[UUID] = ()) -> User | None:
    """
    Find who has fewest open cases among those who have these permissions and no stake in the case.

    One assignment waits for the other here, so that each counts what the one before has given.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('disputes.assignment'))")
    people = in_turn(permissions).exclude(pk__in=without)
    return next((person for person in people if conflicts.found(person, dispute) is None), None)


def in_turn(permissions: Collection[str]) -> QuerySet[User]:
    """List who has all of these permissions, fewest open cases first; on a tie those who hear no appeals, by name."""
    people = User.objects.filter(is_active=True, is_staff=True)
    for permission in permissions:
        people = people.filter(Exists(_with(permission)))
    return people.annotate(
        open_cases=Count("cases", filter=Q(cases__closed_at=None)), hears_appeals=Exists(_with(HEARS_APPEALS))
    ).order_by("open_cases", "hears_appeals", "username")


def _with(permission: str) -> QuerySet[User]:
    """Those who were given a permission; being superuser gives nobody cases."""
    return User.objects.with_perm(permission, include_superusers=False, backend=_BACKEND).filter(pk=OuterRef("pk"))
