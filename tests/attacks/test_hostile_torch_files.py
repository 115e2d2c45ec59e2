"""Pickles that would run code when loaded, and damaged ones: each is one CheckpointError, and nothing runs."""

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import cuvee  # noqa: E402  # after the skip
from cuvee.errors import CheckpointError  # noqa: E402
from cuvee.foreign import open_files  # noqa: E402


class Runs:
    """Calls something when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.calls = (call, arguments)

    def __reduce__(self) -> Any:
        return self.calls


def hostile(mark: Path) -> dict[str, Any]:
    """Objects that leave a mark on the disk if they run."""
    return {
        "a command": Runs(os.system, f"touch {mark}"),
        "code": Runs(exec, f"open({str(mark)!r}, 'w')"),
        "an evaluation": Runs(eval, f"open({str(mark)!r}, 'w')"),
        "a method": Runs(Path.touch, mark),
        "an import": Runs(__import__, "antigravity"),
        "a nested pickle": Runs(pickle.loads, pickle.dumps(Runs(os.system, f"touch {mark}"))),
    }


@pytest.mark.parametrize("kind", hostile(Path("x")))
@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, kind: str, suffix: str) -> None:
    mark, file = tmp_path / "mark", tmp_path / f"pytorch_model{suffix}"
    torch.save({"x": torch.ones(2), "y": hostile(mark)[kind]}, file)
    with pytest.raises(CheckpointError) as caught:
        open_files(file)
    assert not mark.exists()
    assert str(file) in str(caught.value)
    assert "nothing of it was run" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_the_pickle_does_harm_when_it_is_loaded_as_pickles_are(tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "m.bin"
    torch.save(hostile(mark)["a command"], file)
    torch.load(file, weights_only=False)
    assert mark.exists()


def test_a_merge_of_a_hostile_model_leaves_nothing(tmp_path: Path) -> None:
    mark, folder = tmp_path / "mark", tmp_path / "m"
    folder.mkdir()
    torch.save({"x": hostile(mark)["code"]}, folder / "pytorch_model.bin")
    text = f"merge_method: linear\nmodels: [{{model: {folder}}}]\nparameters: {{weight: 1}}\n"
    with pytest.raises(CheckpointError):
        cuvee.merge(cuvee.recipe_from_text(text), tmp_path / "out")
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


def test_a_pickle_in_the_name_of_safetensors_is_not_unpickled(tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "model.safetensors"
    file.write_bytes(pickle.dumps(hostile(mark)["a command"]))
    with pytest.raises(CheckpointError):
        open_files(file)
    assert not mark.exists()


def test_a_bare_pickle_is_not_unpickled(tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "model.bin"
    file.write_bytes(pickle.dumps(hostile(mark)["a command"]))
    with pytest.raises(CheckpointError, match=r"not a file that torch\.save writes"):
        open_files(file)
    assert not mark.exists()


def saved() -> bytes:
    buffer = io.BytesIO()
    torch.save({"x": torch.arange(8), "y": torch.ones(3, 3)}, buffer)
    return buffer.getvalue()


def test_a_storage_shorter_than_its_tensor_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.bin"
    with zipfile.ZipFile(io.BytesIO(saved())) as whole, zipfile.ZipFile(file, "w") as cut:
        for name in whole.namelist():
            content = whole.read(name)
            cut.writestr(name, content[:4] if "/data/0" in name else content)
    with pytest.raises(CheckpointError):
        open_files(file)


@given(at=st.integers(0, len(saved()) - 1), value=st.integers(0, 255), cut=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path: Path, at: int, value: int, cut: bool) -> None:
    raw = bytearray(saved())
    raw[at] = value
    file = tmp_path / "m.bin"
    file.write_bytes(raw[:at] if cut else raw)
    with contextlib.suppress(CheckpointError):
        open_files(file)
