import pytest

from accounts import errors
from accounts.errors import Conflict, DomainError, FieldError, Invalid


class TestDomainError:
    def test_says_its_title_where_nothing_more_is_known(self):
        assert Conflict().detail == "This cannot be done now."

    def test_carries_members_and_fields(self):
        error = DomainError("Because.", errors=[FieldError("/a", "b", "c")], state="funded")

        assert str(error) == error.detail == "Because."
        assert error.members == {"state": "funded"}
        assert error.errors == [("/a", "b", "c")]

    def test_at_names_one_field(self):
        error = Invalid.at("/limit", "out_of_range", "Too much.")

        assert error.errors == [FieldError("/limit", "out_of_range", "Too much.")]
        assert error.detail == "Too much."

    @pytest.mark.parametrize(
        ("name", "status", "code"),
        [
            ("Invalid", 400, "invalid_request"),
            ("NotAvailable", 400, "not_available"),
            ("Unauthenticated", 401, "unauthenticated"),
            ("NotAllowed", 403, "not_allowed"),
            ("ScopeMissing", 403, "scope_missing"),
            ("NotFound", 404, "not_found"),
            ("Conflict", 409, "conflict"),
            ("Paused", 503, "paused"),
            ("TryLater", 503, "try_later"),
        ],
    )
    def test_codes_are_those_of_the_contract(self, name, status, code):
        refusal = getattr(errors, name)

        assert (refusal.status, refusal.code) == (status, code)
