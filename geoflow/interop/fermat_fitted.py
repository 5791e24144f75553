"""What the Fermat estimators share: a density of the rows, and the space that it makes of them."""

import copy
from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from geoflow import validate
from geoflow.baselines import mixture_by_bic
from geoflow.density import Density, reference
from geoflow.distances import FermatSpace
from geoflow.distances.bulk.pairwise import LARGE
from geoflow.interop.sklearn import FlowDensity
from manifolds import Euclidean

FLOOR = 1e-3
"""Least variance of a mixture's component in standardised columns: few rows, or whole numbers, make spikes otherwise."""

WIDE = 32
"""Columns beyond which components have diagonal covariances."""

WHOLE, SOME = 2000, 500
"""Rows up to which every one is a landmark, and how many are beyond."""

Measure = Literal["graph", "relax"]


class FermatFitted(BaseEstimator, ABC):  # type: ignore[misc]
    """Rows as points of a Fermat space: distances are short where rows are likely.

    Distances are measured in standardised columns, each divided by its deviation in `fit`, so that units do not matter; log
    p refers to the table's own units, and distances are multiples of what they are in a place of mean log p.

    Subclasses have the arguments ``density``, ``components``, ``power``, ``intrinsic_dim``, ``neighbors``, ``method``,
    ``n_jobs`` and ``random_state``.
    """

    density: Any
    components: int
    power: float | None
    intrinsic_dim: Any
    neighbors: int
    method: Measure
    n_jobs: int | None
    random_state: Any

    @abstractmethod
    def fit(self, X: Any, y: Any = None) -> "FermatFitted":
        """Learn the density and the space from rows ``(n, columns)``."""

    def _fit_space(self, X: np.ndarray) -> None:
        """Set ``density_``, ``density_name_``, ``scale_`` and ``space_`` from checked rows."""
        who = type(self).__name__
        if self.method not in ("graph", "relax"):
            raise ValueError(f"{who} expects method 'graph' or 'relax', got {self.method!r}.")
        x = validate.table(X, who, "X", minimum=2)
        validate.training_rows(x, who)
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.density_, self.density_name_ = self._density(x)
        like = reference(self.density_)
        x = x if like is None else x.to(like)
        self.scale_ = x.std(0, correction=0).double().cpu().numpy()
        self.space_ = FermatSpace(
            self.density_,
            x,
            power=self.power,
            intrinsic_dim=self.intrinsic_dim,
            reference="mean",
            neighbors=min(self.neighbors, len(torch.unique(x, dim=0)) - 1),
            space=Euclidean(x.shape[1], scale=self.scale_.tolist()),
        )

    @property
    def _points(self) -> Tensor:
        """The fitted rows."""
        points = self.space_.points
        assert points is not None
        return points

    def _density(self, x: Tensor) -> tuple[Any, str]:
        """A density of the rows, and what it is in words."""
        if isinstance(self.density, str):
            if self.density == "mixture":
                kind: Literal["full", "diagonal"] = "full" if x.shape[1] <= WIDE else "diagonal"
                found = mixture_by_bic(x, kind, self.components, self._seed, FLOOR)
                found.requires_grad_(False)
                return found, f"mixture of {found.components} Gaussians with {kind} covariances, by BIC"
            if self.density == "flow":
                flow = FlowDensity(random_state=self._seed).fit(x.numpy())
                return flow.model_.requires_grad_(False), "flow, by maximum likelihood"
            raise ValueError(
                f"{type(self).__name__} expects density 'mixture', 'flow' or a fitted density, got {self.density!r}."
            )
        if isinstance(self.density, FlowDensity):
            check_is_fitted(self.density)
            return copy.deepcopy(self.density.model_), "flow, as given"
        if not callable(getattr(self.density, "log_prob", None)):
            raise TypeError(
                f"{type(self).__name__} expects density 'mixture', 'flow' or a fitted density with log_prob(x), got "
                f"{type(self.density).__name__}."
            )
        given = copy.deepcopy(self.density) if isinstance(self.density, Density) else self.density
        return given, f"{type(self.density).__name__}, as given"

    def _fit_landmarks(self, given: int | Literal["auto"] | None) -> np.ndarray:
        """Draw landmarks and set ``landmarks_``; their distances ``(m, m)``, symmetric to the bit, in float64."""
        who, n = type(self).__name__, len(self._points)
        few = given is None or (given == "auto" and n <= WHOLE)
        count = n if few else SOME if given == "auto" else validate.count(given, who, "landmarks", 2)
        if count**2 > LARGE:
            raise ValueError(
                f"{who}: {count:,} landmarks make a table of {count:,}²: pass fewer, such as landmarks=500."
            )
        self._ways = self.space_.landmarks(count, seed=self._seed, n_jobs=self.n_jobs)
        self.landmarks_ = self._ways.index.cpu().numpy()
        marks = self._points[self._ways.index]
        if self.method == "relax":
            return self.space_.pairwise(marks, method="relax", n_jobs=self.n_jobs).double().cpu().numpy()
        between = self._to_landmarks(marks)
        return (between + between.T) / 2

    def _to_landmarks(self, x: Tensor) -> np.ndarray:
        """Distances ``(rows, landmarks)``, in float64."""
        if self.method == "graph":
            return self._ways.dist(x).double().cpu().numpy()
        marks = self._points[self._ways.index]
        return self.space_.pairwise(x, marks, "relax", n_jobs=self.n_jobs).double().cpu().numpy()

    def _asked(self, X: Any) -> Tensor:
        """Rows to predict, in the dtype and on the device of the space."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        points = self._points
        return validate.table(X, type(self).__name__, "X", dtype=points.dtype, device=points.device)
