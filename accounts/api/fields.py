"""Fields of identity: keys, signatures, ids, networks and text that others will read."""

import ipaddress
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts import agents, signatures, text
from accounts.edge.fields import Text


def moment(at: datetime | None) -> str | None:
    """Write a time by RFC 3339, in UTC."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")


@extend_schema_field({"type": "string", "format": "uuid"})
class Id(Text):
    """A UUID in its usual form."""

    default_error_messages = {"invalid_id": "This is not an id."}

    def to_internal_value(self, data: Any) -> Any:
        given = super().to_internal_value(data)
        if not agents.ID.fullmatch(given):
            self.fail("invalid_id")
        return UUID(given)


_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


@extend_schema_field({"type": "string", "format": "date-time"})
class Moment(Text):
    """A time by RFC 3339, with its offset from UTC."""

    default_error_messages = {"invalid_moment": "A time is written as 2026-11-21T12:00:00Z (RFC 3339)."}

    def to_internal_value(self, data: Any) -> Any:
        given = super().to_internal_value(data)
        if not _MOMENT.fullmatch(given):
            self.fail("invalid_moment")
        try:
            return datetime.fromisoformat(given.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail("invalid_moment")


@extend_schema_field({"type": "string", "pattern": "^[A-Za-z0-9_-]{43}=?$"})
class PublicKey(Text):
    """Base64url of the 32 bytes of an Ed25519 public key."""

    default_error_messages = {"invalid_key": "{reason}"}

    def to_internal_value(self, data: Any) -> Any:
        try:
            return signatures.read_key(super().to_internal_value(data))
        except signatures.Malformed as error:
            self.fail("invalid_key", reason=error)


@extend_schema_field({"type": "string", "pattern": "^[A-Za-z0-9_-]{86}(==)?$"})
class Signature(Text):
    """Base64url of the 64 bytes of an Ed25519 signature over the UTF-8 bytes of the challenge's message."""

    default_error_messages = {"invalid_signature": "{reason}"}

    def to_internal_value(self, data: Any) -> Any:
        try:
            return signatures.read_signature(super().to_internal_value(data))
        except signatures.Malformed as error:
            self.fail("invalid_signature", reason=error)


class Shown(Text):
    """Text that people read: hidden characters are made visible, and count as what is shown."""

    def to_internal_value(self, data: Any) -> str:
        return text.visible(super().to_internal_value(data))

    def run_validation(self, data: Any = serializers.empty) -> Any:
        shown = super().run_validation(data)
        if isinstance(shown, str) and self.max_length is not None and len(shown) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return shown


class Network(Text):
    """An IPv4 or IPv6 network, such as 192.0.2.0/24, or one address."""

    default_error_messages = {"invalid_network": "This is no network: an address, or one with its prefix length."}

    def to_internal_value(self, data: Any) -> str:
        given = super().to_internal_value(data)
        try:
            return str(ipaddress.ip_network(given))
        except ValueError:
            self.fail("invalid_network")
