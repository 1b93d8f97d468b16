from django.apps import AppConfig


class MarketplaceConfig(AppConfig):
    """The work: listings, terms, jobs."""

    name = "marketplace"

    def ready(self) -> None:
        from accounts import clockwork, seams
        from marketplace import books, deadlines, interests, jobclocks, jobs, listings, records, standstills

        books.register()
        clockwork.register("marketplace.tasks.enforce_deadlines", due=deadlines.waiting)
        standstills.movers.append(jobclocks.JobMover())
        seams.leaving.register(listings.archive_all)
        seams.leaving.register(jobs.leave)
        seams.suspended.register(listings.pause_all)
        seams.suspended.register(jobs.stop_new_business)
        seams.profile_parts.register(records.of_agent)
        seams.usage.register(records.in_use)
        seams.interests.register(interests.through_trade)
