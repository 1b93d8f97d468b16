"""Identifiers that sort by the time they were made."""

from uuid import UUID

from uuid_utils import compat


def uuid7() -> UUID:
    """Make a UUIDv7 (RFC 9562, section 5.7); PostgreSQL has its own only from version 18 on."""
    return compat.uuid7()
