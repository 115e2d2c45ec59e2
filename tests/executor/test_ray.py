"""Three simulated machines that Ray joins: calls go to all of them; a lost one costs the calls that ran there."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray", reason="ray is not installed: `make ray` does, and runs these tests")

from ray.cluster_utils import Cluster  # noqa: E402  # this and the others need ray

from cuvee.api import recipe_from_text  # noqa: E402
from cuvee.demo import model_folder  # noqa: E402
from cuvee.engine import merge  # noqa: E402
from cuvee.engine.by_shards import merge_by_shards  # noqa: E402
from cuvee.errors import RecipeError  # noqa: E402
from cuvee.executor import Done, Executor, Here  # noqa: E402
from cuvee.executor.ray_actors import RayActors  # noqa: E402

from . import calls  # noqa: E402

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    os.environ["RAY_raylet_start_wait_time_s"] = "120"  # noqa: SIM112  # Ray reads it so
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(**NODE)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def actors(cluster: Cluster) -> Iterator[RayActors]:
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(**NODE)
    with RayActors(cluster.address) as opened:
        yield opened


def test_slots_are_on_all_machines_and_keep_what_functions_keep(actors: RayActors) -> None:
    assert actors.slots == 3
    assert len(set(actors.node_ids())) == 3
    for slot in (0, 1, 0):
        actors.submit(slot, calls.count)
        assert actors.next_done().slot == slot
    actors.submit(0, calls.count)
    assert actors.next_done() == Done(0, 3)


def test_failures_are_sentences(actors: RayActors) -> None:
    actors.submit(1, calls.refuse, "ties")
    assert actors.next_done() == Done(1, failure="recipe.yaml:3: there is no 'ties'")
    actors.submit(1, calls.die)
    done = actors.next_done()
    assert done.lost
    assert "is lost" in done.failure
    actors.submit(1, calls.double, 2)
    assert actors.next_done() == Done(1, 4)


def test_another_version_is_refused(actors: RayActors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuvee.executor.ray_actors.__version__", "0.0")
    actors.submit(0, calls.double, 2)
    assert "and the caller has 0.0" in actors.next_done().failure


def test_no_cluster_is_told() -> None:
    ray.shutdown()
    with pytest.raises(RecipeError, match="no Ray cluster answers at"):
        RayActors("127.0.0.1:1")


def test_a_machine_that_goes_changes_no_result(cluster: Cluster, actors: RayActors) -> None:
    pytest.importorskip("transformers")
    from cuvee.search.resident import Setup, measured

    base, expert = str(model_folder("base")), str(model_folder("sort"))
    setup = Setup((base, expert), ("sort",), device="cpu")
    items = {"sort": [f"sort-{number:03}" for number in range(20)]}
    recipes = [
        f"merge_method: task_arithmetic\nbase_model: {base}\n"
        f"models: [{{model: {expert}, parameters: {{weight: {0.1 * number}}}}}]\n"
        for number in range(9)
    ]

    def work(executor: Executor, *, remove: bool) -> tuple[list[Any], int]:
        results, lost = [None] * len(recipes), 0
        waiting, running = list(enumerate(recipes)), {}
        free = list(range(executor.slots))
        while waiting or running:
            while waiting and free:
                slot = free.pop()
                number, recipe = running[slot] = waiting.pop(0)
                executor.submit(slot, measured, setup, recipe, items)
            if remove and sum(result is not None for result in results) == 2:
                cluster.remove_node(next(iter(cluster.worker_nodes)))
                remove = False
            done = executor.next_done()
            number, recipe = running.pop(done.slot)
            free.append(done.slot)
            if done.lost:
                lost += 1
                waiting.append((number, recipe))
                continue
            assert not done.failure
            results[number] = (done.value.scores, done.value.digest)
        return results, lost

    here, _ = work(Here(), remove=False)
    there, lost = work(actors, remove=True)
    assert there == here
    assert lost == 1


def test_a_machine_that_goes_during_a_search_changes_nothing_that_is_found(
    cluster: Cluster, actors: RayActors, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    from cuvee.search.run import search
    from cuvee.search.setting import budget_of
    from cuvee.search.space import parse_space

    text = f"""
    base_model: {model_folder("base")}
    models: [{model_folder("sort")}, {model_folder("shift")}]
    tasks: [sort, shift]
    search: {{method: task_arithmetic, weights: {{per: all, over: whole}}}}
    items: {{search: 0.2, select: 0.2}}
    """
    space = parse_space(text, folder=tmp_path, where="space.yaml")
    budget = budget_of(20)
    removing = Removing(actors, cluster)
    here = search(space, tmp_path / "here", Here(), folder=tmp_path, budget=budget, device="cpu")
    there = search(space, tmp_path / "there", removing, folder=tmp_path, budget=budget, device="cpu")
    assert removing.lost == 1
    assert there.recipe == here.recipe
    assert there.choice == here.choice
    assert values_of(there) == pytest.approx(values_of(here))  # told beside the incumbent of the moment
    assert (tmp_path / "there" / "best.yaml").read_bytes() == (tmp_path / "here" / "best.yaml").read_bytes()


def values_of(report: Any) -> dict[str, float]:
    return {candidate.name: candidate.value for candidate in report.candidates if candidate.state == "measured"}


def test_a_machine_that_goes_during_a_merge_changes_no_byte(
    cluster: Cluster, actors: RayActors, tmp_path: Path
) -> None:
    base, expert = model_folder("base"), model_folder("sort")
    models = f"[{{model: {expert}, parameters: {{weight: 0.6}}}}]"
    recipe = recipe_from_text(f"merge_method: ties\nbase_model: {base}\nmodels: {models}\n")
    whole = merge(recipe, tmp_path / "whole", shard_bytes=200_000)
    removing = Removing(actors, cluster)
    there = merge_by_shards(recipe, tmp_path / "there", removing, shard_bytes=200_000)
    assert removing.lost == 1
    assert there.digest == whole.digest
    assert weights(there.folder) == weights(whole.folder)
    assert len(weights(whole.folder)) > 3


class Removing:
    """An executor from whose cluster one machine is removed while all its slots run a call."""

    def __init__(self, actors: RayActors, cluster: Cluster) -> None:
        self._actors, self._cluster = actors, cluster
        self._calls = 0
        self.slots = actors.slots
        self.lost = 0

    def submit(self, slot: int, function: Any, *arguments: Any) -> None:
        self._actors.submit(slot, function, *arguments)
        self._calls += 1
        if self._calls == self.slots:
            self._cluster.remove_node(next(iter(self._cluster.worker_nodes)))

    def next_done(self) -> Done:
        done = self._actors.next_done()
        self.lost += done.lost
        return done

    def close(self) -> None:
        self._actors.close()

    def __enter__(self) -> "Removing":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
