"""Fréchet distance: how far apart two sets of rows are, seen as Gaussians."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geoflow import validate
from geoflow.density import reference

Mean = Float[Tensor, " columns"]
Matrix = Float[Tensor, "columns columns"]


def frechet(a: Any, b: Any) -> float:
    """Squared 2-Wasserstein distance of the Gaussians fitted to two tables: `gaussian_w2` of their moments.

    Convention: the square, not its root; float64; covariances over n − 1. Of image features this is the distance "FID"
    if the features are Inception's pool of 2,048 and "FD[map]" with any other map (see `frechet_report`); of the
    columns of a table it is the "FID-like" figure, in squared units of the columns: standardise mixed units first.
    It sees means and covariances only. For finite sets it is too large by about c / n, where two sets of n rows of the
    same Gaussian give c = 5/2 Σᵢ λᵢ + Σᵢⱼ λᵢ λⱼ / (λᵢ + λⱼ) (λ the variances along the axes): compare figures of equal
    n only, and beside the *floor*, the figure of real rows against others. [dowson1982, heusel2017]

    Cost: (n + m) d² and some d³: about 15 s on one core at d = 2,048.

    Args:
        a, b: tables ``(n, d)`` and ``(m, d)``, tensors or arrays, of more than 2 d rows each.

    Raises:
        ValueError: fewer rows (half of a covariance from d rows is noise), other widths, NaN.

    >>> x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    >>> round(frechet(x, 2 * x + 1), 3) == round(frechet(2 * x + 1, x), 3)
    True
    >>> frechet(x, x + 2) - 12 < 1e-5
    True
    """
    return gaussian_w2(*_fit(a, "a"), *_fit(b, "b"))


def gaussian_w2(mean_a: Any, covariance_a: Any, mean_b: Any, covariance_b: Any) -> float:
    """Squared 2-Wasserstein distance |m_a − m_b|² + tr C_a + tr C_b − 2 tr (C_a^½ C_b C_a^½)^½ of two Gaussians.

    The last trace is the sum of the singular values of R_aᵀ R_b, where C = R Rᵀ from the symmetric eigenvectors and
    clamped eigenvalues of each. No product of covariances is formed, nor a square root of rounding errors: singular
    covariances keep all digits, where roots of the eigenvalues of C_a C_b lose half of them. [dowson1982]

    Args:
        mean_a, mean_b: ``(d,)``.
        covariance_a, covariance_b: ``(d, d)``, may be singular.

    Raises:
        ValueError: a matrix is not symmetric, has a clearly negative eigenvalue, or sizes differ.

    >>> gaussian_w2([0.0], [[4.0]], [3.0], [[1.0]])  # (0 − 3)² + (2 − 1)²
    10.0
    """
    m_a, c_a = _moments(mean_a, covariance_a, "a")
    m_b, c_b = _moments(mean_b, covariance_b, "b")
    if len(m_a) != len(m_b):
        raise ValueError(f"Fréchet distances are between equally many columns, got {len(m_a)} and {len(m_b)}.")
    common = torch.linalg.svdvals(_root(c_a, "a").T @ _root(c_b, "b")).sum()
    squared = (m_a - m_b).square().sum() + c_a.trace() + c_b.trace() - 2 * common
    return max(0.0, float(squared))


@dataclass(frozen=True)
class FrechetReport:
    """Result of `frechet_report`.

    Attributes:
        name: of the feature map.
        distance: of the fakes to the real test rows, raw: comparable under the same map and equal `rows` only.
        floor: of as many real training rows to the test rows: what a perfect sampler would get.
        mean_image: of the mean training image, repeated, to the test rows: what a sampler without a clue gets; None if
            the report was given features without those of the mean image.
        rows: fakes, and training rows, that were used.
        test_rows: real rows they were compared with.
    """

    name: str
    distance: float
    floor: float
    mean_image: float | None
    rows: int
    test_rows: int

    @property
    def relative(self) -> float:
        """(distance − floor) / (mean_image − floor): 0 is perfect, 1 the mean image; free of the map's scale."""
        if self.mean_image is None:
            raise ValueError(
                "FrechetReport has no relative figure without the mean image's: pass its features to frechet_report as "
                "mean_image=."
            )
        return (self.distance - self.floor) / (self.mean_image - self.floor)

    def __str__(self) -> str:
        scale = "" if self.mean_image is None else f", mean image {self.mean_image:.4g}, relative {self.relative:.3g}"
        return (
            f"FD[{self.name}] {self.distance:.4g} (floor {self.floor:.4g}{scale}; N = {self.rows:,} against "
            f"{self.test_rows:,})"
        )


