"""How the report on moderators writes its figures."""

from datetime import timedelta

from django import template

from disputes.templatetags import console

register = template.Library()


@register.filter
def span(took: timedelta | None) -> str:
    """Write how long something took: "2 d 6 h"."""
    return "–" if took is None else console.duration(round(took.total_seconds()))


@register.filter
def share(part: float | None) -> str:
    return "–" if part is None else f"{part:.0%}".replace("%", " %")
