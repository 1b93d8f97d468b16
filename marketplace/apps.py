from django.apps import AppConfig


class MarketplaceConfig(AppConfig):
    """The work: listings, terms, jobs."""

    name = "marketplace"
