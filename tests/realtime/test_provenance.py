from __future__ import annotations

import base64
import errno
import json
import os
import socket
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import av
import c2pa
import cv2
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from realtime.credential import LOCAL, Credential, open_credential
from realtime.errors import SinkError, SourceError, UsageError
from realtime.places import records_folder
from realtime.provenance import SIDECAR, SOURCE_TYPE, Provenance, has_manifest, read_manifest
from realtime.still import Still
from realtime.video_writer import VideoWriter
from tests.clips import write_clip
from tests.fakes import frame, info, plain
from tests.seals import STATEMENT, provenance

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Credential:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return open_credential()


def film(path: Path, seal: Provenance, count: int = 5) -> None:
    with VideoWriter(path, info(), seal=seal) as writer:
        for index in range(count):
            writer.send(frame(index, plain((index * 20, 90, 120))))


@pytest.mark.parametrize("ending", VIDEOS)
def test_a_recording_says_how_it_came_about_and_still_plays(own: Credential, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"swap{ending}"
    film(path, provenance(own))
    told = read_manifest(path)
    assert told["state"] == "Valid"
    assert told["problems"] == ["signingCredential.untrusted"]  # a certificate that this computer made for itself
    assert {"action": "c2pa.edited", "digital_source_type": SOURCE_TYPE} in told["actions"]
    assert told["facts"] == STATEMENT.facts()
    assert told["signed_by"] == own.holder
    with av.open(path) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    names = {each.name for each in tmp_path.iterdir()} - {"state"}
    assert names == {path.name} | ({path.name + SIDECAR} if ending == ".mkv" else set())


@pytest.mark.parametrize("ending", VIDEOS)
def test_a_recording_that_an_error_cut_off_says_it_too(own: Credential, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"swap{ending}"
    with suppress(ZeroDivisionError), VideoWriter(path, info(), seal=provenance(own)) as writer:
        for index in range(5):
            writer.send(frame(index, plain((index * 20, 90, 120))))
        raise ZeroDivisionError
    partial = path.with_stem("swap.partial")
    assert not path.exists()
    assert read_manifest(partial)["state"] == "Valid"
    with av.open(partial) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


def test_a_still_says_it_too(own: Credential, tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    image = plain((10, 200, 90))
    Still(path, provenance(own, replace(STATEMENT, badge=False))).send(frame(0, image))
    assert read_manifest(path)["facts"]["badge"] is False
    np.testing.assert_array_equal(cv2.imread(str(path)), image)
    assert [each.name for each in tmp_path.iterdir() if each.name != "state"] == ["still.png"]


@pytest.mark.parametrize("ending", VIDEOS)
def test_a_changed_recording_is_found_out(own: Credential, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"swap{ending}"
    film(path, provenance(own), count=30)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"mdat") + 40 if ending != ".mkv" else len(data) // 2] ^= 0x40
    path.write_bytes(data)
    assert read_manifest(path)["state"] == "Invalid"


def test_what_was_known_about_the_source_is_kept(own: Credential, tmp_path: Path) -> None:
    first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
    film(first, provenance(own))
    film(second, provenance(own, parent=first))
    told = read_manifest(second)
    assert told["state"] == "Valid"
    assert [each["action"] for each in told["actions"]] == ["c2pa.opened", "c2pa.edited"]
    assert told["made_from"] == ["the video that was swapped"]


def test_a_source_without_a_manifest_is_not_named(own: Credential, tmp_path: Path) -> None:
    bare, swap = tmp_path / "secret-name.mp4", tmp_path / "swap.mp4"
    write_clip(bare)
    assert not has_manifest(bare)
    film(swap, provenance(own, parent=bare))
    told = read_manifest(swap)
    assert told["made_from"] == []
    assert [each["action"] for each in told["actions"]] == ["c2pa.created", "c2pa.edited"]
    assert b"secret-name" not in swap.read_bytes()


@pytest.mark.parametrize("path", ["bare.mp4", "bare.mkv", "text.mp4", "nothing.mp4", "text.txt"])
def test_a_file_without_a_manifest_is_one_sentence(tmp_path: Path, path: str) -> None:
    if path.startswith("bare"):
        write_clip(tmp_path / path)
    elif path.startswith("text"):
        (tmp_path / path).write_text("not a video at all")
    with pytest.raises(SourceError) as told:
        read_manifest(tmp_path / path)
    assert "\n" not in str(told.value)


def points_elsewhere(path: Path, own: Credential, url: str) -> None:
    """Write a picture whose manifest does not lie in it but, it says, at `url`."""
    bare = path.with_name("bare.png")
    cv2.imwrite(str(bare), plain())
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(own.algorithm, own.chain, own.key, None))
    action = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE}
    told = {"assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}], "title": "a trap"}
    with signer, c2pa.Builder(json.dumps(told)) as builder, bare.open("rb") as file, path.open("w+b") as out:
        builder.set_no_embed()
        builder.set_remote_url(url)
        builder.sign(signer, "image/png", file, out)


def test_nobody_is_called_because_a_file_names_an_address(own: Credential, tmp_path: Path) -> None:
    trap, swap = tmp_path / "trap.png", tmp_path / "swap.mp4"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        points_elsewhere(trap, own, f"http://127.0.0.1:{server.getsockname()[1]}/who-watches.c2pa")
        has_manifest(trap)
        with pytest.raises(SourceError, match="no manifest that can be read"):
            read_manifest(trap)
        film(swap, provenance(own, parent=trap))
        with pytest.raises(TimeoutError):
            server.accept()
    assert read_manifest(swap)["state"] == "Valid"


def test_a_manifest_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bare.mkv"
    write_clip(path)
    with path.with_name(path.name + SIDECAR).open("wb") as file:
        file.truncate(4 << 30)
    with pytest.raises(SourceError, match="too large for a manifest"):
        read_manifest(path)


# ---------------------------------------------------------------- when it cannot be signed


def test_a_recording_that_cannot_be_signed_is_kept_and_said(
    own: Credential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, really = tmp_path / "swap.mp4", os.replace

    def full(source: str | Path, target: str | Path) -> None:
        if str(source).endswith(".signed"):
            raise OSError(errno.ENOSPC, "No space left on device")
        really(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SinkError, match=r"swap.mp4 is kept without a manifest: the disk .* is full"):
        film(path, provenance(own))
    assert not has_manifest(path)
    with av.open(path) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    assert not list(tmp_path.glob("*.signed"))


def test_a_certificate_that_c2pa_refuses_costs_no_recording(own: Credential, tmp_path: Path) -> None:
    broken = replace(own, chain=own.chain.replace(b"M", b"N", 3))
    with pytest.raises(SinkError, match="kept without a manifest: it could not be signed"):
        film(tmp_path / "swap.mp4", provenance(broken))
    with pytest.raises(SinkError, match="kept without a manifest"):
        Still(tmp_path / "still.png", provenance(broken)).send(frame(0, plain()))
    assert (tmp_path / "swap.mp4").is_file()
    assert (tmp_path / "still.png").is_file()


# ---------------------------------------------------------------- who signs


def test_the_own_certificate_is_made_once_and_for_its_owner_alone(own: Credential) -> None:
    path = records_folder() / LOCAL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert open_credential() == own
    assert own.local
    assert "PRIVATE" not in repr(own)


def test_a_certificate_of_the_user_signs(own: Credential, tmp_path: Path) -> None:
    certificate, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.write_bytes(own.chain)
    key.write_bytes(own.key)
    given = open_credential(certificate, key)
    assert not given.local
    assert given.algorithm == "es256"
    film(tmp_path / "swap.mov", provenance(given))
    assert read_manifest(tmp_path / "swap.mov")["state"] == "Valid"


def test_files_that_cannot_sign_are_one_sentence(
    own: Credential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key, other = (tmp_path / name for name in ("chain.pem", "key.pem", "other.pem"))
    certificate.write_bytes(own.chain)
    key.write_bytes(own.key)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    other.write_bytes(open_credential().key)
    for pair in ((certificate, other), (key, key), (certificate, certificate), (certificate, tmp_path / "none.pem")):
        with pytest.raises(UsageError) as told:
            open_credential(*pair)
        assert "\n" not in str(told.value)
    with pytest.raises(UsageError, match="give both"):
        open_credential(certificate, None)


def test_a_certificate_whose_holder_cannot_be_read_is_refused(own: Credential, tmp_path: Path) -> None:
    der = x509.load_pem_x509_certificates(own.chain)[0].public_bytes(Encoding.DER)
    name = b"recordings of this computer"
    assert name in der
    damaged = base64.encodebytes(der.replace(name, b"\xff" * len(name))).decode()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(f"-----BEGIN CERTIFICATE-----\n{damaged}-----END CERTIFICATE-----\n")
    key.write_bytes(own.key)
    with pytest.raises(UsageError, match="no certificate that can sign") as error:
        open_credential(chain, key)
    assert "\n" not in str(error.value)
