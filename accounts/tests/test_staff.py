import io

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command

from accounts import staff
from accounts.models import User

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


def create(tmp_path, *options: str, password: str = PASSWORD) -> None:
    file = tmp_path / "password"
    file.write_text(f"{password}\n")
    call_command("create_staff", "--password-file", str(file), *options, stdout=io.StringIO())


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

    def test_reads_the_password_from_standard_input(self, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD))

        call_command("create_staff", "--username", "root", "--superuser", "--password-file", "-", stdout=io.StringIO())

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
                if permission.content_type.app_label != "django_celery_beat":
                    assert not permission.codename.startswith(("add_", "change_", "delete_")), permission
