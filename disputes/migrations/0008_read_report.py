from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("disputes", "0007_cases_in_order"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="assignment",
            options={
                "default_permissions": ("view",),
                "permissions": [("read_report", "Can read and export the report on moderators")],
            },
        ),
    ]
