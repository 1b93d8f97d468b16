"""People at a real browser: what the tests of every page of the console begin with."""

from accounts.tests.staff import sign_in_page

__all__ = ["sign_in_page"]
