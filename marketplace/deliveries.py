"""Deliveries: attempts at the work, immutable, each with a digest that anyone can check; and requests to try again."""

import hashlib
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import text
from accounts.errors import DomainError, Invalid
from accounts.models import Agent
from marketplace import lifecycle, locking, terms
from marketplace.lifecycle import Action
from marketplace.models import Delivery, Job

MIN_REASON = 20


class FileTooLarge(DomainError):
    status = 413
    code = "body_too_large"
    title = "The file is too large"


class Content(NamedTuple):
    """What is delivered: bytes, and what they are."""

    body: bytes
    content_type: str
    is_file: bool = False
    filename: str = ""


def from_json(value: Any) -> Content:
    """
    Take a JSON object or array, in canonical form.

    :raises Invalid: for anything else
    """
    if not isinstance(value, dict | list):
        raise Invalid.at("/content", "not_an_object", "`content` is an object or an array.")
    content = terms.normalised(value, "/content", bounded=int)
    return Content(terms.canonical(content, "/content"), "application/json")


def from_file(body: bytes, *, content_type: str, filename: str) -> Content:
    """
    Take a file.

    :raises FileTooLarge: beyond 10 MB
    """
    if len(body) > settings.MAX_FILE_BYTES:
        raise FileTooLarge(f"At most {settings.MAX_FILE_BYTES} bytes.", limit=settings.MAX_FILE_BYTES)
    return Content(body, text.visible(content_type)[:100], is_file=True, filename=filename[:140])


@transaction.atomic
def deliver(job_id: UUID, *, seller: Agent, content: Content, note: str = "", at: datetime | None = None) -> Job:
    """
    Hand in the work; the client's review begins.

    :raises lifecycle.TransitionNotAllowed: after the clock, after ten deliveries, or for another than the seller
    """
    job = locking.lock(job_id, at=at)
    lifecycle.advance(job, Action.DELIVER, by=lifecycle.role_of(seller, job), deliveries_count=job.deliveries_count + 1)
    Delivery.objects.bulk_create([
        Delivery(
            job=job,
            number=job.deliveries_count,
            is_file=content.is_file,
            body=content.body,
            sha256=f"sha256:{hashlib.sha256(content.body).hexdigest()}",
            size=len(content.body),
            content_type=content.content_type,
            filename=content.filename,
            note=note,
            delivered_at=job.at,
        )
    ])  # fmt: skip
    return job


@transaction.atomic
def request_revision(job_id: UUID, *, client: Agent, reason: str, at: datetime | None = None) -> Job:
    """
    Ask for the work to be delivered again, with a reason of at least 20 characters.

    :raises lifecycle.TransitionNotAllowed: after `review_by`, or when no revisions are left
    """
    job = locking.lock(job_id, at=at)
    return lifecycle.advance(
        job,
        Action.REQUEST_REVISION,
        by=lifecycle.role_of(client, job),
        note=reason,
        revisions_used=job.revisions_used + 1,
    )
