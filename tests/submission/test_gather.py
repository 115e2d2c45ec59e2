"""Facts come from the hub's own words and from headers, a few kilobytes; places are what the lock says."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cuvee.api import recipe_from_text
from cuvee.checkpoint import open_checkpoint
from cuvee.errors import PlatformError, SubmissionError
from cuvee.hub import Hub
from cuvee.hub.room import by_use, folder_bytes
from cuvee.progress import Silent
from cuvee.submission.competition import Competition, Licences, Rules
from cuvee.submission.gather import gather, places
from cuvee.submission.lock import Lock, LockedFile, make_lock, read_lock
from cuvee.submission.rules import check_rules
from cuvee.testing import random_weights, write_model
from hub.server import Given, LocalHub, Sparse, running

RECIPE = "merge_method: linear\nmodels: [{model: org/base}, {model: org/tuned}]\nparameters: {weight: 1.0}\n"
CARD = {"license": "apache-2.0"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalHub]:
    with running(LocalHub()) as hub:
        base = random_weights(0)
        for i, name in enumerate(("base", "tuned")):
            folder = write_model(tmp_path / name, random_weights(i, base=base) if i else base, shard_bytes=40_000)
            (folder / "tokenizer_config.json").write_text("{}")
            hub.put(f"org/{name}", folder, commit=str(i) * 40, card=dict(CARD))
        yield hub


@pytest.fixture
def hub(server: LocalHub, tmp_path: Path) -> Hub:
    return Hub(endpoint=server.address, cache=tmp_path / "cache", sleep=lambda _: None)


@pytest.fixture
def lock(hub: Hub) -> Lock:
    return make_lock(recipe_from_text(RECIPE), hub=hub)


@pytest.fixture
def open_rules(competition: Competition) -> Competition:
    rules = Rules(uploaded_before=datetime(2024, 5, 31, tzinfo=UTC).date(), licences=Licences(allow=("apache-2.0",)))
    return replace(competition, rules=rules)


def broken(lock: Lock, competition: Competition, hub: Hub) -> list[tuple[str, str | None]]:
    findings = check_rules(competition.rules, gather(lock, "recipe", competition, hub))
    return [(finding.rule, finding.model) for finding in findings if finding.outcome == "fail"]


def test_a_lock_pins_commits_and_every_file_without_downloading_weights(lock: Lock, server: LocalHub) -> None:
    assert [model.commit for model in lock.models] == ["0" * 40, "1" * 40]
    assert {file.sha256 for file in lock.models[0].files.values()} == {
        content.sha256 for content in server.repos["org/base"].files.values()
    }
    assert not any("cdn" in request for request in server.requests)
    assert read_lock(json.loads(json.dumps(lock.to_json())), "lock.json") == lock


def test_models_that_are_placed_survive_the_bound_of_the_cache(
    lock: Lock, open_rules: Competition, hub: Hub, tmp_path: Path
) -> None:
    free = replace(hub, most_bytes=1 << 30)
    places(lock, open_rules, free, tmp_path / "free", Silent())
    most = max(folder_bytes(folder) for folder in by_use(hub.cache_folder))
    bounded = replace(hub, cache=tmp_path / "bounded", most_bytes=most)
    gather(lock, "recipe", open_rules, bounded)
    found = places(lock, open_rules, bounded, tmp_path / "scratch", Silent())
    assert len(by_use(bounded.cache_folder)) == 1, "the second made room for itself"
    for locked in lock.models:
        names = {path.name for path in found[locked.reference].iterdir()}
        assert names == set(locked.files), "all links are whole"


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [((503, {}, -1), PlatformError), ((404, {"X-Error-Code": "RepoNotFound"}, -1), SubmissionError)],
)
def test_a_hub_that_is_away_is_our_failure_and_a_model_that_has_gone_is_not(
    fault: tuple[int, dict[str, str], int],
    wrong: type[Exception],
    lock: Lock,
    open_rules: Competition,
    hub: Hub,
    server: LocalHub,
    tmp_path: Path,
) -> None:
    server.faults["org/tuned"] = fault
    with pytest.raises(wrong, match=r"the hub (cannot be asked|does not have it any more)"):
        places(lock, open_rules, hub, tmp_path / "scratch", Silent())


def test_parameters_are_counted_from_headers(
    lock: Lock, open_rules: Competition, hub: Hub, server: LocalHub, tmp_path: Path
) -> None:
    before = server.sent
    facts = gather(lock, "recipe", open_rules, hub).models[0]
    with open_checkpoint(tmp_path / "base") as checkpoint:
        assert facts.parameters == sum(spec.elements for spec in checkpoint.tensors.values())
    assert facts.weight_bytes == sum(file.stat().st_size for file in (tmp_path / "base").glob("*.safetensors"))
    assert facts.model_type == "llama"
    assert facts.committed == datetime(2024, 2, 1, tzinfo=UTC)
    assert server.sent - before < 600_000
    assert not broken(lock, open_rules, hub)


def test_the_commit_counts_and_not_the_repository(
    lock: Lock, open_rules: Competition, hub: Hub, server: LocalHub
) -> None:
    server.repos["org/tuned"].committed = "2024-09-01T00:00:00.000Z"
    assert broken(lock, open_rules, hub) == [("date", "org/tuned")]


def test_the_lineage_is_followed(lock: Lock, open_rules: Competition, hub: Hub, server: LocalHub) -> None:
    server.repos["org/tuned"].card |= {"base_model": ["org/base", "org/secret"], "tags": ["merge"]}
    assert broken(lock, open_rules, hub) == [("lineage", "org/tuned")]
    secret = replace(server.repos["org/base"], card={"license": "agpl-3.0"}, created="2024-08-01T00:00:00.000Z")
    server.repos["org/secret"] = secret
    assert broken(lock, open_rules, hub) == [("date", "org/secret"), ("licence", "org/secret")]


def test_cards_in_a_circle_end(lock: Lock, open_rules: Competition, hub: Hub, server: LocalHub) -> None:
    server.repos["org/tuned"].card |= {"base_model": "org/base"}
    server.repos["org/base"].card |= {"base_model": "org/tuned"}
    assert not broken(lock, open_rules, hub)


def test_an_undeclared_merge_is_seen_by_what_it_left(
    lock: Lock, open_rules: Competition, hub: Hub, server: LocalHub
) -> None:
    server.repos["org/tuned"].files["mergekit_config.yml"] = Given(b"merge_method: slerp")
    assert broken(lock, open_rules, hub) == [("lineage", "org/tuned")]


def test_code_in_a_config_or_beside_it_is_seen(open_rules: Competition, hub: Hub, server: LocalHub) -> None:
    config = json.loads(server.repos["org/tuned"].files["config.json"].read(0, 10**6))
    server.repos["org/tuned"].files["config.json"] = Given(json.dumps({**config, "auto_map": {"A": "b.C"}}).encode())
    server.repos["org/base"].files["modeling_own.py"] = Given(b"import os")
    lock = make_lock(recipe_from_text(RECIPE), hub=hub)
    assert broken(lock, open_rules, hub) == [("remote_code", "org/base"), ("remote_code", "org/tuned")]


def test_code_in_the_config_of_a_tokenizer_is_seen(open_rules: Competition, hub: Hub, server: LocalHub) -> None:
    server.repos["org/tuned"].files["tokenizer_config.json"] = Given(b'{"auto_map": {"AutoTokenizer": ["a.B", null]}}')
    lock = make_lock(recipe_from_text(RECIPE), hub=hub)
    assert broken(lock, open_rules, hub) == [("remote_code", "org/tuned")]


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_config_that_is_too_large_to_read_is_not_downloaded(
    name: str, lock: Lock, open_rules: Competition, hub: Hub, server: LocalHub
) -> None:
    server.repos["org/tuned"].files[name] = Sparse(b"{", 1 << 30)
    before = server.sent
    assert ("known", "org/tuned") in broken(lock, open_rules, hub)
    assert server.sent - before < 1 << 20


def test_other_tokens_are_seen_unless_the_recipe_says_which_are_kept(
    open_rules: Competition, hub: Hub, server: LocalHub
) -> None:
    for name, words in (("base", ("a", "b")), ("tuned", ("b", "a"))):
        content = {"model": {"type": "BPE", "vocab": {word: i for i, word in enumerate(words)}, "merges": []}}
        server.repos[f"org/{name}"].files["tokenizer.json"] = Given(json.dumps(content).encode())
    lock = make_lock(recipe_from_text(RECIPE), hub=hub)
    assert broken(lock, open_rules, hub) == [("tokenizer", "org/tuned")]
    chosen = gather(lock, "recipe", open_rules, hub, f"{RECIPE}\ntokenizer: base\n")
    assert chosen.chooses_tokenizer
    assert {finding.outcome for finding in check_rules(open_rules.rules, chosen)} == {"pass"}


def test_a_model_that_is_gone_is_the_participants_matter(
    lock: Lock, open_rules: Competition, hub: Hub, server: LocalHub
) -> None:
    del server.repos["org/tuned"]
    assert ("known", "org/tuned") in broken(lock, open_rules, hub)


def test_a_hub_that_does_not_answer_is_ours(lock: Lock, open_rules: Competition, hub: Hub, server: LocalHub) -> None:
    server.faults["org/tuned"] = (500, {}, -1)
    with pytest.raises(PlatformError, match="cannot be asked"):
        gather(lock, "recipe", open_rules, hub)


def test_places_are_the_files_of_the_lock(lock: Lock, open_rules: Competition, hub: Hub, tmp_path: Path) -> None:
    found = places(lock, open_rules, hub, tmp_path / "scratch", Silent())
    for locked in lock.models:
        assert {file.name for file in found[locked.reference].iterdir()} == set(locked.files)


def test_a_file_that_is_not_what_the_lock_says_is_refused(
    lock: Lock, open_rules: Competition, hub: Hub, tmp_path: Path
) -> None:
    first = lock.models[0]
    files = {**first.files, "config.json": LockedFile(1, "0" * 64)}
    other = replace(lock, models=(replace(first, files=files), *lock.models[1:]))
    with pytest.raises(SubmissionError, match="is not what the lock says"):
        places(other, open_rules, hub, tmp_path / "scratch", Silent())


def test_a_competitions_model_that_was_changed_is_ours(competition: Competition, tmp_path: Path) -> None:
    recipe = "merge_method: linear\nmodels: [{model: ../models/sort}]\nparameters: {weight: 1.0}\n"
    lock = make_lock(recipe_from_text(recipe, folder=competition.folder / "baselines"))
    with pytest.raises(PlatformError, match="not complete"):
        places(lock, replace(competition, folder=tmp_path), Hub(offline=True), tmp_path / "scratch", Silent())


def test_statistics_are_in_no_lock() -> None:
    recipe = recipe_from_text("merge_method: regmean\nmodels: [{model: org/a, statistics: mine}]\n")
    with pytest.raises(SubmissionError, match="which no judge has"):
        make_lock(recipe)
