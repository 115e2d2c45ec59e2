"""A cache stays within a size: what was not used for the longest goes first, and nothing that is in use."""

import os
import threading
from dataclasses import replace

import pytest

from cuvee.errors import CheckpointError
from cuvee.hub import Hub, Repository, download, find_repository, in_use, make_room, note_use
from cuvee.hub.room import by_use, folder_bytes
from cuvee.progress import Silent
from hub.server import Given, LocalHub, Repo

BYTES = 100_000
WEIGHTS = "model.safetensors"
MODELS = ("org/a", "org/b", "org/c")

pytest.importorskip("fcntl", reason="needs locks of Unix")


@pytest.fixture
def bounded(hub: Hub, server: LocalHub) -> Hub:
    """A hub with three models, of which two fit into the cache."""
    for number, name in enumerate(MODELS):
        server.repos[name] = Repo({WEIGHTS: Given(bytes([number]) * BYTES)}, commit=str(number) * 40)
    return replace(hub, most_bytes=int(2.5 * BYTES))


def ask_for(hub: Hub, name: str) -> Repository:
    """Get a model as a worker does."""
    repository = find_repository(hub, name, None)
    make_room(hub, repository, [WEIGHTS])
    with in_use(hub):
        download(hub, repository, [WEIGHTS], Silent())
        note_use(hub, repository)
    return repository


def kept(hub: Hub) -> list[str]:
    return sorted(folder.name.replace("--", "/").removeprefix("models/") for folder in by_use(hub.cache_folder))


def set_back(hub: Hub, *names: str) -> None:
    """Let the last uses of models be some time ago, each later than the one before."""
    for number, name in enumerate(names):
        os.utime(hub.cache_folder / f"models--{name.replace('/', '--')}", (number, number))


def test_what_was_not_used_for_the_longest_makes_room(bounded: Hub) -> None:
    ask_for(bounded, "org/a")
    ask_for(bounded, "org/b")
    set_back(bounded, "org/a", "org/b")
    ask_for(bounded, "org/a")
    ask_for(bounded, "org/c")
    assert kept(bounded) == ["org/a", "org/c"]
    assert folder_bytes(bounded.cache_folder) <= 2.5 * BYTES
    assert (ask_for(bounded, "org/b").folder / WEIGHTS).read_bytes() == b"\1" * BYTES


def test_a_full_disk_makes_room_too(bounded: Hub) -> None:
    ask_for(bounded, "org/a")
    full = replace(bounded, free_bytes=lambda _: BYTES * (kept(bounded) == []))
    ask_for(full, "org/b")
    assert kept(bounded) == ["org/b"]


def test_what_a_process_that_died_was_removing_goes_too(bounded: Hub) -> None:
    left = bounded.cache_folder / "removed-models--org--gone" / "blobs"
    left.mkdir(parents=True)
    make_room(bounded)
    assert not left.parent.exists()


def test_older_revisions_of_a_model_go_for_its_newest(bounded: Hub, server: LocalHub) -> None:
    for number in range(4):
        server.repos["org/a"] = Repo({WEIGHTS: Given(bytes([number]) * BYTES)}, commit=str(number) * 40)
        repository = ask_for(bounded, "org/a")
        assert (repository.folder / WEIGHTS).read_bytes() == bytes([number]) * BYTES
        assert folder_bytes(bounded.cache_folder) <= 2.5 * BYTES


def test_parts_of_stopped_downloads_count_and_go(bounded: Hub) -> None:
    part = bounded.cache_folder / "models--org--gone" / "blobs" / "0.cuvee-partial"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(3 * BYTES))
    make_room(bounded)
    assert kept(bounded) == []


def test_a_model_beyond_the_bound_is_refused_and_removes_nothing(bounded: Hub, server: LocalHub) -> None:
    server.repos["org/huge"] = Repo({WEIGHTS: Given(bytes(3 * BYTES))}, commit="9" * 40)
    ask_for(bounded, "org/a")
    with pytest.raises(CheckpointError, match=r"300 kB, and all models of a hub at most 250 kB"):
        ask_for(bounded, "org/huge")
    assert kept(bounded) == ["org/a"]


def test_a_cache_without_a_bound_is_left_alone(bounded: Hub) -> None:
    unbounded = replace(bounded, most_bytes=None)
    for name in MODELS:
        ask_for(unbounded, name)
    assert kept(bounded) == list(MODELS)


def test_nothing_is_removed_while_anybody_uses_the_cache(bounded: Hub) -> None:
    ask_for(bounded, "org/a")
    small = replace(bounded, most_bytes=1)
    removing = threading.Thread(target=make_room, args=(small,))
    with in_use(bounded), in_use(bounded):
        removing.start()
        removing.join(0.2)
        assert removing.is_alive()
        assert kept(bounded) == ["org/a"]
    removing.join()
    assert kept(bounded) == []
