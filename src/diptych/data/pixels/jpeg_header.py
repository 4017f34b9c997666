"""The little that must be known of a JPEG before it is decoded: its size, and whether the fast decoder may have it."""

from __future__ import annotations

from typing import NamedTuple

_START_OF_FRAME = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_NO_PAYLOAD = {0x01, *range(0xD0, 0xD9)}
_EXIF = b"Exif\x00\x00"
_ORIENTATION = 0x0112


class JpegHeader(NamedTuple):
    """Size in pixels, and `plain`: grey or YCbCr, 8 bits, upright."""

    width: int
    height: int
    plain: bool


def read_jpeg_header(encoded: bytes | memoryview) -> JpegHeader | None:
    """Walks the markers up to the frame header; None for what is no JPEG, or one that breaks off before it."""
    if len(encoded) < 4 or bytes(encoded[:2]) != b"\xff\xd8":
        return None
    at, rotated, adobe = 2, False, False
    while at + 4 <= len(encoded):
        if encoded[at] != 0xFF:
            return None
        marker = encoded[at + 1]
        if marker == 0xFF or marker in _NO_PAYLOAD:
            at += 1 if marker == 0xFF else 2
            continue
        length = encoded[at + 2] << 8 | encoded[at + 3]
        payload = bytes(encoded[at + 4 : at + 2 + min(length, 4096)])
        if marker in _START_OF_FRAME and len(payload) >= 6:
            height, width = payload[1] << 8 | payload[2], payload[3] << 8 | payload[4]
            components, precision = payload[5], payload[0]
            plain = precision == 8 and not rotated and (components == 1 or (components == 3 and not adobe))
            return JpegHeader(width, height, plain)
        if marker == 0xE1 and payload.startswith(_EXIF):
            rotated = rotated or _orientation(payload[len(_EXIF) :]) > 1
        if marker == 0xEE and payload.startswith(b"Adobe") and len(payload) >= 12:
            adobe = payload[11] != 1  # 1 is YCbCr, as without the marker; 0 is RGB or CMYK
        if marker == 0xDA:
            return None
        at += 2 + length
    return None


def _orientation(tiff: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 (upright) when it says nothing."""
    order = {b"II": "little", b"MM": "big"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    little = order == "little"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], "little" if little else "big")

    table = number(4, 4)
    for entry in range(table + 2, table + 2 + 12 * number(table, 2), 12):
        if number(entry, 2) == _ORIENTATION:
            return number(entry + 8, 2)
    return 1
