"""Keys in AWS KMS: signatures the chain takes, from keys that this process never sees."""

import socket
import threading

import pytest
from botocore.exceptions import ClientError
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from eth_hash.auto import keccak
from eth_keys.constants import SECPK1_N

from escrow import deposit_addresses, deposits, scans, sweeps, treasury, withdrawals
from escrow.chain import addresses, local, rpc, usdc
from escrow.models import RelayTransaction
from escrow.tests.chain import UNITS
from escrow.tests.kms import aws, forget, new_key
from escrow.tests.treasury import entry_for, run

MISSING = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"


@pytest.fixture
def cloud(settings):
    """A KMS with one key of the treasury and two of relayers, which the settings name."""
    settings.BAILEE_PROCESS = "treasury"
    with aws() as client:
        settings.TREASURY_SIGNER = "kms"
        settings.TREASURY_KMS_KEY = new_key(client)
        settings.TREASURY_EARLIER_KMS_KEYS = []
        settings.RELAYER_KMS_KEYS = [new_key(client) for _ in range(2)]
        settings.KMS_ENDPOINT_URL = ""
        settings.RELAYER_KEYSTORES = settings.TREASURY_EARLIER_KEYSTORES = []
        yield client


@pytest.fixture
def keys(cloud):
    from escrow.signing import keys

    return keys


def signer_of(digest: bytes, signature) -> bytes:
    return bytes.fromhex(Account._recover_hash(digest, vrs=signature)[2:])


