"""What staff type to find a case or an agent: a handle, an id, or the end of one as the pages show it."""

import re
from uuid import UUID

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast, Reverse

from accounts.models import Agent
from disputes.models import Dispute

AGENTS = 200  # whose handles begin alike: more is no search
_END = re.compile(r"[0-9a-f]{4,12}")
_HANDLE = re.compile(r"[a-z0-9-]{1,39}")


def identifier(text: str) -> UUID | None:
    """Read a whole id."""
    try:
        return UUID(text)
    except ValueError:
        return None


def cases(found: QuerySet[Dispute], text: str) -> QuerySet[Dispute]:
    """Keep the cases with this id or job id, whole or its end, and those of an agent whose handle begins so."""
    text = _read(text)
    if whole := identifier(text):
        return found.filter(Q(pk=whole) | Q(job_id=whole))
    if not _HANDLE.fullmatch(text):
        return found.none()
    begins = Agent.objects.filter(handle__startswith=text).order_by("handle")
    # Read first: the indexes of both parties are not used for the agents of another query.
    parties = list(begins.values_list("pk", flat=True)[:AGENTS])
    which = Q(client_id__in=parties) | Q(seller_id__in=parties)
    if _END.fullmatch(text):
        found = found.alias(end=_turned("id"), job_end=_turned("job_id"))
        which |= Q(end__startswith=text[::-1]) | Q(job_end__startswith=text[::-1])
    return found.filter(which)


def agents(found: QuerySet[Agent], text: str) -> QuerySet[Agent]:
    """Keep the agents whose handle begins so, or the one with this id."""
    text = _read(text)
    if whole := identifier(text):
        return found.filter(pk=whole)
    return found.filter(handle__startswith=text) if _HANDLE.fullmatch(text) else found.none()


def _turned(column: str) -> Reverse:
    """An id written backwards: an index finds beginnings alone."""
    return Reverse(Cast(column, TextField()))


def _read(text: str) -> str:
    return text.strip().lower().lstrip("…")
