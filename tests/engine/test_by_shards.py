"""A merge over an executor: the bytes of the merge in one go, whatever is lost on the way."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cuvee
from cuvee.engine.by_shards import merge_by_shards
from cuvee.errors import CheckpointError, PlatformError, RecipeError
from cuvee.executor import Done, Here, Processes
from cuvee.recipe.recipe import Recipe

from .test_run import files, recipe

SHARD = 40_000


class Killing(Processes):
    """Processes of which each is killed as soon as it has its first call, as often as asked for."""

    def __init__(self, slots: int, kills: int) -> None:
        super().__init__(slots)
        self.kills = kills
        self.lost = 0

    def submit(self, slot: int, function: Callable[..., Any], *arguments: Any) -> None:
        super().submit(slot, function, *arguments)
        pid = self.process_ids()[slot]
        if self.kills and pid is not None:
            self.kills -= 1
            os.kill(pid, signal.SIGKILL)

    def next_done(self) -> Done:
        done = super().next_done()
        self.lost += done.lost
        return done


@pytest.fixture(scope="module")
def blend(family: Path) -> Recipe:
    return cuvee.recipe_from_text(recipe(family, "ties"))


@pytest.fixture(scope="module")
def whole(blend: Recipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    result = cuvee.merge(blend, tmp_path_factory.mktemp("whole") / "out", shard_bytes=SHARD)
    return files(result.folder)


def test_a_merge_by_shards_gives_the_same_files(blend: Recipe, whole: dict[str, bytes], tmp_path: Path) -> None:
    assert len(whole) > 3
    with Here() as here:
        result = merge_by_shards(blend, tmp_path / "out", here, shard_bytes=SHARD)
    assert files(result.folder) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_slots_that_are_killed_change_no_byte(blend: Recipe, whole: dict[str, bytes], tmp_path: Path) -> None:
    with Killing(2, kills=2) as killing:
        result = merge_by_shards(blend, tmp_path / "out", killing, shard_bytes=SHARD)
        assert killing.lost == 2
    assert files(result.folder) == whole


def test_a_part_that_is_lost_again_and_again_ends_the_merge(blend: Recipe, tmp_path: Path) -> None:
    with Killing(1, kills=99) as killing, pytest.raises(PlatformError, match=r"part \d+/\d+ was lost 3 times"):
        merge_by_shards(blend, tmp_path / "out", killing)
    assert not (tmp_path / "out").exists()


def test_a_part_that_fails_is_told_and_the_rest_is_taken_up(
    family: Path, blend: Recipe, whole: dict[str, bytes], tmp_path: Path
) -> None:
    with Here() as here:
        with pytest.raises(CheckpointError, match="is too little: this merge needs"):
            merge_by_shards(blend, tmp_path / "out", here, shard_bytes=SHARD, memory_bytes=10)
        assert files(merge_by_shards(blend, tmp_path / "out", here, shard_bytes=SHARD).folder) == whole


def test_models_are_found_from_the_callers_folder(
    family: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(family)
    relative = cuvee.recipe_from_text(recipe(family, "ties").replace(f"{family}/", ""))
    with Processes(1) as processes:
        result = merge_by_shards(relative, tmp_path / "out", processes, shard_bytes=SHARD)
    assert files(result.folder) == whole


def test_a_repair_cannot_be_shared_out(blend: Recipe, tmp_path: Path) -> None:
    with Here() as here, pytest.raises(RecipeError, match="'align' works on a whole merge"):
        merge_by_shards(replace(blend, align={}), tmp_path / "out", here)
