"""Folders to judge in: gone at the end, and swept when their owner died, but nobody else's ever."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cuvee.submission.scratch import MARK, PREFIX, own_folder, sweep_scratch

DEPTH = 1500
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows starts no process as a copy of this one")


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[multiprocessing.process.BaseProcess]:
    """A process that judges in a folder of its own, and does not end by itself."""

    def judge() -> None:
        with own_folder(tmp_path) as folder:
            (folder / "work").mkdir()
            time.sleep(60)

    process = multiprocessing.get_context("fork").Process(target=judge)
    process.start()
    yield process
    process.kill()
    process.join()


def soon(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def left_in(scratch: Path) -> list[Path]:
    return list(scratch.glob(f"{PREFIX}*"))


def test_a_folder_is_gone_at_the_end_whatever_its_depth(tmp_path: Path) -> None:
    with own_folder(tmp_path) as folder:
        inner = os.open(folder, os.O_RDONLY)
        for _ in range(DEPTH):
            os.mkdir("d", dir_fd=inner)
            deeper = os.open("d", os.O_RDONLY, dir_fd=inner)
            os.close(inner)
            inner = deeper
        os.close(inner)
    assert left_in(tmp_path) == []


def test_what_a_dead_owner_left_is_swept_and_what_a_living_one_has_is_not(
    owner: multiprocessing.process.BaseProcess, tmp_path: Path
) -> None:
    assert soon(lambda: any((folder / "work").exists() for folder in left_in(tmp_path)))
    (folder,) = left_in(tmp_path)
    assert sweep_scratch(tmp_path) == []
    assert folder.exists()
    owner.kill()
    owner.join()
    assert sweep_scratch(tmp_path) == [folder]
    assert not folder.exists()


def test_folders_that_are_not_surely_ours_stay(tmp_path: Path) -> None:
    unmarked = tmp_path / f"{PREFIX}unmarked"
    unmarked.mkdir(mode=0o700)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / MARK).touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    shared = tmp_path / f"{PREFIX}shared"
    shared.mkdir()
    (shared / MARK).touch()
    shared.chmod(0o777)
    if os.geteuid() == 0:
        foreign = tmp_path / f"{PREFIX}foreign"
        foreign.mkdir(mode=0o700)
        (foreign / MARK).touch()
        os.chown(foreign, 12345, 12345)
    before = sorted(tmp_path.iterdir())
    assert sweep_scratch(tmp_path) == []
    assert sorted(tmp_path.iterdir()) == before
    assert (elsewhere / MARK).exists()
