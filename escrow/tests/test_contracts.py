"""The contracts on a real EVM: what they do, and that the committed artefacts are what the sources say."""

import json
import secrets

import pytest
from eth_account import Account
from eth_hash.auto import keccak

from accounts import ids
from escrow.chain import addresses, forwarders, local, rpc, usdc
from escrow.chain.contracts import compile as contracts
from escrow.tests.chain import UNITS

SECRET = b"secret of a test"


def salts(count: int) -> list[bytes]:
    return [forwarders.salt_of(ids.uuid7(), secret=SECRET) for _ in range(count)]


class TestArtefacts:
    @pytest.mark.parametrize("name", contracts.NAMES)
    def test_are_what_the_sources_compile_to(self, name):
        committed = json.loads((contracts.ARTEFACTS / f"{name}.json").read_text())

        assert contracts.compiled(name) == committed


class TestDepositAddress:
    def test_computed_here_is_the_one_the_factory_computes(self, chain):
        for salt in salts(5):
            on_chain = chain.node.call(chain.factory, keccak(b"address_of(bytes32)")[:4] + salt)[-20:]
            assert on_chain == forwarders.address_of(salt, factory=chain.factory)

    def test_implementation_follows_from_the_factory(self, chain):
        on_chain = chain.node.call(chain.factory, keccak(b"IMPLEMENTATION()")[:4])[-20:]

        assert on_chain == forwarders.implementation_of(chain.factory)

    def test_is_where_the_first_sweep_deploys(self, chain):
        [salt] = salts(1)
        assert chain.node.code(chain.address_for(salt)) == b""

        chain.do(chain.factory, forwarders.sweep_call([salt], token=chain.usdc))

        assert len(chain.node.code(chain.address_for(salt))) == 45  # an EIP-1167 clone


class TestSweep:
    def test_moves_everything_to_the_treasury_and_deploys_what_is_missing(self, chain):
        some = salts(3)
        for number, salt in enumerate(some, start=1):
            chain.mint(chain.address_for(salt), number * UNITS)
        chain.do(chain.factory, forwarders.sweep_call(some[:1], token=chain.usdc))

        chain.do(chain.factory, forwarders.sweep_call(some, token=chain.usdc))

        assert chain.balance(chain.treasury) == 6 * UNITS
        assert [chain.balance(chain.address_for(salt)) for salt in some] == [0, 0, 0]

    def test_may_be_called_by_a_stranger_and_pays_the_treasury_all_the_same(self, chain):
        [salt] = salts(1)
        chain.mint(chain.address_for(salt), UNITS)

        stranger = "0x" + secrets.token_hex(32)
        local._fund(chain.node, local.address_of(stranger))
        chain.do(chain.factory, forwarders.sweep_call([salt], token=chain.usdc), key=stranger)

        assert chain.balance(chain.treasury) == UNITS

    def test_one_that_fails_does_not_stop_the_others(self, chain):
        blocked, free = salts(2)
        for salt in (blocked, free):
            chain.mint(chain.address_for(salt), UNITS)
        chain.do(chain.usdc, keccak(b"blacklist(address)")[:4] + chain.address_for(blocked).rjust(32, b"\0"))

        chain.do(chain.factory, forwarders.sweep_call([blocked, free], token=chain.usdc))

        assert chain.balance(chain.address_for(blocked)) == UNITS
        assert chain.balance(chain.treasury) == UNITS

    def test_of_the_bare_implementation_is_harmless(self, chain):
        implementation = forwarders.implementation_of(chain.factory)
        chain.mint(implementation, UNITS)

        chain.do(implementation, keccak(b"sweep(address)")[:4] + chain.usdc.rjust(32, b"\0"))

        assert chain.balance(chain.treasury) == UNITS


class TestChangeOfTreasury:
    """In two steps, 48 hours apart, and by the owner alone."""

    PROPOSE = keccak(b"propose_treasury(address)")[:4]
    ACCEPT = keccak(b"accept_treasury()")[:4]

    @pytest.fixture
    def factory(self, chain):
        """A factory whose owner is the faucet, so that a test can act as the owner."""
        blueprint = chain.create(rpc.raw(local.artefact("DepositForwarder")["blueprint_bytecode"]))
        arguments = b"".join(one.rjust(32, b"\0") for one in (blueprint, chain.faucet, chain.treasury))
        return chain.create(rpc.raw(local.artefact("DepositFactory")["bytecode"]) + arguments)

    def test_takes_effect_after_48_hours(self, chain, factory):
        new = secrets.token_bytes(20)
        chain.do(factory, self.PROPOSE + new.rjust(32, b"\0"))
        assert forwarders.treasury_of(chain.node, factory) == chain.treasury

        chain.pass_time(48 * 3600)
        chain.do(factory, self.ACCEPT)

        assert forwarders.treasury_of(chain.node, factory) == new

    def test_is_refused_a_minute_too_early(self, chain, factory):
        chain.do(factory, self.PROPOSE + secrets.token_bytes(20).rjust(32, b"\0"))
        chain.pass_time(48 * 3600 - 60)

        with pytest.raises(rpc.NodeError):
            chain.do(factory, self.ACCEPT)

        assert forwarders.treasury_of(chain.node, factory) == chain.treasury

    def test_is_refused_to_everybody_else(self, chain):
        with pytest.raises(rpc.NodeError):  # the faucet does not own the deployed factory
            chain.do(chain.factory, self.PROPOSE + chain.faucet.rjust(32, b"\0"))

        assert chain.node.call(chain.factory, keccak(b"proposed_treasury()")[:4])[-20:] == bytes(20)

    def test_the_zero_address_and_nothing_proposed_are_refused(self, chain, factory):
        with pytest.raises(rpc.NodeError):
            chain.do(factory, self.PROPOSE + bytes(32))
        with pytest.raises(rpc.NodeError):
            chain.do(factory, self.ACCEPT)


