import base64

import pytest
from nacl.signing import SigningKey

from accounts import signatures

# The order of the prime-order group of Ed25519 (RFC 8032, section 5.1).
L = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19


def text_of(number: int) -> str:
    return signatures.write(number.to_bytes(32, "little"))


class TestReadKey:
    def test_reads_what_write_wrote(self):
        key = bytes(SigningKey.generate().verify_key)

        assert signatures.read_key(signatures.write(key)) == key

    def test_reads_complete_padding_as_the_same_key(self):
        key = bytes(SigningKey.generate().verify_key)

        assert signatures.read_key(base64.urlsafe_b64encode(key).decode()) == key

    @pytest.mark.parametrize("change", [lambda t: t + "==", lambda t: t[:-1], lambda t: t + "A", lambda t: " " + t,
                                        lambda t: t + "\n", lambda t: t[:5] + "+" + t[6:], lambda t: "", lambda t: "=",
                                        lambda t: t[:5] + "é" + t[6:], lambda t: t * 100])  # fmt: skip
    def test_refuses_other_writings(self, change):
        text = signatures.write(bytes(SigningKey.generate().verify_key))

        with pytest.raises(signatures.Malformed):
            signatures.read_key(change(text))

    def test_refuses_unused_bits_that_are_set(self):
        text = signatures.write(bytes(SigningKey.generate().verify_key))
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        altered = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]

        assert base64.urlsafe_b64decode(altered + "=") == base64.urlsafe_b64decode(text + "=")
        with pytest.raises(signatures.Malformed):
            signatures.read_key(altered)

    @pytest.mark.parametrize(
        "number",
        [
            0,  # order 4
            1,  # the neutral element
            P - 1,  # order 2
            0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7,  # order 8
            0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,  # order 8
            2**255,  # 0 with the sign bit
            P,  # 0, not canonical
            P + 1,  # 1, not canonical
            2**256 - 1,
        ],
    )
    def test_refuses_small_order_and_non_canonical_points(self, number):
        with pytest.raises(signatures.Malformed):
            signatures.read_key(text_of(number))

    def test_refuses_what_is_no_point(self):
        with pytest.raises(signatures.Malformed):
            signatures.read_key(text_of(2))


class TestVerify:
    @pytest.fixture
    def secret(self):
        return SigningKey.generate()

    def test_accepts_the_signature_of_the_key(self, secret):
        signature = secret.sign("grüße".encode()).signature

        signatures.verify(public_key=bytes(secret.verify_key), message="grüße", signature=signature)

    def test_refuses_a_signature_that_was_made_different_without_the_key(self, secret):
        signature = secret.sign(b"hello").signature
        scalar = int.from_bytes(signature[32:], "little") + L
        malleated = signature[:32] + scalar.to_bytes(32, "little")

        with pytest.raises(signatures.SignatureInvalid):
            signatures.verify(public_key=bytes(secret.verify_key), message="hello", signature=malleated)

    @pytest.mark.parametrize("position", [0, 31, 32, 63])
    def test_refuses_an_altered_signature(self, secret, position):
        signature = bytearray(secret.sign(b"hello").signature)
        signature[position] ^= 1

        with pytest.raises(signatures.SignatureInvalid):
            signatures.verify(public_key=bytes(secret.verify_key), message="hello", signature=bytes(signature))

    def test_refuses_another_length(self, secret):
        with pytest.raises(signatures.SignatureInvalid):
            signatures.verify(public_key=bytes(secret.verify_key), message="hello", signature=b"short")
