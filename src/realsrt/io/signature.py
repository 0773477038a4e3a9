"""What a file is, by its first bytes: also what cannot be read here, so that the message can say what to do."""

HEAD = 64  # bytes that `identify` wants

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
    (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"IIRO", "RAW"), (b"IIRS", "RAW"), (b"MMOR", "RAW"), (b"IIU\0", "RAW"), (b"FUJIFILMCCD-RAW", "RAW"),
    (b"FOVb", "RAW"), (b"\0MRM", "RAW"), (b"II*\0\x10\0\0\0CR", "RAW"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"),
    (b"BM", "BMP"), (b"8BPS", "PSD"), (b"%PDF", "PDF"), (b"\x76\x2f\x31\x01", "OpenEXR"), (b"#?RADIANCE", "Radiance"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000"), (b"\0\0\1\0", "ICO"),
    (b"DDS ", "DDS"), (b"SIMPLE  =", "FITS"), (b"<svg", "SVG"), (b"gimp xcf", "XCF"),
)  # fmt: skip
_HEIC = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}

_CONVERT = "save it as PNG or TIFF with an image editor first"
ADVICE = {
    "HEIC": "is a HEIC picture, which needs the extra heic: in the source folder, pip install '.[heic]'",
    "JPEG XL": "is a JPEG XL picture, which needs the extra jxl: in the source folder, pip install '.[jxl]'",
    "AVIF": "is an AVIF picture, which this installation's libvips cannot read; convert it to PNG first",
    "CgBI": "is a PNG for iPhone apps (CgBI), not a standard one; convert it with pngcrush or sips first",
    "RAW": "is a camera's raw file; develop it first (darktable, RawTherapee, the camera's program) and give that as "
    "16-bit TIFF or as JPEG",
    "video": "is a video, not a picture; take pictures out of it first",
    **{name: f"is in the format {name}, which is not read here; {_CONVERT}" for name in (
        "BMP", "PSD", "PDF", "OpenEXR", "Radiance", "JPEG 2000", "ICO", "DDS", "FITS", "SVG", "XCF",
    )},
}  # fmt: skip


def identify(head: bytes) -> str:
    """The format's name for a file's first HEAD bytes: one of `formats.LOADERS`, one of ADVICE, or "" if unknown."""
    if head[12:16] == b"CgBI":
        return "CgBI"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12], *(head[place : place + 4] for place in range(16, end - 3, 4))}
        if b"crx " in brands:
            return "RAW"
        return "AVIF" if brands & {b"avif", b"avis"} else "HEIC" if brands & _HEIC else "video"
    return next((name for start, name in _STARTS if head.startswith(start)), "")
