"""
`?preview=true`: what an action would do, and nothing done.

The action itself runs, with the same rules and the same money code, in a transaction that is rolled back.
"""

from collections.abc import Callable
from typing import Any

from django.db import transaction
from rest_framework.response import Response

from accounts.edge import problems
from accounts.edge.views import AgentView
from accounts.errors import DomainError, Invalid, NotFound, Unauthenticated
from escrow import ledger
from marketplace import effects
from marketplace.models import Job

# What is wrong with the request itself is refused as ever.
_REFUSED = (Invalid, NotFound, Unauthenticated)


class ActionView(AgentView):
    """An action on a job or a dispute; its handler leaves the job it touched in `self.job`."""

    previewable = True
    job: Job | None = None

    def preview(self, run: Callable[[], Response]) -> Response:
        try:
            with transaction.atomic(), ledger.recording() as moves:
                answer = run().data
                transaction.set_rollback(True)
        except _REFUSED:
            raise
        except DomainError as refusal:
            return Response(_refused(problems.document(refusal, self.request)))
        assert self.job is not None  # noqa: S101 (every handler sets it)
        return Response({
            "allowed": True,
            "refusal": None,
            "next_state": answer["state"],
            "effects": [effect.rendered() for effect in effects.named(self.job, moves)],
            "deadline": answer["deadline"],
        })  # fmt: skip


def _refused(problem: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": False, "refusal": problem, "next_state": None, "effects": [], "deadline": None}
