"""
The pack of a case: a signed ZIP that proves itself, for the parties and for any court outside.

`case.json` (RFC 8785), the files of evidence and deliveries under names of ours, `manifest.json` with the SHA-256 of
each, and `manifest.sig`, the Ed25519 signature over the manifest's bytes. docs/verify_pack.py checks one. The same case
at the same revision gives the same bytes.
"""

import hashlib
import io
import tempfile
import zipfile
from collections.abc import Iterator
from typing import IO, Any

import rfc8785
from django.conf import settings

from accounts import documents
from accounts.errors import TryLater
from disputes import dossier
from disputes.models import Dispute, Evidence
from marketplace.models import Delivery

FORMAT = "bailee-case-pack/1"
# A ZIP knows no earlier time, and this one tells none.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_SPOOLED_BYTES = 1024 * 1024


def build(dispute: Dispute, *, for_role: str | None = None) -> bytes:
    """Make the pack of a case (see `written`) in memory: at most 50 MB of evidence and 100 MB of deliveries."""
    buffer = io.BytesIO()
    write(dispute, buffer, for_role=for_role)
    return buffer.getvalue()


def written(dispute: Dispute, *, for_role: str | None = None) -> IO[bytes]:
    """
    Make the pack of a case in a temporary file, one item in memory at a time, and wind it back to its beginning.

    `for_role` is the party that it is for: it holds what that party may see. None: for staff, and courts they serve.
    """
    file = tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES)  # noqa: SIM115 (whoever asked reads and closes it)
    write(dispute, file, for_role=for_role)
    file.seek(0)
    return file


def write(dispute: Dispute, file: IO[bytes], *, for_role: str | None = None) -> None:
    """
    Write the pack of a case into a file. No row is locked: what is packed never changes once it is there.

    :raises TryLater: if the case did not stand still, or its evidence was erased in between
    """
    case = dossier.read(dispute.pk, for_role=for_role)
    digests: dict[str, str] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as pack:
        for name, content in _members(dispute, case):
            _add(pack, name, content)
            digests[name] = hashlib.sha256(content).hexdigest()
        manifest = _manifest(case, digests, for_role)
        _add(pack, "manifest.json", manifest)
        _add(pack, "manifest.sig", documents.sign(manifest).signature)


def _members(dispute: Dispute, case: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Read the members one by one; the document first, which names the files that follow."""
    yield "case.json", rfc8785.dumps(case)
    items = Evidence.objects.filter(dispute=dispute).values_list("content", flat=True)
    deliveries = Delivery.objects.filter(job=dispute.job_id).values_list("body", flat=True)
    for described, rows in ((case["evidence"], items), (case["deliveries"], deliveries)):
        for row in described:
            if row["file"]:
                yield row["file"], _content(rows.get(number=row["number"]))


def _content(stored: Any) -> bytes:
    if stored is None:
        raise TryLater("The evidence is being erased: ask again.")
    return bytes(stored)


def _manifest(case: dict[str, Any], digests: dict[str, str], for_role: str | None) -> bytes:
    return rfc8785.dumps(
        {
            "format": FORMAT,
            "case_id": case["case"]["id"],
            "revision": case["case"]["revision"],
            "made_for": for_role or "staff",
            "files": digests,
            "key_id": documents.key_id(),
            "keys_at": f"https://{settings.DOMAIN}{documents.PUBLISHED_AT}",
        }
    )


def _add(pack: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, date_time=_NO_TIME)
    member.create_system = 3  # the same bytes on every system
    member.external_attr = 0o644 << 16
    pack.writestr(member, content)
