"""GGUF headers made to mislead or to exhaust: each is one CheckpointError, at once."""

import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("gguf")

from cuvee.errors import CheckpointError  # after the skip
from cuvee.foreign import open_files


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def setting(key: bytes, kind: int, raw: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + raw


ARCHITECTURE = setting(b"general.architecture", 8, text(b"llama"))
NORM = b"output_norm.weight"


def tensor(name: bytes = NORM, sizes: tuple[int, ...] = (8,), kind: int = 0, start: int = 0, axes: int = -1) -> bytes:
    listed = struct.pack(f"<{len(sizes)}Q", *sizes)
    return text(name) + struct.pack("<I", len(sizes) if axes < 0 else axes) + listed + struct.pack("<IQ", kind, start)


def whole(pairs: tuple[bytes, ...] = (ARCHITECTURE,), infos: tuple[bytes, ...] = (tensor(),), **said: int) -> bytes:
    counts = (said.get("version", 3), said.get("count", len(infos)), said.get("settings_", len(pairs)))
    head = b"GGUF" + struct.pack("<IQQ", *counts) + b"".join(pairs) + b"".join(infos)
    return head + bytes(-len(head) % 32) + bytes(32)


def write(folder: Path, raw: bytes) -> Path:
    (folder / "m.gguf").write_bytes(raw)
    return folder / "m.gguf"


def test_an_honest_file_passes(tmp_path: Path) -> None:
    source = open_files(write(tmp_path, whole()))
    out = np.empty(8, np.float32)
    source.read_into("model.norm.weight", 0, [out])
    assert not out.any()


HUGE = 1 << 62


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "cannot read the file"),
        (b"GGUF", "claims 4 bytes"),
        (b"GGML" + bytes(40), "does not begin with 'GGUF'"),
        (whole(version=1), "version 1 is not known"),
        (whole(version=1 << 24), "is not known"),
        (whole(count=HUGE), "more than the file can hold"),
        (whole(settings_=HUGE), "more than the file can hold"),
        (whole((ARCHITECTURE, setting(b"x", 8, struct.pack("<Q", HUGE)))), "where the file has fewer"),
        (whole((ARCHITECTURE, setting(b"x", 9, struct.pack("<IQ", 4, HUGE)))), "more than the file can hold"),
        (whole((ARCHITECTURE, setting(b"x", 9, struct.pack("<IQ", 4, 90)))), "where the file has fewer"),
        (whole((ARCHITECTURE, setting(b"x", 9, struct.pack("<IQ", 9, 1) * 50))), "unknown type 9"),
        (whole((ARCHITECTURE, setting(b"x", 99, b""))), "the unknown type 99"),
        (whole((ARCHITECTURE, ARCHITECTURE)), "is there twice"),
        (whole((ARCHITECTURE, setting(b"\xff", 0, b"\0"))), "is not UTF-8"),
        (whole((ARCHITECTURE, setting(b"general.alignment", 4, struct.pack("<I", 0)))), "no power of two"),
        (whole((ARCHITECTURE, setting(b"general.alignment", 4, struct.pack("<I", 3)))), "no power of two"),
        (whole(()), "the GGUF architecture 'None' is not known"),
        (whole((ARCHITECTURE,), ()), "holds no tensor"),
        (whole((ARCHITECTURE,), (tensor(b"x\x1b[2J"),)), "cannot be printed"),
        (whole((ARCHITECTURE,), (tensor(b"rope_freqs.weight"),)), "no scaling that is known"),
        (whole((ARCHITECTURE,), (tensor(), tensor())), "has no place in a llama model"),
        (whole((ARCHITECTURE,), (tensor(axes=1 << 30),)), "axes, at most 4"),
        (whole((ARCHITECTURE,), (tensor(sizes=(HUGE, HUGE)),)), "has the sizes"),
        (whole((ARCHITECTURE,), (tensor(sizes=(0,)),)), "has the sizes [0]"),
        (whole((ARCHITECTURE,), (tensor(sizes=(1 << 40,)),)), "truncated"),
        (whole((ARCHITECTURE,), (tensor(sizes=(9,)),)), "truncated"),
        (whole((ARCHITECTURE,), (tensor(start=1 << 60),)), "truncated"),
        (whole((ARCHITECTURE,), (tensor(kind=250),)), "the GGUF type 250 is not known"),
        (whole((ARCHITECTURE,), (tensor(kind=8),)), "not whole blocks of 32"),
        (whole((ARCHITECTURE,), (tensor(sizes=(4,)), tensor(b"token_embd.weight", (4, 1)))), "tensors overlap"),
    ],
)
def test_a_header_that_misleads_is_refused(tmp_path: Path, raw: bytes, message: str) -> None:
    started = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        open_files(write(tmp_path, raw))
    assert time.process_time() - started < 5
    assert message in str(caught.value)
    assert "m.gguf" in str(caught.value)
    assert len(str(caught.value)) < 1000


@given(changes=st.lists(st.tuples(st.integers(0, len(whole()) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path: Path, changes: Any) -> None:
    raw = bytearray(whole())
    for at, value in changes:
        raw[at] = value
    try:
        source = open_files(write(tmp_path, raw))
    except CheckpointError:
        return
    for name, spec in source.tensors.items():
        source.read_into(name, 0, [np.empty(spec.nbytes, np.uint8)])
