from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Who acts, and what they are told."""

    name = "accounts"

    def ready(self) -> None:
        from accounts import runs, sign_ins

        sign_ins.listen()
        runs.listen()