def frechet_report(
    features: Callable[[Tensor], Any] | None,
    real_train: Any,
    real_test: Any,
    fake: Any,
    *,
    mean_image: Any = None,
    name: str | None = None,
    block: int = 1000,
    seed: int = 0,
) -> FrechetReport:
    """FD[map] of fakes with its floor, the same figure for the mean image, and N.

    Convention: fakes, and equally many training rows for the floor, against all test rows, so that both are too large
    by the same amount.

    Args:
        features: rows ``(n, dim)`` → features ``(n, d)``: a `feature_classifier` trained on `real_train`, or any
            callable; a module runs in evaluation mode. Its ``name``, if it has one, is that of the figure. One that
            wants images, as Inception does, begins with ``rows.unflatten(1, (3, 32, 32))``. None: the sets are
            features already, those of Inception's pool for instance.
        real_train, real_test, fake: images as flat rows, or their features. Real ones must not be among both, or the
            floor is too low.
        mean_image: where the sets are features, those of the mean training image ``(d,)``: they are not the mean of
            features. Without them there is no relative figure.
        name: of the map; needed where the sets are features.
        block: rows that go through the map at once.
        seed: of the subset where `fake` and `real_train` differ in length.

    Raises:
        ValueError: too few rows (see `frechet`), features without a name, or a map that tells the mean image no better
            from the test rows than the training rows.

    >>> g = torch.Generator().manual_seed(0)
    >>> train, test, made = (torch.randn(2000, 3, generator=g) for _ in range(3))
    >>> print(frechet_report(None, train, test, 2 * made, mean_image=torch.zeros(3), name="pool3"))
    FD[pool3] ... (floor 0.00..., mean image ..., relative ...; N = 2,000 against 2,000)
    """
    who = "frechet_report"
    train, test, made = (
        validate.table(x, who, n) for x, n in ((real_train, "real_train"), (real_test, "real_test"), (fake, "fake"))
    )
    if not train.shape[1] == test.shape[1] == made.shape[1]:
        raise ValueError(
            f"{who} expects images of one size, got rows of {train.shape[1]} (real_train), {test.shape[1]} (real_test) "
            f"and {made.shape[1]} (fake) numbers."
        )
    anchor: Tensor | None = None
    if features is None:
        if name is None:
            raise ValueError(f"{who}: name the map that the features come from: pass name=, such as 'inception'.")
        if mean_image is not None:
            anchor = torch.as_tensor(mean_image).detach().reshape(1, -1)
            if anchor.shape[1] != test.shape[1]:
                raise ValueError(
                    f"{who} expects the features of the mean image, ({test.shape[1]},), got {anchor.shape[1]} numbers."
                )
    elif mean_image is not None:
        raise TypeError(f"{who}: mean_image= is for features given as tables; with a map the image is found here.")
    else:
        name = name or getattr(features, "name", None) or getattr(features, "__name__", None) or type(features).__name__
        anchor = train.mean(0, keepdim=True)
    rows, block = min(len(train), len(made)), validate.count(block, who, "block", 1)
    generator = torch.Generator().manual_seed(seed)
    some_train, some_made = (t[torch.randperm(len(t), generator=generator)[:rows]] for t in (train, made))
    real = _fit(in_blocks(features, test, block), "features(real_test)")
    floor = gaussian_w2(*_fit(in_blocks(features, some_train, block), "features(real_train)"), *real)
    distance = gaussian_w2(*_fit(in_blocks(features, some_made, block), "features(fake)"), *real)
    if anchor is None:
        return FrechetReport(str(name), distance, floor, None, rows, len(test))
    blank = gaussian_w2(in_blocks(features, anchor, block)[0], torch.zeros_like(real[1]), *real)
    if blank <= floor:
        raise ValueError(
            f"{who}: under the map {str(name)!r} the mean image is no farther from real_test ({blank:.3g}) than "
            f"real_train is ({floor:.3g}): the map sees too little; train it longer, or take another."
        )
    return FrechetReport(str(name), distance, floor, blank, rows, len(test))


@torch.no_grad()
def in_blocks(features: Callable[[Tensor], Any] | None, x: Tensor, block: int) -> Tensor:
    """Features of all rows, `block` at a time, in float64 on the CPU; a module keeps its modes, dtype and device."""
    if features is None:
        return validate.table(x, "frechet_report", "features", dtype=torch.float64, device="cpu")
    modes = [(m, m.training) for m in features.modules()] if isinstance(features, nn.Module) else []
    like = reference(features) if isinstance(features, nn.Module) else None
    try:
        for module, _ in modes:
            module.training = False
        found = [
            validate.table(features(rows if like is None else rows.to(like)), "frechet_report", "features(x)").cpu()
            for rows in x.split(block)
        ]
    finally:
        for module, mode in modes:
            module.training = mode
    return torch.cat(found).double()


def _fit(x: Any, name: str) -> tuple[Mean, Matrix]:
    """Mean and covariance of rows, or why there are too few."""
    x = validate.table(x, "frechet", name, 2, dtype=torch.float64, device="cpu")
    n, d = x.shape
    if n <= 2 * d:
        raise ValueError(
            f"frechet expects more than 2 × {d} = {2 * d} rows for {d} columns, got {n} in {name}: the covariance would "
            "be mostly noise; give more rows, or features of fewer columns."
        )
    mean = x.mean(0)
    x = x - mean
    return mean, x.T @ x / (n - 1)


def _moments(mean: Any, covariance: Any, name: str) -> tuple[Mean, Matrix]:
    c = validate.table(covariance, "gaussian_w2", f"covariance_{name}", dtype=torch.float64, device="cpu")
    m = torch.as_tensor(mean).detach().to("cpu", torch.float64)
    validate.finite(m, "gaussian_w2", f"mean_{name}")
    if c.shape != (m.numel(), m.numel()) or m.ndim != 1:
        raise ValueError(
            f"gaussian_w2 expects mean_{name} (d,) and covariance_{name} (d, d), got {tuple(m.shape)} and "
            f"{tuple(c.shape)}."
        )
    if float((c - c.T).abs().max()) > 1e-5 * float(c.abs().max()):
        raise ValueError(f"gaussian_w2: covariance_{name} is not symmetric.")
    return m, c


def _root(covariance: Matrix, name: str) -> Matrix:
    """R with R Rᵀ = C."""
    values, vectors = torch.linalg.eigh(covariance)
    if float(values[0]) < -1e-5 * float(values.abs().max()):
        raise ValueError(f"gaussian_w2: covariance_{name} has a negative eigenvalue, {float(values[0]):.3g}.")
    return vectors * values.clamp_min(0).sqrt()
