"""`FlowDensity`: a flow as a scikit-learn estimator. The one module that loads scikit-learn when it is imported."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from geoflow import validate
from geoflow.density import Density, log_prob_in_blocks, reference
from geoflow.flows import maf, nsf, realnvp
from geoflow.train import fit

FEW = 500
"""Below so many rows a flow has fewer and narrower layers."""


class FlowDensity(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """A density fitted to the rows of a table by maximum likelihood.

    Columns are standardised inside, so that a pipeline needs no scaler; `score_samples` is log p in nats, in the units
    of X. The model, ready for everything else in this library, is ``model_``. Calculations are in the dtype of X.

    Args:
        flow: "nsf", "realnvp", "maf" or a geoflow density, which `fit` copies and leaves as it is. "auto" is "nsf" from
            500 rows and "realnvp" below. One column gets an autoregressive spline, whatever the name.
        depth, hidden: number of layers and widths of their networks, for flows by name. None is the flow's default, or
            4 and (32, 32) below 500 rows.
        options: further arguments of the flow's recipe, such as ``{"bins": 16}``.
        epochs, batch_size, lr, weight_decay, validation, patience: of `geoflow.fit`.
        random_state: decides the start, the held-out rows and their order.
        verbose: whether to show a bar.

    Attributes:
        model_: the trained density.
        history_: what training did (`geoflow.History`).
        n_iter_: steps taken.
        n_features_in_, feature_names_in_: columns seen in `fit`.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> density = FlowDensity(epochs=5, random_state=0).fit(X)
    >>> density.score_samples(X).shape, density.sample(3, random_state=0).shape
    ((200,), (3, 2))
    """

    def __init__(
        self,
        flow: Literal["auto", "nsf", "realnvp", "maf"] | Density = "auto",
        *,
        depth: int | None = None,
        hidden: Sequence[int] | None = None,
        options: dict[str, Any] | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        weight_decay: float = 1e-5,
        validation: float = 0.1,
        patience: int | None = 10,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.flow, self.depth, self.hidden, self.options = flow, depth, hidden, options
        self.epochs, self.batch_size, self.lr, self.weight_decay = epochs, batch_size, lr, weight_decay
        self.validation, self.patience = validation, patience
        self.random_state, self.verbose = random_state, verbose

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, context: Any = None) -> "FlowDensity":
        """Train on rows ``(n, columns)``.

        Args:
            y: ignored.
            sample_weight: ``(n,)``, see `geoflow.fit`.
            context: float ``(n, c)``: the density becomes that of a row given its context, scaled to about one.
        """
        names = [str(c) for c in X.columns] if hasattr(X, "columns") else None
        X = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        like = torch.from_numpy(np.array(X[:1]))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        given = None if context is None else self._context(context, len(X), like)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.model_ = self._untrained(len(X), X.shape[1], given).to(like.dtype)
        self.history_ = fit(
            self.model_,
            X if names is None else _frame(X, names),
            given,
            sample_weight=sample_weight,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
            validation=self.validation,
            patience=self.patience,
            seed=seed,
            progress=bool(self.verbose),
        )
        self.n_iter_ = int(self.history_.rows[-1]["step"])
        return self

    def score_samples(self, X: Any, context: Any = None) -> np.ndarray:
        """log p ``(n,)`` of rows, in nats."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        like = self._like()
        rows = validate.table(X, "FlowDensity.score_samples", "X", dtype=like.dtype, device=like.device)
        given = None if context is None else self._context(context, len(rows), like)
        x, given = self.model_._door(rows, given, "log_prob")
        return log_prob_in_blocks(self.model_, x, given).double().cpu().numpy()

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, context: Any = None) -> float:
        """Mean log p of the rows, in nats: what `GridSearchCV` makes as large as it can."""
        return float(np.average(self.score_samples(X, context), weights=sample_weight))

    def sample(self, n_samples: int = 1, random_state: Any = None, context: Any = None) -> np.ndarray:
        """Draws ``(n_samples, columns)``, for one context ``(1, c)`` or one each ``(n_samples, c)``."""
        check_is_fitted(self)
        like = self._like()
        generator = torch.Generator(like.device).manual_seed(int(check_random_state(random_state).randint(2**31 - 1)))
        n = validate.count(n_samples, "FlowDensity.sample", "n_samples", 1)
        if context is None:
            return self.model_.sample(n, generator=generator).cpu().numpy()
        given = self._context(context, n, like, repeat=True)
        return self.model_.sample((), given, generator=generator).cpu().numpy()

    def _like(self) -> Tensor:
        like = reference(self.model_)
        return torch.zeros(()) if like is None else like

    def _context(self, context: Any, n: int, like: Tensor, repeat: bool = False) -> Tensor:
        """A context a row, on the model's device: labels as they are, anything else as a float table."""
        labels = isinstance(self.flow, Density) and self.flow.classes
        given = torch.as_tensor(np.asarray(context)) if labels else validate.table(context, "FlowDensity", "context")
        if repeat and len(given) == 1:
            given = given.expand(n, *given.shape[1:])
        if len(given) != n:
            raise ValueError(f"FlowDensity expects one context per row, got {len(given)} for {n} rows.")
        return given.to(like.device) if labels else given.to(like)

    def _untrained(self, rows: int, columns: int, context: Tensor | None) -> Density:
        if isinstance(self.flow, Density):
            return copy.deepcopy(self.flow)
        recipes: dict[str, Any] = {"nsf": nsf, "realnvp": realnvp, "maf": maf}
        name = self.flow if self.flow != "auto" else "nsf" if rows >= FEW else "realnvp"
        if name not in recipes:
            raise ValueError(
                f"FlowDensity expects flow 'auto', {', '.join(map(repr, recipes))} or a density, got {name!r}."
            )
        options = {"depth": self.depth, "hidden": self.hidden, **(self.options or {})}
        if rows < FEW:
            options["depth"] = options["depth"] or 4
            options["hidden"] = options["hidden"] or (32, 32)
        options = {k: v for k, v in options.items() if v is not None}
        if context is not None:
            options["context"] = context.shape[-1]
        if columns == 1 and name != "maf":
            name, options = "maf", {"univariate": "spline", **options}
        return recipes[name](columns, **options)  # type: ignore[no-any-return]


def _frame(X: np.ndarray, names: list[str]) -> Any:
    """A table whose columns messages can name."""
    import pandas

    return pandas.DataFrame(X, columns=np.asarray(names))
