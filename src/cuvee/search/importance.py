"""Which dimensions of an arm mattered: PED-ANOVA over the values of its candidates.

S. Watanabe, A. Bansal and F. Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
Subspaces", IJCAI 2023. A dimension is important if the best tenth of the candidates lies elsewhere in it than all do.
"""

from collections.abc import Sequence

from cuvee.search.race import Raced
from cuvee.search.samplers import distributions_of
from cuvee.search.space import Arm

FEWEST = 30
"""Candidates of an arm below which shares would be chance."""


def importance(arm: Arm, done: Sequence[Raced]) -> dict[str, float]:
    """Return each dimension's share of the importance, the largest first; nothing where there are few candidates."""
    of_arm = [raced for raced in done if raced.candidate.arm == arm.method]
    measured = [raced for raced in of_arm if raced.outcome.value is not None]
    if len(measured) < FEWEST or len(arm.dimensions) < 2:
        return {}
    import optuna

    study = optuna.create_study(direction="maximize")
    distributions = distributions_of(arm.dimensions)
    for raced in measured:
        values = dict(raced.candidate.values)
        trial = optuna.trial.create_trial(params=values, distributions=distributions, value=raced.outcome.value)
        study.add_trial(trial)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}
