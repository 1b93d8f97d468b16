import base64
import io
import stat
from binascii import unhexlify

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import staff
from accounts.models import AuditRecord, User

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


def create(tmp_path, *options: str, password: str = PASSWORD) -> None:
    file = tmp_path / "password"
    file.write_text(f"{password}\n")
    totp_file = tmp_path / "totp"
    options = ("--password-file", str(file), "--totp-file", str(totp_file), *options)
    call_command("create_staff", *options, stdout=io.StringIO())


class TestCreateStaff:
    def test_makes_the_groups(self):
        call_command("create_staff", stdout=io.StringIO())

        assert set(Group.objects.values_list("name", flat=True)) == set(staff.GROUPS)

    def test_makes_an_account_with_a_password(self, tmp_path):
        create(tmp_path, "--username", "mona", "--group", "Moderators")

        user = User.objects.get(username="mona")
        assert user.check_password(PASSWORD)
        assert user.is_staff
        assert not user.is_superuser
        assert user.has_perm("disputes.rule")
        assert not user.has_perm("disputes.hear_appeals")

    def test_run_again_changes_nothing_but_what_is_asked(self, tmp_path):
        create(tmp_path, "--username", "mona", "--group", "Moderators")
        before = User.objects.get(username="mona")
        create(tmp_path, "--username", "mona", "--group", "Senior moderators", "--group", "Moderators")

        user = User.objects.get(username="mona")
        assert (user.pk, user.password) == (before.pk, before.password)
        assert user.has_perm("disputes.hear_appeals")
        assert User.objects.count() == 1

    def test_reads_the_password_from_standard_input(self, monkeypatch, tmp_path):
        monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD))

        create(tmp_path, "--username", "root", "--superuser", "--password-file", "-")

        assert User.objects.get().check_password(PASSWORD)
        assert User.objects.get().is_superuser

    @pytest.mark.parametrize("password", ["", "short", "password1234"])
    def test_refuses_a_bad_password(self, tmp_path, password):
        with pytest.raises(CommandError):
            create(tmp_path, "--username", "mona", "--group", "Moderators", password=password)

        assert not User.objects.exists()

    def test_gives_no_group_a_permission_to_edit_rows_of_ours(self):
        staff.prepare_groups()

        for group in Group.objects.all():
            for permission in group.permissions.select_related("content_type"):
                # how often a task rings, and whether, is set by a verb too
                if permission.codename != "change_periodictask":
                    assert not permission.codename.startswith(("add_", "change_", "delete_")), permission

    def test_gives_every_group_the_verbs_of_its_work(self):
        staff.prepare_groups()

        verbs = {
            group.name: set(group.permissions.exclude(codename__startswith="view_").values_list("codename", flat=True))
            for group in Group.objects.all()
        }
        assert verbs == {
            "Moderators": {"rule", "approve", "export_case"},
            "Senior moderators": {
                *("rule", "approve", "hear_appeals", "export_case", "read_report", "suspend_agent", "set_limits"),
                "declare_incident",
            },
            "Treasurers": {"approve_withdrawal", "set_pause", "declare_incident"},
            "Auditors": {"export_case", "read_report"},
            "Operators": {"change_periodictask", "declare_incident"},
        }

    def test_shows_the_audit_log_to_auditors(self):
        staff.prepare_groups()

        seen_by = Group.objects.filter(permissions__codename="view_auditrecord").values_list("name", flat=True)
        assert list(seen_by) == ["Auditors"]

    def test_is_written_down_as_the_doing_of_nobody_it_knows(self, tmp_path):
        create(tmp_path, "--username", "mona", "--group", "Moderators")

        subject = f"user:{User.objects.get(username='mona').pk}"
        records = AuditRecord.objects.filter(subject=subject, user=None).order_by("id")
        given = {"command": "create_staff", "groups": ["Moderators"], "superuser": False}
        assert [(record.action, record.facts) for record in records] == [
            ("staff.prepared", given),
            ("staff.totp_given", {"command": "create_staff"}),
        ]


