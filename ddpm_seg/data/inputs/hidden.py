"""Recognises files that are not data: hidden ones, and those that operating systems leave beside them."""

from __future__ import annotations

# From macOS's archives, Synology's thumbnails, Windows and Linux disks.
_SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"))


def is_hidden_name(name: str) -> bool:
    """Whether one part of a path is hidden (`.ipynb_checkpoints`, `._x.png`) or a system folder (`__MACOSX`)."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def is_hidden_below(uri: str, folder: str) -> bool:
    """Whether a file is hidden within `folder`; `folder` itself may be hidden."""
    return any(map(is_hidden_name, uri.removeprefix(folder.rstrip("/") + "/").split("/")))
