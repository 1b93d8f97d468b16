"""How the console writes amounts, shares, times and strangers' text."""

import json
from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone

from accounts import text
from accounts.edge.fields import units_to_text
from disputes import filetypes

register = template.Library()


@register.filter
def usdc(units: int | None) -> str:
    """Write micro-USDC as USDC."""
    return "–" if units is None else units_to_text(units)


@register.filter
def signed_usdc(units: int) -> str:
    return f"+{units_to_text(units)}" if units > 0 else units_to_text(units).replace("-", "−")


_ACCOUNTS = {
    "job.hold": "Held price",
    "job.bond": "Held bond",
    "client.available": "Client",
    "seller.available": "Seller",
    "dispute.deposit": "Held deposit",
    "dispute.appeal_deposit": "Held deposit of the appeal",
    "platform.fees": "Platform fee",
    "platform.penalties": "Platform penalties",
}


@register.filter
def account_words(account: str) -> str:
    """Name an account of a preview for people."""
    return _ACCOUNTS.get(account, account)


@register.filter
def percent(bps: int | None) -> str:
    """Write basis points as per cent: 3050 → "30.5 %"."""
    return "–" if bps is None else f"{bps / 100:g} %"


@register.filter
def plain(said: Any) -> str:
    """Show a stranger's text as it is stored: hidden characters visible. Templates escape it as ever."""
    return text.visible(str(said))


@register.filter
def pretty(value: Any) -> str:
    return text.visible(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True))


@register.filter
def words(name: str) -> str:
    return str(name).replace("_", " ")


@register.filter
def moment(at: datetime | None) -> str:
    return "–" if at is None else at.strftime("%Y-%m-%d %H:%M:%S UTC")


@register.filter
def short_id(identifier: Any) -> str:
    """Show the random end of a UUIDv7: its beginning is the time, which neighbours share."""
    return str(identifier)[-6:]


@register.filter
def distance(at: datetime | None) -> str:
    """Say how far away a moment is: "in 3 h 20 min", "2 d ago", "now"."""
    if at is None:
        return "–"
    seconds = int((at - timezone.now()).total_seconds())
    if not seconds:
        return "now"
    span = duration(abs(seconds))
    return f"{span} ago" if seconds < 0 else f"in {span}"


@register.filter
def duration(seconds: int) -> str:
    """Write a span of seconds: "2 d 6 h"."""
    days, rest = divmod(seconds, 86_400)
    hours, minutes = rest // 3_600, rest % 3_600 // 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{seconds} s"


@register.filter
def hexed(digest: Any) -> str:
    return f"sha256:{bytes(digest).hex()}"


@register.filter
def is_nested(value: Any) -> bool:
    return isinstance(value, dict | list)


@register.filter
def meant(value: Any, field: str) -> str:
    """Say what a number of the terms means to people: seconds as a span, basis points as per cent."""
    if not isinstance(value, int):
        return ""
    return duration(value) if field.endswith("_seconds") else percent(value) if field.endswith("_bps") else ""


@register.filter
def is_picture(content_type: str) -> bool:
    """Tell whether a page shows this kind of file, encoded anew."""
    return content_type in filetypes.PICTURES


@register.filter
def numbered(noun: str, number: int) -> str:
    return f"{noun} {number}"


@register.filter
def item(mapping: dict[str, Any], name: str) -> Any:
    return mapping.get(name, "")


@register.filter
def light_words(light: str) -> str:
    """Say a colour in words, for who does not see it."""
    return {"late": "past its time", "soon": "more than half of the time used"}.get(light, "in time")
