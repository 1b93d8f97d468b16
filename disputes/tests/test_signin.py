"""How staff get in, and how nobody else does."""

import re
from datetime import timedelta

import pytest
import time_machine
from axes.models import AccessAttempt
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import clock, totp
from accounts.models import AuditRecord, User
from accounts.tests.staff import code_of, device_of, fields_of, sign_in

pytestmark = pytest.mark.django_db
LOGIN = "/admin/login/"
PASSWORD = "a long password"
REFUSED = "That did not open."


@pytest.fixture
def mona(make_moderator) -> User:
    user = make_moderator("mona")
    device_of(user)
    return user


def send(client: Client, fields: dict[str, str], *, address: str = "192.0.2.7", **headers: str):
    return client.post(LOGIN, fields, REMOTE_ADDR=address, **headers)


def words_of(answer) -> str:
    text = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", answer.content.decode())
    return re.sub(r'<input[^>]*name="username"[^>]*>', "", text)


def is_in(client: Client) -> bool:
    return client.get("/admin/cases/").status_code == 200


class TestSigningIn:
    def test_takes_password_and_code(self, client, mona):
        answer = send(client, fields_of(mona, PASSWORD) | {"next": "/admin/cases/"})

        assert (answer.status_code, answer["Location"]) == (302, "/admin/cases/")
        assert is_in(client)

    def test_takes_a_code_as_phones_show_it(self, client, mona):
        fields = fields_of(mona, PASSWORD)

        send(client, fields | {"otp_token": f" {fields['otp_token'][:3]} {fields['otp_token'][3:]} "})

        assert is_in(client)

    def test_is_written_down(self, client, mona):
        send(client, fields_of(mona, PASSWORD, otp_token="000000"))
        send(client, fields_of(mona, PASSWORD))

        written = AuditRecord.objects.filter(user=mona, action__in=["staff.signed_in", "staff.code_refused"])
        assert list(written.order_by("id").values_list("action", flat=True)) == [
            "staff.code_refused",
            "staff.signed_in",
        ]

    def test_begins_a_session_that_nobody_knew_before(self, client, mona):
        session = client.session
        session["planted"] = "by somebody who wants to share it"
        session.save()
        client.cookies["sessionid"] = session.session_key

        answer = send(client, fields_of(mona, PASSWORD))

        cookie = answer.cookies["sessionid"]
        assert cookie.value != session.session_key
        assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", 8 * 3600)

    def test_leads_nowhere_else(self, client, mona):
        answer = send(client, fields_of(mona, PASSWORD) | {"next": "https://evil.example/admin/"})

        assert answer["Location"] in ("/admin/", "/accounts/profile/")

    def test_needs_the_token_of_the_page(self, mona):
        strict = Client(enforce_csrf_checks=True)

        assert send(strict, fields_of(mona, PASSWORD)).status_code == 403


class TestRefusal:
    def test_of_a_password_alone(self, client, mona):
        for fields in (
            {"username": "mona", "password": PASSWORD},
            {"username": "mona", "password": PASSWORD, "otp_token": ""},
            {"username": "mona", "password": PASSWORD, "otp_token": "  "},
        ):
            answer = send(client, fields)

            assert answer.status_code == 200
            assert not is_in(client)

    @pytest.mark.parametrize("code", ["12345", "1234567", "abcdef", "１２３４５６", "+12345", "1_2345", "12\x003456"])
    def test_of_what_is_no_code(self, client, mona, code):
        assert send(client, fields_of(mona, PASSWORD, otp_token=code)).status_code == 200
        assert not is_in(client)

    @pytest.mark.parametrize("name", ["x" * 256, "9" * 5000, "\ufdfa" * 20], ids=["letters", "digits", "grows"])
    def test_of_a_name_that_nobody_can_have(self, client, mona, name):
        """The last one is 20 characters long, and 360 once it is normalised: more than a row of failures holds."""
        assert send(client, fields_of(mona, PASSWORD) | {"username": name}).status_code == 200
        assert not is_in(client)

    def test_says_the_same_whatever_is_wrong(self, mona, make_moderator):
        owner = User.objects.create_user("olga", password=PASSWORD)  # owns agents, and is no staff
        without = User.objects.create_user("nils", password=PASSWORD, is_staff=True)
        gone = make_moderator("gina")
        User.objects.filter(pk=gone.pk).update(is_active=False)
        right = fields_of(mona, PASSWORD)
        wrong = "000000" if right["otp_token"] != "000000" else "111111"
        refused = {
            "password": right | {"password": "another password"},
            "code": right | {"otp_token": wrong},
            "name": right | {"username": "nobody"},
            "no staff": fields_of(owner, PASSWORD),
            "no device": {"username": without.username, "password": PASSWORD, "otp_token": "123456"},
            "deactivated": fields_of(gone, PASSWORD),
        }
        TOTPDevice.objects.filter(user=without).delete()

        answers = {
            name: send(Client(), fields, address=f"192.0.2.{n}") for n, (name, fields) in enumerate(refused.items())
        }

        assert {answer.status_code for answer in answers.values()} == {200}
        assert len({words_of(answer) for answer in answers.values()}) == 1
        assert REFUSED in words_of(answers["code"])

    def test_without_a_code_says_no_more(self, mona):
        right, wrong = (
            send(Client(), {"username": "mona", "password": password}, address=address)
            for password, address in ((PASSWORD, "192.0.2.1"), ("another password", "192.0.2.2"))
        )

        assert words_of(right) == words_of(wrong)

    def test_of_a_code_that_was_used(self, mona):
        code = fields_of(mona, PASSWORD)["otp_token"]
        first, second = Client(), Client()

        send(first, {"username": "mona", "password": PASSWORD, "otp_token": code})
        answer = send(second, {"username": "mona", "password": PASSWORD, "otp_token": code})

        assert is_in(first)
        assert not is_in(second)
        assert REFUSED in words_of(answer)

    def test_of_codes_tried_one_after_the_other(self, client, mona):
        """Who knows the password has one try, then waits a second, then two, then four."""
        at = clock.now()
        with time_machine.travel(at, tick=False):
            send(client, fields_of(mona, PASSWORD, otp_token=code_of(mona, steps=20)), address="192.0.2.1")
            send(client, {"username": "mona", "password": PASSWORD, "otp_token": code_of(mona)}, address="192.0.2.2")
            assert not is_in(client)

        with time_machine.travel(at + timedelta(seconds=2), tick=False):
            send(client, {"username": "mona", "password": PASSWORD, "otp_token": code_of(mona)}, address="192.0.2.3")
            assert is_in(client)

    def test_of_one_code_to_all_who_send_it_at_once_but_one(self, race, make_moderator):
        user = make_moderator("mona")
        code = code_of(user)

        opened = race(*[lambda: totp.accept(user, code)] * 8)

        assert [device for device in opened if device] == [TOTPDevice.objects.get()]


