"""Columns of bytes: what the chain names things by. Never text, so that two spellings cannot be two things."""

from typing import Any

from django.db import models


class FixedBytes(models.BinaryField):
    """Exactly `length` bytes; the database checks it."""

    # What mypy's Django plugin takes a column's values for.
    _pyi_private_set_type: bytes
    _pyi_private_get_type: bytes

    def __init__(self, length: int, **options: Any) -> None:
        self.length = length
        super().__init__(max_length=length, **options)

    def deconstruct(self) -> Any:
        name, path, _, options = super().deconstruct()
        options.pop("max_length", None)
        return name, path, [self.length], options

    def from_db_value(self, value: Any, *_: Any) -> bytes | None:
        return None if value is None else bytes(value)

    def db_check(self, connection: Any) -> str:
        return f"octet_length({connection.ops.quote_name(self.column)}) = {self.length}"


class Address(FixedBytes):
    """20 bytes: an account or contract of the chain."""

    def __init__(self, length: int = 20, **options: Any) -> None:
        super().__init__(length, **options)


class Hash(FixedBytes):
    """32 bytes: a block, a transaction, a nonce of ERC-3009, a salt."""

    def __init__(self, length: int = 32, **options: Any) -> None:
        super().__init__(length, **options)
