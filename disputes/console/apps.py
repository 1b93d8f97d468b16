from django.contrib.admin.apps import AdminConfig


class ConsoleConfig(AdminConfig):
    """Django's admin, with our site in its place."""

    default_site = "disputes.console.site.Console"
