import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import serializers

from accounts.edge.fields import Bps, MoneyField, Strict, Truth, Whole, units_from_text, units_to_text


class TestUnits:
    @pytest.mark.parametrize(
        ("text", "units"),
        [
            ("0", 0),
            ("1", 1_000_000),
            ("1.0", 1_000_000),
            ("0.000001", 1),
            ("12.5", 12_500_000),
            ("999999999999.999999", 10**18 - 1),
        ],
    )
    def test_are_read_from_text(self, text, units):
        assert units_from_text(text) == units

    @pytest.mark.parametrize("units", [0, 1, 999_999, 1_000_000, 12_500_000, -1, -10_000_000, 2**63 - 1])
    def test_are_written_with_six_digits(self, units):
        text = units_to_text(units)

        assert len(text.split(".")[1]) == 6
        assert int(text.replace(".", "")) == units

    @given(st.integers(0, 10**18 - 1))
    def test_come_back_the_same(self, units):
        assert units_from_text(units_to_text(units)) == units

    @given(st.text(alphabet="0123456789.+-eE \u0661", max_size=12))
    def test_are_read_from_nothing_else(self, text):
        whole, point, fraction = text.partition(".")
        plain = whole.isascii() and whole.isdigit() and (whole == "0" or whole[0] != "0") and len(whole) <= 12
        fine = plain and (not point or (fraction.isascii() and fraction.isdigit() and len(fraction) <= 6))

        if fine:
            assert units_from_text(text) == int(whole) * 10**6 + int((fraction or "0").ljust(6, "0"))
        else:
            with pytest.raises(ValueError):
                units_from_text(text)


class TestMoneyField:
    def test_says_which_bound_was_missed(self):
        field = MoneyField(min_units=1_000_000, max_units=2_000_000)

        for text, code, bound in (("0.5", "too_small", "1.000000"), ("2.1", "too_large", "2.000000")):
            with pytest.raises(serializers.ValidationError) as refusal:
                field.run_validation(text)
            assert refusal.value.detail[0].code == code
            assert bound in refusal.value.detail[0]

    def test_writes_six_digits(self):
        assert MoneyField().to_representation(12_500_000) == "12.500000"


class TestStrict:
    class Shape(Strict):
        whole = Whole(required=False, min_value=0, max_value=5)
        truth = Truth(required=False)
        share = Bps(required=False)

    @pytest.mark.parametrize("body", [{"whole": 5, "truth": False, "share": 10_000}, {}, {"share": 0}])
    def test_takes_what_is_meant(self, body):
        shape = self.Shape(data=body)

        assert shape.is_valid()
        assert shape.validated_data == body

    @pytest.mark.parametrize(
        "body",
        [
            {"whole": True},
            {"whole": 1.0},
            {"whole": "1"},
            {"truth": 1},
            {"truth": "true"},
            {"truth": []},
            {"share": -1},
            {"x": 1},
        ],
    )
    def test_refuses_what_could_be_meant(self, body):
        assert not self.Shape(data=body).is_valid()
