"""Verifies a case pack: curl -s https://PLATFORM/.well-known/bailee-keys.json | python verify_pack.py PACK.zip"""

import json
import sys
from base64 import urlsafe_b64decode
from hashlib import sha256
from zipfile import ZipFile

from nacl.signing import VerifyKey

pack, keys = ZipFile(sys.argv[1]), json.load(sys.stdin)["keys"]
signed = pack.read("manifest.json")
manifest = json.loads(signed)
key = next(key["public_key"] for key in keys if key["id"] == manifest["key_id"])
VerifyKey(urlsafe_b64decode(key + "=")).verify(signed, pack.read("manifest.sig"))
names = sorted([*manifest["files"], "manifest.json", "manifest.sig"])
genuine = names == sorted(pack.namelist()) and all(
    sha256(pack.read(name)).hexdigest() == digest for name, digest in manifest["files"].items()
)
sys.exit(0 if genuine else "NOT genuine: a file was added, removed or changed")
