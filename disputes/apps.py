from django.apps import AppConfig


class DisputesConfig(AppConfig):
    """The quarrels: cases, evidence, rulings, and the console in which they are decided."""

    name = "disputes"