class TestSignDigest:
    def test_is_the_signature_of_the_key_with_a_low_s(self, keys):
        # Whether KMS's own s is high or low is a toss: of 32 both occur.
        digests = [keccak(b"payment %d" % number) for number in range(32)]

        signatures = [keys.sign_digest(keys.treasury_address(), digest) for digest in digests]

        pairs = zip(digests, signatures, strict=True)
        assert {signer_of(digest, signature) for digest, signature in pairs} == {keys.treasury_address()}
        assert all(signature.s <= SECPK1_N // 2 for signature in signatures)
        assert {signature.v for signature in signatures} == {27, 28}

    def test_of_an_earlier_treasury_is_still_made(self, keys, cloud, settings):
        earlier = keys.treasury_address()
        settings.TREASURY_EARLIER_KMS_KEYS = [settings.TREASURY_KMS_KEY]
        settings.TREASURY_KMS_KEY = new_key(cloud)
        digest = keccak(b"owed by the earlier one")

        signature = keys.sign_digest(earlier, digest)

        assert keys.treasury_address() != earlier
        assert signer_of(digest, signature) == earlier

    def test_of_a_treasury_whose_key_was_in_a_file_is_still_made(self, chain, keys, settings):
        settings.TREASURY_EARLIER_KEYSTORES = [settings.TREASURY_KEYSTORE]
        digest = keccak(b"owed by the one in the file")

        assert signer_of(digest, keys.sign_digest(chain.treasury, digest)) == chain.treasury

    def test_of_a_stranger_is_refused(self, keys):
        with pytest.raises(keys.KeyRefused, match="no key in KMS is that of 0x1111"):
            keys.sign_digest(b"\x11" * 20, keccak(b"a payment"))

    def test_with_a_relayers_key_is_refused(self, keys):
        with pytest.raises(keys.KeyRefused):
            keys.sign_digest(keys.relayer_addresses()[0], keccak(b"a payment"))

    def test_that_kms_made_with_another_key_is_refused(self, keys, cloud, settings, monkeypatch):
        from escrow.signing import kms

        address, other, ask = keys.treasury_address(), new_key(cloud), kms._ask
        monkeypatch.setattr(kms, "_ask", lambda operation, **asked: ask(operation, **{**asked, "KeyId": other}))

        with pytest.raises(keys.KeyRefused, match="not one of"):
            keys.sign_digest(address, keccak(b"a payment"))


class TestSignTransaction:
    def test_is_the_relayers(self, chain, keys):
        relayer = keys.relayer_addresses()[1]

        signed = keys.sign_transaction(relayer, payment_of_nothing(chain, relayer))

        sent = TypedTransaction.from_bytes(rpc_bytes(signed.raw))
        assert bytes.fromhex(Account.recover_transaction(signed.raw)[2:]) == relayer
        assert keccak(signed.raw) == signed.hash
        assert sent.vrs()[2] <= SECPK1_N // 2

    def test_is_mined_again_and_again(self, chain, keys):
        relayer = keys.relayer_addresses()[0]
        local._fund(chain.node, relayer)
        for nonce in range(8):
            signed = keys.sign_transaction(relayer, payment_of_nothing(chain, relayer, nonce))
            chain.node.send(signed.raw)

            receipt = local.wait_for(chain.node, signed.hash)
            assert (receipt["status"], rpc.raw(receipt["from"])) == ("0x1", relayer)

    def test_of_a_stranger_or_the_treasury_is_refused(self, chain, keys):
        for address in (b"\x11" * 20, keys.treasury_address()):
            with pytest.raises(keys.KeyRefused):
                keys.sign_transaction(address, payment_of_nothing(chain, address))


def rpc_bytes(raw: bytes):
    from hexbytes import HexBytes

    return HexBytes(raw)


def payment_of_nothing(chain, relayer: bytes, nonce: int = 0) -> dict:
    return {
        "type": 2,
        "chainId": chain.chain_id,
        "nonce": nonce,
        "to": addresses.to_text(relayer),
        "value": 0,
        "data": b"",
        "gas": 21_000,
        "maxFeePerGas": 10**10,
        "maxPriorityFeePerGas": 10**9,
    }


class TestPublicKeys:
    def test_are_asked_for_once(self, keys, cloud, settings, monkeypatch):
        from escrow.signing import kms

        asked, ask = [], kms._ask
        monkeypatch.setattr(kms, "_ask", lambda operation, **it: asked.append(operation) or ask(operation, **it))

        for number in range(3):
            keys.sign_digest(keys.treasury_address(), keccak(b"%d" % number))

        assert asked == ["get_public_key", "sign", "sign", "sign"]

    def test_of_another_curve_are_refused(self, keys, cloud, settings):
        settings.TREASURY_KMS_KEY = new_key(cloud, "ECC_NIST_P256")

        with pytest.raises(keys.KeyRefused, match="secp256k1"):
            keys.treasury_address()

    def test_one_that_is_missing_stops_none_of_the_others(self, keys, settings):
        address, digest = keys.treasury_address(), keccak(b"a payment")
        settings.TREASURY_EARLIER_KMS_KEYS = [settings.TREASURY_KMS_KEY]
        settings.TREASURY_KMS_KEY = MISSING

        assert signer_of(digest, keys.sign_digest(address, digest)) == address

    def test_of_all_are_asked_for_before_the_worker_forks(self, keys, settings):
        from escrow.signing import kms

        settings.RELAYER_KMS_KEYS = [MISSING, *settings.RELAYER_KMS_KEYS]

        with pytest.raises(keys.KeyRefused, match="NotFoundException"):
            keys.open_all()

        assert len(kms._public_keys) == 3
        assert len(keys.relayer_addresses()) == 2

    def test_are_shared_by_processes_and_connections_are_not(self, keys, monkeypatch):
        from escrow.signing import kms

        parents = kms._client()
        monkeypatch.setattr(kms.os, "getpid", lambda: -1)

        assert kms._client() is not parents


class TestWhenAwsRefuses:
    def test_the_code_is_told_and_nothing_else(self, keys, settings, monkeypatch):
        from escrow.signing import kms

        said = "User: arn:aws:iam::123456789012:user/bailee is not authorized, token AQoDYXdzEPT//wEXAMPLE"
        denied = ClientError({"Error": {"Code": "AccessDeniedException", "Message": said}}, "Sign")
        address = keys.treasury_address()

        def refuse(**_: object):
            raise denied

        monkeypatch.setattr(kms._client(), "sign", refuse)
        with pytest.raises(keys.KeyRefused) as refusal:
            keys.sign_digest(address, keccak(b"a payment"))

        assert "AccessDeniedException" in str(refusal.value)
        assert not [secret for secret in ("123456789012", "bailee", "AQoD") if secret in str(refusal.value)]

    def test_a_key_that_is_not_there_is_named_without_the_account(self, keys, settings):
        settings.TREASURY_KMS_KEY = MISSING

        with pytest.raises(
            keys.KeyRefused, match=r"^KMS get_public_key key/0{8}-0{4}-0{4}-0{4}-0{12}: NotFoundException$"
        ):
            keys.treasury_address()

    def test_without_a_key_in_the_settings(self, keys, settings):
        settings.TREASURY_KMS_KEY = ""

        with pytest.raises(keys.KeyRefused, match="TREASURY_KMS_KEY is not set"):
            keys.treasury_address()

    def test_without_credentials_or_region(self, keys, monkeypatch):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        forget()

        with pytest.raises(keys.KeyRefused):
            keys.treasury_address()

    def test_an_unknown_signer_is_refused(self, keys, settings):
        settings.TREASURY_SIGNER = "paper"

        with pytest.raises(keys.KeyRefused, match="keystore, kms"):
            keys.treasury_address()


class TestWhenAwsIsSilent:
    def test_it_is_tried_twice_and_given_up(self, keys, settings, monkeypatch):
        """A service that takes connections and never answers may not hold the treasury's worker."""
        from escrow.signing import kms

        monkeypatch.setattr(kms, "QUICKLY", kms.QUICKLY.merge(kms.Config(read_timeout=0.3)))
        with silence() as silent:
            settings.KMS_ENDPOINT_URL = silent.url
            with pytest.raises(keys.KeyRefused, match="ReadTimeoutError"):
                keys.treasury_address()

            assert silent.connections == 2

    def test_the_limits_are_seconds(self):
        from escrow.signing import kms

        assert (kms.QUICKLY.connect_timeout, kms.QUICKLY.read_timeout) == (3, 3)
        assert kms.QUICKLY.retries["total_max_attempts"] == 2

    def test_nobody_there_is_a_refusal(self, keys, settings):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            settings.KMS_ENDPOINT_URL = f"http://127.0.0.1:{probe.getsockname()[1]}"

            with pytest.raises(keys.KeyRefused, match="EndpointConnectionError"):
                keys.treasury_address()


class silence:
    """A server that accepts and says nothing."""

    def __enter__(self) -> "silence":
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    @property
    def connections(self) -> int:
        return len(self._taken)

    def _accept(self) -> None:
        while True:
            try:
                self._taken.append(self._server.accept()[0])
            except OSError:
                return

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self._taken:
            connection.close()
        self._thread.join(timeout=5)


# --- on the chain -----------------------------------------------------------------------------------------------------
@pytest.fixture
def cloud_treasury(chain, keys, db):
    """What `register_keys` records where keys moved from files to KMS; the factory still pays the earlier treasury."""
    treasury.register(chain.treasury, chain_id=chain.chain_id)
    for relayer in keys.relayer_addresses():
        local._fund(chain.node, relayer)
        treasury.register_relayer(relayer, chain_id=chain.chain_id, next_nonce=chain.node.transaction_count(relayer))
    return treasury.register(keys.treasury_address(), chain_id=chain.chain_id).address


def test_the_token_takes_an_authorization_signed_in_kms(chain, keys):
    payer, receiver = keys.treasury_address(), b"\x22" * 20
    chain.mint(payer, 5 * UNITS)
    fields = usdc.Authorization(payer, receiver, 5 * UNITS, chain.head().timestamp + 3600, keccak(b"nonce"))
    domain = usdc.domain_separator(chain.node, chain.usdc, chain_id=chain.chain_id)

    word = keys.sign_digest(payer, usdc.authorization_digest(fields, domain))
    chain.do(chain.usdc, usdc.payment_call(fields, v=word.v, r=word.r, s=word.s))

    assert (chain.balance(payer), chain.balance(receiver)) == (0, 5 * UNITS)


def test_a_whole_payout_by_kms_alone(chain, alice, cloud_treasury, balance_of):
    """Both keys in KMS: sweeping, paying and settling; the files of the local chain are not read."""
    from escrow.signing import keystore

    keystore._opened.clear()
    chain.mint(deposit_addresses.of(alice).address, 100 * UNITS)
    chain.mint(cloud_treasury, 100 * UNITS)
    chain.finalize()
    scans.scan()
    deposits.credit_due()
    sweeps.sweep_due()
    withdrawal = withdrawals.request(alice, amount_units=40 * UNITS, entry_id=entry_for(alice).pk)

    run(chain, 4)

    withdrawal.refresh_from_db()
    assert withdrawal.state == "settled"
    assert chain.balance(withdrawal.address) == 40 * UNITS
    assert withdrawal.authorization.sender == cloud_treasury
    assert {relay.state for relay in RelayTransaction.objects.all()} == {"confirmed"}
    assert {relay.purpose for relay in RelayTransaction.objects.all()} == {"withdrawal", "sweep"}
    assert balance_of("available", alice) == 100 * UNITS - 40 * UNITS - withdrawal.fee_units
    assert keystore._opened == {}
