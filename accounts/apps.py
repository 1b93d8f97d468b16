from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Who acts, and what they are told."""

    name = "accounts"

    def ready(self) -> None:
        from accounts import clockwork, runs, sign_ins
        from accounts.events import deliveries, notices

        sign_ins.listen()
        runs.listen()
        clockwork.register("accounts.tasks.deliver_webhooks", due=deliveries.waiting)
        clockwork.register("accounts.tasks.tell_owners", due=notices.waiting, oldest_seconds=3_600)
