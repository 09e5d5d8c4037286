"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file such that it is, at each moment, the old one or the new one.

    Parameters
    ----------
    path : str or PathLike
        Where; a file that is there is replaced.
    data : bytes
        What.
    """
    target = Path(path)
    # Beside the file, since a file can't be moved at once to another file system.
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
