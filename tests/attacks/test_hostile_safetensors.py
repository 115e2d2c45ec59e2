"""Headers of safetensors files made to mislead, to exhaust or to escape: each is one CheckpointError, at once."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuvee.checkpoint import open_checkpoint
from cuvee.checkpoint.header import read_header
from cuvee.errors import CheckpointError

HONEST = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def write(file: Path, header: Any, data: bytes = bytes(8), *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return file


def complaint(file: Path) -> str:
    started = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(file)
    assert time.process_time() - started < 10
    assert str(file) in str(caught.value)
    assert len(str(caught.value)) < 2000
    str(caught.value).encode()
    return str(caught.value)


def entry(dtype: Any = "F32", shape: Any = (2,), data_offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": data_offsets}}


def test_an_honest_file_passes(tmp_path):
    assert list(open_checkpoint(write(tmp_path / "m.safetensors", HONEST)).tensors) == ["a"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "not JSON"),
        (b"not json", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"3", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b'{"a": {"dtype": "F32", "dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}', "'dtype' appears twice"),
        (b'{"a": 1, "a": 2}', "'a' appears twice"),
        ({**HONEST, "__metadata__": [1]}, "__metadata__"),
        ({**HONEST, "__metadata__": {"format": 3}}, "__metadata__"),
        ({"a": None}, "expected dtype, shape and data_offsets"),
        ({"a": {"dtype": "F32"}}, "expected dtype, shape and data_offsets"),
        ({"a": {**HONEST["a"], "more": 1}}, "expected dtype, shape and data_offsets"),
        (entry(dtype="F5"), "unknown number type 'F5'"),
        (entry(dtype="f32"), "unknown number type 'f32'"),
        (entry(dtype=["F32"]), "unknown number type ['F32']"),
        (entry(dtype={}), "unknown number type {}"),
        (entry(dtype=None), "unknown number type None"),
        (entry(shape=2), "as shape, found 2"),
        (entry(shape=[-2]), "as shape, found [-2]"),
        (entry(shape=[-1, -2]), "as shape, found [-1, -2]"),
        (entry(shape=[2.0]), "as shape, found [2.0]"),
        (entry(shape=[True, 2]), "as shape, found [True, 2]"),
        (entry(shape=["2"]), "as shape, found ['2']"),
        (entry(shape=[1] * 1000 + [2]), "as shape"),
        (entry(shape=[1 << 62, 2]), "as shape"),
        (entry(shape=[1 << 32, 1 << 32]), "the header gives it 8"),
        (entry(shape=[1 << 61] * 64), "the header gives it 8"),
        (entry(shape=[3]), "takes 12 bytes; the header gives it 8"),
        (entry(data_offsets=[0]), "as data_offsets, found [0]"),
        (entry(data_offsets=[0, 8, 16]), "as data_offsets"),
        (entry(data_offsets=[-8, 0]), "as data_offsets, found [-8, 0]"),
        (entry(data_offsets=[8, 0]), "the header gives it -8"),
        (entry(data_offsets=["0", "8"]), "as data_offsets"),
        (entry(data_offsets=[0, 8.0]), "as data_offsets"),
        (entry(data_offsets=[8, 16]), "leaves a gap before it"),
        (entry(data_offsets=[1 << 61, (1 << 61) + 8]), "leaves a gap before it"),
        ({**HONEST, "b": HONEST["a"]}, "overlaps the tensor before it"),
        ({**HONEST, "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "overlaps the tensor before it"),
        ({**HONEST, "b": {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]}}, "leaves a gap before it"),
        ({**HONEST, "b": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}}, "truncated in 'b'"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "4 bytes follow the last tensor's data"),
        ({"\x1b[2Ja": HONEST["a"]}, r"'\x1b[2Ja' is too long or cannot be printed"),
        (b'{"\\ud800": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', "cannot be printed"),
        ({"a" * 100_000: HONEST["a"]}, "is too long"),
        ({}, "8 bytes follow"),
    ],
)
def test_a_header_that_misleads_is_refused(tmp_path, header, message):
    assert message in complaint(write(tmp_path / "m.safetensors", header))


@pytest.mark.parametrize("length", [100, 1 << 31, (1 << 64) - 1])
def test_a_header_longer_than_its_file_is_not_read(tmp_path, length):
    assert "fewer than its header says" in complaint(write(tmp_path / "m.safetensors", HONEST, length=length))


def test_a_header_of_gigabytes_in_a_sparse_file_is_not_read(tmp_path):
    file = write(tmp_path / "m.safetensors", HONEST, length=1 << 32)
    with file.open("r+b") as opened:
        opened.truncate(1 << 33)
    assert "at most 100000000 allowed" in complaint(file)


def test_many_names_with_one_repeated_at_the_end_are_refused_in_time(tmp_path):
    names = b",".join(b'"%d":1' % i for i in range(200_000))
    assert "'199999' appears twice" in complaint(write(tmp_path / "m.safetensors", b"{" + names + b',"199999":1}'))


def test_a_named_pipe_in_place_of_weights_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.safetensors")
    assert "no such folder or file" in complaint(tmp_path / "pipe.safetensors")


@settings(max_examples=60)
@given(st.binary(max_size=64) | st.binary(max_size=40).map(lambda raw: len(raw).to_bytes(8, "little") + raw))
def test_random_bytes_never_raise_anything_else(tmp_path_factory, raw):
    file = tmp_path_factory.getbasetemp() / "random.safetensors"
    file.write_bytes(raw)
    with pytest.raises(CheckpointError):
        open_checkpoint(file)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["F32", "BF16"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.text(max_size=4) | st.just("__metadata__"),
        json_values | st.fixed_dictionaries({"dtype": json_values, "shape": json_values, "data_offsets": json_values}),
        max_size=3,
    )
)
def test_random_headers_are_read_whole_or_refused(tmp_path_factory, header):
    file = write(tmp_path_factory.getbasetemp() / "header.safetensors", header)
    try:
        found = read_header(file)
    except CheckpointError:
        return
    assert sum(spec.nbytes for spec in found.tensors) == 8
