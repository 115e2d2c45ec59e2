"""An example for each function of `import cuvee`, in the order in which the page shows and the tests run them."""

RECIPE = """merge_method: ties
base_model: cuvee-demo/models/base
models:
  - model: cuvee-demo/models/sort
  - model: cuvee-demo/models/reverse
parameters: {weight: 1.0, density: 0.5}
dtype: bfloat16
"""

EXAMPLES = {
    "load_recipe": """
        import cuvee

        recipe = cuvee.load_recipe("recipe.yaml")
        print(recipe.merge_method, recipe.base_model, recipe.dtype)
    """,
    "load_stages": """
        stages = cuvee.load_stages("recipe.yaml")
        print(len(stages), stages[-1].merge_method)
    """,
    "load_sweep": """
        merges = cuvee.load_sweep("recipe.yaml")
        print(list(merges))  # a recipe without a sweep is one merge
    """,
    "recipe_from_text": '''
        TEMPLATE = """
        merge_method: task_arithmetic
        base_model: models/base
        models: [{{model: models/sort}}, {{model: models/reverse}}]
        parameters: {{weight: 1.0, lambda: {strength}}}
        """
        recipes = [cuvee.recipe_from_text(TEMPLATE.format(strength=s), folder="cuvee-demo") for s in (0.3, 0.6)]
    ''',
    "recipe_from_data": """
        data = {"merge_method": "linear", "models": [{"model": "models/sort"}, {"model": "models/reverse"}]}
        weighted = cuvee.recipe_from_data(data | {"parameters": {"weight": 0.5}}, folder="cuvee-demo")
        print(weighted.text)
    """,
    "make_plan": """
        plan = cuvee.make_plan(recipe)
        print(plan.digest, len(plan.steps), plan.forecast.least_memory_bytes)
    """,
    "merge": """
        result = cuvee.merge(recipe, "blend", threads=2)
        print(result.folder, result.digest, result.figures.seconds)
    """,
    "run_plan": """
        from pathlib import Path

        again = cuvee.run_plan(plan, Path("again"), memory_bytes=64_000_000)
        assert again.digest == result.digest  # less memory, the same bytes
    """,
    "merge_stages": """
        staged = cuvee.merge_stages(cuvee.load_stages("recipe.yaml"), "staged")
        assert staged.digest == result.digest  # a recipe of one stage is a merge
    """,
    "merge_together": """
        blends = cuvee.merge_together({"weak": recipes[0], "strong": recipes[1]}, "blends")
        for name, blend in blends.items():
            print(name, blend.digest)
    """,
    "merge_part": """
        for number in (1, 2):
            part = cuvee.merge_part(recipe, "joined", cuvee.Part(number, 2), shard_bytes=1_000_000)
            print(part.files, part.missing)
    """,
    "join": """
        joined = cuvee.join("joined")
        print(joined.folder, joined.digest)
    """,
    "merge_tensors": """
        import numpy as np

        base = np.zeros(3, np.float32)
        experts = [np.array([1, 2, 3], np.float32), np.array([1, -2, 5], np.float32)]
        merged = cuvee.merge_tensors("ties", experts, base=base, weight=[1.0, 0.5], lambda_=0.5)
    """,
    "merge_state_dicts": """
        base = {"embed.weight": np.zeros(3, np.float32), "layers.0.up.weight": np.zeros((2, 3), np.float32)}
        models = [{name: array + i for name, array in base.items()} for i in (1, 2)]
        merged = cuvee.merge_state_dicts("ties", models, base=base, density=0.5, weight=[1.0, 0.5])
        print(merged["layers.0.up.weight"])
    """,
    "rebuild": """
        TEXT = "{merge_method: emr, base_model: models/base, models: [{model: models/sort}, {model: models/shift}]}"
        unified = cuvee.merge(cuvee.recipe_from_text(TEXT, folder="cuvee-demo"), "unified")
        digest = cuvee.rebuild("unified", "1-sort.safetensors", "sort-again", base="cuvee-demo/models/base")
    """,
    "extract_adapter": """
        from cuvee.engine.extract import Extraction

        models = Path("cuvee-demo/models")
        for name in ("sort", "reverse"):
            lora = cuvee.extract_adapter(str(models / name), str(models / "base"), Path(name), Extraction())
            print(lora.folder, len(lora.modules), f"{lora.discarded:.1%} of the energy discarded")
    """,
    "combine_adapters": """
        from cuvee.engine.combine import How

        both = cuvee.combine_adapters(["sort", "reverse"], [0.5, 0.5], Path("both"), How())
        print(both.digest, [(module.module, module.rank) for module in both.modules][:2])
    """,
    "apply_adapter": """
        full = cuvee.apply_adapter("cuvee-demo/models/base", "both", Path("full"))
        print(full.folder, full.digest)
    """,
    "compare_adapters": """
        from cuvee.adapters import open_adapter

        adapters = cuvee.compare_adapters([open_adapter(Path("sort")), open_adapter(Path("reverse"))])
        print(adapters.pairs[0].cosine, adapters.pairs[0].outputs)
    """,
    "resize_vocabulary": """
        from cuvee.engine.resize import Resizing

        how = Resizing({"<think>": "mean", "</think>": "zero"}, multiple=64)
        resized = cuvee.resize_vocabulary("cuvee-demo/models/sort", Path("resized"), how)
        print(resized.folder, resized.digest)
    """,
    "compare": """
        changes = cuvee.compare(["cuvee-demo/models/base", "cuvee-demo/models/sort", "cuvee-demo/models/shift"])
        print(changes.total.models[0].norm, changes.total.pairs[0].cosine, [group.role for group in changes.roles])
    """,
    "evaluate": """
        report = cuvee.evaluate("blend", ["sort", "odd"], limit=50, out="scores")
        print(report.macro.value, report.macro.low, report.macro.high)
        for task in report.tasks:
            print(task.task, task.main.metric, task.main.value)
    """,
}