class TestLockOut:
    @pytest.fixture
    def locked(self, mona, settings) -> User:
        for _ in range(settings.AXES_FAILURE_LIMIT):
            send(Client(), fields_of(mona, "another password"))
        return mona

    def test_comes_after_five_wrong_tries_and_says_what_to_do(self, mona):
        answers = [send(Client(), fields_of(mona, "another password")) for _ in range(5)]

        assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429]
        assert answers[-1]["Retry-After"] == "900"
        assert "For 15 minutes nothing does" in answers[-1].content.decode()
        assert "docs/runbooks/staff-sign-in.md" in answers[-1].content.decode()

    def test_holds_against_the_right_password_and_code(self, client, locked):
        assert send(client, fields_of(locked, PASSWORD)).status_code == 429
        assert not is_in(client)

    def test_counts_wrong_codes_too(self, client, mona, settings):
        for _ in range(settings.AXES_FAILURE_LIMIT):
            send(Client(), fields_of(mona, PASSWORD, otp_token=code_of(mona, steps=20)))

        assert send(client, fields_of(mona, PASSWORD)).status_code == 429

    def test_counts_a_missing_code_too(self, client, mona, settings):
        for _ in range(settings.AXES_FAILURE_LIMIT):
            send(Client(), {"username": "mona", "password": PASSWORD})

        assert send(client, fields_of(mona, PASSWORD)).status_code == 429

    def test_is_of_this_name_at_this_address(self, locked, make_moderator):
        same, other = Client(), Client()

        send(other, fields_of(locked, PASSWORD), address="198.51.100.4")
        send(same, fields_of(make_moderator("pat"), PASSWORD))

        assert is_in(other)
        assert is_in(same)

    def test_takes_the_address_from_the_trusted_proxy(self, mona, settings):
        settings.TRUSTED_PROXIES = 1
        for n in range(5):  # whoever is outside may write what they like before the last one
            said = f"203.0.113.{n}, 198.51.100.4"
            send(Client(), fields_of(mona, "another password"), HTTP_X_FORWARDED_FOR=said)

        locked = send(Client(), fields_of(mona, PASSWORD), HTTP_X_FORWARDED_FOR="203.0.113.99, 198.51.100.4")
        other = send(Client(), fields_of(mona, PASSWORD), HTTP_X_FORWARDED_FOR="198.51.100.4, 198.51.100.5")

        assert (locked.status_code, other.status_code) == (429, 302)

    @pytest.mark.parametrize("said", ["198.51.100.4:4711", "unknown", "<script>", "9" * 300])
    def test_takes_the_proxy_for_the_address_where_it_forwards_none(self, mona, settings, said):
        settings.TRUSTED_PROXIES = 1

        answer = send(Client(), fields_of(mona, "another password"), HTTP_X_FORWARDED_FOR=said)

        assert answer.status_code == 200
        assert send(Client(), fields_of(mona, PASSWORD), HTTP_X_FORWARDED_FOR=said).status_code == 302

    def test_ends_by_itself_and_is_not_prolonged_by_tries(self, client, locked, settings):
        wait = settings.AXES_COOLOFF_TIME
        with time_machine.travel(clock.now() + wait - timedelta(seconds=60)):
            assert send(client, fields_of(locked, PASSWORD)).status_code == 429
        with time_machine.travel(clock.now() + wait + timedelta(seconds=1)):
            assert send(client, fields_of(locked, PASSWORD)).status_code == 302

    def test_ends_when_an_operator_says_so(self, client, locked):
        call_command("axes_reset_username", "mona", verbosity=0)

        assert send(client, fields_of(locked, PASSWORD)).status_code == 302

    def test_forgets_the_tries_of_whoever_gets_in(self, mona):
        for _ in range(3):
            for _ in range(4):
                send(Client(), fields_of(mona, "another password"))

            assert send(Client(), fields_of(mona, PASSWORD)).status_code == 302

    def test_keeps_no_secret(self, mona):
        send(Client(), fields_of(mona, "a password with a typo", otp_token="271828"))

        kept = " ".join(str(value) for value in AccessAttempt.objects.values_list().get())
        assert "typo" not in kept
        assert "271828" not in kept

    def test_costs_the_api_nothing(self, alice, client_for):
        from accounts.tests.http import ApiClient

        agent = client_for(alice)
        agent.get("/wallet")

        with CaptureQueriesContext(connection) as asked:
            assert agent.get("/wallet").status_code == 200
            assert ApiClient("blt_wrong").get("/wallet").status_code == 401

        assert [q["sql"] for q in asked if re.search("axes_|otp_|django_session|accounts_user\\b", q["sql"])] == []
        assert not AccessAttempt.objects.exists()


