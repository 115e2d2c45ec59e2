"""OUT appears complete or not at all, and nothing that a person made is overwritten."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cuvee.checkpoint import open_checkpoint
from cuvee.checkpoint.companions import copy_companions
from cuvee.checkpoint.write import CheckpointWriter, OutputTensor, lay_out
from cuvee.errors import OutOfBudget, PlatformError, RecipeError

SHARDS = lay_out([OutputTensor("a", "F32", (4,)), OutputTensor("b", "F32", (4,))], 16)


def write(out: Path, *, overwrite: bool = False) -> None:
    with CheckpointWriter(out, SHARDS, overwrite=overwrite) as writer:
        writer.write("a", 0, np.ones(4, np.float32))
        writer.write("b", 0, np.ones(4, np.float32))
        writer.write_file("cuvee.json", "{}")
        writer.finish()


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_output_appears_only_at_the_end(tmp_path):
    out = tmp_path / "out"
    with CheckpointWriter(out, SHARDS) as writer:
        writer.write("a", 0, np.ones(4, np.float32))
        writer.write("b", 0, np.ones(4, np.float32))
        assert not out.exists()
        writer.finish()
    assert os.listdir(tmp_path) == ["out"]
    assert open_checkpoint(out).read("a").tolist() == [1, 1, 1, 1]


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with CheckpointWriter(tmp_path / "out", SHARDS):
            raise KeyboardInterrupt
    assert everything(tmp_path) == []


def test_leaving_without_finishing_leaves_nothing(tmp_path):
    with CheckpointWriter(tmp_path / "out", SHARDS) as writer:
        writer.write("a", 0, np.ones(4, np.float32))
        writer.write("b", 0, np.ones(4, np.float32))
    assert everything(tmp_path) == []


def test_the_remains_of_a_killed_run_are_replaced(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "old").touch()
    write(tmp_path / "out")
    assert "out/old" not in everything(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_no_merge_wrote_is_kept(tmp_path, overwrite):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(RecipeError):
        write(tmp_path / "out", overwrite=overwrite)
    assert everything(tmp_path) == ["out", "out/precious"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_or_a_link_at_the_output_is_kept(tmp_path, overwrite):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "cuvee.json").touch()
    (tmp_path / "link").symlink_to("merged")
    before = everything(tmp_path)
    for name in ("file", "dangling", "link"):
        with pytest.raises(RecipeError):
            write(tmp_path / name, overwrite=overwrite)
    assert everything(tmp_path) == before


def test_an_earlier_merge_is_replaced_only_if_asked(tmp_path):
    write(tmp_path / "out")
    (tmp_path / "out" / "old").touch()
    with pytest.raises(RecipeError, match="exists already"):
        write(tmp_path / "out")
    write(tmp_path / "out", overwrite=True)
    assert os.listdir(tmp_path) == ["out"]
    assert "out/old" not in everything(tmp_path)


def test_an_empty_folder_is_replaced_only_if_asked(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(RecipeError, match="exists already"):
        write(tmp_path / "out")
    write(tmp_path / "out", overwrite=True)
    assert "out/cuvee.json" in everything(tmp_path)


def test_a_folder_that_appears_during_the_merge_is_kept(tmp_path):
    with CheckpointWriter(tmp_path / "out", SHARDS) as writer:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").touch()
        writer.take_as_written(["a", "b"])
        with pytest.raises(RecipeError, match="exists already"):
            writer.finish()
    assert everything(tmp_path) == ["out", "out/precious"]


def test_an_earlier_merge_stays_until_the_new_one_is_complete(tmp_path):
    write(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        with CheckpointWriter(tmp_path / "out", SHARDS, overwrite=True):
            raise KeyboardInterrupt
    assert open_checkpoint(tmp_path / "out").read("a").tolist() == [1, 1, 1, 1]


def test_a_place_that_cannot_be_written_is_the_authors_mistake(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match="cannot write the output: Not a directory"):
        write(tmp_path / "file" / "out")


def test_a_full_disk_is_out_of_budget_and_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small file system")
    try:
        with pytest.raises(OutOfBudget, match="No space left on device") as caught:
            with CheckpointWriter(disk / "out", lay_out([OutputTensor("a", "F32", (1 << 16,))], 1 << 30)):
                pass
        assert caught.value.exit_code == 75
        with pytest.raises(OutOfBudget):
            with CheckpointWriter(disk / "out", SHARDS) as writer:
                writer.write_file("large", "x" * (1 << 17))
        source = tmp_path / "donor"
        source.mkdir()
        (source / "tokenizer.json").write_text("x" * (1 << 17), encoding="utf-8")
        with pytest.raises(OutOfBudget):
            copy_companions(source, disk, ())
        (disk / "tokenizer.json").unlink()
        assert everything(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_links_to_companions_are_followed(tmp_path):
    (tmp_path / "donor").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "blob").write_text("{}", encoding="utf-8")
    (tmp_path / "donor" / "tokenizer.json").symlink_to("../blob")
    assert copy_companions(tmp_path / "donor", tmp_path / "out", ()) == ["tokenizer.json"]
    assert not (tmp_path / "out" / "tokenizer.json").is_symlink()


def test_a_tensor_that_is_not_written_to_its_end_is_no_result(tmp_path: Path) -> None:
    tensors = [OutputTensor("a", "F32", (4,)), OutputTensor("empty", "F32", (0,)), OutputTensor("b", "F32", (4,))]
    with CheckpointWriter(tmp_path / "out", lay_out(tensors, 1 << 20)) as writer:
        writer.write("a", 0, np.ones(4, np.float32))
        writer.write("b", 0, np.ones(3, np.float32))
        with pytest.raises(PlatformError, match="not written to the end: 'b'"):
            writer.finish()
        assert not (tmp_path / "out").exists()
        writer.take_as_written(["b"])
        writer.finish()
    assert (tmp_path / "out").exists()
