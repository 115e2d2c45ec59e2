"""The data room: what a competition hands out, that nothing private is among it, and how it is got and checked."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from competition.made import Clock
from competition.serving import Served, serve
from cuvee.cli.app import app
from cuvee.competition.access import ACCESS
from cuvee.competition.client import Client
from cuvee.competition.database import Database, open_database, sqlite_url
from cuvee.competition.fetch import Fetched, get
from cuvee.competition.limits import Limits
from cuvee.competition.states import Role
from cuvee.errors import CheckpointError, PlatformError, RecipeError
from cuvee.hub import Hub
from cuvee.progress import Silent
from cuvee.submission.competition_yaml import load_competition, parse_competition
from cuvee.submission.data_room import open_data_room
from cuvee.submission.template import new_competition


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A competition on the bundled family, with a text to calibrate by and reports in its private folder."""
    place = tmp_path_factory.mktemp("data-room") / "family"
    new_competition(place, "a secret of these tests", items=4)
    (place / "private" / "reports").mkdir()
    (place / "private" / "reports" / "report.json").write_text('{"secret": 1}')
    text = b"a text\nto calibrate by\n"
    (place / "texts" / "general.txt").write_bytes(text)
    general = f"  - {{name: general, file: texts/general.txt, sha256: {_sha256(text)}, license: mit}}\n"
    rules = place / "competition.yaml"
    written = rules.read_text(encoding="utf-8")
    rules.write_text(written.replace("calibration:\n", f"calibration:\n{general}"), encoding="utf-8")
    return place


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def site(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    database = open_database(sqlite_url(tmp_path_factory.mktemp("data") / "competition.db"))
    yield from serve(database, Clock(), load_competition(folder))
    database.close()


def fetched(site: Served, target: Path, *, models: bool = True, overwrite: bool = False) -> Fetched:
    client = Client("http://testserver/", "", site.http, lambda _: None)
    return get(client, target, models=models, overwrite=overwrite, hub=Hub(offline=True), progress=Silent())


def test_all_that_a_participant_needs_comes_and_is_what_the_organiser_has(
    site: Served, folder: Path, tmp_path: Path
) -> None:
    came = fetched(site, tmp_path / "mine")
    files = {str(path.relative_to(tmp_path / "mine")) for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    assert files == set(came.brought)
    for name in files:
        assert (tmp_path / "mine" / name).read_bytes() == (folder / name).read_bytes(), name
    assert load_competition(tmp_path / "mine").models == load_competition(folder).models
    assert {"competition.yaml", "texts/general.txt", "baselines/average.yaml", "models/sort/config.json"} <= files
    again = fetched(site, tmp_path / "mine")
    assert (again.brought, set(again.kept)) == ((), files)


def test_no_private_file_is_listed_and_none_has_an_address(site: Served, folder: Path) -> None:
    private = [path for path in (folder / "private").rglob("*") if path.is_file() and path.suffix != ".yaml"]
    assert len(private) > 6  # seed, key, report, items; task files ask the same way in both parts
    listed = site.ask(None, "GET", "/api/data").text + site.page(None, "/data").text
    for path in private:
        digest = _sha256(path.read_bytes())
        assert digest not in listed
        assert site.ask("organiser", "GET", f"/api/data/{digest}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "private/seed.txt",
        "../private/seed.txt",
        "%2e%2e%2fprivate%2fseed.txt",
        "tasks/../private/seed.txt",
        "..%5cprivate%5cseed.txt",
        "%2fetc%2fpasswd",
        "0" * 64,
        "0" * 64 + "/../private/seed.txt",
    ],
)
def test_no_path_leads_to_a_file(site: Served, folder: Path, path: str) -> None:
    answer = site.ask("team", "GET", f"/api/data/{path}")
    assert answer.status_code in (404, 422)
    assert (folder / "private" / "seed.txt").read_text() not in answer.text


@pytest.mark.parametrize("way", ["path", "data", "symbolic link", "hard link", "folder"])
def test_a_private_file_is_refused_by_whatever_way_it_would_be_handed_out(
    folder: Path, tmp_path: Path, way: str
) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    secret = place / "private" / "reports" / "report.json"
    public = place / "texts" / "general.txt"
    text = (place / "competition.yaml").read_text(encoding="utf-8")
    match way:
        case "path":
            text = text.replace("texts/general.txt", "private/reports/report.json")
        case "data":
            task = place / "tasks" / "sort.yaml"
            task.write_text(task.read_text().replace("data: ", "data: ../private/tasks/"))
        case "symbolic link":
            public.unlink()
            public.symlink_to(secret)
        case "hard link":
            public.unlink()
            os.link(secret, public)
        case "folder":
            shutil.rmtree(place / "texts")
            (place / "texts").symlink_to(secret.parent)
            text = text.replace("texts/general.txt", "texts/report.json")
    (place / "competition.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="would be handed out, and it is private"):
        open_data_room(load_competition(place))


def test_the_private_part_of_a_task_is_private_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    shutil.move(place / "private" / "tasks", place / "later")
    text = (place / "competition.yaml").read_text(encoding="utf-8").replace("private/tasks", "later")
    (place / "competition.yaml").write_text(text.replace("texts/general.txt", "later/sort.csv"), encoding="utf-8")
    with pytest.raises(RecipeError, match="it is private"):
        open_data_room(load_competition(place))


def test_a_download_goes_on_where_it_was_stopped(site: Served, tmp_path: Path) -> None:
    listed = {file["name"]: file for file in site.ask(None, "GET", "/api/data").json()["files"]}
    file = listed["models/base/model.safetensors"]
    whole = site.ask(None, "GET", f"/api/data/{file['sha256']}").content
    target = tmp_path / "mine"
    partial = target / "models" / "base" / f".model.safetensors.{file['sha256'][:16]}.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(whole[:1000])
    asked = []
    site.http.event_hooks["request"].append(lambda request: asked.append(request.headers.get("range")))
    try:
        fetched(site, target)
    finally:
        site.http.event_hooks["request"].pop()
    assert "bytes=1000-" in asked
    assert (target / "models/base/model.safetensors").read_bytes() == whole
    assert not partial.exists()


def test_what_arrives_damaged_is_thrown_away(site: Served, tmp_path: Path) -> None:
    listed = {file["name"]: file for file in site.ask(None, "GET", "/api/data").json()["files"]}
    file = listed["models/base/model.safetensors"]
    partial = tmp_path / "models" / "base" / f".model.safetensors.{file['sha256'][:16]}.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(1000))
    with pytest.raises(CheckpointError, match="another SHA-256"):
        fetched(site, tmp_path)
    assert not partial.exists()
    assert not (tmp_path / "models/base/model.safetensors").exists()


def test_what_a_participant_has_changed_is_replaced_only_where_asked_for(site: Served, tmp_path: Path) -> None:
    fetched(site, tmp_path, models=False)
    assert not (tmp_path / "models").exists()
    mine = tmp_path / "baselines" / "average.yaml"
    mine.write_text("mine")
    with pytest.raises(RecipeError, match=r"baselines/average\.yaml"):
        fetched(site, tmp_path, models=False)
    assert mine.read_text() == "mine"
    assert fetched(site, tmp_path, models=False, overwrite=True).brought == ("baselines/average.yaml",)


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a/../../b", "c:\\x", "a//b", ".bashrc", "nul.txt", "a\nb", ""])
def test_a_server_cannot_write_outside_the_folder(site: Served, tmp_path: Path, name: str) -> None:
    class Lying(Client):
        def data(self) -> dict[str, object]:
            said = super().data()
            said["files"][0]["name"] = name
            return said

    client = Lying("http://testserver", "", site.http, lambda _: None)
    with pytest.raises(PlatformError, match="cannot be used"):
        get(client, tmp_path / "x", models=False, overwrite=True, hub=Hub(offline=True), progress=Silent())
    assert list(tmp_path.iterdir()) == []


def test_downloads_are_counted_by_address(folder: Path, sqlite: Database) -> None:
    for served in serve(sqlite, Clock(), load_competition(folder), Limits(downloads_per_hour=2)):
        digest = served.service.competition.digest
        codes = [served.ask(None, "GET", f"/api/data/{digest}").status_code for _ in range(3)]
        assert codes == [200, 200, 429]


def test_models_of_a_hub_are_named_with_their_commit_and_not_handed_out(folder: Path) -> None:
    text = (folder / "competition.yaml").read_text(encoding="utf-8")
    at = "models/base\n    folder: models/base\n"
    assert at in text
    text = text.replace(at, f"{at}    hub: org/base@{'1' * 40}\n")
    room = open_data_room(parse_competition(text, folder=folder))
    theirs = [file for file in room.files if file.of == "models/base"]
    assert theirs
    assert {(file.hub, file.place) for file in theirs} == {(f"org/base@{'1' * 40}", None)}


def test_the_command_says_what_came(site: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuvee.competition.client.Client", lambda url, token: Client(url, token, site.http))
    answer = CliRunner().invoke(app, ["competition", "get", "http://testserver", str(tmp_path / "x"), "--no-models"])
    assert answer.exit_code == 0, answer.output
    assert "blend-the-family, version 1 of its rules" in answer.output
    assert "left out" in answer.output


def test_every_new_route_is_for_everybody() -> None:
    for path in ("/api/data", "/api/data/{digest}", "/data", "/start"):
        assert set(ACCESS["GET", path]) == set(Role) - {Role.QUEUE}, "all but the server itself"


def test_the_data_page_shows_size_licence_and_digest_of_every_file(site: Served) -> None:
    text = site.page(None, "/data").text
    for file in site.ask(None, "GET", "/api/data").json()["files"]:
        assert file["sha256"] in text, file["name"]
    assert "apache-2.0" in text


def test_a_competition_without_files_still_shows_its_pages(served: Served) -> None:
    assert served.ask(None, "GET", "/api/data").json()["missing"] == ["tasks/capitals.csv", "tasks/sums.csv"]
    assert "Tell the organiser" in served.page(None, "/data").text


@pytest.mark.parametrize("path", ["/", "/board", "/start", "/data", "/final", "/guide", "/join", "/sign-in", "/versus"])
def test_every_page_opens_where_the_competition_brings_models(site: Served, path: str) -> None:
    answer = site.page(None, path)
    assert answer.status_code == 200
    if path == "/guide":
        assert "4 public items, by accuracy" in answer.text
