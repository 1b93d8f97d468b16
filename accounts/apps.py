from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Who acts, and what they are told."""

    name = "accounts"
