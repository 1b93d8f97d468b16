"""Nobody edits a row: every address of every model in the admin, by everybody on the staff, with every method."""

import itertools
from binascii import unhexlify
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import audit, clock, staff, totp
from accounts.models import Agent, User
from accounts.tests.staff import device_of, sign_in
from disputes.console import readonly

pytestmark = pytest.mark.django_db
METHODS = ("get", "post", "put", "patch", "delete")
# The work of these pages is done by verbs: what they ask and refuse is tried beside them.
VERBS = ("cases", "treasury", "agents", "report", "audit", "precedents", "clockwork", "incidents")
STAFF = {
    "no group": [],
    "moderator": ["Moderators"],
    "senior": ["Moderators", "Senior moderators"],
    "treasurer": ["Treasurers"],
    "auditor": ["Auditors"],
    "operator": ["Operators"],
    "superuser": [],
}
# The list, the form to add and the form to change: what all others are asked for, after a superuser had every page.
MAIN_PAGES = 3
REFUSALS = {301, 302, 403, 404, 405}


@pytest.fixture
def noon():
    return clock.now() - timedelta(days=3)


@pytest.fixture
def rows(case_at, client_for, alice: Agent) -> None:
    """A row of nearly everything, a closed case with ruling and evidence among them."""
    case_at("final")
    client_for(alice)
    audit.record("test.done", agent=alice)


@pytest.fixture(params=STAFF)
def person(request, rows) -> User:
    staff.prepare_groups()
    user = User.objects.create_user(
        "somebody", password="a long password", is_staff=True, is_superuser=request.param == "superuser"
    )
    user.groups.set(Group.objects.filter(name__in=STAFF[request.param]))
    user.role = request.param
    return user


