"""Kernels' machine code is kept in a file, used from there, and made anew where the file is not what was written."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

native = pytest.importorskip("cuvee.kernels.fused.native")

NUMBERS = np.array([1.0, -2.5, 3.0], np.float32)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two empty places for machine code, and nothing compiled yet."""
    both = tmp_path / "beside", tmp_path / "own"
    monkeypatch.setattr(native, "_folders", lambda: both)
    monkeypatch.setattr(native, "_functions", {})
    return both


def add() -> np.ndarray:
    out = np.empty(3, np.float32)
    native.call("merge.add_scaled", NUMBERS, NUMBERS, np.float32(2), np.float32(0), out)
    return out


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_functions", {})
    monkeypatch.setattr(native, "_compiled", lambda kernel, arguments: pytest.fail(f"{kernel} was compiled again"))


def test_a_kernel_is_compiled_once(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not native.is_kept("merge.add_scaled")
    np.testing.assert_array_equal(add(), 3 * NUMBERS)
    assert [len(list(folder.glob("*"))) for folder in folders if folder.exists()] == [1]
    without_compiler(monkeypatch)
    assert native.is_kept("merge.add_scaled")
    np.testing.assert_array_equal(add(), 3 * NUMBERS)


@pytest.mark.parametrize("harm", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: raw[:-1] + b"\x01"])
def test_a_damaged_file_is_replaced(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, harm) -> None:
    add()
    file = next(folders[0].iterdir())
    whole = file.read_bytes()
    file.write_bytes(harm(whole))
    monkeypatch.setattr(native, "_functions", {})
    np.testing.assert_array_equal(add(), 3 * NUMBERS)
    without_compiler(monkeypatch)
    np.testing.assert_array_equal(add(), 3 * NUMBERS)


def test_code_is_kept_where_there_is_a_place_for_it(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders[0].write_text("a file, in which nothing can be written")
    add()
    assert [file.suffix for file in folders[1].iterdir()] == [".o"]
    without_compiler(monkeypatch)
    np.testing.assert_array_equal(add(), 3 * NUMBERS)


def test_arrays_that_lie_apart_or_askew_are_read_as_they_are(folders: tuple[Path, Path]) -> None:
    spread, askew = np.zeros(9, np.float32), np.zeros(13, np.uint8)
    spread[::3] = NUMBERS
    askew[1:] = NUMBERS.view(np.uint8)
    out = np.zeros((3, 2), np.float32)
    native.call("merge.add_scaled", spread[::3], askew[1:].view(np.float32), np.float32(2), np.float32(0), out[:, 1])
    np.testing.assert_array_equal(out, np.stack([np.zeros(3), 3 * NUMBERS], axis=1))


def test_without_any_place_kernels_still_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(native, "_folders", lambda: (tmp_path / "file",))
    monkeypatch.setattr(native, "_functions", {})
    np.testing.assert_array_equal(add(), 3 * NUMBERS)


def test_whoever_finds_the_code_does_not_import_the_compiler() -> None:
    add()
    use = (
        "import sys, numpy as np; from cuvee.kernels.fused import native\n"
        "x = np.ones(3, np.float32); native.call('merge.add_scaled', x, x, np.float32(1), np.float32(0), x)\n"
        "print(x.tolist(), 'numba' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", use], capture_output=True, text=True, check=True)
    assert said.stdout.split("\n")[0] == "[2.0, 2.0, 2.0] False"


def test_compiling_is_timed_and_loading_is_not(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    before = native.compile_seconds()
    add()
    compiled = native.compile_seconds()
    assert compiled > before
    monkeypatch.setattr(native, "_functions", {})
    add()
    assert native.compile_seconds() == compiled
