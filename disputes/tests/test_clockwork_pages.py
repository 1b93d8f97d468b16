"""The pages about the clockwork and incidents, and what the desk says of both."""

import re
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from accounts import alerts, clock, clockwork, runs, schedules, staff
from accounts.models import AuditRecord
from accounts.tests.staff import sign_in
from marketplace import incidents
from marketplace.models import Heartbeat, Incident

pytestmark = pytest.mark.django_db
TASK, CLOCK = "escrow.tasks.check_recent_books", "marketplace.tasks.enforce_deadlines"
PAGE = "/admin/clockwork/"


@pytest.fixture
def person(db):
    staff.prepare_groups()
    return lambda name, *groups: staff.prepare_account(name, groups=groups)


@pytest.fixture
def operator(person):
    return person("olga", "Operators")


@pytest.fixture
def client(operator):
    return sign_in(Client(), operator)


@pytest.fixture
def scheduled(db):
    call_command("setup_schedules", verbosity=0)


def filled(client, address, **said):
    """Open a page that asks, and send its form back with these answers."""
    page = client.get(address).content.decode()
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    return client.post(address, hidden | said)


def words_of(answer):
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def setting(task):
    return schedules.setting_of(PeriodicTask.objects.select_related("interval").get(name=task))


class TestClockwork:
    def test_shows_every_task_and_how_it_goes(self, client, scheduled, monkeypatch):
        monkeypatch.setattr(clockwork, "_sweeps", {})
        clockwork.register(CLOCK, due=lambda: (12, clock.now() - timedelta(minutes=3)))
        for _ in range(5):
            runs.write(TASK, seconds=0.25, error="Broken")
        PeriodicTask.objects.filter(name="accounts.tasks.seal_audit").update(
            date_changed=clock.now() - timedelta(hours=1)
        )
        Heartbeat.objects.create(part="beat", at=clock.now() - timedelta(minutes=4))

        text = words_of(client.get(PAGE))

        for task in PeriodicTask.objects.values_list("name", flat=True):
            assert task in text
        assert re.search(rf"{TASK} default 10 min (now|\d+ s ago) 250 ms 5 Broken – – failing", text)
        assert re.search(rf"{CLOCK} deadlines 1 s never – 0 12 3 min ago leaves things lying", text)
        assert re.search(r"accounts.tasks.seal_audit default 1 min never – 0 – – late", text)
        assert "4 min Beat last seen, ago" in text

    def test_is_for_who_may_see_it_and_changed_by_who_may(self, person, scheduled):
        treasurer = sign_in(Client(), person("tina", "Treasurers"))
        assert treasurer.get(PAGE).status_code == 403
        assert treasurer.get(f"{PAGE}{TASK}/").status_code == 403
        assert treasurer.post(f"{PAGE}{TASK}/", {"seconds": 5}).status_code == 403

    def test_sets_interval_and_switch_and_says_so_in_the_audit_log(self, client, operator, scheduled):
        answer = filled(client, f"{PAGE}{TASK}/", seconds="900", reason="The books are quiet.")

        assert answer.status_code == 302, words_of(answer)
        assert setting(TASK) == (900, False)
        record = AuditRecord.objects.get(action="schedule.changed")
        assert (record.user, record.reason, record.subject) == (operator, "The books are quiet.", f"schedule:{TASK}")
        assert record.facts["before"] == {"seconds": 600, "enabled": True}
        filled(client, f"{PAGE}{TASK}/", seconds="600", enabled="on", reason="Back again.")
        assert setting(TASK) == (600, True)

    @pytest.mark.parametrize("seconds", ["0", "-1", "6001", "1.5", "", "1e9", "9" * 30, "x"])
    def test_refuses_an_interval_out_of_bounds(self, client, scheduled, seconds):
        answer = filled(client, f"{PAGE}{TASK}/", seconds=seconds, enabled="on", reason="r")

        assert answer.status_code == 200
        assert "errorlist" in answer.content.decode()
        assert setting(TASK) == (600, True)

    def test_never_switches_off_or_slows_a_clock(self, client, scheduled):
        assert filled(client, f"{PAGE}{CLOCK}/", seconds="61", enabled="on", reason="r").status_code == 200
        assert filled(client, f"{PAGE}{CLOCK}/", seconds="1", reason="r").status_code == 302

        assert setting(CLOCK) == (1, True)

    def test_takes_nothing_but_these_two(self, client, scheduled):
        before = PeriodicTask.objects.filter(name=TASK).values().get()

        filled(
            client, f"{PAGE}{TASK}/", seconds="60", enabled="on", reason="r", task="os.system", args="[1]",
            kwargs='{"a": 1}', queue="treasury", name="x", crontab="1", one_off="on", expires="2020-01-01",
            start_time="2050-01-01", headers='{"a": 1}', priority="9", routing_key="x", exchange="x",
        )  # fmt: skip

        after = PeriodicTask.objects.filter(name=TASK).values().get()
        assert {name for name in after if after[name] != before[name]} == {"interval_id", "date_changed"}

    def test_refuses_who_was_slower_than_a_colleague(self, client, operator, scheduled):
        page = client.get(f"{PAGE}{TASK}/").content.decode()
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
        schedules.change(TASK, seconds=60, enabled=True, expected=schedules.Setting(600, True), by=operator)

        answer = client.post(f"{PAGE}{TASK}/", hidden | {"seconds": "900", "enabled": "on", "reason": "r"})

        assert "Somebody else changed this schedule" in words_of(answer)
        assert setting(TASK) == (60, True)

    def test_knows_no_other_task(self, client, scheduled):
        for task in ("os.system", "x", "%00", "..%2F"):
            assert client.get(f"{PAGE}{task}/").status_code in (400, 404)

    def test_leaves_no_other_door_to_the_schedule(self, scheduled, db):
        from accounts.models import User

        client = sign_in(Client(), User.objects.create_superuser("root"))
        row = PeriodicTask.objects.get(name=TASK)

        for model in ("periodictask", "intervalschedule", "crontabschedule", "clockedschedule", "solarschedule"):
            for page in ("", "add/", f"{row.pk}/change/", f"{row.pk}/delete/"):
                address = f"/admin/django_celery_beat/{model}/{page}"
                assert client.get(address).status_code == 404
                assert client.post(address, {"post": "yes"}).status_code == 404
        assert IntervalSchedule.objects.exists()


