"""Recipe + headers -> Plan, with all problems found at once."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cuvee.addition import weight_rules
from cuvee.checkpoint import TensorSource, TensorSpec
from cuvee.checkpoint.companions import companion_names
from cuvee.checkpoint.dtypes import MERGEABLE, NAMES, NUMPY, WORDS, promoted
from cuvee.checkpoint.model_card import card_facts, licence_conflict
from cuvee.errors import CheckpointError, CuveeError, RecipeError, closest, several
from cuvee.hub import Hub
from cuvee.method import Method, registry
from cuvee.ops.gram import gram
from cuvee.plan.agree import few, name_problems
from cuvee.plan.heads import settle_heads
from cuvee.plan.matrices import as_matrices
from cuvee.plan.memory import DEFAULT_MEMORY, counts_of_whole_model, keeps, least_memory
from cuvee.plan.modify import measures_changes, misplaced, unmeasured, with_scales
from cuvee.plan.names import View, view_as, view_of, whole_modules_lacking
from cuvee.plan.outline import Outline, outline
from cuvee.plan.overlap import Taking, overlap
from cuvee.plan.plan import Forecast, Input, MergeStep, Plan
from cuvee.plan.resolve import given_models, open_models
from cuvee.plan.vocabulary import Aligned, with_one_vocabulary
from cuvee.recipe.recipe import Chosen, Recipe, Slice, Source
from cuvee.recipe.reference import ModelRef
from cuvee.recipe.setting import Scalar, Setting, value_at
from cuvee.structure import layer_of, stacks
from cuvee.tokenizers.rows import AlignedCheckpoint, RowMap

MOST_SHOWN = 12
"""Problems in one message; more are counted."""

DEPTH_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""Where a config.json may have its layer count."""

NOT_BY_LAYER = ("architectures", "bos_token_id", "eos_token_id", "pad_token_id")
"""Lists in a config.json whose length says nothing, even where it is that of the layers."""


def make_plan(
    recipe: Recipe,
    *,
    models: Mapping[ModelRef, TensorSource] | None = None,
    hub: Hub | None = None,
    custom_code: bool = False,
) -> Plan:
    """Work out every step of a merge. `models` gives the inputs where they are neither in folders nor on a hub.

    With `custom_code` the donor's Python files are among what is copied.
    Of a model on a hub only headers and small files are asked for. Raises RecipeError or CheckpointError that holds
    all problems found.
    """
    hub = hub or Hub()
    opening = open_models(recipe, hub) if models is None else given_models(recipe, models)
    aligned = with_one_vocabulary(recipe, opening, hub)
    return _Planner(recipe, registry()[recipe.merge_method], aligned, hub, custom_code).plan()


@dataclass(frozen=True)
class _Member:
    """A source that takes part in one output tensor."""

    model: ModelRef
    tensor: str
    source: Source | None


