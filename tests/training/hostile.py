"""Files that want to do harm. A kind and a seed in, a folder that a stranger could send out.

The genuine files are those of `foreign_files`; a seed decides what is done to one. Half of the cases carry an attack
that was thought up, the others damage that chance does. Code that runs would make the file that CANARY names.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.training.foreign_files import (
    alignments,
    alignments_fsa,
    alignments_json,
    dfl_dict,
    dfl_jpg,
    dfl_pak,
    faceswap_dict,
    faceswap_png,
    jpg,
    png,
    png_chunk,
    shot,
    with_app15,
)

KINDS = ("jpg", "png", "pak", "json", "set")
CANARY = "canary"
ESCAPES = (
    "../../../escaped",
    "/etc/escaped",
    "C:" + "\\escaped\\x",
    "a/../../escaped",
    "\0",
    "x" * 5000,
    "\u202egnp.exe",
    "",
)
WRONG: tuple[Any, ...] = (
    None, True, -1, 1e308, float("nan"), float("inf"), "text", b"bytes", [], {}, [[]], [[1.0, 2.0]] * 67,
    [[1.0, 2.0]] * 68, [[1.0]] * 68, [["a", "b"]] * 68, [[float("nan"), 0.0]] * 68, [[1e300, -1e300]] * 68,
    [{"x": 1}] * 68, 1 << 100, {"a": {"b": {"c": {}}}}, np.zeros((68, 2)), np.zeros((68, 3)), np.full((2, 3), np.nan),
    np.zeros((0, 2)), np.zeros(50_000, "u1"), np.float64(3),
)  # fmt: skip


class Bomb:
    """Unpickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self._call


