"""Builds the numpy arrays inside a pickle. What the program hands to numpy in, the array of its bytes out.

Nothing of numpy's own unpickling runs: see Note [No unpickling].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_DIMENSIONS = 3
_LONGEST_SIDE = 1 << 20
_DTYPES = frozenset(["u1", "i1", "i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8"])
LABELS = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "no bytes",
    ("builtins", "bytes"): "no bytes",
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
}
"""All that arrays of numpy 1 and 2 need, in any protocol -> an inert word."""


class Refused(Exception):
    """Why a pickle is not read."""


@dataclass(frozen=True, slots=True)
class Label:
    """Stands where Python would import something."""

    what: str


@dataclass(slots=True)
class ArrayType:
    """What is known of a numpy dtype."""

    code: str
    order: str = "<"

    def to_numpy(self) -> np.dtype[np.generic]:
        return np.dtype(self.order + self.code)


@dataclass(slots=True)
class Array:
    """What is known of a numpy array; `value` once its bytes have come."""

    value: NDArray[np.generic] | None = None


def build(what: str, arguments: tuple[object, ...]) -> object:
    """What numpy would make of its own functions' arguments."""
    if what == "dtype" and arguments and isinstance(arguments[0], str):
        code = arguments[0].lstrip("<>=|")
        if code in _DTYPES:
            return ArrayType(code, ">" if arguments[0][0] == ">" else "<")
    elif what == "reconstruct" and len(arguments) == 3 and arguments[0] == Label("ndarray"):
        return Array()
    elif what == "frombuffer" and len(arguments) == 4:
        raw, kind, shape, order = arguments
        return Array(pickled_array(shape, kind, order == "F", raw))
    elif what == "scalar" and len(arguments) == 2:
        return Array(pickled_array((), arguments[0], False, arguments[1]))
    elif what == "encode" and len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] == "latin1":
        try:
            return arguments[0].encode("latin1")
        except UnicodeEncodeError as error:
            raise Refused("bytes in it are damaged") from error
    elif what == "no bytes" and not arguments:
        return b""
    raise Refused("an array in it is none")


def pickled_array(shape: object, kind: object, columns_first: bool, raw: object) -> NDArray[np.generic]:
    if not isinstance(kind, ArrayType) or not isinstance(raw, bytes) or not isinstance(shape, tuple):
        raise Refused("an array in it is no plain one")
    sides = [side for side in shape if isinstance(side, int) and 0 <= side < _LONGEST_SIDE]
    dtype = kind.to_numpy()
    if len(sides) != len(shape) or len(sides) > MAX_DIMENSIONS or math.prod(sides) * dtype.itemsize != len(raw):
        raise Refused("an array in it is larger or smaller than its bytes")
    return np.frombuffer(raw, dtype).reshape(sides, order="F" if columns_first else "C")  # a view: it costs nothing
