"""A relayer that is done with: nothing new for it, and its empty purse is no alarm."""

import secrets

import pytest
from django.core.management import CommandError, call_command

from escrow import custody
from escrow.chain import addresses
from escrow.models import Relayer
from escrow.tests.chain import UNITS
from escrow.tests.treasury import run

pytestmark = pytest.mark.django_db


@pytest.fixture
def retired(chain, rich):
    """The relayer that would be chosen next."""
    relayer = Relayer.objects.order_by("pk").first()
    call_command("retire_relayer", addresses.to_text(relayer.address), verbosity=0)
    return relayer.address


class TestRetireRelayer:
    def test_gets_no_new_nonce(self, chain, retired, ask):
        withdrawal = ask(10 * UNITS)

        run(chain)

        assert bytes(withdrawal.relays.get().relayer.address) != bytes(retired)

    def test_is_not_watched_any_more(self, chain, retired):
        assert bytes(retired) not in custody.read().relayers
        assert len(custody.read().relayers) == 1

    def test_keeps_the_time_it_was_retired_at_first(self, chain, retired):
        before = Relayer.objects.get(address=retired).retired_at

        call_command("retire_relayer", addresses.to_text(retired), verbosity=0)

        assert Relayer.objects.get(address=retired).retired_at == before

    def test_refuses_an_address_that_is_no_relayer(self, chain, rich):
        for address in (addresses.to_text(secrets.token_bytes(20)), "0x12"):
            with pytest.raises(CommandError):
                call_command("retire_relayer", address, verbosity=0)

        assert not Relayer.objects.exclude(retired_at=None).exists()
        assert Relayer.objects.count() == 2
