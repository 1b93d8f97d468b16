"""What the parties bring to a case: hostile input, stored as bytes, chained by hashes, never changed."""

import hashlib
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import rfc8785
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q, Sum

from accounts import text
from accounts.errors import DomainError, Invalid, NotFound
from accounts.models import Agent
from disputes import cases, filetypes, lifecycle
from disputes.lifecycle import Action
from disputes.models import Dispute, Evidence
from disputes.models.evidence import MAX_ITEM_BYTES, MAX_SIDE_BYTES, MAX_SIDE_ITEMS
from marketplace import terms

log = logging.getLogger(__name__)

START_OF_CHAIN = bytes(32)
MAX_NAME = 200


class EvidenceTooLarge(DomainError):
    status = 413
    code = "body_too_large"
    title = "This is more evidence than a side may bring"


class EvidenceFull(DomainError):
    code = "evidence_full"
    title = "This side has brought all the items it may"


class Item(NamedTuple):
    """What one item holds."""

    kind: str
    content: bytes
    content_type: str
    filename: str = ""


def from_text(written: str) -> Item:
    return Item(Evidence.Kind.TEXT, written.encode(), filetypes.TEXT.content_type)


def from_json(value: Any) -> Item:
    """
    Take any JSON value, in canonical form (RFC 8785).

    :raises Invalid: for what has none, such as an integer beyond 2^53
    """
    content = terms.canonical(terms.normalised(value, "/content"), "/content")
    return Item(Evidence.Kind.JSON, content, filetypes.JSON.content_type)


def from_file(content: bytes, filename: str) -> Item:
    """
    Take a file; its type is what its first bytes say, its name is kept for people, with hidden characters visible.

    :raises filetypes.UnsupportedFile: for anything but text, JSON, PDF, PNG, JPEG and ZIP
    :raises EvidenceTooLarge: beyond 10 MB; :raises Invalid: for nothing
    """
    if not content:
        raise Invalid.at("/file", "empty", "The file is empty.")
    _require_size(len(content))
    kind = filetypes.of(content, filename=filename)
    return Item(Evidence.Kind.FILE, content, kind.content_type, text.visible(filename)[:MAX_NAME])


@transaction.atomic
def submit(dispute_id: UUID, *, by: Agent, item: Item, at: datetime | None = None) -> Dispute:
    """
    Add an item to the case: at most 10 and 25 MB a side, 10 MB each.

    :raises lifecycle.TransitionNotAllowed: once evidence is closed
    :raises EvidenceFull: on the eleventh item
    :raises EvidenceTooLarge: beyond the bytes of an item or a side
    """
    dispute = lifecycle.lock(dispute_id)
    who, at = lifecycle.who_of(by, dispute), lifecycle.moment(at)
    role = lifecycle.role_named(dispute, who)
    lifecycle.rule_for(dispute, Action.SUBMIT_EVIDENCE, who, at)
    number = _next_number(dispute, role, len(item.content))
    lifecycle.advance(dispute, Action.SUBMIT_EVIDENCE, by=who, at=at, note=f"item {number}")
    row = Evidence(
        dispute=dispute,
        number=number,
        by=role,
        submitted_by=by,
        kind=item.kind,
        content_type=item.content_type,
        filename=item.filename,
        content=item.content,
        size=len(item.content),
        sha256=hashlib.sha256(item.content).digest(),
        submitted_at=at,
    )
    row.chain_hash = chained(_end_of_chain(dispute), row)
    row.save(force_insert=True)
    cases.tell("dispute.evidence_added", dispute, at, by=role, number=str(number), sha256=row.sha256.hex())
    return dispute


def read(dispute_id: UUID, number: int, *, by: Agent) -> Evidence:
    """
    Get an item for a party.

    :raises NotFound: for a stranger, an unknown number, or an item that retention has erased
    """
    dispute = Dispute.objects.filter(pk=dispute_id).first()
    if dispute is None:
        raise NotFound("There is no such case.")
    lifecycle.who_of(by, dispute)
    found = Evidence.objects.filter(dispute=dispute, number=number, content__isnull=False).first()
    if found is None:
        raise NotFound("There is no such item.")
    return found