class TestToken:
    @pytest.fixture
    def payer(self, chain):
        account = Account.create()
        chain.mint(bytes.fromhex(account.address[2:]), 10 * UNITS)
        return account

    def signed(self, chain, payer, **changed):
        """An authorization of `payer`, signed by eth_account's own EIP-712: a second opinion on our encoding."""
        fields = {
            "sender": bytes.fromhex(payer.address[2:]),
            "receiver": secrets.token_bytes(20),
            "value_units": 4 * UNITS,
            "valid_before": chain.head().timestamp + 3600,
            "nonce": secrets.token_bytes(32),
        }
        authorization = usdc.Authorization(**{**fields, **changed})
        message = {
            "from": addresses.to_text(authorization.sender),
            "to": addresses.to_text(authorization.receiver),
            "value": authorization.value_units,
            "validAfter": 0,
            "validBefore": authorization.valid_before,
            "nonce": authorization.nonce,
        }
        types = {
            "TransferWithAuthorization": [
                {"name": "from", "type": "address"},
                {"name": "to", "type": "address"},
                {"name": "value", "type": "uint256"},
                {"name": "validAfter", "type": "uint256"},
                {"name": "validBefore", "type": "uint256"},
                {"name": "nonce", "type": "bytes32"},
            ]
        }
        domain = {
            "name": "USD Coin",
            "version": "2",
            "chainId": chain.chain_id,
            "verifyingContract": addresses.to_text(chain.usdc),
        }
        signature = Account.sign_typed_data(payer.key, domain, types, message)
        return authorization, signature

    def submit(self, chain, authorization, signature):
        call = usdc.payment_call(authorization, v=signature.v, r=signature.r, s=signature.s)
        return chain.do(chain.usdc, call)

    def test_our_digest_is_the_one_that_eip712_gives(self, chain, payer):
        authorization, signature = self.signed(chain, payer)
        domain = usdc.domain_separator(chain.node, chain.usdc, chain_id=chain.chain_id)

        ours = payer.unsafe_sign_hash(usdc.authorization_digest(authorization, domain))

        assert (ours.v, ours.r, ours.s) == (signature.v, signature.r, signature.s)

    def test_pays_once_whoever_submits(self, chain, payer):
        authorization, signature = self.signed(chain, payer)

        receipt = self.submit(chain, authorization, signature)
        with pytest.raises(rpc.NodeError):
            self.submit(chain, authorization, signature)

        assert chain.balance(authorization.receiver) == 4 * UNITS
        used = [usdc.decoded_authorization(log, chain.usdc) for log in receipt["logs"]]
        assert used[0].nonce == authorization.nonce
        assert used[0].used

    def test_refuses_what_has_expired(self, chain, payer):
        authorization, signature = self.signed(chain, payer, valid_before=chain.head().timestamp)

        with pytest.raises(rpc.NodeError):
            self.submit(chain, authorization, signature)

    def test_refuses_another_receiver_under_the_signature(self, chain, payer):
        authorization, signature = self.signed(chain, payer)

        with pytest.raises(rpc.NodeError):
            self.submit(chain, authorization._replace(receiver=chain.faucet), signature)

    def test_refuses_a_cancelled_nonce(self, chain, payer):
        authorization, signature = self.signed(chain, payer)
        domain = usdc.domain_separator(chain.node, chain.usdc, chain_id=chain.chain_id)
        digest = usdc.cancellation_digest(authorizer=authorization.sender, nonce=authorization.nonce, domain=domain)
        word = payer.unsafe_sign_hash(digest)

        chain.do(
            chain.usdc,
            usdc.cancellation_call(
                authorizer=authorization.sender, nonce=authorization.nonce, v=word.v, r=word.r, s=word.s
            ),
        )

        with pytest.raises(rpc.NodeError):
            self.submit(chain, authorization, signature)
        assert chain.balance(authorization.receiver) == 0

    def test_paused_nothing_moves(self, chain, payer):
        authorization, signature = self.signed(chain, payer)
        chain.do(chain.usdc, keccak(b"pause()")[:4])

        with pytest.raises(rpc.NodeError):
            self.submit(chain, authorization, signature)

        chain.do(chain.usdc, keccak(b"unpause()")[:4])
        self.submit(chain, authorization, signature)
        assert chain.balance(authorization.receiver) == 4 * UNITS

    def test_only_the_owner_mints(self, chain, payer):
        local._fund(chain.node, bytes.fromhex(payer.address[2:]))

        with pytest.raises(rpc.NodeError):
            chain.do(chain.usdc, usdc.mint_call(chain.faucet, UNITS), key="0x" + payer.key.hex())

        assert chain.balance(chain.faucet) == 0

    def test_a_domain_that_is_not_usdcs_is_not_signed_for(self, chain):
        with pytest.raises(usdc.DomainMismatch):
            usdc.domain_separator(chain.node, chain.usdc, chain_id=chain.chain_id + 1)