class _Planner:
    """Makes the steps of one recipe and gathers what is wrong with them."""

    def __init__(self, recipe: Recipe, method: Method, aligned: Aligned, hub: Hub, custom_code: bool) -> None:
        self.recipe = recipe
        self.method = method
        self.opening = opening = aligned.opening
        self.vocabulary = aligned.vocabulary
        self.hub = hub
        self.custom_code = custom_code
        self.models = recipe.models()
        self.sources = dict(zip(self.models, opening.sources, strict=True))
        self.index = {model: i for i, model in enumerate(self.models)}
        self.problems: list[CuveeError] = list(opening.problems)
        self.reported: set[tuple[ModelRef, str]] = set()
        """Tensors of which a problem already speaks."""
        self.warnings: list[str] = list(aligned.warnings)
        self.refused: dict[str, list[str]] = {}
        self.lacking: Counter[tuple[str, str]] = Counter()
        self.shape_clashes: list[str] = []
        self.type_clashes: list[str] = []
        self.mixed: dict[str, list[str]] = {}
        self.views: Mapping[ModelRef, View] = {}
        self.excused: Mapping[ModelRef, frozenset[str]] = {}
        """Names of which it was decided what becomes of them, though not every model has them."""

    def plan(self) -> Plan:
        donor = self.models[0]
        before = len(self.problems)
        self.views, head_changes = self.viewed(donor)
        takings = self.takings(donor)
        outlines = outline(self.recipe, self.views, donor, takings, self.problems)
        self.check_members()
        clear = len(self.problems) == before
        if not self.recipe.sliced:
            self.check_names(donor)
        if not clear:
            self.stop_at_problems()
        steps = [step for out in outlines if (step := self.step(out)) is not None]
        self.note_clashes()
        self.note_lacking()
        self.note_refused()
        self.check_whole_model_settings(steps)
        self.check_measured_weights(steps)
        if complaint := misplaced(self.recipe.post):
            self.problems.append(RecipeError(complaint, where=self.recipe.source))
        self.stop_at_problems()
        self.warn_of_idle_filters(outlines)
        self.warn_of_licences()
        self.warn_of_code(donor)
        steps = self.modified(steps)
        return Plan(
            recipe=self.recipe,
            method=self.method,
            models=self.models,
            places=self.opening.places,
            sources=tuple(self.sources.values()),
            donor=0,
            steps=tuple(steps),
            config_changes=self.config_changes(donor, steps, outlines, head_changes),
            forecast=self.forecast(steps),
            warnings=tuple(self.warnings),
            repositories=self.opening.repositories,
            hub=self.hub,
            vocabulary=self.vocabulary,
            custom_code=self.custom_code,
        )

    def viewed(self, donor: ModelRef) -> tuple[Mapping[ModelRef, View], Mapping[str, Any]]:
        """View every model under the donor's names, with a head if any has one; and how that changes the config."""
        first = view_of(self.sources[donor])
        views = {m: first if m == donor else view_as(first, source) for m, source in self.sources.items()}
        for model, view in views.items():
            self.warnings += [f"{model}: {note}" for note in getattr(unaligned(view.source), "notes", ())]
            self.warnings += [f"{model}: {renaming}, as in {donor}" for renaming in view.renamings]
        if any(self.opening.unseen.values()):
            return views, {}  # a head may be among what was not seen
        heads = settle_heads(views, donor)
        self.warnings += heads.warnings
        self.problems += heads.problems
        self.refuse_unnamed_rows(heads.views)
        return heads.views, heads.changes

    def refuse_unnamed_rows(self, views: Mapping[ModelRef, View]) -> None:
        """Rows of tokens that a model lacks are read from the others by the tensor's name: they must share it."""
        filled = [m for m, s in self.sources.items() if isinstance(s, AlignedCheckpoint) and s.rows.fills]
        for name in views[self.models[0]].called if filled else ():
            own = {view.called[name] for view in views.values() if name in view.called}
            if len(own) > 1 and any(self.row_map(m, n) for m in filled for n in own):
                message = (
                    f"'{name}' has the names {', '.join(sorted(own))} in the models, and rows for tokens to be filled"
                )
                hint = "save the models with the same names and ties first"
                self.problems.append(CheckpointError(message, where=self.recipe.source, hint=hint))
                return

    def takings(self, donor: ModelRef) -> tuple[Taking, ...]:
        """Decide what becomes of every tensor of whole models; slices are cut by their own rules."""
        if self.recipe.sliced:
            return ()
        found = overlap(self.recipe, self.method, self.views, donor)
        self.excused = found.excused
        self.warnings += found.warnings
        self.problems += found.problems
        return found.takings

    def stop_at_problems(self) -> None:
        if self.problems:
            shown = self.problems[:MOST_SHOWN]
            if len(self.problems) > MOST_SHOWN:
                more = len(self.problems) - MOST_SHOWN
                shown.append(type(shown[0])(f"and {more} more like these"))
            shown += [type(shown[0])(f"besides: {note}") for note in self.warnings]
            raise several(shown)

    def check_members(self) -> None:
        least, most = self.method.models
        for i, part in enumerate(self.recipe.slices):
            count = len(self.members(part, None))
            if count < least or (most is not None and count > most):
                wanted = f"{least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"
                besides = " besides the base model" if self.method.base in ("delta", "optional") else ""
                where = f"slice {i}" if self.recipe.sliced else "the recipe"
                noun = "model" if least == 1 and most in (1, None) else "models"
                message = f"'{self.method.key}' merges {wanted} {noun}{besides}; {where} names {count}"
                self.problems.append(RecipeError(message, where=self.recipe.source))

    def check_names(self, donor: ModelRef) -> None:
        """Every input has every tensor, or the merge would lose some."""
        for model in self.models[1:]:
            excused = self.excused[model]
            expected = [name for name in self.names(donor) if name not in excused]
            found = [name for name in self.names(model) if name not in excused]
            for module, lacking in whole_modules_lacking(self.views[donor], self.views[model], expected):
                message = f"has nothing of the {module} part that {donor} has ({len(lacking)} tensors)"
                hint = f"say which model it comes from, for example `{module}: base`"
                self.problems.append(CheckpointError(message, where=str(model), hint=hint))
                self.reported |= {(model, name) for name in lacking}
                expected = [name for name in expected if name not in lacking]
            missing, problems = name_problems(str(donor), expected, str(model), found)
            self.reported |= {(model, name) for name in missing}
            self.problems += problems

    def names(self, model: ModelRef) -> list[str]:
        """List a model's tensors, those of which only the name is known among them."""
        return [*self.views[model].called, *sorted(self.opening.unseen.get(model, ()))]

    def base_of(self, part: Slice) -> ModelRef | None:
        return part.base_model or self.recipe.base_model

    def members(self, part: Slice, out: Outline | None) -> list[_Member]:
        """List the models that a step of this slice combines, in the order in which the method sees them."""
        base = self.base_of(part)
        names = out.names if out else ("",) * len(part.sources)
        members = [_Member(s.model, n, s) for s, n in zip(part.sources, names, strict=True) if n is not None]
        if base is None:
            return members
        base_name = out.base_name if out else ""
        listed = [m for m in members if m.model == base]
        others = [m for m in members if m.model != base]
        if self.method.base in ("delta", "optional"):
            return others
        first = listed[:1] or [_Member(base, base_name, None)]
        if self.method.base == "endpoint":
            return first + [m for m in members if m is not first[0]]
        if not listed and self.method.models == (1, 1):
            return members  # the base only lends its config
        return members if listed else members + first

    def step(self, out: Outline) -> MergeStep | None:
        if out.taken is not None:
            return self.taken(out.name, *out.taken)
        base = self.base_of(out.part) if self.method.base in ("delta", "optional") else None
        members = self.members(out.part, out)
        needed = [(m.model, m.tensor) for m in members] + ([(base, out.base_name)] if base else [])
        specs = [self.spec(model, tensor, out.name) for model, tensor in needed]
        if any(spec is None for spec in specs):
            return None
        found = [spec for spec in specs if spec is not None]
        if not self.shapes_agree(out, needed, found):
            return None
        inputs = self.inputs(members, found)
        base_input = None
        if base is not None:
            rows = self.row_map(base, out.base_name)
            base_input = Input(self.index[base], out.base_name, found[-1].dtype, rows=rows)
        if any(spec.dtype not in MERGEABLE for spec in found):
            if len({spec.dtype for spec in found}) > 1:
                kinds = ", ".join(f"{s.dtype} in {m}" for (m, _), s in zip(needed, found, strict=True))
                self.type_clashes.append(f"'{out.name}' is of different types: {kinds}")
            return MergeStep(out.name, found[0].dtype, found[0].shape, "copy", inputs, base_input, {})
        settings, scale = self.settings(out, members)
        self.note_mixed(out, needed)
        if base is None and scale != 1:
            self.refused.setdefault("'lambda' needs a base_model, whose task vectors it scales", []).append(out.name)
        dtype = self.output_dtype([self.stored_dtype(model, tensor) for model, tensor in needed])
        shape, semantics = found[0].shape, self.recipe.semantics
        unit = self.method.unit(shape, semantics, settings)
        holds = self.method.holds(len(members), shape, semantics, settings)
        surveying = self.method.surveying(semantics, settings)
        if self.method.surveying(semantics, settings, whole_model=True):
            holds += counts_of_whole_model(len(inputs))
        step = MergeStep(out.name, dtype, shape, "merge", inputs, base_input, settings, scale, unit, holds, surveying)
        place = self.views[members[0].model].structure.of(members[0].tensor)
        try:
            step = as_matrices(step, self.method, self.recipe.post, place)
        except ValueError as error:
            self.refused.setdefault(str(error), []).append(out.name)
            return None
        return step if self.rule_accepts(step) else None

    def taken(self, name: str, model: ModelRef, tensor: str) -> MergeStep | None:
        """Take a tensor from one model as it is."""
        spec = self.spec(model, tensor, name)
        if spec is None:
            return None
        given = Input(self.index[model], tensor, spec.dtype, model.without_revisions)
        return MergeStep(name, spec.dtype, spec.shape, "copy", (given,), None, {})

    def note_mixed(self, out: Outline, needed: list[tuple[ModelRef, str]]) -> None:
        """Inputs of different types make an output of the widest, which may surprise."""
        stored = [self.stored_dtype(model, tensor) for model, tensor in needed]
        if len(set(stored)) == 1 or self.recipe.out_dtype or self.recipe.dtype:
            return
        kinds = ", ".join(f"{dtype} in {model}" for (model, _), dtype in zip(needed, stored, strict=True))
        self.mixed.setdefault(f"{kinds}, so {promoted(stored)} is written", []).append(out.name)

    def spec(self, model: ModelRef, tensor: str, out: str) -> TensorSpec | None:
        spec = self.sources[model].tensors.get(tensor)
        known = (model, tensor) in self.reported or tensor in self.opening.unseen.get(model, ())
        if spec is None and not known:
            few = len(self.problems) < MOST_SHOWN
            guess = closest(tensor, list(self.sources[model].tensors)) if few else None
            hint = f"the closest is '{guess}'" if guess else None
            message = f"has no tensor '{tensor}', needed for '{out}'"
            self.problems.append(CheckpointError(message, where=str(model), hint=hint))
        return spec

    def shapes_agree(self, out: Outline, needed: list[tuple[ModelRef, str]], specs: list[TensorSpec]) -> bool:
        if len({spec.shape for spec in specs}) == 1:
            return True
        shapes = ", ".join(f"{list(s.shape)} in {m}" for (m, _), s in zip(needed, specs, strict=True))
        self.shape_clashes.append(f"'{out.name}' has different shapes: {shapes}")
        return False

    def note_clashes(self) -> None:
        """Say of how many tensors shapes or types do not fit, naming the first ones; and where types are mixed."""
        self.problems += few(self.shape_clashes, "different shapes") + few(self.type_clashes, "different types")
        for kinds, names in self.mixed.items():
            more = f" and {len(names) - 1} tensors more" if len(names) > 1 else ""
            message = f"'{names[0]}'{more}: inputs are {kinds}; 'dtype' in the recipe would say the type"
            self.warnings.append(message)

    def row_map(self, model: ModelRef, tensor: str) -> RowMap | None:
        source = self.sources[model]
        return source.rows if isinstance(source, AlignedCheckpoint) and tensor in source.names else None

    def stored_dtype(self, model: ModelRef, tensor: str) -> str:
        """Return a tensor's type in its file, whatever it is read as; for codes the type that they stand for."""
        source = unaligned(self.sources[model])
        meant: Mapping[str, str] = getattr(source, "meant", {})
        return meant.get(tensor, source.tensors[tensor].dtype)

    def inputs(self, members: list[_Member], specs: list[TensorSpec]) -> tuple[Input, ...]:
        seen: Counter[str] = Counter()
        result = []
        for member, spec in zip(members, specs, strict=False):
            identity = member.source.identity if member.source else member.model.without_revisions
            rows = self.row_map(member.model, member.tensor)
            result.append(Input(self.index[member.model], member.tensor, spec.dtype, identity, seen[identity], rows))
            seen[identity] += 1
        return tuple(result)

    def settings(self, out: Outline, members: list[_Member]) -> tuple[dict[str, Any], float]:
        resolved: dict[str, Any] = {}
        for name, setting in self.method.settings.items():
            if name == "weight" and self.recipe.weights is not None:
                resolved |= self.ruled_weights(self.recipe.weights, out, len(members))
            elif setting.per_model:
                resolved[name] = tuple(self.value(setting, out, member) for member in members)
            else:
                resolved[name] = self.value(setting, out, None)
        scale = float(resolved.get("lambda", 1.0))
        own = {name: resolved[name] for name in self.method.step_settings if name in resolved}
        return own, scale

    def ruled_weights(self, chosen: Chosen, out: Outline, models: int) -> dict[str, Any]:
        """Return the weights that a rule gives, or nothing if it has to measure the models first."""
        rule = weight_rules()[chosen.key]
        if rule.measures(chosen.settings):
            return {}
        try:
            return {"weight": tuple(rule.rule(models, **chosen.settings))}
        except ValueError as error:
            self.refused.setdefault(str(error), []).append(out.name)
            return {"weight": (1.0,) * models}

    def value(self, setting: Setting, out: Outline, member: _Member | None) -> Scalar | None:
        scopes = [out.part.settings, self.recipe.settings]
        if member is not None and member.source is not None:
            scopes.insert(0, member.source.settings)
        # as in mergekit, what each model may set goes by that model's name for the tensor
        found = value_at(scopes, setting.name, member.tensor if member else out.name, out.depth)
        if found is not None:
            return setting.plain(found)
        if setting.required:
            self.lacking[(setting.name, str(member.model) if member else "")] += 1
            return 0.0
        return setting.default

    def note_lacking(self) -> None:
        for (name, model), count in self.lacking.items():
            whose = f" for {model}" if model else ""
            hint = f"'{self.method.key}' needs it; set it for the model, or for all under the recipe's 'parameters'"
            message = f"parameter '{name}' has no value{whose} in {count} tensors"
            self.problems.append(RecipeError(message, where=self.recipe.source, hint=hint))

    def rule_accepts(self, step: MergeStep) -> bool:
        """Try settings that alone decide the coefficients, so that bad ones are known before a tensor is read."""
        known = all(survey is gram for survey in self.method.surveys.values())
        if self.method.kind != "coefficient" or not known or self.lacking or self.measures_weights:
            return True
        settings = as_arrays(step.settings)
        settings |= dict.fromkeys(self.method.surveys, np.eye(len(step.inputs)))  # of unrelated models
        if self.method.takes_semantics:
            settings["semantics"] = self.recipe.semantics
        try:
            self.method.rule(**settings)
        except ValueError as error:
            self.refused.setdefault(str(error), []).append(step.name)
            return False
        return True

    def note_refused(self) -> None:
        """Say once what is wrong with settings, however many tensors have them."""
        for complaint, names in self.refused.items():
            others = f" and {len(names) - 1} tensors more" if len(names) > 1 else ""
            message = f"'{self.method.key}': {complaint} (in '{names[0]}'{others})"
            self.problems.append(RecipeError(message, where=self.recipe.source))

    def check_whole_model_settings(self, steps: list[MergeStep]) -> None:
        """A number that is found over the whole model needs settings that are the same in all of it."""
        merges = [step for step in steps if step.action == "merge"]
        for survey in self.method.surveys.values() if merges else ():
            if all(survey.scope(self.recipe.semantics, step.settings) != "model" for step in merges):
                continue
            if len({tuple(self.models[i.model] for i in step.inputs) for step in merges}) > 1:
                message = f"'{self.method.key}' looks at whole models here, but the slices do not name the same ones"
                hint = "name the same models in the same order in every slice"
                self.problems.append(RecipeError(message, where=self.recipe.source, hint=hint))
                return
            for name in survey.reads:
                if len({repr(step.settings.get(name)) for step in merges}) > 1:
                    message = f"'{name}' differs between tensors, but here it counts for the whole model"
                    hint = "give one number, or use semantics: mergekit"
                    self.problems.append(RecipeError(message, where=self.recipe.source, hint=hint))

    @property
    def measures_weights(self) -> bool:
        chosen = self.recipe.weights
        return chosen is not None and weight_rules()[chosen.key].measures(chosen.settings)

    def check_measured_weights(self, steps: list[MergeStep]) -> None:
        """Weights that are found over whole models need the same models in the same order everywhere."""
        merged = {tuple(given.model for given in step.inputs) for step in steps if step.action == "merge"}
        if self.measures_weights and self.recipe.weights is not None and len(merged) > 1:
            message = f"'weights: {self.recipe.weights.key}' needs the same models in every slice"
            self.problems.append(RecipeError(message, where=self.recipe.source))

    def modified(self, steps: list[MergeStep]) -> list[MergeStep]:
        """Apply the modifiers, if nothing has to be measured for any of them."""
        if measures_changes(self.recipe.post):
            return steps
        return with_scales(steps, unmeasured(steps), self.recipe.post)

    def warn_of_idle_filters(self, outlines: list[Outline]) -> None:
        """Say which filters are in no tensor's name: probably misspelt."""
        names = list(dict.fromkeys(name for out in outlines for name in self.names_for_filters(out)))
        words = sorted({word for name in names for word in name.split(".") if not word.isdecimal()})
        scopes = [self.recipe.settings, *(part.settings for part in self.recipe.slices)]
        scopes += [source.settings for part in self.recipe.slices for source in part.sources]
        choices = [(key, choice) for scope in scopes for key, value in scope.items() for choice in value]
        for key, text in dict.fromkeys((key, choice.filter) for key, choice in choices):
            if text != "*" and not any(text in name for name in names):
                guess = closest(text, words)
                meant = f"; did you mean '{guess}'?" if guess else ""
                self.warnings.append(f"the filter '{text}' of '{key}' is in no tensor's name{meant}")

    def warn_of_licences(self) -> None:
        stated = [card_facts(place).licence for place in self.opening.places]
        if conflict := licence_conflict([str(model) for model in self.models], stated):
            self.warnings.append(conflict)

    def warn_of_code(self, donor: ModelRef) -> None:
        """Code of a model is copied only if asked for: it runs where the output is loaded."""
        repository, place = self.opening.repositories[0], self.opening.places[0]
        files = repository.files if repository is not None else companion_names(place) if place is not None else []
        code = [name for name in files if name.endswith(".py") and "/" not in name]
        if code and not self.custom_code:
            message = f"{donor} brings code of its own ({', '.join(code)}), which is not copied"
            self.warnings.append(f"{message}; --custom-code copies it")

    def names_for_filters(self, out: Outline) -> tuple[str, ...]:
        """Return the names that a filter can be part of: the output tensor's, and those of what it is made of."""
        each = any(setting.per_model for setting in self.method.settings.values())
        return (out.name, *(name for name in out.names if name)) if each else (out.name,)

    def output_dtype(self, dtypes: list[str]) -> str:
        named = self.recipe.out_dtype or self.recipe.dtype
        return NAMES[named] if named else promoted(dtypes)

    def config_changes(
        self, donor: ModelRef, steps: list[MergeStep], outlines: list[Outline], head_changes: Mapping[str, Any]
    ) -> dict[str, Any]:
        config = self.sources[donor].config
        if not config:
            self.warnings.append(f"{donor} has no config.json; the output will have none")
            return {}
        written = Counter(step.dtype for step in steps if step.action == "merge")
        changes: dict[str, Any] = {}
        if written:
            word = WORDS[written.most_common(1)[0][0]]
            changes = {key: word for key in ("dtype", "torch_dtype") if key in config} or {"dtype": word}
        if self.recipe.sliced:
            changes |= self.recut(config, donor, outlines)
        return with_changes(with_changes(changes, head_changes, config), self.vocabulary.config_changes, config)

    def recut(self, config: dict[str, Any], donor: ModelRef, outlines: list[Outline]) -> dict[str, Any]:
        """Cut what the config says of each layer to the layers of the output, each from the model it comes from."""
        depth = stacks(self.sources[donor].tensors)[0].depth
        cut = {_position(out): (out.part.sources[0].model, out.source_layer) for out in outlines}
        layers = [(model, layer) for model, layer in cut.values() if layer is not None]
        changes: dict[str, Any] = {key: len(layers) for key in DEPTH_KEYS if config.get(key) == depth}
        if not changes:
            self.warnings.append(f"config.json has no layer count of {depth} to change; check it")
        for key, value in config.items():
            if isinstance(value, list) and len(value) == depth and key not in NOT_BY_LAYER:
                lists = [(self.sources[model].config.get(key) or (), layer) for model, layer in layers]
                if all(layer < len(listed) for listed, layer in lists):
                    changes[key] = [listed[layer] for listed, layer in lists]
                else:
                    self.warnings.append(f"config.json says '{key}' of each layer, but not in all models; check it")
        return changes

    def forecast(self, steps: list[MergeStep]) -> Forecast:
        read, most = 0, 1
        for step in steps:
            size = sum(self.sources[self.models[i.model]].tensors[i.tensor].nbytes for i in step.all_inputs)
            passes = 1 + self.surveying(step)
            read, most = read + size * passes, max(most, passes)
        written = sum(step.elements * NUMPY[step.dtype].itemsize for step in steps)
        return Forecast(read, written, most, least_memory(steps), self.opening.bytes_downloaded)

    def surveying(self, step: MergeStep) -> int:
        if step.action == "copy":
            return 0
        whole = self.method.surveying(self.recipe.semantics, step.settings, whole_model=True)
        own = 0 if keeps(step, DEFAULT_MEMORY // 2) else step.surveying  # what is kept is read once
        again = own + 1 if measures_changes(self.recipe.post) else 0
        return whole + own + again + self.measures_weights


def unaligned(source: TensorSource) -> TensorSource:
    """Return a model as it is stored, whatever rows it is read with."""
    return source.source if isinstance(source, AlignedCheckpoint) else source


def with_changes(first: Mapping[str, Any], second: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Put changes of a config together; of a part that both change, each keeps what it changes."""
    result = dict(first)
    for key, value in second.items():
        before, own = result.get(key), config.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping) and isinstance(own, Mapping):
            value = {**before, **{k: v for k, v in value.items() if k not in own or own[k] != v}}
        result[key] = value
    return result


def _position(out: Outline) -> int | None:
    layer = layer_of(out.name) if out.source_layer is not None else None
    return layer.index if layer else None


def as_arrays(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's settings as a rule takes them: one number a model as an array."""
    return {name: np.asarray(value) if isinstance(value, tuple) else value for name, value in settings.items()}
