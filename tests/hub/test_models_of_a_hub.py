"""Merging models of a hub: pinned, planned from headers, downloaded once, gone on with, and used offline."""

import json
import shutil
from pathlib import Path

import pytest

import cuvee
from cuvee.errors import CheckpointError, OutOfBudget
from cuvee.hub import Hub
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
