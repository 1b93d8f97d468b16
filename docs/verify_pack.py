"""Verifies a case pack: curl -s https://PLATFORM/.well-known/bailee-keys.json | python verify_pack.py PACK.zip"""

import json
import sys
from base64 import urlsafe_b64decode
from hashlib import sha256
from zipfile import ZipFile

from nacl.signing import VerifyKey

pack, keys = ZipFile(sys.argv[1]), {key["id"]: key["public_key"] for key in json.load(sys.stdin)["keys"]}
manifest = json.loads(signed := pack.read("manifest.json"))
VerifyKey(urlsafe_b64decode(keys[manifest["key_id"]] + "=")).verify(signed, pack.read("manifest.sig"))
listed = sorted(pack.namelist()) == sorted([*manifest["files"], "manifest.json", "manifest.sig"])
same = listed and all(sha256(pack.read(name)).hexdigest() == sha for name, sha in manifest["files"].items())
# Other programs find in a ZIP what it does not list: so one member begins where the one before ends, and nothing else.
sizes = [30 + len(one.filename) + one.file_size for one in pack.infolist() if not one.compress_type]
starts = [*(one.header_offset for one in pack.infolist()), pack.start_dir, pack.fp.seek(0, 2)]  # type: ignore[union-attr]
whole = starts == [sum([*sizes, 22 + sum(46 + len(name) for name in pack.namelist())][:n]) for n in range(len(starts))]
sys.exit(0 if same and whole else "NOT genuine: a file was added, removed or changed")
