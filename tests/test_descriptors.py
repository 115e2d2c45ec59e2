"""Reads, writes and locks by descriptor do the same on systems that lack the direct calls."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cuvee import descriptors


@pytest.fixture(params=["linux", "macos", "windows"])
def calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"linux": (), "macos": ("preadv",), "windows": ("preadv", "pread", "pwrite")}
    for name in missing[request.param]:
        monkeypatch.delattr(os, name)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | descriptors.BINARY)
    yield opened
    os.close(opened)


@pytest.mark.usefixtures("calls")
def test_what_is_written_at_a_place_is_read_from_there(descriptor: int) -> None:
    assert descriptors.write_at(descriptor, memoryview(b"\r\n0123456789"), 3) == 12
    first, second = bytearray(4), bytearray(2)
    count = descriptors.read_at(descriptor, [memoryview(first), memoryview(second)], 5)
    assert (bytes(first) + bytes(second))[:count] == b"012345"[:count]
    assert count >= len(first)


@pytest.mark.usefixtures("calls")
def test_nothing_is_read_beyond_the_end(descriptor: int) -> None:
    assert descriptors.read_at(descriptor, [memoryview(bytearray(4))], 0) == 0


def test_a_second_lock_is_refused(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT) for _ in range(2))
    descriptors.lock(first)
    with pytest.raises(BlockingIOError):
        descriptors.lock(second)
    os.close(first)
    descriptors.lock(second)
    os.close(second)


def test_a_system_without_locks_says_so(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    with pytest.raises(OSError, match="no locks"):
        descriptors.lock(descriptor)
