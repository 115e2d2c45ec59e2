"""What an organiser sets of the server in its file, and an invitation as one of them."""

from datetime import timedelta
from pathlib import Path

import pytest

from competition.made import Clock, tiny_competition
from competition.serving import serve
from cuvee.competition.database import Database
from cuvee.competition.limits import Limits
from cuvee.competition.settings import read_limits
from cuvee.errors import CuveeError


def written(folder: Path, text: str) -> Path:
    path = folder / "server.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_or_with_an_empty_one_all_is_as_it_is(tmp_path: Path) -> None:
    assert read_limits(tmp_path / "server.yaml") == Limits()
    assert read_limits(written(tmp_path, "# nothing yet\n")) == Limits()


def test_what_the_file_says_is_set(tmp_path: Path) -> None:
    text = "proxies: [10.0.0.0/8, '::1']\nhttps: true\nteam_storage: 50MB\nteams_per_hour: 5\ninvitation: wine\n"
    assert read_limits(written(tmp_path, text)) == Limits(
        proxies=("10.0.0.0/8", "::1/128"), https=True, team_bytes=50_000_000, teams_per_hour=5, invitation="wine"
    )


def test_periods_are_set_in_the_unit_that_their_name_ends_with(tmp_path: Path) -> None:
    text = "worker_silence_minutes: 20\nlongest_wait_hours: 6\nbackup_every_hours: 24\nkeep_days: 365\n"
    limits = read_limits(written(tmp_path, text))
    assert limits.worker_silence == timedelta(minutes=20)
    assert limits.longest_wait == timedelta(hours=6)
    assert limits.backup_every == timedelta(hours=24)
    assert limits.keep == timedelta(days=365)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("proxy: [10.0.0.0/8]", "unknown key 'proxy'\n  hint: did you mean 'proxies'"),
        ("proxies: [10.0.0.1/8]", r"'proxies\.0': .*has host bits set"),
        (
            "invitation: wine\nteams_per_hour: 0",
            "yaml:2: 'teams_per_hour': .*greater than or equal to 1, found 0",
        ),
        ("https: maybe", "'https': .*boolean"),
        ("team_storage: much", "'team_storage': expected an amount such as 512MB"),
        ("[1", "this is not YAML"),
        ("words", "'the file': expected 'name: value' lines"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CuveeError, match=message) as refused:
        read_limits(written(tmp_path, text))
    assert "server.yaml" in str(refused.value)


def test_a_code_of_an_invitation_is_asked_for_where_there_is_one(sqlite: Database, clock: Clock) -> None:
    for served in serve(sqlite, clock, tiny_competition(), Limits(invitation="Pinot Noir")):
        for body in ({"name": "A"}, {"name": "A", "invitation": "pinot noir"}):
            assert served.ask(None, "POST", "/api/teams", json=body).status_code == 403
        right = {"name": "A", "invitation": "Pinot Noir"}
        assert served.ask(None, "POST", "/api/teams", json=right).status_code == 201
        assert "Code of the invitation" in served.page(None, "/join").text
        assert served.http.post("/join", data={"name": "B"}).status_code == 403
        assert "cuvee-team_" in served.http.post("/join", data={"name": "B", "invitation": "Pinot Noir"}).text
        assert served.ask("organiser", "POST", "/api/organiser/teams", json={"name": "C"}).status_code == 201
