"""The money half of the contract; every module of `escrow/api/` has its own list here."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