class TestIncidents:
    def test_are_declared_with_a_reason_and_ended(self, client, operator):
        answer = filled(client, "/admin/incidents/declare/", reason="The database host was moved.", since="")
        assert answer.status_code == 302, words_of(answer)

        incident = Incident.objects.get()
        assert (incident.declared_by, incident.reason) == (operator, "The database host was moved.")
        assert "stand still since" in words_of(client.get("/admin/incidents/"))
        answer = filled(client, f"/admin/incidents/{incident.pk}/end/", reason="It is back.")
        assert answer.status_code == 302, words_of(answer)
        incident.refresh_from_db()
        assert (incident.ended_by, incident.end_reason) == (operator, "It is back.")
        text = words_of(client.get("/admin/incidents/"))
        assert "The clocks of jobs and cases run." in text
        assert "declared by olga The database host was moved. It is back. being moved standstill 1" in text
        assert set(AuditRecord.objects.values_list("action", flat=True)) >= {"incident.start", "incident.end"}

    def test_may_have_begun_before(self, client):
        began = (clock.now() - timedelta(hours=1)).replace(second=0, microsecond=0)

        filled(client, "/admin/incidents/declare/", reason="r", since=f"{began:%Y-%m-%dT%H:%M}")

        assert Incident.objects.get().started_at == began

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ({"reason": "r", "since": "2090-01-01T00:00"}, "does not begin in the future"),
            ({"reason": "r", "since": "yesterday"}, "Enter a valid date/time"),
            ({"reason": "  ", "since": ""}, "This field is required"),
        ],
    )
    def test_are_refused_in_words(self, client, said, words):
        answer = filled(client, "/admin/incidents/declare/", **said)

        assert answer.status_code == 200
        assert words in words_of(answer)
        assert not Incident.objects.exists()

    def test_are_declared_by_nobody_with_a_stake(self, client, operator, job_at, alice):
        job_at("delivered", at=clock.now())
        alice.owner = operator
        alice.save(update_fields=["owner"])

        answer = filled(client, "/admin/incidents/declare/", reason="For my own good.", since="")

        assert "You own one of the agents." in words_of(answer)
        assert "For my own good." in answer.content.decode(), "what was typed comes back"
        assert not Incident.objects.exists()

    def test_ended_by_somebody_faster_are_said_to_be(self, client):
        incident = incidents.start(reason="r")
        page = client.get(f"/admin/incidents/{incident.pk}/end/").content.decode()
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
        incidents.end(incident.pk)

        answer = client.post(f"/admin/incidents/{incident.pk}/end/", hidden | {"reason": "r"})

        assert "The incident has ended already" in words_of(answer)

    def test_are_seen_by_who_may_and_declared_by_who_may(self, person):
        incident = incidents.start(reason="r")
        auditor = sign_in(Client(), person("otto", "Auditors"))
        assert auditor.get("/admin/incidents/").status_code == 200
        assert "Declare an incident" not in auditor.get("/admin/incidents/").content.decode()
        for address in ("/admin/incidents/declare/", f"/admin/incidents/{incident.pk}/end/"):
            assert auditor.get(address).status_code == auditor.post(address).status_code == 403
        for name, group in (("tina", "Treasurers"), ("sena", "Senior moderators")):
            allowed = sign_in(Client(), person(name, group))
            assert allowed.get("/admin/incidents/").status_code == 200
            assert allowed.get("/admin/incidents/declare/").status_code == 200
        stranger = sign_in(Client(), person("mona", "Moderators"))
        assert stranger.get("/admin/incidents/declare/").status_code == 403

    def test_that_made_themselves_say_what_was_away(self, client):
        Heartbeat.objects.create(part="redis", at=clock.now() - timedelta(minutes=10))
        incidents.look()

        text = words_of(client.get("/admin/incidents/"))

        assert "by itself: Redis was away The queue of tasks was away. stand still standstill 1" in text

    def test_are_read_page_by_page_in_statements_that_no_row_changes(self, client, django_assert_max_num_queries):
        for _ in range(35):
            incidents.end(incidents.start(reason="again and again").pk)

        with django_assert_max_num_queries(25):
            answer = client.get("/admin/incidents/")
        [more] = re.findall(r'href="(\?after=[^"]+)"', answer.content.decode())
        rest = client.get(f"/admin/incidents/{more}")

        assert answer.content.decode().count("again and again") == 30
        assert rest.content.decode().count("again and again") == 5