def make_case(folder: Path, kind: str, seed: int) -> Path:
    """Write case `seed` of a kind into the empty `folder`; what is to be imported."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    return _MAKERS[kind](folder, rng, CANARY)


def _damage(data: bytes, rng: np.random.Generator) -> bytes:
    """What chance does to a file."""
    start = int(rng.integers(len(data)))
    length = int(rng.integers(1, 200))
    noise = rng.integers(0, 256, length, np.uint8).tobytes()
    match rng.integers(7):
        case 0:
            return data[:start]
        case 1:
            flipped = np.frombuffer(data, np.uint8).copy()
            flipped[rng.integers(len(data), size=int(rng.integers(1, 30)))] ^= np.uint8(rng.integers(1, 256))
            return flipped.tobytes()
        case 2:
            return data[:start] + data[start + length :]
        case 3:
            return data[:start] + noise + data[start:]
        case 4:
            return data[:start] + data[start : start + length] * 50 + data[start + length :]
        case 5:
            return data[:start] + b"\xff" * length + data[start + length :]
        case _:
            return data[:start] + noise + data[start + length :]


def _pick(rng: np.random.Generator, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def pickles(canary: str) -> list[bytes]:
    """Pickles that run code, take all memory, or never end, when Python reads them."""
    touch = f"open({canary!r}, 'w').close()"
    bombs = [
        Bomb(os.system, f"touch {canary}"),
        Bomb(eval, touch),
        Bomb(exec, touch),
        Bomb(bytearray, 1 << 40),
        {"landmarks": Bomb(eval, touch)},
        np.array([Bomb(eval, touch)], object),
    ]
    name = canary.encode()
    again = (b"](" + (b"h" + bytes([i])) * 60 + b"e\x94" for i in range(60))
    laughs = b"\x80\x04(]\x94" + b"".join(again) + b"t."
    encoded = b"\x80\x02(c_codecs\nencode\nq\0X" + struct.pack("<I", 50_000) + b"x" * 50_000
    encoded += b"q\x01X\x06\0\0\0latin1q\x02" + b"h\0h\x01h\x02\x86R" * 1500 + b"t."
    return [
        *(pickle.dumps(bomb, protocol) for bomb in bombs for protocol in (2, 3, 4, 5)),
        b"cposix\nsystem\n(S'touch " + name + b"'\ntR.",
        b"(S'touch " + name + b"'\niposix\nsystem\n.",
        b"(cposix\nsystem\nS'touch " + name + b"'\no.",
        b"\x80\x02cposix\nsystem\nX\x05\0\0\0touch\x85\x81.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x05touch\x85R.",
        b"\x80\x02Pid\n.",
        b"\x80\x02X\x02\0\0\0idQ.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02cnumpy\nndarray\ncnumpy\ndtype\nX\x02\0\0\0f8\x85R\x86R.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncposix\nsystem\nK\0\x85C\x01b\x87R.",
        b"\x80\x04" + b"]" * 60_000 + b"." ,
        b"\x80\x04" + b"](" * 20_000 + b"e" * 20_000 + b".",
        b"\x80\x04]" + b"\x85" * 60_000 + b".",
        laughs,
        encoded,
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
        b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"1.",
        b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".",
        b"\x80\x05}.",
        b"\x80\xff}.",
        b"}.",
        b".",
        b"",
        b"\0" * 60_000,
        b"0" * 60_000,
        b"(" * 60_000,
    ]  # fmt: skip


def _jpg(rng: np.random.Generator, canary: str) -> bytes:
    good = shot(int(rng.integers(3)))
    key = str(_pick(rng, ["landmarks", "source_landmarks", "image_to_face_mat", "face_type", "source_filename", "x"]))
    plain = jpg(good.crop)
    size = plain.index(b"\xff\xc0")
    match rng.integers(9):
        case 0 | 1 | 2:
            return dfl_jpg(good, raw=_pick(rng, pickles(canary)))
        case 3 | 4:
            return dfl_jpg(good, dfl_dict(good, **{key: _pick(rng, WRONG)}), protocol=int(rng.integers(2, 6)))
        case 5:
            return dfl_jpg(good, dfl_dict(good, source_filename=_pick(rng, ESCAPES)))
        case 6:
            huge = struct.pack(">HH", *(int(each) for each in rng.choice([0, 1, 9000, 65535], 2)))
            return plain[: size + 5] + huge + plain[size + 9 :]
        case 7:
            done, slow = cv2.imencode(".jpg", good.crop, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
            assert done
            return slow.tobytes()
        case _:
            return with_app15(with_app15(plain, _pick(rng, pickles(canary))), pickle.dumps(_pick(rng, WRONG)))


def texts(canary: str) -> list[bytes]:
    """What stands where faceswap writes a dictionary."""
    good = str(faceswap_dict(shot())).encode()
    return [
        f"__import__('os').system('touch {canary}')".encode(),
        f"{{'alignments': [open({canary!r}, 'w') for _ in (1,)], 'source': {{}}}}".encode(),
        b"[" * 3_000_000,
        b"{'a':" * 500_000,
        b"(" * 100_000 + b")" * 100_000,
        b"[" + b"1," * 2_000_000 + b"]",
        b"'" + b"\\'" * 2_000_000,
        b"9" * 3_000_000,
        b"-" * 1_000_000 + b"1",
        b"1e99999",
        b"\xff\xfe\x00",
        b"",
        b"lambda: 0",
        b"f'{1}'",
        good + b" # " + b"x" * 100,
        good * 2,
        good.replace(b"landmarks_xy", b"landmarks_xz"),
        good.replace(b"clip_000012", b"../../../../escaped_000012"),
        good.replace(b"'face_index': 0", b"'face_index': -1"),
        good.replace(b"'face_index': 0", b"'face_index': [[1e999]]"),
        good.replace(b"'landmarks_xy': [[", b"'landmarks_xy': [[[1], "),
    ]


def _png(rng: np.random.Generator, canary: str) -> bytes:
    good = shot(int(rng.integers(3)), "head")
    plain = png(good.crop)
    data = plain.index(b"IDAT") - 4
    head, tail = plain[:8], plain[data:]
    sizes = [int(each) for each in rng.choice([0, 1, 3, 256, 60_000, 1 << 31, (1 << 32) - 1], 2)]
    bomb = zlib.compress(b"\0" * 50_000_000)
    match rng.integers(9):
        case 0 | 1 | 2:
            return faceswap_png(good, raw=_pick(rng, texts(canary)))
        case 3:
            values = faceswap_dict(good)
            values[str(_pick(rng, ["alignments", "source"]))] = _pick(rng, WRONG)
            return faceswap_png(good, values)
        case 4:
            return head + png_chunk(b"IHDR", struct.pack(">IIBBBBB", *sizes, 8, 2, 0, 0, 0)) + tail
        case 5:
            flags = [int(each) for each in rng.integers(0, 17, 5)]
            return head + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 256, 256, *flags)) + tail
        case 6:
            start = head + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 256, 256, 8, 2, 0, 0, 0))
            return start + png_chunk(b"IDAT", bomb) + png_chunk(b"IEND", b"")
        case 7:
            kind = bytes(_pick(rng, [b"iCCP", b"zTXt", b"iTXt"]))
            return plain[:data] + png_chunk(kind, b"x\0" + (b"\1\0\0\0" if kind == b"iTXt" else b"\0") + bomb) + tail
        case _:
            return (
                plain[:data] + png_chunk(bytes(_pick(rng, [b"PLTE", b"tRNS", b"acTL", b"IHDR"])), b"\0" * 1000) + tail
            )


def _pak(rng: np.random.Generator, canary: str) -> bytes:
    good = dfl_pak([dfl_jpg(shot(i)) for i in range(2)])
    described = int.from_bytes(good[8:16], "little")
    table = 16 + described
    numbers = [0, 1, 24, len(good), len(good) + 1, 1 << 31, 1 << 62, (1 << 64) - 1]
    offset = struct.pack("<Q", numbers[int(rng.integers(len(numbers)))])
    match rng.integers(6):
        case 0:
            return offset + good[8:]
        case 1:
            return good[:8] + offset + good[16:]
        case 2 | 3:
            at = table + 8 * int(rng.integers(3))
            return good[:at] + offset + good[at + 8 :]
        case 4:
            bad = bytes(_pick(rng, pickles(canary)))
            head = struct.pack("<QQ", 1, len(bad)) + bad
            return head + struct.pack("<QQ", 0, len(head) + 16 + len(good)) + good
        case _:
            return dfl_pak([_jpg(rng, canary), _damage(dfl_jpg(shot(1)), rng)])


def _alignments(rng: np.random.Generator, canary: str) -> tuple[str, bytes]:
    frames = {"clip_000012.png": shot(0, "head")}
    text = alignments_json(frames).decode()
    values = alignments(frames)
    if rng.integers(2):
        values["__data__"][str(_pick(rng, ["clip_000012.png", *ESCAPES]))] = _pick(rng, WRONG)
        choices = [
            zlib.compress(b"\x80\x04(" + b"K\x01" * 40_000_000),
            zlib.compress(b"\0" * 200_000_000),
            *(zlib.compress(each) for each in pickles(canary)),
            zlib.compress(pickle.dumps(values)),
            alignments_fsa(frames) + b"more",
            _damage(alignments_fsa(frames), rng),
        ]
        return "alignments.fsa", bytes(_pick(rng, choices))
    broken = [
        "[" * 500_000,
        '{"a":' * 200_000,
        "[" + "[]," * 3_000_000 + "[]]",
        "[" + "1," * 9_000_000 + "1]",
        "9" * 100_000,
        "NaN",
        "null",
        '{"clip_000012.png": {"faces": {}}}',
        '{"clip_000012.png": 1}',
        '{"../../escaped.png": {"faces": [{}]}}',
        text.replace("[[", "[[NaN, 1], ["),
        text.replace("[[", "[[[[1]], 1], ["),
        text.replace("landmarks_xy", "landmarks"),
        text.replace("clip_000012.png", "../../../../escaped.png"),
        _damage(text.encode(), rng).decode("latin1"),
        "\ud800".encode("utf-8", "surrogatepass").decode("latin1"),
    ]
    return "alignments.json", str(_pick(rng, broken)).encode("latin1", "replace")


def _make_jpg(folder: Path, rng: np.random.Generator, canary: str) -> Path:
    thought_up = rng.integers(2)
    data = _jpg(rng, canary) if thought_up else _damage(dfl_jpg(shot(int(rng.integers(3)))), rng)
    _write_picture(folder, "00012_0.jpg", data, rng)
    return folder


def _make_png(folder: Path, rng: np.random.Generator, canary: str) -> Path:
    thought_up = rng.integers(2)
    data = _png(rng, canary) if thought_up else _damage(faceswap_png(shot(int(rng.integers(3)), "head")), rng)
    _write_picture(folder, "clip_000012_0.png", data, rng)
    return folder


def _write_picture(folder: Path, name: str, data: bytes, rng: np.random.Generator) -> None:
    """Mostly as a file; now and then as a link to somewhere else, a pipe or a folder."""
    match rng.integers(60):
        case 0:
            (folder / name).symlink_to("/dev/zero")
        case 1:
            os.mkfifo(folder / name)
        case 2:
            (folder / name).mkdir()
        case _:
            (folder / name).write_bytes(data)


def _make_pak(folder: Path, rng: np.random.Generator, canary: str) -> Path:
    thought_up = rng.integers(2)
    data = _pak(rng, canary) if thought_up else _damage(dfl_pak([dfl_jpg(shot(i)) for i in range(2)]), rng)
    (folder / "faceset.pak").write_bytes(data)
    return folder / "faceset.pak"


def _make_json(folder: Path, rng: np.random.Generator, canary: str) -> Path:
    (folder / "clip_000012_0.png").write_bytes(png(shot(0, "head").crop))
    name, data = _alignments(rng, canary)
    (folder / name).write_bytes(data)
    return folder


def _make_set(folder: Path, rng: np.random.Generator, canary: str) -> Path:
    """A faceset of ours in which one file is not what it was."""
    from tests.tiny_faceset import write_faceset

    path = write_faceset(folder / "set")
    index = path / "faceset.json"
    values = json.loads(index.read_text())
    face = values["faces"][0]
    match rng.integers(6):
        case 0:
            face[str(_pick(rng, sorted(face)))] = _plain(_pick(rng, WRONG))
        case 1:
            face["file"] = _pick(rng, ESCAPES)
        case 2:
            values[str(_pick(rng, sorted(values)))] = _plain(_pick(rng, WRONG))
        case 3:
            (path / "landmarks.npy").write_bytes(_damage((path / "landmarks.npy").read_bytes(), rng))
        case 4:
            (path / "faces" / "000001.jpg").write_bytes(_damage((path / "faces" / "000001.jpg").read_bytes(), rng))
        case _:
            index.write_bytes(_damage(index.read_bytes(), rng))
            return path
    index.write_text(json.dumps(values))
    return path


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, bytes | np.ndarray | np.generic) else value


_MAKERS: dict[str, Callable[[Path, np.random.Generator, str], Path]] = {
    "jpg": _make_jpg,
    "png": _make_png,
    "pak": _make_pak,
    "json": _make_json,
    "set": _make_set,
}
