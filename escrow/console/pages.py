"""The treasury page, and what it refreshes itself from."""

from __future__ import annotations

from datetime import datetime
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts import clock
from accounts.edge.fields import units_to_text
from accounts.models import Pause
from escrow.chain import network
from escrow.console import asking, figures, movements, words

# What the page replaces every few seconds; the chart and its table wait for a reload.
PARTS = ("figures", "alerts", "payouts", "deposits", "outflows", "switches", "purses", "relayers")


def for_treasury_staff(view: Any) -> Any:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.has_perm("escrow.view_treasury"):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


@for_treasury_staff
@require_GET
@never_cache
def treasury(request: HttpRequest) -> HttpResponse:
    """Show where all the money is."""
    at = clock.now()
    shown = _read(request.user, at)
    history = figures.history(shown["chain_id"], at=at) if shown["chain_id"] else []
    return asking.page(request, "admin/treasury/page.html", title="Treasury", history=history, **shown)


@for_treasury_staff
@require_GET
@never_cache
def live(request: HttpRequest) -> HttpResponse:
    """Answer the parts of the page as they are now, for the page to put in place."""
    at = clock.now()
    shown = _read(request.user, at)
    return JsonResponse(
        {
            "at": at.isoformat(),
            "summary": shown["summary"],
            "parts": {part: render_to_string(f"admin/treasury/{part}.html", shown, request) for part in PARTS},
        }
    )


def _read(user: Any, at: datetime) -> dict[str, Any]:
    """Gather what the parts show. The node is asked first, and for no longer than somebody likes to wait."""
    shown: dict[str, Any] = {
        "at": at,
        "chain_id": None,
        "figures": None,
        "why_nothing": "",
        "may_approve": user.has_perm("escrow.approve_withdrawal"),
        "may_pause": user.has_perm("accounts.set_pause"),
        "gas_minimum": settings.RELAYER_GAS_MINIMUM_WEI,
        "alerts": movements.alerts(),
        "cleared": movements.cleared_alerts(at),
        "switches": _switches(),
    }
    try:
        chain_id = shown["chain_id"] = network.current().chain_id
        shown["figures"] = figures.read(chain_id)
    except (network.NoChain, figures.NeverRead) as error:
        shown["why_nothing"] = str(error)
    shown |= _on_chain(shown["chain_id"], shown, at) if shown["chain_id"] else _NO_CHAIN
    shown["summary"] = _summary(shown)
    return shown


_NO_CHAIN = {
    "payouts": movements.NO_PAYOUTS,
    **dict.fromkeys(("deposits", "outflows", "relays"), movements.NONE),
}


def _on_chain(chain_id: int, shown: dict[str, Any], at: datetime) -> dict[str, Any]:
    now = shown["figures"]
    cursor = figures.cursor_of(chain_id)
    purses = figures.purses(chain_id, now)
    paused = next(switch["paused"] for switch in shown["switches"] if switch["flag"] == Pause.Flag.WITHDRAWALS)
    return {
        "cursor": cursor,
        "purses": purses,
        "relayers": figures.relayers(chain_id, now, at=at),
        "deposits": movements.deposits(chain_id, latest=cursor.latest_number if cursor else 0, at=at),
        "payouts": movements.payouts(
            chain_id,
            paused=paused,
            finalized=max(cursor.finalized_number if cursor else 0, now.block if now else 0),
            funds_units=next((purse.units for purse in purses if purse.role == "current"), None),
            at=at,
        ),
        "outflows": movements.unexplained(chain_id),
        "relays": movements.stuck_relays(chain_id, at),
    }


def _switches() -> list[dict[str, Any]]:
    rows = {row.flag: row for row in Pause.objects.select_related("by")}
    return [
        {
            "flag": flag,
            "name": name,
            "paused": bool(row and row.paused),
            "reason": row.reason if row else "",
            "cause": row.cause if row else "",
            "by": row.by.username if row and row.by else "",
            "changed_at": row.changed_at if row and row.revision else None,
        }
        for flag, (name, _) in words.FLAGS.items()
        for row in [rows.get(flag)]
    ]


def _summary(shown: dict[str, Any]) -> str:
    """Say in a sentence what matters; it is read aloud whenever it changes."""
    now, count = shown["figures"], shown["alerts"].count
    if now is None:
        said = "The chain was never read."
    elif now.why_old:
        said = "The figures are not live."
    elif now.agree:
        said = "Ledger and chain agree."
    elif now.shortfall_units:
        said = f"{units_to_text(now.shortfall_units)} USDC are missing."
    else:
        said = f"Ledger and chain differ by {units_to_text(now.difference_units)} USDC."
    said += f" {count} alert{'s' * (count != 1)}." if count else " No alert."
    paused = [switch["name"].lower() for switch in shown["switches"] if switch["paused"]]
    return said + (f" Paused: {', '.join(paused)}." if paused else "")
