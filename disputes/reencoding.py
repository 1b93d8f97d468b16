"""
Reads a PNG or JPEG from standard input and writes its pixels, and nothing else of it, as a PNG to standard output.

Run as a program of its own (images.py), because decoders of pictures have had holes: it has no environment, takes its
limits upon itself before it reads a byte, and whatever becomes of it the web process goes on. Exit codes: 0 done, 3 not
a picture that can be shown (the reason is on standard error).
"""

import io
import resource
import sys

MEMORY_BYTES = 1024**3
CPU_SECONDS = 10
MAX_PIXELS = 50_000_000
SHOWN_PIXELS = 1_600  # the longer side
UNREADABLE = 3


def main() -> None:
    _limit()
    content = sys.stdin.buffer.read()
    try:
        shown = _reencoded(content)
    except Exception as error:  # a decoder of hostile bytes may raise anything
        sys.stderr.write(f"{type(error).__name__}: {error}"[:200])
        sys.exit(UNREADABLE)
    sys.stdout.buffer.write(shown)


def _limit() -> None:
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for what, most in limits.items():
        resource.setrlimit(what, (most, most))


def _reencoded(content: bytes) -> bytes:
    from PIL import Image, ImageOps

    # Pillow's own guard only warns up to twice this; ours is the one below, before a pixel is decoded.
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        image.draft("RGB", (SHOWN_PIXELS, SHOWN_PIXELS))
        image.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS))
        upright = ImageOps.exif_transpose(image)
        mode = "RGBA" if "A" in upright.getbands() or "transparency" in upright.info else "RGB"
        # A picture of its own takes over pixels, not the metadata that `info` carries.
        clean = Image.new(mode, upright.size)
        clean.paste(upright.convert(mode))
    out = io.BytesIO()
    clean.save(out, "PNG")
    return out.getvalue()


if __name__ == "__main__":
    main()
