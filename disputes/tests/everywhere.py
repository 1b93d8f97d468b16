"""Every page of the console, for tests that hold of all of them."""

from collections.abc import Iterator

from django.apps import apps
from django.contrib import admin
from django.urls import NoReverseMatch, reverse

from disputes.console import readonly
from disputes.tests.world import World

AGENT_VERBS = ("suspend", "reinstate", "limits")
TREASURY_VERBS = ("income", "switches/deposits/pause")


def pages(world: World) -> dict[str, str]:
    """Name the addresses of the pages that staff work with, those that ask before they act among them."""
    found = {
        "home": "/admin/",
        "queue": "/admin/cases/",
        "queue, living": "/admin/cases/?state=live",
        "queue, all": "/admin/cases/?state=all",
        "queue, nothing": "/admin/cases/?q=%3Cb%3Enothing",
        "take next": "/admin/cases/next/",
        "agents": "/admin/agents/",
        "agent, client": f"/admin/agents/{world.client.pk}/",
        "agent, seller": f"/admin/agents/{world.seller.pk}/",
        "treasury": "/admin/treasury/",
        "password": "/admin/password_change/",
        "declare an incident": "/admin/incidents/declare/",
    }
    found |= {f"case, {name}": f"/admin/cases/{case.pk}/" for name, case in world.cases.items()}
    for case, verb in (
        ("calm", "take"), ("mine", "recuse"), ("mine", "reassign"), ("mine", "question"),
        ("awaiting_approval", "approve"), ("awaiting_approval", "send_back"), ("appealed", "uphold"),
        ("replacing", "approve"),
    ):  # fmt: skip
        found[f"case, {verb} ({case})"] = reverse(f"admin:case_{verb}", args=[world.cases[case].pk])
    for verb in AGENT_VERBS:
        found[f"agent, {verb}"] = reverse(f"admin:agent_{verb}", args=[world.seller.pk])
    found |= {f"treasury, {verb}": f"/admin/treasury/{verb}/" for verb in TREASURY_VERBS}
    return found | _others()


def records() -> Iterator[str]:
    """List the pages of rows: each model's list, and one row of it where there is one."""
    for label in readonly.APPS:
        for model in apps.get_app_config(label).get_models():
            if not admin.site.is_registered(model):
                continue
            name = f"{model._meta.app_label}_{model._meta.model_name}"
            yield reverse(f"admin:{name}_changelist")
            row = model._default_manager.order_by("-pk").first()
            if row is not None:
                yield reverse(f"admin:{name}_change", args=[row.pk])


def _others() -> dict[str, str]:
    """Pages that have a place at the top of every page."""
    from disputes.console import links

    found = {}
    for name, page, _ in links.PAGES:
        try:
            found[name.lower()] = reverse(page)
        except NoReverseMatch:
            continue
    return found
