"""Classifier two-sample test: can a classifier tell two sets of points apart?"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from geoflow import validate


class C2ST(NamedTuple):
    """Result of `c2st`.

    Attributes:
        accuracy: share of held-out points told right: 0.5 is chance (good), 1 is perfect separation.
        p_value: share of relabelled copies told apart at least as well; None without permutations.
        rows: points of each set that were used.
    """

    accuracy: float
    p_value: float | None
    rows: int


def c2st(
    a: Any,
    b: Any,
    *,
    folds: int = 5,
    permutations: int = 100,
    classifier: Literal["trees", "mlp"] | Any = "trees",
    rows: int = 5000,
    seed: int = 0,
) -> C2ST:
    """Accuracy, out of `folds` folds, of a classifier that tells rows of `a` from rows of `b`, with a p-value.

    Convention: equal numbers of both (the larger set is subsampled, so chance is 0.5), stratified folds, columns
    standardised together. The p-value refits the classifier on relabelled copies: the share (1 + #{as good}) / (1 +
    permutations). Relabelling under fixed predictions would reject true nulls half again too often, for folds share
    rows.
    Accuracies depend on the classifier: compare them between models, not between papers. [lopezpaz2017]

    Cost: folds · (permutations + 1) fits, with trees 25 ms each for 1,000 rows of 10 columns. Trees miss small smooth
    differences along oblique directions that "mlp" (two layers of 10 · dim, ten times the cost) finds.

    Args:
        a, b: tables ``(n, dim)`` and ``(m, dim)``, tensors or arrays, at least 2 · folds rows each.
        permutations: number of relabelled copies; 0 gives no p-value.
        classifier: "trees" (30 boosted trees of 8 leaves), "mlp", or an unfitted scikit-learn classifier.
        rows: at most so many of each set are used.
        seed: of subsample, folds, labels and classifier.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score, permutation_test_score
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    a, b = validate.table(a, "c2st", "a", 2 * folds).cpu(), validate.table(b, "c2st", "b", 2 * folds).cpu()
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"c2st expects tables of equally many columns, got {a.shape[1]} and {b.shape[1]}.")
    n = min(len(a), len(b), rows)
    generator = torch.Generator().manual_seed(seed)
    a, b = (t[torch.randperm(len(t), generator=generator)[:n]].double() for t in (a, b))
    both = torch.cat([a, b])
    x = ((both - both.mean(0)) / both.std(0).clamp_min(1e-300)).numpy()
    y = torch.arange(2).repeat_interleave(n).numpy()
    if classifier == "trees":
        classifier = HistGradientBoostingClassifier(
            max_iter=30, learning_rate=0.15, max_leaf_nodes=8, early_stopping=False, random_state=seed
        )
    elif classifier == "mlp":
        width = 10 * x.shape[1]
        classifier = MLPClassifier((width, width), max_iter=1000, early_stopping=True, random_state=seed)
    elif isinstance(classifier, str):
        raise ValueError(f"c2st expects classifier 'trees', 'mlp' or a scikit-learn classifier, got {classifier!r}.")
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with threadpool_limits(1):  # hundreds of tiny fits: threads would wait for each other
        if not permutations:
            return C2ST(float(cross_val_score(classifier, x, y, cv=cut).mean()), None, n)
        accuracy, _, p_value = permutation_test_score(
            classifier, x, y, cv=cut, n_permutations=permutations, random_state=seed
        )
    return C2ST(float(accuracy), float(p_value), n)


def together(x: Tensor, context: Tensor | None, classes: int) -> Tensor:
    """Points with their conditions as further columns (labels one-hot): what a test of a conditional model compares."""
    if context is None:
        return x
    if classes:
        return torch.cat([x, torch.nn.functional.one_hot(context, classes).to(x)], -1)
    return torch.cat([x, context.to(x)], -1)
