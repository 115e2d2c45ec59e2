"""Tiers with code: a method file and a program run in the sandbox and nowhere else."""

from dataclasses import replace
from pathlib import Path

import pytest

from cuvee.api import load_stages
from cuvee.checkpoint import weights_digest
from cuvee.competition.judging import Bench
from cuvee.engine import merge_stages
from cuvee.errors import PlatformError
from cuvee.hub import Hub
from cuvee.progress import Silent
from cuvee.submission.assemble import Entry, pack_entry
from cuvee.submission.build import Rejection, merge_inside
from cuvee.submission.competition import Competition
from cuvee.submission.gather import places
from cuvee.submission.judge import judge
from cuvee.submission.lock import read_lock
from cuvee.submission.pack import LOCK, Submission, read_archive
from cuvee.submission.sandbox import Job, Limits, Plain, Sandbox, choose
from cuvee.submission.sandbox.choose import Host, Walls, choose_sandbox, isolating_sandbox
from cuvee.submission.sandbox.leftovers import noted
from cuvee.submission.sandbox.runtime import python, python_environment
from cuvee.submission.verify import verify_in
from submission.conftest import AVERAGE, packed

LIMITS = Limits(seconds=60, memory_bytes=2 << 30, disk_bytes=100 << 20)
METHOD = '''
"""The first model, as it is."""
from cuvee.method import element_method
from cuvee.ops.arrays import Array


@element_method("first", formula="the first", base="none")
def first(models: Array) -> Array:
    """Take the first."""
    return models[0]
'''
PROGRAM = """
import json, shutil, sys
from pathlib import Path

order = json.loads(Path(sys.argv[1]).read_text())
(place,) = order["places"].values()
shutil.copytree(place, Path(order["output"]) / "model")
"""


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    found = isolating_sandbox()
    if found is None:
        pytest.skip("no sandbox works on this machine")
    return found


@pytest.fixture
def plugin(competition: Competition, tmp_path: Path) -> Submission:
    model = competition.folder / "models/sort"
    (tmp_path / "recipe.yaml").write_text(f"merge_method: first\nmodels: [{{model: {model}}}]\ndtype: bfloat16\n")
    (tmp_path / "first.py").write_text(METHOD)
    return handed_in(competition, Entry(tmp_path / "recipe.yaml", method_file=tmp_path / "first.py"), tmp_path)


def program(competition: Competition, folder: Path, text: str) -> Submission:
    (folder / "program").mkdir()
    (folder / "program/main.py").write_text(text)
    models = (str(competition.folder / "models/sort"),)
    return handed_in(competition, Entry(program=folder / "program", models=models), folder)


def handed_in(competition: Competition, entry: Entry, folder: Path) -> Submission:
    data = pack_entry(entry, competition, name="mine", hub=Hub(offline=True))
    (folder / "a.tar").write_bytes(data)
    return read_archive(folder / "a.tar")


def built(submission: Submission, competition: Competition, sandbox: Sandbox, work: Path) -> str:
    lock = read_lock(submission.lock, LOCK)
    models = places(lock, competition, Hub(offline=True), work / "models", Silent())
    return merge_inside(submission, models, sandbox, LIMITS, work, Silent()).weights_digest


def test_a_method_file_is_used_in_the_sandbox(
    plugin: Submission, competition: Competition, sandbox: Sandbox, tmp_path: Path
) -> None:
    assert plugin.tier == "plugin"
    found = built(plugin, competition, sandbox, tmp_path / "work")
    assert found == weights_digest(competition.folder / "models/sort")


STAGES = """\
name: first_two
merge_method: linear
models: [{{model: {models}/sort}}, {{model: {models}/odd}}]
parameters: {{weight: 1.0}}
---
name: all
merge_method: slerp
base_model: first_two
models: [{{model: {models}/reverse}}]
parameters: {{t: 0.5}}
dtype: bfloat16
"""


