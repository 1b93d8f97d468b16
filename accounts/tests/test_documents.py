import base64

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from accounts import documents, signatures


def key_of(text):
    return VerifyKey(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


class TestSign:
    def test_can_be_verified_by_the_published_key(self):
        seal = documents.sign(b"a document")

        (key,) = documents.published()["keys"]
        assert (key["id"], key["algorithm"], key["current"]) == (seal.key_id, "Ed25519", True)
        key_of(key["public_key"]).verify(b"a document", seal.signature)
        with pytest.raises(BadSignatureError):
            key_of(key["public_key"]).verify(b"another", seal.signature)

    def test_is_the_same_each_time(self):
        assert documents.sign(b"a document") == documents.sign(b"a document")

    @pytest.mark.parametrize("key", ["", "short", "A" * 44, "A" * 42 + "B"])
    def test_takes_no_key_of_another_form(self, settings, key):
        settings.DOCUMENT_KEY = key

        with pytest.raises(signatures.Malformed):
            documents.sign(b"a document")


class TestPublished:
    def test_keeps_earlier_keys(self, settings):
        before = documents.published()["keys"][0]
        settings.DOCUMENT_EARLIER_PUBLIC_KEYS = [before["public_key"]]
        settings.DOCUMENT_KEY = signatures.write(bytes(SigningKey.generate()))

        now, earlier = documents.published()["keys"]

        assert now["current"] is True
        assert earlier == before | {"current": False}
        assert now["id"] != earlier["id"]

    def test_names_the_current_key_once(self, settings):
        settings.DOCUMENT_EARLIER_PUBLIC_KEYS = [documents.published()["keys"][0]["public_key"]]

        assert len(documents.published()["keys"]) == 1

    def test_publishes_no_other_text(self, settings):
        settings.DOCUMENT_EARLIER_PUBLIC_KEYS = ["no key"]

        with pytest.raises(ImproperlyConfigured):
            documents.published()

    def test_tells_nothing_of_the_private_key(self, settings):
        assert settings.DOCUMENT_KEY not in str(documents.published())

    def test_is_there_for_everybody(self):
        answer = Client().get("/.well-known/bailee-keys.json")

        assert answer.status_code == 200
        assert answer.json() == documents.published()