class TestDesk:
    def test_tells_operators_of_clocks_beat_tasks_and_webhooks(self, client):
        Heartbeat.objects.create(part="beat", at=clock.now() - timedelta(seconds=40))
        text = words_of(client.get("/admin/"))
        assert "Run Clocks of jobs and cases" in text
        assert re.search(r"4\d s Beat last seen, ago 0 Tasks late or failing", text)
        assert "0 Webhooks failing; 0 deliveries due" in text

        incidents.start(reason="r")
        alerts.sound("task_late", TASK)
        alerts.sound("backlog_old", TASK)
        text = words_of(client.get("/admin/"))

        assert re.search(r"Stand still Clocks, since \d{4}-\d\d-\d\d \d\d:\d\d UTC; open incidents: 1", text)
        assert "1 Tasks late or failing" in text

    def test_tells_nobody_else(self, person):
        text = words_of(sign_in(Client(), person("nobody")).get("/admin/"))

        assert "Webhooks" not in text
        assert "Clocks" not in text


class TestDueItems:
    """What the owners of sweeps say is due is what their sweeps would do."""

    @pytest.fixture
    def noon(self):
        return clock.now() - timedelta(days=30)

    def test_are_counted_for_every_clock_that_sweeps_rows(self):
        assert set(clockwork.registered()) >= {
            *("marketplace.tasks.enforce_deadlines", "disputes.tasks.enforce_deadlines"),
            *("escrow.tasks.advance_withdrawals", "escrow.tasks.authorize_withdrawals"),
            *("escrow.tasks.relay_transactions", "escrow.tasks.settle_withdrawals"),
            "accounts.tasks.deliver_webhooks",
        }
        for task in clockwork.registered():
            assert clockwork.due_of(task) == (0, None), task

    def test_of_jobs_and_cases_are_none_while_clocks_stand_still(self, case_at, job_at, noon):
        job = job_at("delivered")
        job.refresh_from_db()
        assert clockwork.due_of(CLOCK) == (1, job.due_at)
        case = case_at("evidence")
        case.refresh_from_db()
        assert clockwork.due_of("disputes.tasks.enforce_deadlines") == (1, case.due_at)

        incidents.start(reason="r")

        assert clockwork.due_of(CLOCK) == clockwork.due_of("disputes.tasks.enforce_deadlines") == (0, None)
