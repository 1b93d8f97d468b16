from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).parent / "sql"


class Migration(migrations.Migration):
    dependencies = [("accounts", "0009_told_of_webhooks"), ("django_celery_beat", "0019_alter_periodictasks_options")]
    operations = [
        migrations.CreateModel(
            name="KnownTask",
            fields=[
                ("task", models.CharField(max_length=120, primary_key=True, serialize=False)),
                ("queue", models.CharField(max_length=40)),
                ("slowest_seconds", models.IntegerField()),
            ],
            options={
                "default_permissions": ("view",),
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("slowest_seconds__gte", 1)), name="known_task_rings")
                ],
            },
        ),
        migrations.RunSQL(
            (SQL / "0010_schedule_guard.sql").read_text(),
            reverse_sql=(SQL / "0010_schedule_guard_reverse.sql").read_text(),
        ),
    ]
