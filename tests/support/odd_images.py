"""Image files byte by byte: of more than 8 bits, which Pillow does not write in colour."""

import struct
import zlib

COLOUR_TYPES = {"grey": (0, 1), "rgb": (2, 3), "grey alpha": (4, 2), "rgba": (6, 4)}
"""PNG's colour type and number of channels."""


def png(kind: str, bits: int, value: int, side: int = 4) -> bytes:
    """Return a PNG whose channels all have this value (PNG specification, sections 5 and 11)."""
    colour_type, channels = COLOUR_TYPES[kind]
    row = b"\0" + value.to_bytes(bits // 8, "big") * channels * side
    head = struct.pack(">IIBBBBB", side, side, bits, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(row * side)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def tiff(channels: int, bits: int, value: int, side: int = 4) -> bytes:
    """Return an uncompressed TIFF whose channels all have this value (TIFF 6.0, section 2), of 1 or 3 channels."""
    data = value.to_bytes(bits // 8, "little") * channels * side * side
    entries = {256: side, 257: side, 258: bits, 259: 1, 262: 2 if channels == 3 else 1, 273: 0, 277: channels}
    entries |= {278: side, 279: len(data)}
    end = 8 + 2 + 12 * len(entries) + 4
    words = struct.pack(f"<{channels}H", *[bits] * channels)
    entries[273] = end + len(words)
    if channels > 1:
        entries[258] = end
    fields = b"".join(
        struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, channels if tag == 258 else 1, entry)
        for tag, entry in entries.items()
    )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + fields + struct.pack("<I", 0) + words + data


def ppm(channels: int, most: int, value: int, side: int = 4) -> bytes:
    """Return a binary PGM or PPM whose channels all have this value (its manual page), of at most `most`."""
    data = value.to_bytes(2 if most > 255 else 1, "big") * channels * side * side
    return b"P%d\n%d %d\n%d\n" % (6 if channels == 3 else 5, side, side, most) + data
