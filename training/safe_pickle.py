"""Reads the plain values inside a pickle without unpickling. Bytes in; dictionaries, lists, numbers, arrays out.

Note [No unpickling]
    A pickle is a program for a small stack machine, and Python's own machine imports and calls whatever the program
    names: who opens a stranger's pickle runs the stranger's code. DeepFaceLab keeps the facts about a face in one. This
    machine knows only the opcodes that dictionaries, lists, tuples, text, bytes and numbers need. A name that a program
    wants to import becomes an inert label out of a short list, which is all that a numpy array needs; "calling" a
    label means that this module compares the arguments with what numpy writes and builds the array from its bytes.
    Nothing is imported, no attribute is set, no method of anything is called. Every length is compared with the bytes
    that are there before anything of that length is made, and the finished value is copied with limits to its depth
    and size, because labels for things seen before can make a few bytes stand for a billion values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from realtime.errors import FacesetError
from training.pickled_arrays import LABELS, Array, ArrayType, Label, Refused, build, pickled_array

Plain = None | bool | int | float | str | bytes | list["Plain"] | dict[str, "Plain"] | NDArray[np.generic]
"""What may come out; tuples become lists, numpy scalars numbers."""

MAX_DEPTH = 12
_LONGEST_INTEGER = 16
"""Bytes; longer ones take quadratic time to write out and mean nothing here."""


def read_plain(data: bytes, name: str, *, most_values: int = 100_000) -> Plain:
    """The value that the pickle `data` (protocol 2 to 5) describes, if it is plain data; see Note [No unpickling].

    `name` is what complaints call the file. Raises FacesetError, one sentence, for anything else: code, damage,
    nesting deeper than MAX_DEPTH, more than `most_values` values.
    """
    # Nobody writes a value in less than a byte, unless it stands for one that was there before.
    most_values = min(most_values, len(data))
    try:
        return _Copy(most_values).copy(_Machine(data, most_values).run(), 0)
    except Refused as why:
        raise FacesetError(f"{name} holds no plain metadata ({why}); leave it out or get an undamaged copy") from why


_MARK = Label("mark")


class _Machine:
    """The stack machine: one program, one value."""

    def __init__(self, data: bytes, most_values: int) -> None:
        self._data, self._at, self._most = data, 0, most_values
        self._encoded = 0
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def run(self) -> object:
        if self._take(1) != b"\x80" or not 2 <= self.number(1) <= 5:
            raise Refused("it is no pickle of protocol 2 to 5")
        while True:
            code = self._take(1)[0]
            if code == 0x2E:  # STOP
                if len(self._stack) != 1 or self._at != len(self._data):
                    raise Refused("it does not end where it should")
                return self._stack[0]
            step = _STEPS.get(code)
            if step is None:
                raise Refused(f"it holds the opcode 0x{code:02x}, which plain data does not need")
            step(self)
            if len(self._stack) > self._most or len(self._memo) > self._most:
                raise Refused(f"it holds more than {self._most} values")

    # Reading the program.

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise Refused("it is cut off")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "little")

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at, self._at + 200)
        if end < 0:
            raise Refused("a name in it does not end")
        return self._text(self._take(end - self._at + 1)[:-1])

    @staticmethod
    def _text(raw: bytes) -> str:
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise Refused("a text in it is damaged") from error

    # The stack.

    def push(self, value: object) -> None:
        self._stack.append(value)

    def pop(self) -> object:
        if not self._stack or self._stack[-1] is _MARK:
            raise Refused("it takes more than there is")
        return self._stack.pop()

    def pop_to_mark(self) -> list[object]:
        for i in range(len(self._stack) - 1, -1, -1):
            if self._stack[i] is _MARK:
                values = self._stack[i + 1 :]
                del self._stack[i:]
                return values
        raise Refused("it takes more than there is")

    def pop_tuple(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    # The opcodes that are more than a constant.

    def append(self, values: list[object]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise Refused("it appends to what is no list")
        target.extend(values)

    def set_items(self, values: list[object]) -> None:
        target = self._top()
        if not isinstance(target, dict) or len(values) % 2:
            raise Refused("it sets entries of what is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str):  # numbers could be chosen so that all of them collide
                raise Refused("a key in it is no text")
            target[key] = value

    def _top(self) -> object:
        value = self.pop()
        self.push(value)
        return value

    def one_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def remember(self, key: int) -> None:
        self._memo[key] = self._top()

    def recall(self, key: int) -> None:
        if key not in self._memo:
            raise Refused("it refers to what is not there")
        self.push(self._memo[key])

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in LABELS:
            raise Refused(f"it wants to load {_shown(module)}.{_shown(name)}, which is code")
        self.push(Label(LABELS[module, name]))

    def name_in_lines(self) -> None:
        module = self._line()
        self.name(module, self._line())

    def name_on_stack(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def call(self) -> None:
        arguments, label = self.pop(), self.pop()
        if not isinstance(label, Label) or not isinstance(arguments, tuple):
            raise Refused("it calls what is no function")
        built = build(label.what, arguments)
        if isinstance(built, bytes):
            self._encoded += len(built)
            if self._encoded > len(self._data):  # one text, encoded again and again
                raise Refused("it stands for too many bytes")
        self.push(built)

    def set_state(self) -> None:
        state, target = self.pop(), self._top()
        if not isinstance(state, tuple):
            raise Refused("it sets a state that is none")
        if isinstance(target, ArrayType):
            # (version, byte order, then what only records and subarrays have)
            if len(state) < 2 or state[1] not in ("<", ">", "|", "=") or any(each is not None for each in state[2:5]):
                raise Refused("an array type in it is no plain one")
            target.order = ">" if state[1] == ">" else "<"
        elif isinstance(target, Array) and target.value is None and len(state) == 5:
            _, shape, kind, fortran, raw = state
            target.value = pickled_array(shape, kind, fortran is True, raw)
        else:
            raise Refused("it sets the state of what has none")

    def integer(self, size: int) -> None:
        self.push(int.from_bytes(self._take(size), "little", signed=size == 4))

    def long(self) -> None:
        size = self.number(1)
        if size > _LONGEST_INTEGER:
            raise Refused("a number in it is too long")
        self.push(int.from_bytes(self._take(size), "little", signed=True))

    def float(self) -> None:
        self.push(struct.unpack(">d", self._take(8))[0])

    def text(self, size: int) -> None:
        self.push(self._text(self._take(self.number(size))))

    def raw(self, size: int) -> None:
        self.push(self._take(self.number(size)))

    def frame(self) -> None:
        if self.number(8) > len(self._data):
            raise Refused("it is cut off")

    def memoize(self) -> None:
        self.remember(len(self._memo))


_STEPS: dict[int, Callable[[_Machine], None]] = {
    0x95: _Machine.frame,
    ord("("): lambda m: m.push(_MARK),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.integer(4),
    ord("K"): lambda m: m.integer(1),
    ord("M"): lambda m: m.integer(2),
    0x8A: _Machine.long,
    ord("G"): _Machine.float,
    ord("X"): lambda m: m.text(4),
    0x8C: lambda m: m.text(1),
    0x8D: lambda m: m.text(8),
    ord("B"): lambda m: m.raw(4),
    ord("C"): lambda m: m.raw(1),
    0x8E: lambda m: m.raw(8),
    0x96: lambda m: m.raw(8),  # a bytearray, as protocol 5 writes arrays
    ord("}"): lambda m: m.push({}),
    ord("]"): lambda m: m.push([]),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.pop_to_mark())),
    0x85: lambda m: m.pop_tuple(1),
    0x86: lambda m: m.pop_tuple(2),
    0x87: lambda m: m.pop_tuple(3),
    ord("a"): lambda m: m.append([m.pop()]),
    ord("e"): lambda m: m.append(m.pop_to_mark()),
    ord("s"): _Machine.one_item,
    ord("u"): lambda m: m.set_items(m.pop_to_mark()),
    ord("q"): lambda m: m.remember(m.number(1)),
    ord("r"): lambda m: m.remember(m.number(4)),
    0x94: _Machine.memoize,
    ord("h"): lambda m: m.recall(m.number(1)),
    ord("j"): lambda m: m.recall(m.number(4)),
    ord("c"): _Machine.name_in_lines,
    0x93: _Machine.name_on_stack,
    ord("R"): _Machine.call,
    ord("b"): _Machine.set_state,
}
"""Opcode -> what it does. Everything else - PERSID, INST, OBJ, NEWOBJ, EXT... - is refused."""


class _Copy:
    """Copies what the machine has built, so that nothing in the copy is shared, endless or still unfinished."""

    def __init__(self, most_values: int) -> None:
        self._left = most_values

    def copy(self, value: object, depth: int) -> Plain:
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            raise Refused("it is nested too deeply" if depth > MAX_DEPTH else "it stands for too many values")
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if isinstance(value, list | tuple):
            return [self.copy(each, depth + 1) for each in value]
        if isinstance(value, dict):
            return {key: self.copy(each, depth + 1) for key, each in value.items()}
        if isinstance(value, Array) and value.value is not None:
            self._left -= value.value.nbytes // 8
            if self._left < 0:
                raise Refused("it stands for too many values")
            array = value.value.astype(value.value.dtype.newbyteorder("="))
            return array if array.ndim else array.item()
        raise Refused("it is unfinished")


def _shown(value: object) -> str:
    text = str(value)[:40] if isinstance(value, str) else type(value).__name__
    return "".join(char if char.isprintable() and char.isascii() else "?" for char in text)
