"""The journal of a search: questions, answers, outcomes; the only truth on disk.

`candidates.jsonl` has a line when a candidate is proposed and a line when it is done; `items/NUMBER.jsonl` a line for
each stretch of items that it has answered; `select` and `report` hold the finalists' answers of the other two parts.
A line counts once its newline is there. A killed search leaves at most one torn line in a file; the journal cuts it off
when it is opened again.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cuvee.documents.whole import write_whole
from cuvee.errors import RecipeError
from cuvee.search.space import Values

CANDIDATES, HEAD = "candidates.jsonl", "search.json"
RESULTS = ("best.yaml", "report.json", "index.html")
FRONT = "front"
"""Folder of the recipes of which none is clearly better than another in all objectives."""

Part = Literal["items", "select", "report"]
PARTS: tuple[Part, ...] = ("items", "select", "report")

State = Literal["measured", "dropped", "failed"]


@dataclass(frozen=True)
class Candidate:
    """A recipe to try. `arm` is the method that proposed it, "" for an anchor that stands outside the arms.

    An `anchor` answers all items, whatever the race says. `spent` is the share of the budget, from 0 to 1, that was
    gone when it was proposed.
    """

    number: int
    arm: str
    name: str
    values: Values
    recipe: str
    anchor: bool
    spent: float


@dataclass(frozen=True)
class Block:
    """The answers of a candidate in a stretch of blocks: the score of each item by task, in the order of the items.

    `number` is that of the first block, `blocks` how many there are.
    """

    number: int
    blocks: int
    scores: Mapping[str, list[float]]
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """The outcome of a candidate.

    `value` is the number that its arm was told, None where it failed; `reason` says why it ended. With several
    objectives the arm was told `worth`, a number for each.
    """

    number: int
    state: State
    value: float | None
    standard_error: float | None
    difference: float | None
    items: int
    tokens: int
    seconds: float
    reason: str
    worth: Sequence[float] = ()


Event = Candidate | Outcome


class Journal:
    """A folder that keeps a search. State: the open files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _cut(folder / CANDIDATES)
        for part in PARTS:
            (folder / part).mkdir(parents=True, exist_ok=True)
            for file in (folder / part).glob("*.jsonl"):
                _cut(file)

    def events(self) -> Iterator[Event]:
        """Give the events, in order."""
        for line in _lines(self.folder / CANDIDATES):
            if line.pop("event") == "asked":
                yield Candidate(**line)
            else:
                yield Outcome(**{**line, "worth": tuple(line.get("worth", ()))})

    def blocks(self, number: int, part: Part = "items") -> tuple[Block, ...]:
        """Return the blocks that a candidate has answered, in order."""
        return tuple(Block(**line) for line in _lines(self._file(part, number)))

    def cost(self) -> tuple[int, int]:
        """Return how many items were answered and how many tokens that took, in all parts."""
        items = tokens = 0
        for part in PARTS:
            for file in sorted((self.folder / part).glob("*.jsonl")):
                for line in _lines(file):
                    block = Block(**line)
                    items += sum(len(scores) for scores in block.scores.values())
                    tokens += block.tokens
        return items, tokens

    def asked(self, candidate: Candidate) -> None:
        """Note a candidate before anything of it is computed."""
        _append(self.folder / CANDIDATES, {"event": "asked", **asdict(candidate)})

    def answered(self, number: int, block: Block, part: Part = "items") -> None:
        """Note a block of a candidate."""
        _append(self._file(part, number), asdict(block))

    def done(self, outcome: Outcome) -> None:
        """Note the outcome of a candidate."""
        _append(self.folder / CANDIDATES, {"event": "done", **asdict(outcome)}, durable=True)

    def _file(self, part: Part, number: int) -> Path:
        return self.folder / part / f"{number}.jsonl"


def open_journal(folder: Path, head: Mapping[str, Any], *, fresh: bool = False) -> Journal:
    """Open a search's folder, a new folder or an interrupted search.

    `head` must not have changed: space, tasks, models, code. Raises RecipeError where it has, unless `fresh`
    starts anew.
    """
    file = folder / HEAD
    if fresh:
        _clear(folder)
    if not file.exists():
        if folder.exists() and any(folder.iterdir()):
            raise RecipeError("the folder holds something else than a search", where=str(folder), hint="name a new one")
        folder.mkdir(parents=True, exist_ok=True)
        _write(file, head)
        return Journal(folder)
    before = json.loads(file.read_text(encoding="utf-8"))
    changed = [key for key in head if before.get(key) != json.loads(json.dumps(head[key]))]
    if changed:
        raise RecipeError(
            f"the search in this folder had another {', '.join(changed)}",
            where=str(folder),
            hint="name another folder, or start anew with --fresh",
        )
    return Journal(folder)


def _clear(folder: Path) -> None:
    """Remove a search, its head last, so that half of it is never taken for a whole."""
    for part in PARTS:
        for file in (folder / part).glob("*.jsonl"):
            file.unlink()
        if (folder / part).exists():
            (folder / part).rmdir()
    for file in (folder / FRONT).glob("*.yaml"):
        file.unlink()
    if (folder / FRONT).exists():
        (folder / FRONT).rmdir()
    for name in (*RESULTS, CANDIDATES, HEAD):
        (folder / name).unlink(missing_ok=True)


def _write(file: Path, content: Mapping[str, Any]) -> None:
    write_whole(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _append(file: Path, line: Mapping[str, Any], *, durable: bool = False) -> None:
    """Write a line. It outlives this process at once, and a power cut where it is `durable`."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        stream.flush()
        if durable:
            os.fsync(stream.fileno())


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    if not file.exists():
        return
    for line in file.read_text(encoding="utf-8").split("\n"):
        if line:
            yield json.loads(line)


def _cut(file: Path) -> None:
    """Cut off a last line without its end."""
    if not file.exists():
        return
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with file.open("r+b") as stream:
            stream.truncate(whole)
