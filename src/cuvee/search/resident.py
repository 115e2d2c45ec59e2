"""A model that stays loaded while recipes are merged into it: a candidate of a search never touches the disk.

The first recipe of a form is merged to a temporary folder and loaded from there, as anybody would do it. The network is
then the model into which later recipes of that form are merged, by the same planner and the same workers.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# It comes first, since it tells of the extra.
from cuvee.evaluation.model import Device, Dtype, LanguageModel, fitting_threads, load_model

# isort: split
from blake3 import blake3

from cuvee.api import stages_from_text
from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.companions import companions_of
from cuvee.checkpoint.digest import digest_of_entries
from cuvee.engine import merge_stages
from cuvee.engine.fetch import fetched
from cuvee.engine.known_changes import KnownChanges
from cuvee.engine.options import Options
from cuvee.engine.workers import Workers
from cuvee.errors import SearchError
from cuvee.evaluation.run import asked_by
from cuvee.evaluation.samples import Answer
from cuvee.evaluation.suite import load_tasks
from cuvee.evaluation.task import Sample, Task
from cuvee.hub import Hub
from cuvee.plan import Plan, make_plan
from cuvee.plan.resolve import model_to_read
from cuvee.progress import Silent
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import parse_reference
from cuvee.search.held import Held, HeldModels
from cuvee.search.in_place import Compared, InPlace, Places, Unlike, Untied, places_of, same_bits
from cuvee.search.prompts import RememberingTokenizer
from cuvee.search.scored import check_scored, score_of
from cuvee.search.together import Items, answered

DEFAULT_MEMORY = 4_000_000_000
"""Bytes that models may take in memory where nothing else is asked for."""

TRIED_EVERY = 50
"""Candidates after which we try anew in which ways the network can read."""

ITEMS_COMPARED = 25
"""Items of each task on which a candidate is compared with the same one from the disk."""


@dataclass(frozen=True)
class Elsewhere:
    """Where models and texts are, by the words that recipes have for them; no `places` where names lead there.

    With `places` no model is searched anywhere else, and no hub is asked.
    """

    places: Mapping[str, Path] | None = None
    texts: Mapping[str, Path] = field(default_factory=dict)

    @property
    def hub(self) -> Hub:
        return Hub(offline=self.places is not None)

    def name_of(self, reference: str) -> str:
        """Return the local name of a model."""
        if self.places is None:
            return reference
        model = parse_reference(reference)
        adapter = f"+{self.places[f'+{model.adapter_text}']}" if model.adapter else ""
        return f"{self.places[reference]}{adapter}"


@dataclass(frozen=True)
class Setup:
    """The parts of a resident model: references and paths only, so that it can be sent to another process.

    - `models`: references of the models that recipes use.
    - `tasks`: names of bundled tasks, or files.
    - `memory_bytes`: how much of the models stays in memory; the rest is read from files.
    - `threads`: how many workers merge.
    - `device`: where the network is, and `dtype` the numbers that it computes in.
    - `prompt`: keys of a prompt that count in place of the tasks' own; None for those of each recipe.
    - `elsewhere`: where models and texts are that are not where their names lead.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    memory_bytes: int = DEFAULT_MEMORY
    threads: int = 1
    device: Device = "auto"
    dtype: Dtype = "float32"
    prompt: Mapping[str, Any] | None = None
    elsewhere: Elsewhere = Elsewhere()

    def loaded_tasks(self) -> list[Task]:
        """Read the tasks. Raises EvaluationError."""
        return list(chain.from_iterable(map(load_tasks, self.tasks)))


@dataclass(frozen=True)
class Measured:
    """The scores of a candidate: the main metric of each item, in the order in which items were asked for, by task.

    `digest` is that of the merged weights. `tokens` were read and written, those of the texts by which the merge was
    aligned for this measure with them; `seconds` went by in merging and answering.
    """

    scores: Mapping[str, list[float]]
    tokens: int
    seconds: float
    digest: str


