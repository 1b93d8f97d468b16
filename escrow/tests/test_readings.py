"""Readings are kept each minute for two days, each hour for four hundred."""

from datetime import timedelta

import pytest

from escrow import readings
from escrow.models import TreasuryReading

pytestmark = pytest.mark.django_db


def read_at(moment, chain_id=31337):
    return TreasuryReading.objects.create(
        chain_id=chain_id,
        block_number=1,
        block_at=moment,
        treasury_units=0,
        cold_units=0,
        unswept_units=0,
        custody_units=0,
        liabilities_units=0,
        shortfall_units=0,
        difference_units=0,
        pending_units=0,
        read_at=moment,
    )


class TestThin:
    def test_keeps_each_of_the_last_two_days(self, noon):
        for minute in range(5):
            read_at(noon - timedelta(days=2, minutes=-minute - 1))

        assert readings.thin(noon) == 0

    def test_keeps_the_first_of_an_hour_before(self, noon):
        kept = [read_at(noon - timedelta(days=3)), read_at(noon - timedelta(days=3), chain_id=8453)]
        for minute in range(1, 5):
            read_at(noon - timedelta(days=3, minutes=-minute))
        kept.append(read_at(noon - timedelta(days=3, hours=-1)))

        assert readings.thin(noon) == 4
        assert set(TreasuryReading.objects.all()) == set(kept)

    def test_forgets_after_four_hundred_days(self, noon):
        read_at(noon - timedelta(days=401))

        assert readings.thin(noon) == 1


class TestNewest:
    def test_is_the_last_one(self, noon):
        assert readings.newest() is None
        last = read_at(noon)
        read_at(noon - timedelta(minutes=1))

        assert readings.newest() == last
