"""A proposal written from a competition's file, and how long judging it takes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from competition.made import TEXT, tiny_competition
from cuvee.cli.app import app
from cuvee.competition.paper.proposal import Planned, Proposal, proposal_of
from cuvee.competition.power import Power
from cuvee.hub import Hub
from cuvee.submission.competition import Competition, Track
from cuvee.submission.competition_yaml import load_competition
from cuvee.submission.judging_time import judging_time
from cuvee.submission.measure import load_parts
from cuvee.submission.organise import check_competition
from cuvee.submission.template import new_competition


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Competition:
    folder = tmp_path_factory.mktemp("proposal") / "family"
    return new_competition(folder, "a secret of the tests", items=8)


def proposed(competition: Competition) -> Proposal:
    """Propose for 12 teams, with a made-up power, which takes long to simulate."""
    powers = {"private": Power(items=40, gap=0.266, teams=12, spread=0.1, share_first=9)}
    parts = load_parts(competition, competition.folder)
    return proposal_of(Planned(competition, parts, powers, judging_time(competition, 12)))


def test_a_proposal_answers_what_reviewers_ask_and_says_what_is_left_to_write(family: Competition) -> None:
    written = proposed(family)
    titles = [line.removeprefix("## ") for line in written.text.splitlines() if line.startswith("## ")]
    assert titles == [
        "Task and question",
        "Data and resources",
        "Leakage and contamination",
        "Inputs, outputs and scores",
        "Baselines",
        "Ranking and ties",
        "Safeguards against over-fitting",
        "Safeguards against manipulation",
        "A level field",
        "Schedule and organisation",
        "What stays",
    ]
    assert "40 private items are on machines of the organiser" in written.text
    assert "0 of them ask what a public item asks" in written.text
    assert "by lower cost, then the earlier submission" in written.text
    assert "12 teams may send 240 a day, which 2 workers keep up with" in written.text
    assert written.to_write == written.text.count("> **To write:**") > 5


def test_what_the_file_says_needs_no_writing(family: Competition) -> None:
    file = family.folder / "said.yaml"
    about = "about: {contact: ada@example.org, prizes: [a barrel], citation: 'Ada 2026'}\n"
    file.write_text(family.text + about, encoding="utf-8")
    bare, said = (proposed(load_competition(path)) for path in (family.folder, file))
    assert said.to_write == bare.to_write - 2
    assert "Prizes: a barrel." in said.text
    assert "Citation: Ada 2026" in said.text


def test_tracks_are_named(family: Competition) -> None:
    track = Track("frugal", "Least tokens", "score_per_token", description="Score for each token.")
    assert "- Least tokens. Score for each token." in proposed(replace(family, tracks=(track,))).text


def test_without_private_items_a_proposal_claims_nothing_of_them(family: Competition) -> None:
    file = family.folder / "open.yaml"
    lines = [line.split(", private:")[0] + "}" if ", private:" in line else line for line in family.text.splitlines()]
    lines = [line.replace("scores: private", "scores: public") for line in lines]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    written = proposed(load_competition(file))
    assert "why there are no private items" in written.text
    assert "judged again on the private items" not in written.text
    assert judging_time(load_competition(file), 12).final_runs == 0


def test_the_time_of_judging_follows_from_budget_and_quotas() -> None:
    competition = tiny_competition(per_day=20)  # 60 s an entry, 2 for the final ranking
    time = judging_time(competition, teams=100)
    assert (time.a_worker_a_day, time.entries_a_day, time.workers) == (1440, 2000, 2)
    assert (time.final_runs, time.final_seconds) == (200, 12_000)
    unlimited = tiny_competition(text=TEXT.replace("per_day: PER_DAY, ", ""))
    assert (judging_time(unlimited, 100).entries_a_day, judging_time(unlimited, 100).workers) == (None, None)


def test_a_check_says_how_long_judging_takes_and_what_is_missing(family: Competition) -> None:
    said = CliRunner().invoke(app, ["competition", "check", str(family.folder), "--teams", "12", "--json"])
    assert json.loads(said.stdout)["judging"]["entries_a_day"] == 240
    assert not any("licence" in note for note in json.loads(said.stdout)["notes"])
    file = family.folder / "unlicensed.yaml"
    text = family.text.replace("license: apache-2.0\n", "license: null\n", 1).replace("  baselines: [", "  # [")
    file.write_text(text, encoding="utf-8")
    notes = check_competition(load_competition(file), Hub(offline=True)).notes
    assert "no licence: models/base" in notes
    assert "no baselines: nobody sees what a plain merge reaches" in notes


def test_a_proposal_is_written_to_a_new_file_alone(family: Competition, tmp_path: Path) -> None:
    """The command simulates what the items tell apart."""
    out = tmp_path / "proposal.md"
    arguments = ["competition", "proposal", str(family.folder), "--out", str(out)]
    ran = CliRunner().invoke(app, arguments)
    assert (ran.exit_code, out.read_text(encoding="utf-8").startswith("# Blend the family")) == (0, True)
    assert CliRunner().invoke(app, arguments).exit_code != 0
