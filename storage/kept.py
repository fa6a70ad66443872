"""Delivered bytes that the lake keeps (``[lake] keep_payloads``): ``LAKE/payloads/<SHA-256 of the bytes>.zst``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from storage.errors import Busy
from storage.files import fsync_folder, sha256_of
from storage.points import reached
from storage.zstd import zstd

FOLDER = "payloads"
OPTIONS: dict[int, int] = {zstd.CompressionParameter.compression_level: 3, zstd.CompressionParameter.checksum_flag: 1}
CHUNK_BYTES = 1 << 20


def kept_path(root: Path, sha256: str) -> Path:
    """Return where the lake at ``root`` keeps the bytes of ``sha256``."""
    return root / FOLDER / f"{sha256}.zst"


def keep(root: Path, sha256: str, source: BinaryIO) -> dict[str, Any]:
    """Make the bytes of ``source`` durable in the lake; return what the ledger keeps of the file.

    Raises :class:`Busy` when they are not those of ``sha256``: the source was changed after it was read.
    """
    path = kept_path(root, sha256)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{sha256}.{os.getpid()}.tmp")
        digest = hashlib.sha256()
        try:
            with open(temporary, "wb") as file:
                reached("file_opened", temporary)
                with zstd.ZstdFile(file, "wb", options=OPTIONS) as packed:
                    while data := source.read(CHUNK_BYTES):
                        digest.update(data)
                        packed.write(data)
                file.flush()
                reached("file_written", temporary)
                os.fsync(file.fileno())
            reached("file_synced")
            if digest.hexdigest() != sha256:
                raise Busy("a source was changed while it was read; nothing was committed. Run the same command again")
            os.rename(temporary, path)
            reached("file_renamed")
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(path.parent)
        fsync_folder(root)
        reached("file_durable")
    return {"path": path.relative_to(root).as_posix(), "size": path.stat().st_size, "sha256": sha256_of(path)}


def open_kept(path: Path) -> BinaryIO:
    """Open the delivered bytes of a kept file."""
    return cast(BinaryIO, zstd.ZstdFile(path, "rb"))


def sound_kept(root: Path, sha256: str) -> bool:
    """Tell whether the lake keeps the bytes of ``sha256``, and they are those."""
    try:
        digest = hashlib.sha256()
        with open_kept(kept_path(root, sha256)) as file:
            while data := file.read(CHUNK_BYTES):
                digest.update(data)
                reached("kept_read")
        return digest.hexdigest() == sha256
    except (OSError, EOFError, zstd.ZstdError):
        return False


def kept_fault(root: Path, entry: Mapping[str, Any], *, quick: bool) -> str | None:
    """Return what is wrong with a kept file that the ledger names."""
    path = root / entry["path"]
    try:
        size = path.stat().st_size
        if size != entry["size"]:
            return f"{size} bytes on disk, {entry['size']} in the ledger"
        if not quick and sha256_of(path) != entry["sha256"]:
            return "its SHA-256 is not the one in the ledger"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable: {error}"
    return None
