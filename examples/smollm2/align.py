"""A merge of two LoRA experts of a real language model, repaired by `cuvee align`, against task arithmetic.

    python examples/smollm2/align.py WORK TRANSLATIONS

One expert learns the topic of an encyclopaedia's article, the other the one-line summary of a package's description.
`run.py` says where model and articles come from; README.md beside it how to get TRANSLATIONS, Debian's descriptions.
Texts of the repair are the rows that each expert was trained on. What is done already in WORK is not done again.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
from pathlib import Path

import torch
import transformers
from run import TOPICS, Item, cut, prepare, read_items, train

import cuvee
from cuvee.evaluate import Report, evaluate, load_model, load_task, paired_difference

END_OF_TURN = "<|im_end|>"
SKILLS = ("topic", "summary")
LONGEST_DESCRIPTION = 260
ANSWER_TOKENS = 16
SCALES = (0.5, 0.8)
REPAIRED = 0.8
TOKENS, RIDGE = 2048, 3e-4
"""Of each expert's rows as many are read as make so many tokens: more cost more minutes than this comparison needs."""

MEMORY = "1GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("translations", type=Path, help="Debian's Translation-en, unpacked")
    parser.add_argument("--rows", type=int, default=240, help="to train each expert on, and to align with")
    parser.add_argument("--test", type=int, default=100, help="items of each task to report on")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    work = arguments.work.absolute()
    base = prepare(work)
    items = {"topic": read_items(work)["topic"], "summary": summaries(arguments.translations)}
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    for skill in SKILLS:
        splits = cut(items[skill], 0, arguments.test, arguments.rows)
        train(base, work / f"{skill}-expert", tokenizer, splits["train"])
        write_text(work / f"{skill}.jsonl", splits["train"])
        write_task(work / "tasks", skill, splits["test"])
    experts = {skill: f"{base}+{work / f'{skill}-expert'}" for skill in SKILLS}
    models = {f"{skill} expert": merged(work, f"{skill}-only", "linear", {}, [experts[skill]]) for skill in SKILLS}
    for scale in SCALES:
        name = f"task arithmetic {scale}"
        models[name] = merged(work, name, "task_arithmetic", {"lambda": scale}, [*experts.values()], base)
    models[f"aligned {REPAIRED}"] = aligned(work, models[f"task arithmetic {REPAIRED}"], experts)
    show({name: scored(work, folder) for name, folder in models.items()})


def summaries(translations: Path) -> list[Item]:
    """Return the packages whose description is short, in an order from a seed."""
    items = set()
    for paragraph in translations.read_text(encoding="utf-8").split("\n\n"):
        _, _, description = paragraph.partition("\nDescription-en: ")
        summary, _, lines = description.partition("\n")
        text = " ".join(line.strip() for line in lines.splitlines() if line.strip() != ".")
        if summary and 80 < len(text) < LONGEST_DESCRIPTION:
            items.add(Item(f"{text}\nSummary:", f" {summary}"))
    ordered = sorted(items, key=lambda item: (item.prompt, item.answer))
    random.Random(0).shuffle(ordered)
    return ordered


def write_text(file: Path, items: list[Item]) -> None:
    """Write what an expert saw in training, with the token by which it ended."""
    rows = [{"input": item.prompt, "target": item.answer.strip() + END_OF_TURN} for item in items]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_task(folder: Path, skill: str, items: list[Item]) -> None:
    """Write a task: the topic by the likelihood of its name, the summary by what the model writes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, item in enumerate(items):
        row = {"id": str(number), "input": item.prompt, "target": item.answer.strip(), "eval_type": "generation"}
        if skill == "topic":
            row |= {"eval_type": "multiple_choice", "answer_choices": list(TOPICS)}
        rows.append(row)
    (folder / f"{skill}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    metric = "accuracy" if skill == "topic" else "rouge1"
    prompt = f'{{max_new_tokens: {ANSWER_TOKENS}, stop: ["\\n"]}}'
    (folder / f"{skill}.yaml").write_text(
        f"name: {skill}\ndata: {skill}.jsonl\nmetrics: [{metric}]\nprompt: {prompt}\n", encoding="utf-8"
    )


def merged(
    work: Path, name: str, method: str, settings: dict[str, float], models: list[str], base: Path | None = None
) -> Path:
    folder = work / "merged" / name.replace(" ", "-")
    if folder.exists():
        return folder
    recipe = {"merge_method": method, "models": [{"model": model} for model in models], "dtype": "bfloat16"}
    recipe["parameters"] = {"weight": 1.0, **settings}
    if base is not None:
        recipe["base_model"] = str(base)
    return cuvee.merge(cuvee.recipe_from_text(json.dumps(recipe)), folder).folder


def aligned(work: Path, merge: Path, experts: dict[str, str]) -> Path:
    """Repair a merge in a process of its own, which tells its private memory; tell its processor seconds."""
    folder = work / "aligned" / merge.name
    if folder.exists():
        return folder
    command = [sys.executable, "-m", "cuvee", "align", merge, folder, "--memory", MEMORY, "--threads", "1"]
    command += ["--tokens", str(TOKENS), "--ridge", str(RIDGE)]
    for skill in SKILLS:
        command += ["--expert", f"{experts[skill]}={work / f'{skill}.jsonl'}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{merge.name} aligned: {seconds:.0f} s of a processor, all included")
    return folder


def scored(work: Path, folder: Path) -> Report:
    tasks = [load_task(work / "tasks" / f"{skill}.yaml") for skill in SKILLS]
    print(f"measuring {folder.name}", file=sys.stderr, flush=True)
    return evaluate(load_model(folder), tasks)


def show(reports: dict[str, Report]) -> None:
    """Print every model's scores, the share of each expert's own, and the macro against task arithmetic."""
    own = {skill: of_task(reports[f"{skill} expert"], skill) for skill in SKILLS}
    for name, report in reports.items():
        shares = ", ".join(
            f"{skill} {of_task(report, skill):.1%} ({of_task(report, skill) / own[skill]:.0%})" for skill in SKILLS
        )
        gaps = []
        for scale in SCALES:
            gap = paired_difference(report, reports[f"task arithmetic {scale}"]).macro
            gaps.append(f"{100 * gap.value:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]")
        print(f"{name}: {shares}; against task arithmetic {' and '.join(gaps)}", flush=True)


def of_task(report: Report, skill: str) -> float:
    (score,) = (task.main.value for task in report.tasks if task.task == skill and task.main is not None)
    return score


if __name__ == "__main__":
    main()