def test_stages_are_locked_by_their_leaves_and_built_again(
    competition: Competition, sandbox: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(STAGES.format(models=competition.folder / "models"))
    submission = handed_in(competition, Entry(path), tmp_path)
    lock = read_lock(submission.lock, LOCK)
    assert [Path(model.reference).name for model in lock.models] == ["sort", "odd", "reverse"]
    assert lock.merge_method == "linear+slerp"
    merge_stages(load_stages(path), tmp_path / "here")
    assert built(submission, competition, sandbox, tmp_path / "work") == weights_digest(tmp_path / "here")


def test_a_program_builds_a_model_from_the_models_of_its_lock(
    competition: Competition, sandbox: Sandbox, tmp_path: Path
) -> None:
    submission = program(competition, tmp_path, PROGRAM)
    found = built(submission, competition, sandbox, tmp_path / "work")
    assert found == weights_digest(competition.folder / "models/sort")


def test_a_model_that_only_its_maker_could_read_is_read_by_the_next_job(
    competition: Competition, sandbox: Sandbox, tmp_path: Path
) -> None:
    closed = "import os\nos.umask(0o077)\n" + PROGRAM + "os.chmod(order['output'] + '/model/config.json', 0)\n"
    built(program(competition, tmp_path, closed), competition, sandbox, tmp_path / "work")
    model, out = tmp_path / "work/merge/model", tmp_path / "out"
    out.mkdir()
    text = f"for name in ('config.json', 'model.safetensors'): open(f'{model}/{{name}}', 'rb').read()"
    job = Job(python("-c", text), (model,), out, environment=python_environment())
    with noted(), noted():  # so that the next job has another user
        ended = sandbox.run(job, LIMITS, lambda line: None)
    assert ended.ending == "finished", ended.log


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise SystemExit(1)", "crash"),
        ("pass", "output"),
        ("import os, json, sys\nos.symlink('/etc', json.load(open(sys.argv[1]))['output'] + '/model')", "output"),
        (PROGRAM + "open(order['output'] + '/model/modeling.py', 'w').write('')", "output"),
        (
            PROGRAM + "open(order['output'] + '/model/config.json', 'w').write('{\"auto_map\": {\"A\": \"b\"}}')",
            "output",
        ),
        (PROGRAM + "open(order['output'] + '/model/model.safetensors', 'ab').write(b'x')", "output"),
    ],
    ids=["fails", "writes nothing", "links elsewhere", "brings code", "asks for code", "damaged"],
)
def test_a_program_that_gives_no_model_is_rejected(
    competition: Competition, sandbox: Sandbox, tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(Rejection) as caught:
        built(program(competition, tmp_path, text), competition, sandbox, tmp_path / "work")
    assert caught.value.reason == reason


def test_a_competition_without_the_tier_takes_no_code(
    plugin: Submission, competition: Competition, tmp_path: Path
) -> None:
    verdict = judge(tmp_path / "a.tar", competition, tmp_path / "work")
    assert (verdict.outcome, verdict.reason) == ("rejected", "rules")
    assert "tier" in verdict.message


def test_code_never_runs_without_walls(plugin: Submission, competition: Competition, tmp_path: Path) -> None:
    opened = replace(competition, rules=replace(competition.rules, tiers=("recipe", "plugin")))
    verdict = judge(tmp_path / "a.tar", opened, tmp_path / "work", sandbox=Plain())
    assert (verdict.outcome, verdict.reason) == ("errored", "infrastructure")
    assert "has no walls" in verdict.message


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any sandbox."""
    nothing = Walls(None, None, {"sandbox": "bubblewrap is not installed"})
    monkeypatch.setattr(choose, "find_walls", lambda host: nothing)


@pytest.mark.usefixtures("bare")
def test_no_sandbox_is_chosen_for_code_where_there_is_none() -> None:
    with pytest.raises(PlatformError, match="the tier 'plugin' brings code"):
        choose_sandbox("plugin", ("sandbox", "cgroup", "filesystem"))


@pytest.mark.usefixtures("bare")
def test_recipes_run_without_a_sandbox_only_where_that_is_written() -> None:
    expected = "there is no sandbox here, and jobs run in one: bubblewrap is not installed"
    with pytest.raises(PlatformError, match=expected) as caught:
        choose_sandbox("recipe")
    assert caught.value.hint is not None
    assert "without: [sandbox]" in caught.value.hint
    assert choose_sandbox("recipe", ("sandbox",)).name == "none"


@pytest.mark.usefixtures("bare")
def test_a_worker_without_a_sandbox_does_not_open(competition: Competition) -> None:
    with pytest.raises(PlatformError, match="there is no sandbox here"):
        Bench(replace(competition, without=())).self_test()


def test_a_worker_tries_the_folder_that_jobs_will_write_to(competition: Competition, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(PlatformError, match="nothing can be written to the folder for scratch"):
        Bench(competition, Host(tmp_path / "file")).self_test()
    Bench(competition, Host(tmp_path / "scratch")).self_test()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.usefixtures("bare")
def test_who_judges_at_home_writes_it_out(competition: Competition, tmp_path: Path) -> None:
    archive, strict = packed(tmp_path, competition, AVERAGE), replace(competition, without=())
    refused = verify_in(None, archive, strict)
    assert (refused.outcome, refused.reason) == ("errored", "infrastructure")
    assert "there is no sandbox here" in refused.message
    verdict = verify_in(None, archive, strict, without=("sandbox",))
    assert verdict.outcome == "accepted", verdict.message
    assert verdict.figures is not None
    assert verdict.figures.sandbox == "none"
