"""SIF files without data."""

from __future__ import annotations

import struct

PARTITION, TEXT = 0x4004, 0x4001


def a_sif(code: bytes = b"02\0", kinds: tuple[tuple[int, bool], ...] = ((TEXT, True), (PARTITION, True))) -> bytes:
    """Return a SIF file as Apptainer writes it, without its data; all descriptors have an architecture."""
    header = struct.pack(
        "<32s10s3s3s16s2q2q2q2q",
        b"#!/usr/bin/env run-singularity\n",
        b"SIF_MAGIC\0",
        b"01\0",
        code,
        b"i" * 16,
        1,
        1,
        46,
        len(kinds),
        4096,
        585 * len(kinds),
        32176,
        0,
    )
    descriptors = b"".join(
        struct.pack("<i?3I7q128s", kind, used, 1, 1, 0, *[0] * 7, b"name")
        + struct.pack("<ii3s", 1, 2, code).ljust(384, b"\0")
        for kind, used in kinds
    )
    return header.ljust(4096, b"\0") + descriptors
