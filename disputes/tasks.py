from celery import shared_task

from disputes import assignment, deadlines, evidence, precedents, vacancies


@shared_task(queue="deadlines", ignore_result=True)
def enforce_deadlines() -> None:
    deadlines.enforce_due()


@shared_task(queue="deadlines", ignore_result=True)
def assign_cases() -> None:
    assignment.release_unfit()
    assignment.assign_due(limit=200)
    vacancies.watch()


@shared_task(queue="default", ignore_result=True)
def write_precedents() -> None:
    precedents.write_due(limit=100)


@shared_task(queue="default", ignore_result=True)
def erase_evidence() -> None:
    evidence.erase_due(limit=200)
