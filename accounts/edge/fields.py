"""Fields of requests and answers, strict where DRF is obliging."""

import re
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

UNITS_PER_USDC = 1_000_000
_MONEY = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?")


def units_to_text(units: int) -> str:
    """Write micro-USDC as decimal USDC with six digits: 12500000 → "12.500000"."""
    sign, units = ("-", -units) if units < 0 else ("", units)
    return f"{sign}{units // UNITS_PER_USDC}.{units % UNITS_PER_USDC:06d}"


def units_from_text(text: str) -> int:
    """
    Read decimal USDC with one to six digits after the point as micro-USDC.

    :raises ValueError: for anything else
    """
    if not _MONEY.fullmatch(text):
        raise ValueError(text)
    whole, _, fraction = text.partition(".")
    return int(whole) * UNITS_PER_USDC + int(fraction.ljust(6, "0"))


class Strict(serializers.Serializer):
    """A body in which every field is known."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = [name for name in data if name not in self.fields]
            if unknown:
                raise serializers.ValidationError(
                    {
                        name: [serializers.ErrorDetail("There is no such field.", code="unknown_field")]
                        for name in unknown
                    }
                )
        return super().to_internal_value(data)


class Nothing(Strict):
    """An empty object."""


class Text(serializers.CharField):
    """Text, and not a number that could be written as text."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("trim_whitespace", False)
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Whole(serializers.IntegerField):
    """An integer, and not text, a float or a truth value that could be read as one."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return super().to_internal_value(data)


class Truth(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if type(data) is not bool:
            self.fail("invalid", input=data)
        return data


class Bps(Whole):
    """A share in basis points, 0–10,000."""

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, max_value=10_000, **options)


@extend_schema_field(
    {"type": "string", "pattern": r"^-?(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?$", "examples": ["12.500000"]}
)
class MoneyField(serializers.Field):
    """Decimal USDC as text outside, integer micro-USDC inside."""

    default_error_messages = {
        "not_text": 'Money is a string such as "12.500000", never a number.',
        "invalid_money": "Money has 1 to 6 digits after the point, no sign and no spaces.",
        "too_small": "At least {bound}.",
        "too_large": "At most {bound}.",
    }

    def __init__(self, *, min_units: int = 0, max_units: int = 10**18, **options: Any) -> None:
        self.min_units, self.max_units = min_units, max_units
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, str):
            self.fail("not_text")
        try:
            units = units_from_text(data)
        except ValueError:
            self.fail("invalid_money")
        if units < self.min_units:
            self.fail("too_small", bound=units_to_text(self.min_units))
        if units > self.max_units:
            self.fail("too_large", bound=units_to_text(self.max_units))
        return units

    def to_representation(self, value: int) -> str:
        return units_to_text(value)


@extend_schema_field({"type": "object", "additionalProperties": True})
class JsonObject(serializers.JSONField):
    default_error_messages = {"not_an_object": "A JSON object is needed."}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("not_an_object")
        return data
