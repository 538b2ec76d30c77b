"""Derive every seed from the one `seed` of params.yaml, by purpose."""

from __future__ import annotations

import hashlib


def derive(seed: int, purpose: str) -> int:
    """Give a seed for one purpose, below 2**31; other purposes and seeds are unrelated to it."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