class Resident:
    """A network in which the weights change, the models that are merged into it, and the tasks that it is asked.

    `notes` tell a reader why candidates are not merged in place, if so.
    """

    def __init__(
        self,
        models: Sequence[str],
        tasks: Sequence[Task],
        *,
        memory_bytes: int = DEFAULT_MEMORY,
        threads: int = 1,
        device: Device = "auto",
        dtype: Dtype = "float32",
        prompt: Mapping[str, Any] | None = None,
        elsewhere: Elsewhere = Elsewhere(),
    ) -> None:
        """Open the models, downloading files that the cache lacks. Raises CuveeError."""
        self.notes: list[str] = []
        self.digest = ""
        """Of the weights that are merged at present; "" before the first."""
        self._elsewhere = elsewhere
        self._hub = elsewhere.hub
        self._tokens_of_texts = 0
        self._held = HeldModels(memory_bytes)
        self._changes = KnownChanges()
        self._threads = threads
        self._device: Device = device
        self._dtype: Dtype = dtype
        self._prompt = prompt
        self._tasks = _by_name(tasks)
        self._samples = {name: _by_id(task.samples) for name, task in self._tasks.items()}
        self._companions: dict[Path, str] = {}
        self._form = ""
        self._places: Places | None = None
        self._forms_on_disk: set[str] = set()
        self._applied: str | None = None
        self._model: LanguageModel | None = None
        self._renewed = 0
        for reference in models:
            source = model_to_read(elsewhere.name_of(reference), self._hub, Silent())
            self._held.hold(parse_reference(reference), source)

    @property
    def model(self) -> LanguageModel:
        """The model as it is merged at present. Raises SearchError before the first recipe."""
        if self._model is None or self._applied is None:
            raise SearchError("no recipe is merged yet", hint="call `apply` first")
        return self._model

    @property
    def in_place(self) -> bool:
        """Whether the next recipe of the same form is merged in place."""
        return self._form != ""

    def apply(self, recipe_text: str) -> None:
        """Merge a recipe into the network, as `cuvee merge` would do and transformers would load it.

        Does nothing for the recipe that is merged already. Raises CuveeError; the next recipe is then merged as if
        nothing had been.
        """
        if recipe_text == self._applied:
            return
        self._applied, self.digest = None, ""
        recipes = stages_from_text(recipe_text)
        if len(recipes) > 1 or recipes[0].align is not None:
            self._load(recipes)
            self._note("it has stages or says 'align'")
        else:
            self._merge(recipes[0])
        self._applied = recipe_text

    def measure(self, items: Items) -> Measured:
        """Ask the merged model some items of some tasks. Raises SearchError for unknown items, EvaluationError."""
        self._check(items)
        started = time.perf_counter()
        model = self.model
        own = model.own_prompt if self._prompt is None else self._prompt
        tasks = asked_by(own, [self._tasks[name] for name in items], model.name)
        with fitting_threads(model):
            answers = answered(model, tasks, items)
        scores = {name: self._scores(self._tasks[name], ids, answers[name]) for name, ids in items.items()}
        every_answer = chain.from_iterable(by_id.values() for by_id in answers.values())
        tokens = sum(each.tokens for each in every_answer) + self._tokens_of_texts
        self._tokens_of_texts = 0
        return Measured(scores, tokens, time.perf_counter() - started, self.digest)

    def check_on_disk(self, recipe_text: str, items: Items | None = None) -> None:
        """Merge a recipe on the disk, too, and compare weights and answers; by default a few items of each task.

        Raises SearchError if they differ.
        """
        self.apply(recipe_text)
        if items is None:
            items = {name: [*self._samples[name]][:ITEMS_COMPARED] for name in self._tasks}
        measured = self.measure(items)
        other = Resident(
            (),
            list(self._tasks.values()),
            threads=self._threads,
            device=self._device,
            dtype=self._dtype,
            prompt=self._prompt,
            elsewhere=self._elsewhere,
        )
        other._load(stages_from_text(recipe_text))
        other._applied = recipe_text
        if other.digest != self.digest:
            raise SearchError("the weights that were merged in memory are not those of the same merge on the disk")
        own = self.model.network.state_dict()
        for name, tensor in other.model.network.state_dict().items():
            if name not in own or not same_bits(own[name], tensor):
                raise SearchError(f"the network has other numbers in '{name}' than the same merge has on the disk")
        if other.measure(items).scores != measured.scores:
            raise SearchError("the model answers otherwise than the same merge does from the disk")

    def _merge(self, recipe: Recipe) -> None:
        plan = self._planned(recipe)
        form = self._form_of(plan)
        if form == self._form and self._places is not None:
            try:
                self._renew(self._run(plan, InPlace(plan.steps, self._places)))
            except Untied:
                pass  # transformers keeps apart what is not equal: once loaded anew the network has a place for each
            else:
                return
        self._load((recipe,))
        if form not in self._forms_on_disk:
            self._learn_places(plan, form)

    def _planned(self, recipe: Recipe) -> Plan:
        """Plan a recipe over the models that are held."""
        planned = make_plan(recipe, places=self._elsewhere.places, hub=self._hub)
        plan = fetched(planned, Path("unwritten"), Silent(), overwrite=False)
        pairs = zip(plan.models, plan.sources, strict=True)
        return replace(plan, sources=tuple(self._held.hold(model, source) for model, source in pairs))

    def _form_of(self, plan: Plan) -> str:
        """Return a digest of all that decides how the merged folder is loaded, but for the numbers in it."""
        donor, keeper = plan.sources[plan.donor], plan.sources[plan.vocabulary.donor]
        content = [
            [[step.name, step.dtype, step.shape] for step in plan.steps],
            donor.config,
            dict(plan.config_changes),
            [self._companions_of(donor), self._companions_of(keeper)],
            dict(plan.vocabulary.texts),
            sorted(plan.vocabulary.dropped),
            plan.recipe.prompt,
        ]
        return blake3(json.dumps(content, sort_keys=True, default=dict).encode()).hexdigest()

    def _companions_of(self, source: TensorSource) -> str:
        """Return a digest of the files that a merge copies from a model; they are read once."""
        place = source.place
        if place is None:
            return ""
        if place not in self._companions:
            hasher = blake3()
            folder = place if place.is_dir() else place.parent
            for name in companions_of(place, source.files()).copied:
                hasher.update(name.encode() + b"\0" + blake3((folder / name).read_bytes()).digest())
            self._companions[place] = hasher.hexdigest()
        return self._companions[place]

    def _load(self, recipes: Sequence[Recipe]) -> None:
        """Merge to a temporary folder, and load the result."""
        self._form = ""
        self._model = None  # two networks at once may be one too many
        with TemporaryDirectory(prefix="cuvee-search-") as folder:
            out = Path(folder) / "merged"
            if recipes[-1].align is None:
                places = self._elsewhere.places
                self.digest = merge_stages(recipes, out, places=places, hub=self._hub, threads=self._threads).digest
            else:
                self.digest = self._merge_aligned(recipes, out)
            model = load_model(out, device=self._device, dtype=self._dtype)
        self._model = replace(model, name="the merged model", tokenizer=RememberingTokenizer(model.tokenizer))

    def _merge_aligned(self, recipes: Sequence[Recipe], out: Path) -> str:
        from cuvee.calibrate.repair import merge_aligned

        if len(recipes) > 1:
            message = f"'align' is for a recipe of one stage, and this has {len(recipes)}"
            raise SearchError(message, hint="merge the earlier stages first, and search over the last one")
        own = self._elsewhere
        aligned = merge_aligned(
            recipes[0], out, texts=own.texts, places=own.places, hub=self._hub, threads=self._threads
        )
        self._tokens_of_texts = sum(figures.tokens for figures in aligned.texts)
        return str(aligned.result.digest)

    def _learn_places(self, plan: Plan, form: str) -> None:
        """Find where tensors lie in the network that was just loaded, and see that its numbers are there."""
        try:
            places = places_of(self._network, plan.steps)
            compared = Compared(plan.steps, places)
            if self._run(plan, compared) != self.digest:
                raise SearchError("a merge in memory gives other bytes than the same merge on the disk")
            compared.check()
        except Unlike as error:
            self._forms_on_disk.add(form)
            self._note(str(error))
            return
        self._form, self._places = form, places

    def _note(self, reason: str) -> None:
        note = f"a candidate is merged to a temporary folder and loaded anew: {reason}"
        if note not in self.notes:
            self.notes.append(note)

    def _run(self, plan: Plan, taker: InPlace | Compared) -> str:
        """Run a plan, hand all bytes to `taker`, and return the digest of the weights."""
        changes = self._changes if self._are_held(plan) else None
        finished = Workers(plan, Options(threads=self._threads), changes=changes).run_all(taker.write)
        taker.finish()
        return digest_of_entries((step.name, step.dtype, step.shape, finished[step.name].digest) for step in plan.steps)

    def _are_held(self, plan: Plan) -> bool:
        """Say whether the plan reads all models as they are: others' tensors depend on the recipe."""
        return all(isinstance(source, Held) for source in plan.sources)

    def _renew(self, digest: str) -> None:
        """Name the weights that the network has now.

        The ways in which a network can read were found by trying, and are a matter of its code, not of its numbers. We
        try them anew only now and then, in case the first candidate's numbers were too odd to tell.
        """
        assert self._model is not None, "only called with a network"
        self.digest = digest
        self._renewed += 1
        if self._renewed % TRIED_EVERY:
            self._model = self._model.renumbered(digest)
        else:
            self._model = replace(self._model, digest=digest)

    @property
    def _network(self) -> Any:
        assert self._model is not None, "only called with a network"
        return self._model.network

    def _check(self, items: Items) -> None:
        for name, ids in items.items():
            if name not in self._tasks:
                raise SearchError(f"there is no task '{name}'", hint=f"there are {', '.join(self._tasks)}")
            for item in ids:
                if item not in self._samples[name]:
                    raise SearchError(f"task '{name}' has no item '{item}'")

    def _scores(self, task: Task, ids: Sequence[str], answers: Mapping[str, Answer]) -> list[float]:
        """Return the score of each item of a task."""
        samples = self._samples[task.name]
        return [score_of(task, samples[item], answers[item]) for item in ids]


