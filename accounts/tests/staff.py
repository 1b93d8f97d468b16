"""Staff at the door, for tests: sessions that begin behind it, and codes that open it."""

from typing import Any

from django.test import Client
from django_otp import DEVICE_ID_SESSION_KEY
from django_otp.oath import totp as code_at
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import totp
from accounts.models import User


def sign_in(client: Client, user: User) -> Client:
    """Begin a session as after password and code; hashing a password for every test would take too long."""
    client.force_login(user)
    session = client.session
    session[DEVICE_ID_SESSION_KEY] = device_of(user).persistent_id
    session.save()
    return client


def device_of(user: User) -> TOTPDevice:
    return TOTPDevice.objects.filter(user=user).first() or totp.replace(user)


def code_of(user: User, *, steps: int = 0) -> str:
    """Read a person's authenticator, so many steps of 30 seconds from now."""
    return f"{code_at(device_of(user).bin_key, t0=-30 * steps):06d}"


def fresh_code_of(user: User) -> str:
    """Read a code that opens at once, also to somebody who used this step's already or mistyped one."""
    device = device_of(user)
    TOTPDevice.objects.filter(pk=device.pk).update(last_t=-1, throttling_failure_count=0)
    return code_of(user)


def fields_of(user: User, password: str, **given: Any) -> dict[str, str]:
    """Fill in the form of the page."""
    return {"username": user.username, "password": password, "otp_token": fresh_code_of(user)} | given


def sign_in_page(page: Any, live_server: Any, user: User | str, password: str, *, path: str = "/admin/") -> Any:
    """
    Sign in at a real browser with password and code, and stand on the page that was asked for.

    The person gets an authenticator if there is none.
    """
    if isinstance(user, str):
        user = User.objects.get(username=user)
    page.goto(f"{live_server.url}{path}")
    page.fill("#id_username", user.username)
    page.fill("#id_password", password)
    page.fill("#id_otp_token", fresh_code_of(user))
    page.click("input[type=submit]")
    page.wait_for_url(f"{live_server.url}{path}")
    return page
