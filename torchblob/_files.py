"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file that nobody ever finds half written.

    The bytes go to a file beside it, whose name ends in ".part", reach the disk, and
    only then take the place of what was there. Where that fails, or the process or the
    machine dies, the old file is as it was.

    Parameters
    ----------
    path : str or os.PathLike
        Where; a symbolic link keeps its name and its target is replaced.
    data : bytes
        What.

    Raises
    ------
    OSError
        If there is no such folder, no permission or no space.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            error.filename, error.filename2 = os.fspath(path), None
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Bring the folder's list of files to the disk, where the system does that."""
    with suppress(OSError):  # Windows opens no folders, and some file systems sync none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
