"""Pictures of strangers: decoded elsewhere, shown clean, or not at all."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from disputes import images, reencoding

FOLDER = Path(reencoding.__file__).parent


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Write a PNG that promises many pixels and holds few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1_000))) + chunk(b"IEND", b"")


def shown(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(images.reencoded(content)))
    image.load()
    return image


class TestReencoded:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_shows_the_pixels(self, kind):
        image = shown(encoded(Image.new("RGB", (60, 40), (200, 30, 30)), kind))

        assert (image.format, image.size) == ("PNG", (60, 40))
        assert max(abs(a - b) for a, b in zip(image.getpixel((30, 20)), (200, 30, 30), strict=True)) < 4

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
    def test_reads_every_kind_of_png(self, mode):
        assert shown(encoded(Image.new(mode, (9, 9)))).mode in ("RGB", "RGBA")

    def test_reads_a_jpeg_for_print(self):
        assert shown(encoded(Image.new("CMYK", (9, 9)), "JPEG")).mode == "RGB"

    def test_leaves_no_metadata(self):
        exif = Image.Exif()
        exif[0x010E] = "taken at 12 Private Street"
        texts = PngInfo()
        texts.add_text("Comment", "<script>alert(1)</script>")
        texts.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>Private Street</x:xmpmeta>")
        png = encoded(Image.new("RGB", (9, 9)), pnginfo=texts, exif=exif, icc_profile=b"Private Street")
        jpeg = encoded(Image.new("RGB", (9, 9)), "JPEG", exif=exif, comment=b"Private Street")

        for content in (png, jpeg):
            clean = images.reencoded(content)
            assert b"Private Street" in content
            assert b"Private" not in clean
            assert b"script" not in clean
            assert Image.open(io.BytesIO(clean)).info == {}

    def test_leaves_nothing_of_what_hangs_behind_a_picture(self):
        content = encoded(Image.new("RGB", (9, 9))) + b"PK\x03\x04<html><script>"

        assert b"script" not in images.reencoded(content)

    def test_turns_a_photo_upright(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # a quarter turn

        assert shown(encoded(Image.new("RGB", (60, 40)), "JPEG", exif=exif)).size == (40, 60)

    def test_is_bounded_in_size(self):
        assert shown(encoded(Image.new("RGB", (4_000, 1_000)), "JPEG")).size == (1_600, 400)

    def test_keeps_what_is_transparent(self):
        assert shown(encoded(Image.new("RGBA", (9, 9), (1, 2, 3, 4)))).getpixel((0, 0)) == (1, 2, 3, 4)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"GIF89a\x01\x00\x01\x00",
            b"\x89PNG\r\n\x1a\n" + b"<svg>" * 20,
            b"\xff\xd8\xff" + os.urandom(500),
            encoded(Image.new("RGB", (200, 200)), "JPEG")[:300],
        ],
    )
    def test_refuses_what_is_no_whole_picture(self, content):
        with pytest.raises(images.Unreadable) as refusal:
            images.reencoded(content)

        assert refusal.value.code == "unreadable_image"

    @pytest.mark.parametrize(("width", "height"), [(50_000, 1_001), (8_000, 6_251), (2**31 - 1, 1)])
    def test_refuses_a_bomb_before_a_pixel_is_decoded(self, width, height):
        with pytest.raises(images.Unreadable, match=r"ValueError|DecompressionBombError"):
            images.reencoded(png_header(width, height))

    def test_gives_up_in_time(self, monkeypatch):
        monkeypatch.setattr(images, "WALL_SECONDS", 0.001)

        with pytest.raises(images.Unreadable, match="too long"):
            images.reencoded(encoded(Image.new("RGB", (9, 9))))

    def test_survives_a_decoder_that_dies(self, monkeypatch, tmp_path):
        dying = tmp_path / "dying.py"
        dying.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
        monkeypatch.setattr(images, "_PROGRAM", dying)

        with pytest.raises(images.Unreadable, match="broken off"):
            images.reencoded(encoded(Image.new("RGB", (9, 9))))

    def test_tells_the_decoder_no_secret(self, monkeypatch, tmp_path):
        telling = tmp_path / "telling.py"
        telling.write_text("import os, sys\nsys.stdout.write(repr((sorted(os.environ), os.getcwd())))\n")
        monkeypatch.setattr(images, "_PROGRAM", telling)
        monkeypatch.setenv("DATABASE_URL", "postgres://secret")

        said = images.reencoded(encoded(Image.new("RGB", (9, 9)))).decode()

        assert "DATABASE_URL" not in said
        assert said.endswith("'/')")


class TestLimits:
    def run(self, program: str) -> subprocess.CompletedProcess:
        start = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import reencoding as r, resource\n"
        return subprocess.run([sys.executable, "-I", "-c", start + program], input=b"", capture_output=True)

    def test_are_on_before_a_byte_is_read(self):
        done = self.run(
            "def read(content): raise OSError(resource.getrlimit(resource.RLIMIT_CPU)[0],"
            " resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_FSIZE)[0])\n"
            "r._reencoded = read\nr.main()"
        )

        assert done.returncode == reencoding.UNREADABLE
        assert b"10" in done.stderr
        assert str(1024**3).encode() in done.stderr

    def test_end_what_takes_too_much_memory(self):
        done = self.run("r._reencoded = lambda content: bytes(2 * 1024**3)\nr.main()")

        assert done.returncode == reencoding.UNREADABLE
        assert b"MemoryError" in done.stderr

    def test_end_what_takes_too_much_time(self):
        done = self.run("r.CPU_SECONDS = 1\nr._limit()\nwhile True: pass")

        assert done.returncode < 0

    def test_let_it_write_no_file(self, tmp_path):
        done = self.run(f"r._limit()\nopen({str(tmp_path / 'x')!r}, 'w').write('x' * 100_000)")

        assert done.returncode != 0
        assert not (tmp_path / "x").exists() or (tmp_path / "x").stat().st_size == 0
