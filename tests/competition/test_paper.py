"""A paper's tables and figures, from a competition that is over."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from competition.filled import fill
from competition.made import TEXT, TRACKS, Clock, tiny_competition
from competition.serving import FakeJudge, Served, serve
from cuvee.competition.database import Database
from cuvee.competition.export import final_csv
from cuvee.competition.pages.final_page import verdict_of
from cuvee.competition.paper.results import PROGRAM, SEARCH, UNREADABLE, Results, methods_in, read_results
from cuvee.competition.paper.tables import in_latex, in_markdown
from cuvee.competition.paper.write import files_of, write_report
from cuvee.competition.refusals import Refusal
from cuvee.competition.views import ControlView, FigureView, FinalPlaceView, FinalView, TeamView
from cuvee.errors import RecipeError

SPACE = """
models: [{model: models/a, text: competition:t}]
base_model: models/b
tasks: ["competition:t"]
search: {method: [ties], budget: {tokens: 100}}
"""


def read(served: Served) -> Results:
    with served.service.database.read() as connection:
        return read_results(connection, served.service.competition, served.clock())


@pytest.fixture
def over(served: Served) -> Served:
    """A competition with a final ranking."""
    fill(served)
    served.judge_all()
    served.ask("organiser", "POST", "/api/organiser/freeze")
    served.judge_all(FakeJudge())
    assert served.ask("organiser", "POST", "/api/organiser/publish").status_code == 200
    return served


def test_there_is_no_report_before_the_reveal(served: Served) -> None:
    served.send()
    served.judge_all()
    with pytest.raises(Refusal, match="not published yet"):
        read(served)


def test_tables_say_what_the_final_ranking_says(over: Served) -> None:
    files, final = files_of(read(over)), over.ask(None, "GET", "/api/final").json()["places"]
    rows = list(csv.DictReader(io.StringIO(files["tables/final.csv"])))
    assert [float(row["score"]) for row in rows] == [place["score"]["value"] for place in final]
    assert len(list(csv.reader(io.StringIO(files["tables/tasks.csv"])))) == 1 + 2 * len(final)
    report = files["report.md"]
    table = re.search(r"## Final ranking\n\n(.*?)\n\n", report, re.DOTALL)
    assert table is not None
    assert len(table[1].splitlines()) == 2 + len(final)
    best = final[0]["score"]
    assert f"| {100 * best['value']:.1f} | {100 * best['low']:.1f}–{100 * best['high']:.1f} |" in table[1]
    latex = files["tables/final.tex"]
    columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", latex)[1])  # type: ignore[index]  # it is there
    body = latex.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert [len(re.split(r"(?<!\\)&", line)) for line in body] == [columns] * len(final)


def test_each_track_has_its_table_and_those_by_score_a_figure(database: Database, clock: Clock) -> None:
    for served in serve(database, clock, tiny_competition(text=TEXT + TRACKS)):
        fill(served)
        served.judge_all()
        body = {"track": "report", "team": served.teams["team"], "rater": "Ada", "value": 4.5}
        assert served.ask("organiser", "POST", "/api/organiser/ratings", json=body).status_code == 200
        served.ask("organiser", "POST", "/api/organiser/freeze")
        served.judge_all(FakeJudge())
        assert served.ask("organiser", "POST", "/api/organiser/publish").status_code == 200
        files = files_of(read(served))
        shown = {track: served.ask(None, "GET", f"/api/tracks/{track}").json() for track in ("frugal", "report")}
        rows = list(csv.DictReader(io.StringIO(files["tables/track-frugal.csv"])))
        values = [float(row["value"]) for row in rows if row["part"] == "final"]
        assert values == [place["value"] for place in shown["frugal"]["final"]]
        assert len(values) > 2
        assert "| 1 | Vintners | 4.50 | 4.50–4.50 | 1 |" in files["report.md"]
        assert "## Score for each token" in files["report.md"]
        assert files["figures/track-frugal.svg"].count("<circle") == len(values)
        assert "figures/track-report.svg" not in files
        assert "tables/track-honest.csv" not in files, "nobody stands there"


def test_controls_are_told_with_their_alarms() -> None:
    places = [
        place(1, [ControlView(task="odd", kind="shuffled", value=0.1, low=0.05, high=0.15, items=60, is_alarm=True)])
    ]
    final = FinalView(published=True, places=[*places, place(2, [])])
    rows = list(csv.DictReader(io.StringIO(final_csv(final))))
    assert [rows[0]["odd.shuffled"], rows[0]["odd.shuffled.is_alarm"]] == ["0.1", "True"]
    assert [rows[1]["odd.shuffled"], rows[1]["sums.agreement"]] == ["", "0.75"]


@pytest.mark.parametrize(
    ("sharing", "sentence"),
    [
        (1, "team 1 wins."),
        (2, "team 1 and team 2 share the first place: the items do not tell them apart."),
        (
            29,
            "29 teams share the first place, with team 1, team 2 and team 3 in front: "
            "the items do not tell them apart.",
        ),
    ],
)
def test_a_verdict_names_who_wins_and_a_few_of_many_who_share_it(sharing: int, sentence: str) -> None:
    places = [place(number, []).model_copy(update={"ranks": (1, sharing)}) for number in range(1, sharing + 1)]
    baseline = place(40, []).model_copy(update={"team": TeamView(id=40, name="average", kind="baseline")})
    lower = baseline.model_copy(update={"ranks": None, "score": FigureView(value=0.43, low=0.4, high=0.5)})
    said = verdict_of(FinalView(published=True, places=[*places, lower]))
    assert said is not None
    assert said.sentence == sentence
    assert said.more[0] == "team 1 stands 7.0 points above the best baseline, average."


def test_a_verdict_says_where_a_baseline_is_as_good() -> None:
    baseline = place(1, []).model_copy(update={"team": TeamView(id=40, name="average", kind="baseline"), "ranks": None})
    said = verdict_of(FinalView(published=True, places=[baseline, place(2, []).model_copy(update={"ranks": (1, 1)})]))
    assert said is not None
    assert said.more == ("team 2 stands level with the best baseline, average.",)


def place(number: int, controls: list[ControlView]) -> FinalPlaceView:
    return FinalPlaceView(
        place=number,
        ranks=(number, number),
        team=TeamView(id=number, name=f"team {number}", kind="participant", note=""),
        submission=number,
        title="mine",
        score=FigureView(value=0.5, low=0.4, high=0.6),
        public_score=0.5,
        gap=0.0,
        gap_low=-0.1,
        gap_high=0.1,
        is_alarm=False,
        entries=1,
        tasks={},
        controls=controls,
        unanswered=[],
        agreement={"sums": 0.75},
    )


def test_methods_are_counted_by_entries_and_teams(over: Served) -> None:
    results = read(over)
    participants = [place for place in results.final.places if place.team.kind == "participant"]
    (linear,) = results.methods
    assert (linear.method, linear.teams, linear.best_place) == ("linear", len(participants), 1)
    assert linear.entries == results.numbers.judged
    assert f"| linear | {linear.teams} | {linear.entries} |" in files_of(results)["report.md"]


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        ("", (PROGRAM,)),
        ("merge_method: of_my_own\nmodels: [{model: a}]\n", UNREADABLE),
        ("merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n", ("linear",)),
        ("not: a recipe", UNREADABLE),
    ],
)
def test_a_recipe_that_is_not_read_is_called_so(recipe: str, names: tuple[str, ...] | str) -> None:
    assert methods_in(recipe) == ((names,) if isinstance(names, str) else names)


def test_a_search_counts_for_the_method_that_it_has_found() -> None:
    found = (
        "merge_method: task_arithmetic\nbase_model: models/b\nmodels: [{model: models/a, parameters: {weight: 1}}]\n"
    )
    assert methods_in(SPACE, found) == ("task_arithmetic", SEARCH)


def test_whatever_a_team_is_called_breaks_no_table_and_no_figure(over: Served) -> None:
    files = files_of(read(over))
    assert "\\<script\\>" in files["report.md"]
    assert "<script>" not in "".join(files[name] for name in ("report.md", "tables/final.tex", "figures/final.svg"))
    for name in ("figures/final.svg", "figures/slope.svg"):
        names = [text.text or "" for text in ET.fromstring(files[name]).iter("{http://www.w3.org/2000/svg}text")]
        assert any(text.startswith("<script>") for text in names), name
    assert in_latex(r"50 % of_{x} & \y") == r"50 \% of\_\{x\} \& \textbackslash{}y"
    assert in_markdown("a|b_c") == r"a\|b\_c"


def test_a_report_is_written_to_a_new_folder_alone(over: Served, tmp_path: Path) -> None:
    out, results = tmp_path / "paper", read(over)
    count = write_report(results, out)
    assert sum(path.is_file() for path in out.rglob("*")) == count
    place = next(place for place in results.final.places if place.team.kind == "participant")
    assert (out / f"recipes/submission-{place.submission}.yaml").read_text().startswith("merge_method: linear")
    with pytest.raises(RecipeError, match="something here already"):
        write_report(results, out)
