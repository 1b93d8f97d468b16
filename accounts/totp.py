"""
The second thing staff sign in with: codes of a TOTP device (RFC 6238, SHA-1, 6 digits, 30 seconds).

django-otp keeps the secret and the last step used, counts failures, and doubles the wait after each.
"""

import base64

from django.db import transaction
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import audit
from accounts.models import User


@transaction.atomic
def replace(user: User) -> TOTPDevice:
    """Give a person a new device; codes of an earlier one, and sessions begun with it, end."""
    earlier, _ = TOTPDevice.objects.filter(user=user).delete()
    device = TOTPDevice.objects.create(user=user, name="authenticator")
    action = "staff.totp_replaced" if earlier else "staff.totp_given"
    audit.record(action, subject=f"user:{user.pk}", facts={"command": "create_staff"})
    return device


def withdraw(user: User) -> None:
    """Take a person's device away: nothing signs them in."""
    TOTPDevice.objects.filter(user=user).delete()


def has_device(user: User) -> bool:
    return TOTPDevice.objects.filter(user=user, confirmed=True).exists()


@transaction.atomic
def accept(user: User, code: str) -> TOTPDevice | None:
    """
    Use up a code: it opens once, to one of those who send it at the same time.

    Answers nothing for a wrong or used code, and for a person without a device.
    """
    device = TOTPDevice.objects.select_for_update().filter(user=user, confirmed=True).first()
    return device if device and device.verify_token(code) else None


def secret(device: TOTPDevice) -> str:
    """Write the secret as authenticators take it: base32."""
    return base64.b32encode(device.bin_key).decode()
