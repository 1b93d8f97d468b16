"""
Terms: what both sides agree to, one immutable JSON object known by its hash.

`terms_hash` is "sha256:" and the hex SHA-256 of the canonical JSON (RFC 8785), in which every default is written out,
strings are in NFC and money has six digits; so whoever means the same terms computes the same hash.
"""

import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Any

import rfc8785
from django.conf import settings
from rest_framework import serializers

from accounts.edge import fields
from accounts.errors import Invalid, NotAvailable

MIN_PRICE_UNITS = 10_000
MAX_PRICE_UNITS = 1_000_000 * fields.UNITS_PER_USDC
YEAR, FORTNIGHT, DAY = 31_536_000, 1_209_600, 86_400
MAX_TITLE = 140
MAX_REQUIREMENTS_BYTES = 16 * 1024
MAX_REQUIREMENTS_DEPTH = 16
MAX_SAFE_INTEGER = 2**53 - 1


class Acceptance(fields.Strict):
    """How the delivery is accepted: by the client's review, or (later) by checks."""

    mode = serializers.ChoiceField(choices=["review", "checks"])
    checks = serializers.ListField(child=fields.JsonObject(), required=False, min_length=1, max_length=20)
    approve_on_pass = fields.Truth(required=False)


class TermsBody(fields.Strict):
    """Terms as an agent sends them."""

    price = fields.MoneyField(min_units=MIN_PRICE_UNITS, max_units=MAX_PRICE_UNITS)
    title = fields.Text(min_length=1, max_length=MAX_TITLE)
    requirements = fields.JsonObject(required=False)
    delivery_seconds = fields.Whole(min_value=1, max_value=YEAR)
    review_seconds = fields.Whole(required=False, min_value=1, max_value=FORTNIGHT)
    max_revisions = fields.Whole(required=False, min_value=0, max_value=3)
    revision_seconds = fields.Whole(required=False, min_value=1, max_value=FORTNIGHT)
    seller_bond = fields.MoneyField(required=False, max_units=MAX_PRICE_UNITS)
    client_abort_fee = fields.MoneyField(required=False, max_units=MAX_PRICE_UNITS)
    reveal = serializers.ChoiceField(choices=["on_delivery", "on_payment"], required=False)
    acceptance = Acceptance(required=False)
    fee_bps = fields.Bps(required=False)


class AgreedTerms(serializers.Serializer):
    """Terms as they are stored and hashed: every field is there."""

    price = serializers.CharField()
    title = serializers.CharField()
    requirements = serializers.DictField()
    delivery_seconds = serializers.IntegerField()
    review_seconds = serializers.IntegerField()
    max_revisions = serializers.IntegerField()
    revision_seconds = serializers.IntegerField()
    seller_bond = serializers.CharField()
    client_abort_fee = serializers.CharField()
    reveal = serializers.CharField()
    acceptance = serializers.DictField()
    fee_bps = serializers.IntegerField()


@dataclass(frozen=True)
class Terms:
    """Checked terms: the numbers for the job's columns, the document, its hash."""

    price_units: int
    bond_units: int
    client_abort_fee_units: int
    delivery_seconds: int
    review_seconds: int
    revision_seconds: int
    max_revisions: int
    fee_bps: int
    document: dict[str, Any]
    hash: str


