"""Lists: keyset pages without counts, stable while rows are inserted."""

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

from django.db.models import Model, Q, QuerySet
from rest_framework.response import Response

from accounts.errors import Invalid

DEFAULT_LIMIT, MAX_LIMIT = 20, 100


def page(
    request: Any,
    rows: QuerySet[Any],
    *,
    render: Callable[[Any], dict[str, Any]],
    keys: Sequence[str] = ("-id",),
) -> Response:
    """
    Answer `{data, next_cursor}` for `?limit=&cursor=`.

    `keys` are fields in order, `-` for descending; the last one is unique (ids sort by time).
    """
    limit = limit_of(request)
    cursor = request.query_params.get("cursor")
    if cursor:
        rows = rows.filter(_beyond(keys, _opened(cursor, rows.model, keys)))
    found = list(rows.order_by(*keys)[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    return Response({
        "data": [render(row) for row in found],
        "next_cursor": _sealed([_value(found[-1], key) for key in keys]) if more else None,
    })  # fmt: skip


def limit_of(request: Any) -> int:
    given = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not (given.isascii() and given.isdigit() and len(given) <= 3 and 1 <= int(given) <= MAX_LIMIT):
        raise Invalid.at("/limit", "out_of_range", f"`limit` is 1 to {MAX_LIMIT}.")
    return int(given)


def _value(row: Any, key: str) -> str:
    value = getattr(row, key.lstrip("-"))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _sealed(values: list[str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def _opened(cursor: str, model: type[Model], keys: Sequence[str]) -> list[Any]:
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list) or len(values) != len(keys) or not all(isinstance(v, str) for v in values):
            raise ValueError
        return [_as_stored(model, key, value) for key, value in zip(keys, values, strict=True)]
    except Exception:  # whatever a made-up cursor breaks, it is the caller's
        raise Invalid.at("/cursor", "invalid_cursor", "Use a `next_cursor` of this list.") from None


def _as_stored(model: type[Model], key: str, value: str) -> Any:
    field = {field.name: field for field in model._meta.fields}.get(key.lstrip("-"))
    if field is None:  # a number that the query made up
        return int(value)
    stored = field.to_python(value)
    field.run_validators(stored)
    return stored


def _beyond(keys: Sequence[str], values: Sequence[Any]) -> Q:
    """Build (a, b) < (x, y) for keys of mixed direction."""
    beyond = Q()
    for position, key in enumerate(keys):
        equal = Q(**{k.lstrip("-"): v for k, v in zip(keys[:position], values[:position], strict=True)})
        side = "lt" if key.startswith("-") else "gt"
        beyond |= equal & Q(**{f"{key.lstrip('-')}__{side}": values[position]})
    return beyond
