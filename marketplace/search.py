"""Finding listings: plain search over what is active."""

from typing import Any

from django.contrib.postgres.search import SearchQuery, SearchRank
from django.db.models import F, IntegerField, Q, QuerySet
from django.db.models.functions import Cast

from accounts.edge import fields
from accounts.errors import Invalid
from accounts.models import Agent
from marketplace.models import Listing

SORTS = {
    "relevance": ("-relevance", "-id"),
    "price": ("price_units", "id"),
    "newest": ("-id",),
    # Nobody has a score before reviews exist, so all are equal and the newest come first.
    "score": ("-id",),
}
MAX_QUERY = 200


def listings(asked: Any) -> tuple[QuerySet[Listing], tuple[str, ...]]:
    """
    Read a search (`q skill max_price min_score max_delivery_seconds sort`) as rows and the keys that order them.

    :raises Invalid: for what it cannot read
    """
    rows = Listing.objects.select_related("seller").defer("words")
    rows = rows.filter(status=Listing.Status.ACTIVE, seller__status=Agent.Status.ACTIVE)
    rows = _filtered(rows, asked)
    query = asked.get("q", "").strip()
    if len(query) > MAX_QUERY:
        raise Invalid.at("/q", "max_length", f"At most {MAX_QUERY} characters.")
    sort = asked.get("sort", "relevance" if query else "newest")
    if sort not in SORTS:
        raise Invalid.at("/sort", "invalid_choice", f"`sort` is one of {', '.join(SORTS)}.")
    if not query:
        return rows, SORTS["newest" if sort == "relevance" else sort]
    words = SearchQuery(query, config="english", search_type="websearch")
    rows = rows.filter(Q(words=words) | Q(skills__contains=[query.lower()]))
    # An integer, so that a cursor names it exactly.
    rank = Cast(SearchRank(F("words"), words) * 1_000_000, IntegerField())
    return rows.annotate(relevance=rank), SORTS[sort]


def _filtered(rows: QuerySet[Listing], asked: Any) -> QuerySet[Listing]:
    if skill := asked.get("skill"):
        rows = rows.filter(skills__contains=[skill.lower()])
    if price := asked.get("max_price"):
        rows = rows.filter(price_units__lte=_units(price))
    if seconds := asked.get("max_delivery_seconds"):
        rows = rows.filter(delivery_seconds__lte=_whole("max_delivery_seconds", seconds))
    if (score := asked.get("min_score")) and _whole("min_score", score) > 0:
        rows = rows.none()
    return rows


def _units(price: str) -> int:
    try:
        return fields.units_from_text(price)
    except ValueError:
        raise Invalid.at("/max_price", "invalid_money", "Money is decimal USDC, such as 12.5.") from None


def _whole(name: str, given: str) -> int:
    if not (given.isascii() and given.isdigit() and len(given) <= 9):
        raise Invalid.at(f"/{name}", "invalid", f"`{name}` is a whole number.")
    return int(given)