class TestCodes:
    def test_have_their_secret_in_a_file_of_its_own(self, tmp_path):
        create(tmp_path, "--username", "mona", "--group", "Moderators")

        file = tmp_path / "totp"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert base64.b32decode(file.read_text().strip()) == unhexlify(TOTPDevice.objects.get().key)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    def test_are_kept_when_it_runs_again(self, tmp_path):
        create(tmp_path, "--username", "mona", "--group", "Moderators")
        before = (TOTPDevice.objects.get().pk, (tmp_path / "totp").read_text())

        create(tmp_path, "--username", "mona", "--group", "Moderators")

        assert (TOTPDevice.objects.get().pk, (tmp_path / "totp").read_text()) == before

    def test_are_replaced_when_the_phone_is_lost(self, tmp_path):
        create(tmp_path, "--username", "mona", "--group", "Moderators")
        before = (tmp_path / "totp").read_text()

        create(tmp_path, "--username", "mona", "--group", "Moderators", "--new-totp")

        file = tmp_path / "totp"
        assert file.read_text() != before
        assert base64.b32decode(file.read_text().strip()) == unhexlify(TOTPDevice.objects.get().key)
        subject = f"user:{User.objects.get(username='mona').pk}"
        assert AuditRecord.objects.filter(action="staff.totp_replaced", subject=subject).count() == 1

    def test_are_replaced_without_touching_anything_else(self, tmp_path):
        create(tmp_path, "--username", "mona", "--group", "Moderators", "--superuser", "--email", "mona@example.com")
        before = User.objects.values().get(), (tmp_path / "totp").read_text()

        call_command(
            "create_staff", "--username", "mona", "--new-totp", "--totp-file", str(tmp_path / "totp"),
            stdout=io.StringIO(),
        )  # fmt: skip

        assert User.objects.values().get() == before[0]
        assert [group.name for group in User.objects.get().groups.all()] == ["Moderators"]
        assert (tmp_path / "totp").read_text() != before[1]

    def test_are_replaced_for_nobody_who_is_not_there(self, tmp_path):
        with pytest.raises(CommandError, match="There is no account mnoa"):
            call_command("create_staff", "--username", "mnoa", "--new-totp", "--totp-file", str(tmp_path / "totp"))

        assert not User.objects.exists()

    def test_are_shown_once_at_a_terminal(self):
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        first, second = Terminal(), Terminal()
        call_command("create_staff", "--username", "mona", "--group", "Moderators", stdout=first)
        call_command("create_staff", "--username", "mona", "--group", "Moderators", stdout=second)

        secret = base64.b32encode(unhexlify(TOTPDevice.objects.get().key)).decode()
        assert f"otpauth://totp/Bailee%3Amona?secret={secret}" in first.getvalue()
        assert "otpauth" not in second.getvalue()

    def test_are_told_to_no_log(self):
        told = io.StringIO()

        with pytest.raises(CommandError, match="mona cannot sign in yet: name a --totp-file"):
            call_command("create_staff", "--username", "mona", "--group", "Moderators", stdout=told)

        assert "otpauth" not in told.getvalue()
        assert not TOTPDevice.objects.exists()

    def test_that_nobody_could_read_are_not_kept(self, tmp_path):
        with pytest.raises(CommandError, match="cannot be written"):
            create(tmp_path, "--username", "mona", "--totp-file", str(tmp_path / "nowhere" / "totp"))

        assert not TOTPDevice.objects.exists()


class TestDismissal:
    def test_leaves_the_name_and_nothing_that_signs_in(self, tmp_path):
        create(tmp_path, "--username", "mona", "--group", "Moderators", "--superuser")

        call_command("create_staff", "--username", "mona", "--dismiss", stdout=io.StringIO())

        user = User.objects.get(username="mona")
        assert (user.is_active, user.is_superuser, user.groups.count()) == (False, False, 0)
        assert not TOTPDevice.objects.exists()
        assert not user.has_perm("disputes.rule")
        assert AuditRecord.objects.filter(action="staff.dismissed", subject=f"user:{user.pk}").exists()

    def test_of_nobody_says_so(self):
        User.objects.create_user("olga")  # owns agents

        for name in ("olga", "nobody"):
            with pytest.raises(CommandError, match=f"There is no account {name}"):
                call_command("create_staff", "--username", name, "--dismiss")
