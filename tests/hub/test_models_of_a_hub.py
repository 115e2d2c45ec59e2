"""Merging models of a hub: pinned, planned from headers, downloaded once, gone on with, and used offline."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import cuvee
from cuvee.checkpoint import open_checkpoint
from cuvee.errors import CheckpointError, OutOfBudget
from cuvee.hub import Hub
from cuvee.plan.resolve import find_model
from cuvee.progress import Silent
from cuvee.testing import random_weights, write_model
from cuvee.upcycle import read_upcycling, upcycle
from cuvee.verify import verify
from hub.server import Given, LocalHub

RECIPE = """\
merge_method: task_arithmetic
base_model: org/base
models: [{model: org/tuned@main, parameters: {weight: 0.5}}]
"""


class Heard:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.stretches: list[tuple[str, int]] = []
        self.done = 0

    def start(self, what: str, total: int, unit: str) -> None:
        self.stretches.append((what, total))

    def advance(self, amount: int) -> None:
        self.done += amount

    def note(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass


def local_digest(family: Path, out: Path) -> str:
    text = RECIPE.replace("org/base", str(family / "base")).replace("org/tuned@main", str(family / "tuned"))
    return cuvee.merge(cuvee.recipe_from_text(text), out).digest


def test_a_merge_from_the_hub_equals_one_from_folders(family: Path, hub: Hub, tmp_path: Path) -> None:
    result = cuvee.merge(cuvee.recipe_from_text(RECIPE), tmp_path / "out", hub=hub)
    assert result.digest == local_digest(family, tmp_path / "local-out")
    record = json.loads((tmp_path / "out" / "cuvee.json").read_text())
    assert [given["revision"] for given in record["inputs"]] == ["0" * 40, "1" * 40]
    hashes = [file["sha256"] for given in record["inputs"] for file in given["files"].values()]
    assert all(len(known) == 64 for known in hashes)
    assert (tmp_path / "out" / "tokenizer_config.json").exists()


@pytest.fixture
def sentence_family(family: Path, server: LocalHub) -> Path:
    """The family as SentenceTransformers with a dense layer, and with files that are no part of the models."""
    for number, name in enumerate(("base", "tuned")):
        folder = family / name
        (folder / "modules.json").write_text('[{"path": ""}, {"path": "2_Dense"}]')
        write_model(
            folder / "2_Dense", {"linear.weight": np.full((4, 8), number, np.float32)}, config={"in_features": 8}
        )
        write_model(folder / "checkpoint-1", {"other": np.zeros(4, np.float32)})
        (folder / "model.fp16.safetensors").write_bytes(b"another form")
        server.put(f"org/{name}", folder, commit=f"{number}" * 40)
    return family


def test_sub_folders_with_weights_come_from_the_hub_and_other_weights_do_not(
    sentence_family: Path, hub: Hub, server: LocalHub, tmp_path: Path
) -> None:
    recipe = cuvee.recipe_from_text(RECIPE)
    before = cuvee.make_plan(recipe, hub=hub)
    assert any("checkpoint-1/" in note and "model.fp16.safetensors" in note for note in before.notes)
    result = cuvee.merge(recipe, tmp_path / "out", hub=hub)
    assert open_checkpoint(tmp_path / "out" / "2_Dense").read("linear.weight").mean() == 0.5
    assert (tmp_path / "out" / "2_Dense" / "config.json").is_file()
    downloaded = {path.name for path in hub.cache_folder.rglob("*.safetensors")}
    assert "model.fp16.safetensors" not in downloaded
    assert not list(hub.cache_folder.rglob("checkpoint-1"))
    assert cuvee.make_plan(recipe, hub=hub).digest == before.digest
    for snapshot in hub.cache_folder.glob("models--*/snapshots/*"):  # as another program would have brought it
        write_model(snapshot / "projector", {"fc.weight": np.zeros(4, np.float32)})
    offline = Hub(offline=True, endpoint=server.address, cache=hub.cache)
    assert cuvee.merge(recipe, tmp_path / "offline", hub=offline).digest == result.digest


def test_a_plan_downloads_no_weights(family: Path, hub: Hub, server: LocalHub) -> None:
    plan = cuvee.make_plan(cuvee.recipe_from_text(RECIPE), hub=hub)
    weights = sum(file.stat().st_size for file in family.glob("*/*.safetensors"))
    assert plan.forecast.bytes_downloaded > weights
    assert plan.places == (None, None)
    assert not list((hub.cache_folder).rglob("*.safetensors"))
    assert len([request for request in server.requests if "/api/models/" in request]) == 2


def test_the_plan_is_the_same_before_and_after_the_download(family: Path, hub: Hub, tmp_path: Path) -> None:
    recipe = cuvee.recipe_from_text(RECIPE)
    before = cuvee.make_plan(recipe, hub=hub)
    cuvee.merge(recipe, tmp_path / "out", hub=hub)
    after = cuvee.make_plan(recipe, hub=hub)
    assert before.digest == after.digest
    assert after.forecast.bytes_downloaded == 0


def test_offline_a_warm_cache_needs_no_request(family: Path, hub: Hub, server: LocalHub, tmp_path: Path) -> None:
    recipe = cuvee.recipe_from_text(RECIPE)
    online = cuvee.merge(recipe, tmp_path / "online", hub=hub)
    server.requests.clear()
    offline = Hub(offline=True, endpoint=server.address, cache=hub.cache)
    assert cuvee.merge(recipe, tmp_path / "offline", hub=offline).digest == online.digest
    assert server.requests == []
    first, second = (json.loads((tmp_path / o / "cuvee.json").read_text()) for o in ("online", "offline"))
    assert first["inputs"] == second["inputs"]
    assert first["plan_digest"] == second["plan_digest"]


def test_offline_a_cold_cache_is_one_clear_error(hub: Hub, server: LocalHub, tmp_path: Path) -> None:
    offline = Hub(offline=True, endpoint=server.address, cache=hub.cache)
    with pytest.raises(CheckpointError, match=r"not in the cache .*, and offline"):
        cuvee.make_plan(cuvee.recipe_from_text(RECIPE), hub=offline)
    assert server.requests == []


def test_a_folder_goes_before_a_name_on_the_hub(
    family: Path, hub: Hub, server: LocalHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(family, tmp_path / "here" / "org")
    monkeypatch.chdir(tmp_path / "here")
    cuvee.make_plan(cuvee.recipe_from_text(RECIPE.replace("@main", "")), hub=hub)
    assert server.requests == []


def test_a_download_that_broke_goes_on_where_it_was(
    family: Path, hub: Hub, server: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    shard = max((family / "tuned").glob("*.safetensors"), key=lambda file: file.stat().st_size)
    sha = server.repos["org/tuned"].files[shard.name].sha256
    recipe = cuvee.recipe_from_text(RECIPE)
    plan = cuvee.make_plan(recipe, hub=hub)
    server.faults[sha] = ("break", 10_000, 1)
    server.faults["/org/tuned/resolve/" + "1" * 40 + "/" + shard.name] = (500, {}, -1)
    with pytest.raises(CheckpointError, match="answers 500"):
        cuvee.run_plan(plan, tmp_path / "out")
    server.faults = {sha: ("break", 10_000, 2)}
    heard = Heard()
    cuvee.run_plan(plan, tmp_path / "out", progress=heard)
    assert cuvee.make_plan(recipe, hub=hub).forecast.bytes_downloaded == 0
    assert heard.stretches[-2][0] == "downloading org/tuned@main"
    assert (tmp_path / "out" / "cuvee.json").exists()


def test_what_has_arrived_is_not_asked_again(family: Path, hub: Hub, server: LocalHub, tmp_path: Path) -> None:
    recipe = cuvee.recipe_from_text(RECIPE)
    plan = cuvee.make_plan(recipe, hub=hub)
    content = next(c for name, c in server.repos["org/base"].files.items() if name.endswith(".safetensors"))
    partial = hub.cache_folder / "models--org--base" / "blobs" / f"{content.sha256}.cuvee-partial"
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(content.read(0, content.size - 100))
    again = cuvee.make_plan(recipe, hub=hub)
    assert again.forecast.bytes_downloaded == plan.forecast.bytes_downloaded - content.size + 100
    server.sent = 0
    heard = Heard()
    cuvee.run_plan(again, tmp_path / "out", progress=heard)
    assert server.sent < again.forecast.bytes_downloaded + 2_000
    downloads = sum(total for what, total in heard.stretches if what.startswith("downloading"))
    assert downloads == again.forecast.bytes_downloaded


def test_bytes_that_are_not_those_promised_are_refused(
    family: Path, hub: Hub, server: LocalHub, tmp_path: Path
) -> None:
    plan = cuvee.make_plan(cuvee.recipe_from_text(RECIPE), hub=hub)
    content = next(c for name, c in server.repos["org/base"].files.items() if name.endswith(".safetensors"))
    partial = hub.cache_folder / "models--org--base" / "blobs" / f"{content.sha256}.cuvee-partial"
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(b"x" * (content.size - 100))
    with pytest.raises(CheckpointError, match="its hash is another"):
        cuvee.run_plan(plan, tmp_path / "out")
    assert not partial.exists()
    assert not (tmp_path / "out").exists()


def test_a_token_is_not_sent_to_where_the_hub_redirects(
    family: Path, hub: Hub, server: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    cuvee.merge(cuvee.recipe_from_text(RECIPE), tmp_path / "out", hub=hub)
    assert any("GET /cdn/" in request for request in server.requests)
    assert server.tokens_at_cdn == []


def test_too_little_disk_is_known_before_the_download(family: Path, server: LocalHub, hub: Hub, tmp_path: Path) -> None:
    small = Hub(endpoint=server.address, cache=hub.cache, free_bytes=lambda _: 100_000)
    with pytest.raises(OutOfBudget, match="the downloads take"):
        cuvee.make_plan(cuvee.recipe_from_text(RECIPE), hub=small)
    need = cuvee.make_plan(cuvee.recipe_from_text(RECIPE), hub=hub).forecast.bytes_downloaded
    tight = Hub(endpoint=server.address, cache=hub.cache, free_bytes=lambda _: need + 1000)
    server.requests.clear()
    with pytest.raises(OutOfBudget, match=r"the output takes .* besides the downloads"):
        cuvee.merge(cuvee.recipe_from_text(RECIPE), tmp_path / "out", hub=tight)
    assert not [request for request in server.requests if "/cdn/" in request and "HEAD" in request]
    assert not list(hub.cache_folder.rglob("*.safetensors"))


def test_the_command_offline_opens_no_connection(
    family: Path,
    hub: Hub,
    server: LocalHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from huggingface_hub import constants

    from cuvee.cli import main

    cuvee.merge(cuvee.recipe_from_text(RECIPE), tmp_path / "online", hub=hub)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub.cache_folder))
    attempts: list[object] = []
    monkeypatch.setattr("socket.socket.connect", lambda *given: attempts.append(given))
    monkeypatch.setattr("socket.getaddrinfo", lambda *given, **_: attempts.append(given))
    for words in (["plan", "recipe.yaml"], ["merge", "recipe.yaml", "out"]):
        monkeypatch.setattr("sys.argv", ["cuvee", *words, "--offline"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, capsys.readouterr().err
    assert "111111111111 in the cache" in capsys.readouterr().out
    assert attempts == []


def test_the_card_names_parents_commits_and_licences(family: Path, hub: Hub, server: LocalHub, tmp_path: Path) -> None:
    import yaml

    server.repos["org/tuned"].files["README.md"] = Given(b"---\nlicense: llama3\n---\n")
    made = cuvee.merge(cuvee.recipe_from_text(RECIPE), tmp_path / "out", hub=hub)
    text = (made.folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["base_model"] == ["org/base", "org/tuned"]
    assert (front["base_model_relation"], front["license"]) == ("merge", "other")
    assert f"[`org/tuned@main`]({server.address}/org/tuned) at commit `{'1' * 40}`, llama3" in text
    assert "licences differ: apache-2.0 (org/base), llama3 (org/tuned@main)" in made.warnings[-1]


def test_verify_finds_that_a_branch_has_moved_without_downloading_weights(
    family: Path, hub: Hub, server: LocalHub, tmp_path: Path
) -> None:
    out = cuvee.merge(cuvee.recipe_from_text(RECIPE), tmp_path / "out", hub=hub).folder
    other = Hub(endpoint=server.address, cache=tmp_path / "other-cache", sleep=lambda _: None)
    found = {check.name: check for check in verify(out, hub=other).checks}
    assert (found["parents"].state, found["norms"].state) == ("passed", "skipped")
    assert "hashes" in found["parents"].found
    moved = write_model(tmp_path / "moved", random_weights(7), dtype="BF16", shard_bytes=40_000)
    (moved / "tokenizer_config.json").write_text('{"model_max_length": 64}')
    server.put("org/tuned", moved, commit="2" * 40)
    assert {check.name: check.state for check in verify(out, hub=other).checks}["parents"] == "failed"
    assert not list(other.cache_folder.rglob("*.safetensors"))


def test_the_card_has_the_hashes_that_the_hub_knows(family: Path, hub: Hub, tmp_path: Path) -> None:
    out = cuvee.merge(cuvee.recipe_from_text(RECIPE), tmp_path / "out", hub=hub).folder
    files = sorted((family / "tuned").glob("*.safetensors"))
    lines = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    line = next(line for line in (out / "README.md").read_text().splitlines() if "[`org/tuned@main`]" in line)
    assert line.endswith(
        f"SHA-256 of its {len(files)} files, `{files[0].name}` to `{files[-1].name}`, "
        f"`{hashlib.sha256(lines.encode()).hexdigest()}`"
    )


def test_a_mixture_of_models_of_a_hub_names_their_commits(family: Path, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "base_model: org/base\ngate_mode: random\nexperts: [{source_model: org/base}, {source_model: org/tuned}]\n"
    )
    asked, text = read_upcycling(tmp_path / "r.yaml")
    models = {name: find_model(name, hub, Silent()) for name in asked.models}
    out = upcycle(asked, text, models, tmp_path / "out", hub=hub).folder
    card = (out / "README.md").read_text()
    assert f"[`org/tuned`]({hub.address}/org/tuned) at commit `{'1' * 40}`, apache-2.0; SHA-256 of" in card
    assert "base_model:\n- org/base\n- org/tuned\n" in card
    assert "OUT`; the parents are downloaded." in card
    found = {check.name: check.state for check in verify(out, hub=hub).checks}
    assert (found["parents"], found["shapes"], found["norms"]) == ("passed", "passed", "passed")
