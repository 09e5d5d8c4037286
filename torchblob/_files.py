"""Files that are there as a whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any


def path_of(path: Any, caller: str) -> Path:
    """Return a path that a user gave to `caller`.

    Raises
    ------
    TypeError
        If it is none.
    """
    try:
        return Path(os.fsdecode(path))
    except TypeError as error:
        raise TypeError(
            f"{caller} needs a path, a str or an os.PathLike. Got {path!r:.80}."
        ) from error


def write_atomically(path: Path, data: bytes | bytearray) -> None:
    """Write a file that nobody ever finds half written.

    The bytes go to a file beside it, whose name ends in ".part", reach the disk, and
    only then take the place of what was there. Where that fails, or the process or the
    machine dies, the old file is as it was. The new one has its permissions.

    Parameters
    ----------
    path : Path
        Where; a symbolic link keeps its name and its target is replaced.
    data : bytes or bytearray
        What.

    Raises
    ------
    OSError
        If there is no such folder, no permission or no space, or something that is no
        file, such as a folder or a device.
    """
    target = Path(os.path.realpath(path))
    # Names may have 255 bytes, of which a letter takes up to four.
    part = target.with_name(f"{target.name[:60]}.{secrets.token_hex(4)}.part")
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "Not a regular file")
        with open(part, "xb") as file:
            if target.exists():
                shutil.copymode(target, part)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        with suppress(OSError):
            part.unlink()
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Bring the folder's list of files to the disk, where the system does that."""
    with suppress(OSError):  # Windows opens no folders, and some file systems sync none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
