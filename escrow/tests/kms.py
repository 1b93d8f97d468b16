"""AWS KMS as tests have it: moto, in this process, made to sign a digest as AWS does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto import mock_aws
from moto.kms.responses import KmsResponse
from moto.kms.utils import ECDSAPrivateKey

REGION = "eu-central-1"


@contextmanager
def aws() -> Iterator[Any]:
    """A KMS of the test's own; answers a client that may make keys in it."""
    import boto3

    from escrow.signing import kms

    environment = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with patch.dict("os.environ", environment), mock_aws(), _signing_digests():
        forget()
        try:
            yield boto3.client("kms", region_name=REGION)
        finally:
            forget()
            assert kms._clients == {}


def forget() -> None:
    """Let nothing of one KMS be known in the next."""
    from escrow.signing import kms

    kms._clients.clear()
    kms._public_keys.clear()


def new_key(client: Any, spec: str = "ECC_SECG_P256K1") -> str:
    """Make a key; answers its ARN."""
    return client.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]


@contextmanager
def _signing_digests() -> Iterator[None]:
    # moto hashes whatever it is given ("DIGEST is not yet implemented"): asked for a digest, AWS signs just that.
    answer_sign, sign = KmsResponse.sign, ECDSAPrivateKey.sign
    asked = {"type": ""}

    def remember_the_type(response: KmsResponse) -> str:
        asked["type"] = response._get_param("MessageType")
        return answer_sign(response)

    def sign_as_aws(key: ECDSAPrivateKey, message: bytes, signing_algorithm: str) -> bytes:
        if asked["type"] != "DIGEST":
            return sign(key, message, signing_algorithm)
        assert (len(message), signing_algorithm) == (32, "ECDSA_SHA_256")
        return key.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))

    with patch.object(KmsResponse, "sign", remember_the_type), patch.object(ECDSAPrivateKey, "sign", sign_as_aws):
        yield