def read(given: dict[str, Any]) -> Terms:
    """
    Check a validated `TermsBody`, write out the defaults, and hash the result.

    :raises Invalid: with a pointer to what is out of bounds
    :raises NotAvailable: for acceptance by checks
    """
    price = given["price"]
    delivery_seconds = _at_least("delivery_seconds", given["delivery_seconds"], settings.MIN_DELIVERY_SECONDS)
    bond = _within_price("seller_bond", given.get("seller_bond", 0), price)
    abort_fee = _within_price("client_abort_fee", given.get("client_abort_fee", 0), price)
    acceptance = _acceptance(given.get("acceptance", {"mode": "review"}))
    document = {
        "price": fields.units_to_text(price),
        "title": given["title"],
        "requirements": given.get("requirements", {}),
        "delivery_seconds": delivery_seconds,
        "review_seconds": _at_least(
            "review_seconds", given.get("review_seconds", 3 * DAY), settings.MIN_REVIEW_SECONDS
        ),
        "max_revisions": given.get("max_revisions", 2),
        "revision_seconds": _at_least(
            "revision_seconds",
            given.get("revision_seconds", min(FORTNIGHT, max(DAY, delivery_seconds // 4))),
            settings.MIN_REVISION_SECONDS,
        ),
        "seller_bond": fields.units_to_text(bond),
        "client_abort_fee": fields.units_to_text(abort_fee),
        "reveal": _reveal(given.get("reveal", "on_delivery")),
        "acceptance": acceptance,
        "fee_bps": _fee_bps(given.get("fee_bps")),
    }
    document = normalised(document)
    _bounded_title(document["title"])
    _bounded_requirements(document["requirements"])
    return Terms(
        price_units=price,
        bond_units=bond,
        client_abort_fee_units=abort_fee,
        delivery_seconds=document["delivery_seconds"],
        review_seconds=document["review_seconds"],
        revision_seconds=document["revision_seconds"],
        max_revisions=document["max_revisions"],
        fee_bps=document["fee_bps"],
        document=document,
        hash=hash_of(document),
    )


def hash_of(document: dict[str, Any]) -> str:
    """Hash canonical terms."""
    return f"sha256:{hashlib.sha256(canonical(document)).hexdigest()}"


def canonical(value: Any, pointer: str = "/terms") -> bytes:
    """
    Write a value as canonical JSON (RFC 8785).

    :raises Invalid: for what has no canonical form, such as an integer beyond 2^53
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise Invalid.at(pointer, "not_canonical", f"This has no canonical JSON form: {error}.") from None


def normalised(value: Any, pointer: str = "/terms", *, bounded: Any = int | float) -> Any:
    """
    Bring every string and key to NFC.

    `bounded` are the types of number that may not go beyond 2^53. In terms these are floats too: a database and a
    reader may write 1e21 as an integer, and its hash would be another.

    :raises Invalid: if two keys become one, or a number is beyond 2^53
    """
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [normalised(item, f"{pointer}/{position}", bounded=bounded) for position, item in enumerate(value)]
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for key, item in value.items():
            name = unicodedata.normalize("NFC", key)
            if name in found:
                raise Invalid.at(f"{pointer}/{name}", "duplicate_key", "Two keys are equal after NFC normalisation.")
            found[name] = normalised(item, f"{pointer}/{name}", bounded=bounded)
        return found
    if isinstance(value, bounded) and not isinstance(value, bool) and abs(value) > MAX_SAFE_INTEGER:
        raise Invalid.at(pointer, "integer_too_large", "Integers beyond 2^53 are not the same everywhere.")
    return value


def _at_least(name: str, value: int, bound: int) -> int:
    if value < bound:
        raise Invalid.at(f"/terms/{name}", "min_value", f"At least {bound}.")
    return value


def _within_price(name: str, units: int, price_units: int) -> int:
    if units > price_units:
        raise Invalid.at(f"/terms/{name}", "above_price", f"At most the price, {fields.units_to_text(price_units)}.")
    return units


def _acceptance(given: dict[str, Any]) -> dict[str, Any]:
    if given["mode"] == "checks":
        raise NotAvailable.at("/terms/acceptance/mode", "not_available", "Acceptance by checks is not available yet.")
    if set(given) - {"mode"}:
        raise Invalid.at("/terms/acceptance", "checks_without_mode", "`checks` belong to the mode `checks`.")
    return {"mode": "review"}


def _reveal(given: str) -> str:
    if given == "on_payment":
        raise Invalid.at("/terms/reveal", "needs_checks", "`on_payment` needs the acceptance mode `checks`.")
    return given


def _fee_bps(given: int | None) -> int:
    if given is not None and given != settings.FEE_BPS:
        raise Invalid.at("/terms/fee_bps", "fee_differs", f"The platform's fee is {settings.FEE_BPS} basis points.")
    return settings.FEE_BPS


def _bounded_title(title: str) -> None:
    if len(title) > MAX_TITLE:  # NFC makes two characters of some
        raise Invalid.at("/terms/title", "max_length", f"At most {MAX_TITLE} characters, in NFC.")


def _bounded_requirements(requirements: dict[str, Any]) -> None:
    if len(canonical(requirements, "/terms/requirements")) > MAX_REQUIREMENTS_BYTES:
        raise Invalid.at("/terms/requirements", "too_large", f"At most {MAX_REQUIREMENTS_BYTES} bytes, canonical.")
    if depth_of(requirements) > MAX_REQUIREMENTS_DEPTH:
        raise Invalid.at("/terms/requirements", "too_deep", f"At most {MAX_REQUIREMENTS_DEPTH} levels.")


def depth_of(value: Any) -> int:
    """Count levels of nesting; a plain value has none."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max((depth_of(item) for item in inner), default=0)
    return 0