def erase_due(limit: int = 200, *, at: datetime | None = None) -> int:
    """
    Erase what was brought to cases that closed `EVIDENCE_RETENTION_SECONDS` ago; return how many cases that were.

    The digests stay, and with them the chain. Each case is one transaction; safe to run twice at once.
    """
    at = lifecycle.moment(at)
    closed_by = at - timedelta(seconds=settings.EVIDENCE_RETENTION_SECONDS)
    due = Dispute.objects.filter(closed_at__lte=closed_by, evidence_erased_at=None).order_by("closed_at")
    return sum(_erased(dispute_id, at) for dispute_id in due.values_list("pk", flat=True)[:limit])


def chained(before: bytes, item: Evidence) -> bytes:
    """Digest an item together with the digest of the one before it, so that a later change of either shows."""
    described = rfc8785.dumps({
        "number": item.number,
        "by": str(item.by),
        "kind": str(item.kind),
        "content_type": item.content_type,
        "filename": item.filename,
        "size": item.size,
        "sha256": bytes(item.sha256).hex(),
        "submitted_at": item.submitted_at.astimezone(UTC).isoformat(timespec="microseconds"),
    })  # fmt: skip
    return hashlib.sha256(bytes(before) + described).digest()


def broken_links(items: Iterable[Any]) -> list[int]:
    """
    Name the items of a case, in their order, whose hashes are not what they must be.

    Where an item carries the SHA-256 of the bytes that are stored now (`digest`), that is compared too.
    """
    before, broken = START_OF_CHAIN, []
    for item in items:
        digest = getattr(item, "digest", None)
        changed = digest is not None and bytes(digest) != bytes(item.sha256)
        if changed or chained(before, item) != bytes(item.chain_hash):
            broken.append(item.number)
        before = bytes(item.chain_hash)
    return broken


def _require_size(size: int) -> None:
    if size > MAX_ITEM_BYTES:
        raise EvidenceTooLarge(f"An item has at most {MAX_ITEM_BYTES} bytes.", limit=MAX_ITEM_BYTES)


def _next_number(dispute: Dispute, role: str, size: int) -> int:
    _require_size(size)
    theirs = Q(by=role)
    held = Evidence.objects.filter(dispute=dispute).aggregate(
        all=Count("pk"), items=Count("pk", filter=theirs), size=Sum("size", filter=theirs, default=0)
    )
    if held["items"] >= MAX_SIDE_ITEMS:
        raise EvidenceFull(f"A side brings at most {MAX_SIDE_ITEMS} items.", limit=MAX_SIDE_ITEMS)
    if held["size"] + size > MAX_SIDE_BYTES:
        raise EvidenceTooLarge(f"A side brings at most {MAX_SIDE_BYTES} bytes.", limit=MAX_SIDE_BYTES)
    return held["all"] + 1


def _end_of_chain(dispute: Dispute) -> bytes:
    last = dispute.evidence.order_by("-number").values_list("chain_hash", flat=True).first()
    return bytes(last) if last is not None else START_OF_CHAIN


def _erased(dispute_id: UUID, at: datetime) -> bool:
    try:
        return _erase(dispute_id, at)
    except Exception:  # one case that raises must not stop the others
        log.exception("the evidence of case %s could not be erased", dispute_id)
        return False


@transaction.atomic
def _erase(dispute_id: UUID, at: datetime) -> bool:
    try:
        dispute = lifecycle.lock(dispute_id, skip_locked=True)
    except NotFound:
        return False
    if dispute.evidence_erased_at is not None:
        return False
    Evidence.objects.filter(dispute=dispute, content__isnull=False).update(content=None)
    dispute.evidence_erased_at = at
    dispute.save(update_fields=["evidence_erased_at"])
    return True