def everything() -> dict[str, str]:
    """Digest every table, so that any edit anywhere shows."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'django_session'")
        tables = [name for (name,) in cursor.fetchall()]
        digests = {}
        for table in tables:
            cursor.execute(
                f"SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '')) FROM \"{table}\" t"
            )
            digests[table] = cursor.fetchone()[0]
    return digests


def addresses_of(model) -> list[str]:
    """List the pages of a model, of a row that is there if there is one."""
    place = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
    row = model._default_manager.first()
    key = row.pk if row is not None else "1"
    return [place, *(f"{place}{page}/" for page in ("add", f"{key}/change", f"{key}/delete", f"{key}/history", key))]


def an_edit_of(model) -> dict[str, object]:
    """Fill in everything that any page of the admin might take."""
    row = model._default_manager.first()
    return {field.attname: "1" for field in model._meta.concrete_fields} | {
        "action": "delete_selected",
        "_selected_action": [str(row.pk)] if row is not None else ["1"],
        "post": "yes",
        "_save": "Save",
        "form-TOTAL_FORMS": "1",
        "form-INITIAL_FORMS": "1",
    }


class TestRows:
    def test_are_edited_by_nobody(self, person):
        client = sign_in(Client(raise_request_exception=False), person)
        before = everything()
        read = 0

        for model in admin.site._registry:
            addresses = addresses_of(model)[: None if person.is_superuser else MAIN_PAGES]
            for address, method in itertools.product(addresses, METHODS):
                data = {} if method == "get" else an_edit_of(model)
                content = {} if method in ("get", "post") else {"content_type": "application/json"}
                answer = getattr(client, method)(address, data, **content)
                if method == "get" and answer.status_code == 200:
                    read += 1
                else:
                    assert answer.status_code in REFUSALS, (person.role, method, address, answer.status_code)

        assert everything() == before
        assert (read > 0) == (person.role != "no group")

    def test_of_every_kind_have_pages_that_are_for_readers_alone(self):
        ours = {"accounts", "escrow", "marketplace", "disputes", "auth"}

        assert {model._meta.app_label for model in admin.site._registry} == ours
        for model, pages in admin.site._registry.items():
            assert type(pages).__mro__[1].__name__ == "ReadOnly", model

    @pytest.mark.parametrize(
        "model",
        ["otp_totp/totpdevice", "axes/accessattempt", "axes/accesslog", "axes/accessfailurelog", "admin/logentry",
         "auth/permission", "sessions/session", "contenttypes/contenttype", "accounts/challenge",
         "accounts/idempotencyrecord", "django_celery_beat/periodictask", "django_celery_beat/intervalschedule",
         "django_celery_beat/crontabschedule", "django_celery_beat/clockedschedule",
         "django_celery_beat/solarschedule"],
    )  # fmt: skip
    def test_of_secrets_and_doors_have_no_page(self, model):
        root = User.objects.create_superuser("root")
        client = sign_in(Client(), root)
        key = device_of(root).pk

        for page in ("", "add/", f"{key}/change/", f"{key}/config/", f"{key}/qrcode/"):
            for method in METHODS:
                assert getattr(client, method)(f"/admin/{model}/{page}").status_code == 404


class TestOtherPages:
    def test_of_the_admin_change_nothing_but_ones_own_password(self, person):
        """Jump links, the index of an app, JavaScript, signing out: whatever else Django's admin has an address for."""
        client = sign_in(Client(raise_request_exception=False), person)
        before = everything()

        addresses = [f"/admin/{app}/" for app in ("accounts", "escrow", "marketplace", "disputes", "auth", "otp_totp")]
        addresses += ["/admin/", "/admin/jsi18n/", "/admin/autocomplete/", "/admin/r/1/1/", "/admin/password_change/"]
        for address, method in itertools.product(addresses, METHODS):
            answer = getattr(client, method)(address)
            assert answer.status_code < 500, (method, address)

        assert everything() == before

    @pytest.mark.parametrize(
        ("address", "status"),
        [
            ("/admin/disputes/dispute/?reason__exact=%00", 400),
            ("/admin/accounts/pause/%00/change/", 400),
            ("/admin/accounts/agent/?q=%00", 400),
            ("/admin/r/{agents}/nonsense/", 404),
            ("/admin/r/{agents}/%00/", 404),
            ("/admin/r/nonsense/1/", 404),
        ],
    )
    def test_break_on_nothing_that_is_in_no_row(self, address, status):
        client = sign_in(Client(), User.objects.create_superuser("root"))
        agents = ContentType.objects.get_for_model(Agent).pk

        assert client.get(address.format(agents=agents)).status_code == status

    def test_are_all_known_here(self):
        """A new address in the admin is a model's, a verb's with tests of its own, or one of those above."""
        known = {"", "login/", "logout/", "password_change/", "password_change/done/", "autocomplete/", "jsi18n/"}

        for pattern in _admin_patterns():
            head = pattern.split("/")[0]
            assert (
                pattern in known
                or head in VERBS
                or pattern.startswith(("r/", "^(?P<app_label>", "(?P<url>"))
                or (
                    "/".join(pattern.split("/")[:2])
                    in {model._meta.label_lower.replace(".", "/") for model in admin.site._registry}
                )
            ), pattern


class TestSecrets:
    def test_are_on_no_page(self, rows):
        root = User.objects.create_superuser("root", password="a long password")
        client = sign_in(Client(), root)
        device = TOTPDevice.objects.get()
        secrets = [device.key, totp.secret(device), root.password, unhexlify(device.key).hex().upper()]

        for model in admin.site._registry:
            for address in addresses_of(model):
                shown = client.get(address).content.decode()
                assert [secret for secret in secrets if secret in shown] == [], address

    def test_are_not_found_out_letter_by_letter(self, rows):
        """A filter that nobody offers asks how a hidden column begins, and the number of rows answers."""
        staff.prepare_groups()
        auditor = User.objects.create_user("otto", password="a long password", is_staff=True)
        auditor.groups.set(Group.objects.filter(name="Auditors"))
        client = sign_in(Client(), auditor)

        for label, fields in readonly.HIDDEN_FIELDS.items():
            address = f"/admin/{label.lower().replace('.', '/')}/"
            for field, lookup in itertools.product(fields, ("", "__startswith", "__gte", "__isnull")):
                assert client.get(address, {field + lookup: "0"}).status_code == 400, (label, field + lookup)
        assert client.get("/admin/accounts/user/", {"username__startswith": "o"}).status_code == 200


def _admin_patterns() -> list[str]:
    (site,) = [found for found in get_resolver().url_patterns if str(found.pattern) == "admin/"]
    return list(_flattened(site.url_patterns))


def _flattened(patterns, before: str = ""):
    for found in patterns:
        if isinstance(found, URLResolver):
            yield from _flattened(found.url_patterns, before + str(found.pattern))
        elif isinstance(found, URLPattern):
            yield before + str(found.pattern)
