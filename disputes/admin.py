from django.contrib import admin

from disputes.console import readonly, schedules

# Django imports this module once every app is loaded: the rows of all our apps get their pages here.
readonly.register_all(admin.site)
schedules.take_off(admin.site)
