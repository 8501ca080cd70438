"""Pointers of Git LFS: the few lines that a checkout without `git lfs pull` has in place of a large file."""

from __future__ import annotations


def lfs_pointer(begin: bytes, expected: str) -> str:
    """What to say of a file that begins with these bytes, where `expected` should be; "" if it is no pointer."""
    if not begin.startswith(b"version https://git-lfs"):
        return ""
    return f"a pointer of Git LFS, expected the {expected} itself; get it with `git lfs pull`"
