"""Which files a Delta, Iceberg or Lance table consists of now. Its folder also has those of earlier versions."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import islice

from ddpm_seg import storage
from ddpm_seg.data.inputs.lance_container import store_options

DELTA_LOG, LANCE_VERSIONS = "_delta_log", "_versions"
ICEBERG_METADATA, LANCE_MANIFEST = ".metadata.json", ".manifest"
_BESIDE = (".avro", ".crc", ".parquet", ".stats")  # other files of tables, of which there may be thousands


def files_of_table(folder: str) -> list[str] | None:
    """The data files of a table's current version, sorted; None if the folder is no such table.

    Raises ValueError for a table that cannot be read by its files alone (some rows are marked as deleted, or columns
    are renamed), one that is damaged, or a library that is not installed; OSError if its storage fails.
    """
    if _holds(storage.join(folder, DELTA_LOG), ".json"):
        files = _read(folder, "Delta", "delta", _delta_files)
    elif _holds(storage.join(folder, "metadata"), ICEBERG_METADATA):
        files = _read(folder, "Iceberg", "iceberg", _iceberg_files)
    elif is_lance_table(folder):
        files = _read(folder, "Lance", "lance", _lance_files)
    else:
        return None
    files = sorted(storage.normalize(file.removeprefix("file://")) for file in files)
    if not storage.is_local(folder) and any(map(storage.is_local, files)):
        raise ValueError(f"{storage.redact(folder)} comes over a network, so it cannot name files on this machine")
    return files


def is_lance_table(folder: str) -> bool:
    """Whether a folder is a Lance table."""
    return _holds(storage.join(folder, LANCE_VERSIONS), LANCE_MANIFEST)


def refuse_files_of_table(uri: str) -> None:
    """Raises ValueError for a file that shows that its folder is a table: files of earlier versions lie beside it."""
    folder, found, _ = uri.partition(f"/{DELTA_LOG}/")
    for place, suffix in (("metadata", ICEBERG_METADATA), (LANCE_VERSIONS, LANCE_MANIFEST)):
        if not found and uri.endswith(suffix):
            folder, found, _ = uri.rpartition(f"/{place}/")
    if found:
        raise ValueError(
            f"{storage.redact(folder)} is a Delta, Iceberg or Lance table, whose folder also has files of earlier "
            "versions: give the table's own folder as the input"
        )


def _read(folder: str, name: str, extra: str, read: Callable[[str], list[str]]) -> list[str]:
    try:
        return read(folder)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{storage.redact(folder)} is a table of {name}: {error}; it needs pip install 'ddpm_seg[{extra}]'"
        ) from error
    except (OSError, storage.StorageUnavailableError):
        raise
    except Exception as error:  # the libraries' own exceptions have no common base
        reason = " ".join(str(error).split())
        raise ValueError(f"{storage.redact(folder)} is not a table of {name} that can be read: {reason}") from error


def _holds(folder: str, suffix: str) -> bool:
    # Among the first few others, for another folder of this name may hold millions of files.
    others = (file.uri for file in storage.list_files(folder) if not file.uri.endswith(_BESIDE))
    return any(uri.endswith(suffix) for uri in islice(others, 1000))


def _delta_files(folder: str) -> list[str]:
    from deltalake import DeltaTable

    table = DeltaTable(folder, storage_options=store_options())
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        raise ValueError("its columns are renamed (column mapping); write it anew without")
    # A table that may have deleted rows in its files says so; deltalake then refuses to read it as well.
    if "deletionVectors" in (table.protocol().reader_features or []):
        raise ValueError("rows may be marked as deleted (deletion vectors); write it anew without them")
    # deltalake quotes the folder in them, and nothing else.
    quoted = f"{table.table_uri.rstrip('/')}/".removeprefix("file://")
    files = [file.removeprefix("file://") for file in table.file_uris()]
    return [storage.join(folder, file[len(quoted) :]) if file.startswith(quoted) else file for file in files]


def _lance_files(folder: str) -> list[str]:
    import lance

    files = []
    for fragment in lance.dataset(folder, storage_options=store_options()).get_fragments():
        if fragment.deletion_file() is not None:
            raise ValueError("rows are marked as deleted; compact it first: dataset.optimize.compact_files()")
        files += [storage.join(folder, "data", file.path) for file in fragment.data_files()]
    return files


def _iceberg_files(folder: str) -> list[str]:
    from pyiceberg.table import StaticTable

    options = {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        options["s3.endpoint"] = endpoint
    files = []
    for task in StaticTable.from_metadata(_newest_metadata(folder), options).scan().plan_files():
        if task.delete_files:
            raise ValueError("rows are marked as deleted (delete files); compact it first")
        files.append(task.file.file_path)
    return files


def _newest_metadata(folder: str) -> str:
    """The metadata file with the highest version: `v3.metadata.json`, or `00003-….metadata.json`."""
    found = [file.uri for file in storage.list_files(storage.join(folder, "metadata"))]
    versions = {uri: re.match(r"v?(\d+)", uri.rpartition("/")[2]) for uri in found if uri.endswith(ICEBERG_METADATA)}
    known = {uri: int(version[1]) for uri, version in versions.items() if version}
    if not known:
        raise ValueError("the names of its metadata have no versions")
    return max(sorted(known), key=lambda uri: known[uri])
