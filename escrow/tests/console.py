"""Pages of the console as people read and fill them in, without a browser."""

import re
from typing import Any

from django.test import Client
from django.urls import reverse

from accounts.models import User
from accounts.tests.staff import sign_in


def signed_in(user: User) -> Client:
    return sign_in(Client(), user)


def text_of(answer: Any) -> str:
    """What a person reads: tags away, spaces as one, thousands together."""
    text = answer.content.decode().replace("\u202f", "")
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def form_of(client: Client, url: str) -> dict[str, str]:
    """The hidden fields of a page that asks, as the browser would send them."""
    shown = client.get(url)
    assert shown.status_code == 200, shown.status_code
    return dict(re.findall(r'<input type="hidden" name="(key|revision)" value="([^"]*)"', shown.content.decode()))


def say_yes(client: Client, url: str, **given: str) -> Any:
    """Read the page that asks, give a reason, and send it; follow to where it leads."""
    return client.post(url, form_of(client, url) | {"reason": "As discussed.", "sure": "yes"} | given, follow=True)


def url_of(name: str, *given: Any) -> str:
    return reverse(f"admin:treasury_{name}", args=given)