class TestSession:
    def test_of_a_password_alone_opens_nothing(self, client, mona):
        client.force_login(mona)

        for path in ("/admin/", "/admin/cases/", "/admin/disputes/dispute/", "/admin/password_change/"):
            answer = client.get(path)
            assert (answer.status_code, answer["Location"]) == (302, f"{LOGIN}?next={path}")

    def test_of_somebody_elses_device_opens_nothing(self, client, mona, make_moderator):
        other = make_moderator("pat")
        sign_in(client, mona)
        session = client.session
        session["otp_device_id"] = device_of(other).persistent_id
        session.save()

        assert not is_in(client)

    @pytest.mark.parametrize(
        "end",
        [
            lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
            lambda user: User.objects.filter(pk=user.pk).update(is_staff=False),
            lambda user: totp.replace(user),
            lambda user: TOTPDevice.objects.filter(user=user).update(confirmed=False),
            lambda user: (user.set_password("another long password"), user.save()),
        ],
        ids=["deactivated", "no longer staff", "new device", "device withdrawn", "new password"],
    )
    def test_ends_with_what_it_was_begun_with(self, client, mona, end):
        sign_in(client, mona)
        assert is_in(client)

        end(mona)

        assert not is_in(client)

    def test_ends_after_eight_hours(self, client, mona):
        sign_in(client, mona)

        with time_machine.travel(clock.now() + timedelta(hours=8, seconds=1)):
            assert not is_in(client)

    def test_outlives_a_new_password_that_its_owner_chose_and_that_is_written_down(self, client, mona):
        sign_in(client, mona)
        chosen = {"new_password1": "another long password", "new_password2": "another long password"}

        refused = client.post("/admin/password_change/", {"old_password": "wrong"} | chosen)
        assert (refused.status_code, AuditRecord.objects.filter(action="staff.password_changed").count()) == (200, 0)

        client.post("/admin/password_change/", {"old_password": PASSWORD} | chosen)

        assert is_in(client)
        assert AuditRecord.objects.filter(action="staff.password_changed", user=mona).count() == 1


class TestPages:
    @pytest.fixture(params=["empty", "wrong", "locked"])
    def answer(self, request, client, mona):
        if request.param == "empty":
            return client.get(LOGIN)
        answers = [send(client, fields_of(mona, "another password")) for _ in range(5)]
        return answers[0 if request.param == "wrong" else -1]

    def test_keep_to_the_policy(self, answer):
        text = answer.content.decode()

        policy = answer["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text) == []

    def test_are_kept_by_no_cache(self, answer):
        assert re.search("no-store|no-cache", answer["Cache-Control"])

    def test_name_every_field(self, client):
        text = client.get(LOGIN).content.decode()

        for name, autocomplete in (
            ("username", "username"),
            ("password", "current-password"),
            ("otp_token", "one-time-code"),
        ):
            (field,) = re.findall(rf'<input[^>]*name="{name}"[^>]*>', text)
            assert f'autocomplete="{autocomplete}"' in field
            assert re.search(rf'<label[^>]*for="id_{name}"', text)
            assert "required" in field
