"""1,797 handwritten digits of 8x8 pixels, shipped with the package: no download, no dependency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Part = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def load_data(test_fraction: float = 0.2, seed: int = 0) -> tuple[Part, Part]:
    """Load the digits, shuffled and split so that each part has the same mix of classes.

    The split depends on the arguments alone: NumPy's global random state is neither read nor
    changed, and the same seed gives the same rows with every NumPy version.

    Args:
        test_fraction: share of the 1,797 rows in the test part, at least 0 and below 1; the test
            part has `round(1797 * test_fraction)` rows, and 0 puts every row in the training part.
        seed: integer >= 0 that decides the order of the rows and which of them are test rows.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images, uint8 of shape (n, 8, 8) with ink from 0
        (none) to 16 (full), and their labels 0 to 9, uint8 of shape (n,).

    Raises:
        ValueError: `test_fraction` is out of range or leaves a part empty, or `seed` is negative.
        TypeError: `seed` is not an integer.

    Source:
        E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
        Learning Repository, 1998, https://doi.org/10.24432/C50P49 (CC BY 4.0), the test part.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"[digits] seed must be an integer; received seed={seed!r}")
    if seed < 0:
        raise ValueError(f"[digits] seed must be >= 0; received seed={seed}")
    if not 0 <= test_fraction < 1:
        raise ValueError(
            "[digits] test_fraction is a share of the rows, at least 0 and below 1; "
            f"received test_fraction={test_fraction}"
        )
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        x, y = file["x"], file["y"]
    test_rows = round(len(x) * test_fraction)
    if test_fraction > 0 and not 0 < test_rows < len(x):
        raise ValueError(
            f"[digits] test_fraction={test_fraction} puts {test_rows} of the {len(x)} rows in the "
            "test part and leaves a part empty; choose a fraction nearer 0.5, or 0 for no test part"
        )
    train, test = _stratified_split(y, test_rows, seed)
    return (x[train], y[train]), (x[test], y[test])


def _stratified_split(
    y: NDArray[np.uint8], test_rows: int, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Shuffled row numbers of the training and the test part; every class is shared out alike."""
    n = len(y)
    # NumPy promises that a bit generator's raw stream never changes; of `permutation` it does not.
    order = np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")
    by_class = order[np.argsort(y[order], kind="stable")]
    # Evenly spaced rows of the sorted order: each class gets its share to within one row.
    evenly = np.diff(np.arange(n + 1) * test_rows // n) > 0
    is_test = np.zeros(n, dtype=bool)
    is_test[by_class[evenly]] = True
    return order[~is_test[order]], order[is_test[order]]
