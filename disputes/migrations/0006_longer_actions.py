from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("disputes", "0005_precedents_by_day")]
    operations = [
        # `consent_to_withdrawal` has 21 letters.
        migrations.AlterField("disputetransition", "action", models.CharField(max_length=30)),
    ]
