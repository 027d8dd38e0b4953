"""Where downloaded data sets are kept, and how a file gets there."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def cache_folder() -> Path:
    """The folder of downloaded data sets: `RANVIER_CACHE`, else this system's cache folder.

    The system's folder is the usual answer of `pooch.os_cache("ranvier")`, found without pooch so
    that reading data which is already there needs NumPy alone.
    """
    chosen = os.environ.get("RANVIER_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(local) / "ranvier" / "ranvier" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ranvier"
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))  # a relative one is void, says its standard
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "ranvier"


def download(hashes: Mapping[str, str], mirrors: Sequence[str], folder: Path) -> None:
    """Download files into `folder`, each from the first mirror that delivers its true content.

    A file appears under its name only when it is whole and its hash is right: pooch writes to a
    temporary file beside it, checks that, and renames it.

    Args:
        hashes: file name -> SHA256 of the file, 64 hexadecimal digits.
        mirrors: addresses of folders, each ending in "/", tried in turn.
        folder: where the files go; made if it does not exist.

    Raises:
        ImportError: pooch is not installed.
        ConnectionError: no mirror delivered one of the files; lists every mirror and its failure.
        OSError: `folder` cannot be made or written.
    """
    try:
        import pooch
        from requests.exceptions import RequestException  # pooch's own HTTP client
    except ImportError as error:
        raise ImportError(
            f"[datasets] downloading {', '.join(hashes)} needs pooch: "
            'pip install "ranvier[datasets]"; or give load_data the folder of the files as path='
        ) from error
    in_turn = list(mirrors)
    for name, sha256 in hashes.items():
        failures = []
        for mirror in list(in_turn):
            try:
                pooch.retrieve(mirror + name, known_hash=sha256, fname=name, path=folder)
            except (RequestException, ValueError) as error:  # ValueError: the hash is wrong
                failures.append(f"  {mirror}{name}: {error}")
                # The next file starts with a mirror that works instead of waiting here again.
                in_turn.remove(mirror)
                in_turn.append(mirror)
            else:
                break
        else:
            raise ConnectionError(
                f"[datasets] no mirror delivered {name}:\n" + "\n".join(failures) + "\n"
                "Check the connection; or get the files elsewhere and give load_data their folder "
                "as path= or in the environment variable RANVIER_DATA."
            )
