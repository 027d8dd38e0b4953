"""Pictures from folders, as arrays that `fit` takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import seeds

__all__ = ["image_dataset"]

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".webp")
_MODES = {"rgb": ("RGB", 3), "rgba": ("RGBA", 4), "grayscale": ("L", 1)}
_FILTERS = {
    "nearest": "NEAREST",
    "bilinear": "BILINEAR",
    "bicubic": "BICUBIC",
    "area": "BOX",
    "lanczos": "LANCZOS",
}


def image_dataset(
    directory: str | os.PathLike[str],
    labels: str | Sequence[int] | None = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    image_size: tuple[int, int] = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    crop_to_aspect_ratio: bool = False,
    memmap: str | os.PathLike[str] | None = None,
) -> Any:
    """Read a folder of pictures, one folder inside for each class, into arrays.

    What Keras calls `image_dataset_from_directory`, with its arguments but those of batches, which
    are `fit`'s. Needs Pillow: pip install "ranvier[images]". Pillow's filters look at all pixels
    when a picture becomes smaller, and TensorFlow's at the nearest, so values differ a little.

    Args:
        directory: the folder; pictures are looked for at any depth below each class's folder, in
            the order of their names.
        labels: "inferred" from the folders; None for pictures without labels, anywhere below
            directory; or a label for each picture, in the order of their paths.
        label_mode: "int" (n,) int32; "categorical" (n, classes) one-hot float32; "binary" (n, 1)
            float32, for two classes; None: no labels.
        class_names: the folders, in the order of their numbers; None: all, by the alphabet.
        color_mode: "rgb", "rgba" or "grayscale".
        image_size: (height, width) to which pictures are resized.
        shuffle: whether they are in an order drawn by the seed, else by class and name.
        seed: an integer, or None for one from `utils.set_random_seed`'s stream. Two calls for the
            two subsets need the same.
        validation_split: the share for validation, between 0 and 1: the last in that order.
        subset: with validation_split: "training", "validation" or "both".
        interpolation: "nearest", "bilinear", "bicubic", "area" or "lanczos".
        crop_to_aspect_ratio: cut out the largest middle part of the wanted shape rather than
            distort.
        memmap: a path to write the pictures to, as .npy, so that they need no memory: x is then
            read from there as training goes on. Not with subset="both".

    Returns:
        (x, y, class_names): x (n, height, width, channels) uint8; y as label_mode says, or None.
        With subset="both": ((x, y), (x_validation, y_validation), class_names).

    Raises:
        ValueError: if an argument is unusable, or there are no pictures.
        FileNotFoundError: if there is no such directory, or class in it.
        ImportError: if Pillow is not installed.
    """
    image = _pillow()
    height, width = _check(
        directory, labels, label_mode, color_mode, image_size, validation_split, subset,
        interpolation, memmap,
    )  # fmt: skip
    paths, y, names = _find(os.fspath(directory), labels, class_names)
    if label_mode == "binary" and y is not None and len(names) != 2:
        raise ValueError(f"[image_dataset] 'binary' needs two classes; found {names}")
    order = np.arange(len(paths))
    if shuffle:
        order = seeds.generator(seed).permutation(order)
    parts = [order]
    if validation_split is not None:
        last = len(order) - int(len(order) * validation_split)
        both = {"training": order[:last], "validation": order[last:]}
        parts = list(both.values()) if subset == "both" else [both[str(subset)]]
    for part in parts:
        if not len(part):
            raise ValueError(
                f"[image_dataset] nothing is left of {len(paths)} pictures for a part: "
                f"validation_split={validation_split}"
            )
    mode, channels = _MODES[color_mode]
    found = []
    for part in parts:
        shape = (len(part), height, width, channels)
        if memmap is None:
            x = np.empty(shape, np.uint8)
        else:
            x = np.lib.format.open_memmap(os.fspath(memmap), "w+", np.uint8, shape)
        for row, i in zip(x, part, strict=True):
            picture = _read(image, paths[i], mode)
            box = _middle(picture.size, width / height) if crop_to_aspect_ratio else None
            wanted = getattr(image.Resampling, _FILTERS[interpolation])
            row[...] = np.asarray(picture.resize((width, height), wanted, box)).reshape(row.shape)
        found.append((x, None if y is None else _labels(y[part], label_mode, len(names))))
    return (*found, names) if subset == "both" else (*found[0], names)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            '[image_dataset] pictures are read by Pillow: pip install "ranvier[images]"'
        ) from None
    return Image


def _check(
    directory: Any, labels: Any, label_mode: Any, color_mode: Any, image_size: Any, split: Any,
    subset: Any, interpolation: Any, memmap: Any,
) -> tuple[int, int]:  # fmt: skip
    """The arguments that need no look at the disk."""

    def refuse(text: str) -> None:
        raise ValueError(f"[image_dataset] {text}")

    if label_mode not in ("int", "categorical", "binary", None):
        refuse(f"label_mode must be int, categorical, binary or None; received {label_mode!r}")
    if isinstance(labels, str) and labels != "inferred":
        refuse(f"labels must be 'inferred', None or a sequence; received {labels!r}")
    if color_mode not in _MODES:
        refuse(f"color_mode must be one of {', '.join(_MODES)}; received {color_mode!r}")
    if interpolation not in _FILTERS:
        refuse(f"interpolation must be one of {', '.join(_FILTERS)}; received {interpolation!r}")
    try:
        height, width = (int(n) for n in image_size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        refuse(f"image_size must be (height, width), from 1; received {image_size!r}")
    if (split is None) != (subset is None):
        refuse("validation_split and subset must be given together")
    if split is not None and not 0 < split < 1:
        refuse(f"validation_split must be between 0 and 1; received {split!r}")
    if subset not in ("training", "validation", "both", None):
        refuse(f"subset must be training, validation or both; received {subset!r}")
    if memmap is not None and subset == "both":
        refuse("memmap is one file: read the two subsets by two calls, with the same seed")
    if not os.path.isdir(directory):
        raise FileNotFoundError(f"[image_dataset] there is no folder {os.fspath(directory)!r}")
    return height, width


def _pictures(folder: str) -> list[str]:
    """The pictures below a folder, by their paths."""
    return sorted(
        os.path.join(where, name)
        for where, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(EXTENSIONS)
    )


def _find(
    directory: str, labels: Any, class_names: Sequence[str] | None
) -> tuple[list[str], np.ndarray | None, list[str]]:
    """Paths, their classes' numbers, and the classes' names."""
    y: np.ndarray | None = None
    if isinstance(labels, str):
        names = list(
            class_names
            or sorted(e.name for e in os.scandir(directory) if e.is_dir() and e.name[0] != ".")
        )
        groups = []
        for name in names:
            folder = os.path.join(directory, name)
            if not os.path.isdir(folder):
                raise FileNotFoundError(f"[image_dataset] there is no folder of class {folder!r}")
            groups.append(_pictures(folder))
        paths = [path for group in groups for path in group]
        y = np.repeat(np.arange(len(names)), [len(group) for group in groups])
    else:
        paths, names = _pictures(directory), list(class_names or [])
        if labels is not None:
            y = np.asarray(labels)
            if y.shape != (len(paths),) or y.dtype.kind not in "iu" or (y.size and y.min() < 0):
                raise ValueError(
                    f"[image_dataset] labels must be whole numbers from 0, one for each of "
                    f"{len(paths)} pictures; received {y.dtype} of shape {y.shape}"
                )
            if not names and y.size:
                names = [str(i) for i in range(int(y.max()) + 1)]
            if y.size and int(y.max()) >= len(names):
                raise ValueError(
                    f"[image_dataset] label {y.max()} has no name among class_names {names}"
                )
    if not paths:
        raise ValueError(
            f"[image_dataset] there are no pictures ({' '.join(EXTENSIONS)}) in {directory!r}: "
            "each class's must be in a folder of its own below it"
        )
    return paths, y, names


def _read(image: Any, path: str, mode: str) -> Any:
    try:
        with image.open(path) as opened:
            if opened.mode[0] == "I":  # 16 bits of grey: Pillow would cut them off at 255
                high = (np.asarray(opened) >> 8).astype(np.uint8)
                return image.fromarray(high).convert(mode)
            return opened.convert(mode)
    except (OSError, SyntaxError) as error:  # what Pillow raises for broken files
        raise ValueError(f"[image_dataset] {path!r} cannot be read: {error}") from None


def _middle(size: tuple[int, int], ratio: float) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest part in the middle with width / height = ratio."""
    width, height = min(size[0], size[1] * ratio), min(size[1], size[0] / ratio)
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _labels(y: np.ndarray, label_mode: str | None, classes: int) -> np.ndarray | None:
    if label_mode is None:
        return None
    if label_mode == "int":
        return y.astype(np.int32)
    if label_mode == "binary":
        return y[:, None].astype(np.float32)
    return np.eye(classes, dtype=np.float32)[y]
