"""MNIST: 70,000 handwritten digits of 28x28 pixels, from four files in the IDX format.

An IDX file is a big-endian uint32 magic number (0x0800 + number of dimensions, for bytes), one
uint32 for each dimension, then the bytes, last dimension fastest.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ._cache import cache_folder, download

Part = tuple[NDArray[np.uint8], NDArray[np.uint8]]

# The published .gz archives. A copy compressed anew holds the same data under another hash, so
# these decide what a download must be, not what a folder given by the user may hold.
SHA256 = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
)

_IMAGES, _LABELS = 0x0803, 0x0801  # magic numbers: bytes in three dimensions, bytes in one
_MEANING = {_IMAGES: "images", _LABELS: "labels"}


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[Part, Part]:
    """Load MNIST.

    The four files (`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`,
    `t10k-labels-idx1-ubyte`, each plain or with `.gz`) are taken from the first of these places:
    the folder `path`, which alone is looked at if given; the folder in the environment variable
    `RANVIER_DATA`, or its sub-folder `mnist`; `mnist` in the cache (the folder in `RANVIER_CACHE`,
    else `ranvier` in the system's cache folder). What the cache lacks is downloaded, about 11 MB,
    which needs pooch: `pip install "ranvier[datasets]"`.

    Args:
        path: folder of the four files. It may hold any number of images, if each has its label.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images, uint8 of shape (60000, 28, 28) and
        (10000, 28, 28) with ink from 0 (none) to 255 (full), and their labels 0 to 9, uint8 of
        shape (60000,) and (10000,).

    Raises:
        FileNotFoundError: `path` or `RANVIER_DATA` is not a folder, or lacks some of the files.
        ValueError: a file is truncated, damaged, or not the one its name says.
        ImportError: a download is needed and pooch is not installed.
        ConnectionError: a download is needed and no mirror delivered the published file.

    Source:
        Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
        recognition", Proceedings of the IEEE 86(11), 1998. Data by Y. LeCun, C. Cortes and
        C. Burges (CC BY-SA 3.0).
    """
    files = _locate(path)
    return _read_part(files, "train"), _read_part(files, "t10k")


def _locate(path: str | os.PathLike[str] | None) -> dict[str, Path]:
    """Name -> file for the four files, downloading into the cache what no place holds."""
    if path is not None:
        return _complete(Path(path).expanduser())
    data = os.environ.get("RANVIER_DATA")
    if data:
        root = Path(data).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"[mnist] RANVIER_DATA={data} is not a folder")
        fullest = max(root, root / "mnist", key=lambda folder: len(_present(folder)))
        if _present(fullest):  # three of the four files are a mistake to report, not to paper over
            return _complete(fullest)
    cache = cache_folder() / "mnist"
    held = _present(cache)
    lacking = {f"{name}.gz": sha256 for name, sha256 in SHA256.items() if name not in held}
    if lacking:
        download(lacking, MIRRORS, cache)
    return _complete(cache)


def _present(folder: Path) -> dict[str, Path]:
    """Name -> file for those of the four files that `folder` holds; a plain file before its .gz."""
    choices = ((name, folder / (name + end)) for name in SHA256 for end in (".gz", ""))
    return {name: file for name, file in choices if file.is_file()}


def _complete(folder: Path) -> dict[str, Path]:
    files = _present(folder)
    if len(files) < len(SHA256):
        lacking = ", ".join(name for name in SHA256 if name not in files)
        found = f"lacks {lacking}" if folder.is_dir() else "is not a folder"
        raise FileNotFoundError(
            f"[mnist] {folder} {found}; expected a folder with the four files {', '.join(SHA256)}, "
            "each plain or with .gz"
        )
    return files


def _read_part(files: dict[str, Path], part: str) -> Part:
    images_file, labels_file = (
        files[f"{part}-images-idx3-ubyte"],
        files[f"{part}-labels-idx1-ubyte"],
    )
    x, y = _read_idx(images_file, _IMAGES), _read_idx(labels_file, _LABELS)
    if x.shape[1:] != (28, 28):
        raise ValueError(
            f"[mnist] {images_file} has images of {x.shape[1]}x{x.shape[2]} pixels; expected 28x28"
        )
    if y.max() > 9:
        raise ValueError(f"[mnist] {labels_file} has a label {y.max()}; expected 0 to 9")
    if len(x) != len(y):
        raise ValueError(
            f"[mnist] {images_file} has {len(x)} images but {labels_file} has {len(y)} labels; "
            "expected one label for each image: are files of train and t10k swapped?"
        )
    return x, y


def _read_idx(file: Path, magic: int) -> NDArray[np.uint8]:
    """The array in an IDX file, compressed or not, whose magic number must be `magic`."""
    content = file.read_bytes()
    # Told by content, not by name: some browsers unpack a .gz and keep its name.
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"[mnist] {file} is a truncated or damaged gzip file ({error}); "
                "replace or delete it"
            ) from error
    if content[:4] != magic.to_bytes(4, "big"):
        found = _MEANING.get(int.from_bytes(content[:4], "big"), "not a file of MNIST")
        raise ValueError(
            f"[mnist] {file} starts with the bytes {content[:4].hex(' ') or '(none)'} ({found}); "
            f"expected {magic.to_bytes(4, 'big').hex(' ')} ({_MEANING[magic]})"
        )
    ndim = magic & 0xFF
    header = 4 + 4 * ndim
    if len(content) < header:
        raise ValueError(
            f"[mnist] {file} ends after {len(content)} bytes, within its header; expected a header "
            f"of {header} bytes: replace or delete it"
        )
    shape: tuple[int, ...] = struct.unpack_from(f">{ndim}I", content, 4)
    size = math.prod(shape)  # of Python integers: a damaged header does not overflow
    if size == 0 or len(content) != header + size:
        raise ValueError(
            f"[mnist] {file} has {len(content) - header} bytes of {_MEANING[magic]}; expected "
            f"{' x '.join(map(str, shape))} = {size} from its header, and at least 1: it is "
            "truncated or damaged, replace or delete it"
        )
    array: NDArray[np.uint8] = np.empty(shape, np.uint8)  # the user's to write to, as bytes are not
    array.reshape(-1)[:] = np.frombuffer(content, dtype=np.uint8, offset=header)
    return array
