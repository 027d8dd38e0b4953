"""Data sets as NumPy arrays, in the tuples that Keras users expect.

`digits` comes with the package; `mnist` is read from a folder or downloaded once. Nothing is read
before `load_data` is called.
"""

from . import digits, mnist

__all__ = ["digits", "mnist"]