def _by_id(samples: Sequence[Sample]) -> dict[str, Sample]:
    return {sample.id: sample for sample in samples}


def _by_name(tasks: Sequence[Task]) -> dict[str, Task]:
    """Return tasks by their names. Raises SearchError for two of a name and for items that cannot be scored."""
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise SearchError(f"two tasks have the same name among {', '.join(names)}")
    for task in tasks:
        check_scored(task)
    return dict(zip(names, tasks, strict=True))


_resident: tuple[Setup, Resident] | None = None
"""The one resident model of this process: it stays from one call of `measured` to the next."""


def measured(setup: Setup, recipe: str, items: Items) -> Measured:
    """Merge a recipe into this process's resident model and measure it: a function that executors can call.

    The model of another setup is given up first. `seconds` count merging, too.
    """
    started = time.perf_counter()
    resident = resident_of(setup)
    resident.apply(recipe)
    result = resident.measure(items)
    return replace(result, seconds=time.perf_counter() - started)


def resident_of(setup: Setup) -> Resident:
    """Return this process's resident model for a setup, made at the first call."""
    global _resident
    if _resident is not None and _resident[0] == setup:
        return _resident[1]
    _resident = None  # two networks at once may be one too many
    resident = Resident(
        setup.models,
        setup.loaded_tasks(),
        memory_bytes=setup.memory_bytes,
        threads=setup.threads,
        device=setup.device,
        dtype=setup.dtype,
        prompt=setup.prompt,
        elsewhere=setup.elsewhere,
    )
    _resident = (setup, resident)
    return resident
