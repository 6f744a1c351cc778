"""Downloads unpacked without trusting them."""

import errno
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
# QaTa-COV19 has 19 000 files; the densest of the field's archives, masks as PNG, shrink to a tenth.
LARGEST_NUMBER = 1_000_000
LARGEST_RATIO = 200
_CHUNK = 1 << 20
# What the readers of archives stumble over; a password is a RuntimeError, an unknown compression a NotImplementedError.
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError,
            RuntimeError)  # fmt: skip
_OF_THE_DISK = (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT)


class ArchiveError(ValueError):
    """An archive that cannot or should not be unpacked. The message names archive and entry."""


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    member: zipfile.ZipInfo | tarfile.TarInfo
    is_folder: bool
    is_plain: bool


def unpack(archive: str | Path, target: str | Path, *, max_bytes: int = 100 * 2**30) -> list[Path]:
    """Unpacks a zip or tar archive into a folder that is new or empty.

    Every entry is looked at before the first is written: names that leave the folder, links and devices, two entries of
    one name, too many files or too many bytes are refused. Bytes are counted again while they are written, as headers
    may lie. Everything goes into a folder beside the target first, which is renamed at the end: there is all or nothing.

    Args:
        archive: `.zip`, `.tar`, `.tar.gz` or `.tgz`.
        target: the folder to be made.
        max_bytes: of all files together, unpacked.

    Returns:
        The files, in the archive's order.

    Raises:
        ArchiveError: not an archive, damaged, encrypted, or one that could do harm.
        FileExistsError: the target holds something.
    """
    archive, target = Path(archive), Path(target)
    if not archive.is_file():
        raise ArchiveError(f"{archive} is missing; give an archive ({', '.join(ARCHIVE_SUFFIXES)}).")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} holds something already; give a new folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        names = _unpack(archive, fresh, max_bytes)
        if target.exists():
            target.rmdir()
        os.replace(fresh, target)
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise
        raise ArchiveError(
            f"{archive} is damaged or encrypted ({type(error).__name__}: {error}); fetch it again."
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return [target / name for name in names]


def _unpack(archive: Path, folder: Path, max_bytes: int) -> list[str]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            entries = [_Entry(info.filename, info.file_size, info, info.is_dir(), not _is_link(info))
                       for info in file.infolist()]  # fmt: skip
            return _write_all(archive, entries, folder, max_bytes, lambda entry: file.open(entry.member))
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            members = _limited(archive, tar)
            entries = [_Entry(member.name, member.size, member, member.isdir(), member.isfile() or member.isdir())
                       for member in members]  # fmt: skip
            return _write_all(archive, entries, folder, max_bytes, lambda entry: tar.extractfile(entry.member))
    raise ArchiveError(f"{archive} is no archive that is known ({', '.join(ARCHIVE_SUFFIXES)}).")


def _is_link(info: zipfile.ZipInfo) -> bool:
    mode = info.external_attr >> 16
    return bool(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and stat.S_IFMT(mode) != 0


def _limited(archive: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for number, member in enumerate(tar):
        if number >= LARGEST_NUMBER:
            raise ArchiveError(f"{archive} has more than {LARGEST_NUMBER} entries; unpack it by hand if you trust it.")
        yield member


def _write_all(archive: Path, entries: list[_Entry], folder: Path, max_bytes: int, opened) -> list[str]:
    _check(archive, entries, max_bytes)
    folder.mkdir(parents=True)
    left, written = max_bytes, []
    for entry in entries:
        path = folder / entry.name.replace("\\", "/")
        if entry.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened(entry) as source:
            left -= _copy(archive, entry, source, path, left)
        written.append(str(PurePosixPath(entry.name.replace("\\", "/"))))
    return written


def _check(archive: Path, entries: list[_Entry], max_bytes: int) -> None:
    if len(entries) > LARGEST_NUMBER:
        raise ArchiveError(f"{archive} has {len(entries)} entries, more than {LARGEST_NUMBER}.")
    seen: set[str] = set()
    for entry in entries:
        name = PurePosixPath(entry.name.replace("\\", "/"))
        outside = name.is_absolute() or ".." in name.parts or ":" in entry.name or "\0" in entry.name or not name.parts
        if outside and not (entry.is_folder and not name.parts):
            raise ArchiveError(
                f"{archive}: the entry {entry.name!r} would be written outside its folder; nothing was unpacked."
            )
        if not entry.is_plain:
            raise ArchiveError(f"{archive}: the entry {entry.name!r} is a link or device; nothing was unpacked.")
        # As on computers that do not tell case apart.
        key = str(name).casefold()
        if key in seen and not entry.is_folder:
            raise ArchiveError(f"{archive}: two entries are called {entry.name!r}; nothing was unpacked.")
        seen.add(key)
    total = sum(entry.size for entry in entries)
    if total > max_bytes:
        raise ArchiveError(
            f"{archive} would unpack to {total} bytes, more than {max_bytes}; raise `max_bytes` if you trust it."
        )
    if total > LARGEST_RATIO * archive.stat().st_size + _CHUNK:
        raise ArchiveError(
            f"{archive} would unpack to {total} bytes, more than {LARGEST_RATIO} times its {archive.stat().st_size}; it is "
            "made to fill disks. Unpack it by hand if you trust it."
        )


def _copy(archive: Path, entry: _Entry, source: IO[bytes], path: Path, left: int) -> int:
    written = 0
    with open(path, "xb") as file:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > left or written > entry.size:
                raise ArchiveError(f"{archive}: {entry.name!r} holds more than the {entry.size} bytes it claims.")
            file.write(chunk)
    return written
