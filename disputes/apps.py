from django.apps import AppConfig


class DisputesConfig(AppConfig):
    """The quarrels: cases, evidence, rulings, and the console in which they are decided."""

    name = "disputes"

    def ready(self) -> None:
        from accounts import clockwork, seams
        from disputes import books, deadlines, records, standstills
        from marketplace.standstills import movers

        books.register()
        clockwork.register("disputes.tasks.enforce_deadlines", due=deadlines.waiting)
        movers.append(standstills.CaseMover())
        seams.profile_parts.register(records.of_agent)
