"""`FreeFormFlow`: any auto-encoder carries a density, trained by an estimate of its change of volume."""

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geoflow import validate
from geoflow.carried import blocks
from geoflow.density import Context, Density, given, weighted_mean
from geoflow.freeform import exact
from geoflow.freeform.chords import chord
from geoflow.freeform.drawn import DrawnBeta
from geoflow.freeform.figures import densities, rows_for, verdict
from geoflow.freeform.probes import Kind, probes_for
from geoflow.freeform.projected import Projected
from geoflow.freeform.steered import SteeredBeta
from geoflow.freeform.surrogate import KINDS, volume_change
from geoflow.freeform.surrogate import Kind as Surrogate
from geoflow.maps import Autoencoder
from geoflow.registry import arguments, register
from manifolds import Euclidean
from manifolds.shapes import Points, Values

LINEAR = (nn.ReLU, nn.LeakyReLU, nn.ReLU6, nn.Hardtanh, nn.PReLU, nn.RReLU, nn.Threshold)
Map = Callable[[Tensor], Tensor]


@register
class FreeFormFlow(Projected):
    """log p(x) = log p_base(f(x)) + log|det ∂f/∂x|, f = encode any network, and decode another that learns to undo it.

    Trained on β |x − g(f(x))|² − log p_base(f(x)) − S, where S has (an estimate of) the gradient of log|det ∂f/∂x|: see
    `surrogate.volume_change`. The density's space is the base's, and both maps are projected onto it: with a base on
    `Sphere(2)` this is a flow on the sphere. With fewer latent than data coordinates it is a maximum likelihood
    auto-encoder: the density of what it decodes to, on a surface in data space. [draxler2024, sorrenson2024,
    sorrenson2024m]

    `log_prob` is the encoder's density, exact, from `dim` derivatives of the encoder; `log_prob_decoder` the decoder's,
    at g(f(x)). Draws take one evaluation of the decoder. Both densities agree where g undoes f; `evaluate` shows how
    far they do, and `fit` and `check` say when they do not.

    Cost of a training step: about twice an auto-encoder's.

    Args:
        autoencoder: data → latent; on curved spaces between coordinates of their points.
        base: the latent density.
        beta: weight of the reconstruction, per squared unit of `autoencoder.residual`: standardised ones behind a
            `Standardize`. Too small, and the estimate fails (the density is then invalid, and said to be); too large,
            and it learns slowly. About 10 for tables, 100 to 10,000 on curved spaces in few dimensions. "auto" looks for
            the smallest with which decode undoes encode: it falls while vᵀJ_f J_g v / |v|² is within a tenth of one and
            reconstructed codes within 0.05 of codes (root mean squares), and rises else; with a bottleneck, which has a
            reconstruction error of its own, that is found first, alone, and kept to within a quarter. Two bounds: it is
            drawn between them for each row, log-uniformly, and is the last column of the networks' context, so that one
            training serves all: see `at_beta`.
        beta_at: of two bounds, the value outside of training; None is the upper one.
        surrogate: "encoder"; "conditional", which switches between the encoder's and the decoder's for each probe and
            bears a smaller β; or "decoder".
        probes: random vectors a row; "exact" is all directions, "auto" that up to three dimensions and one beyond.
        probe_kind: "orthonormal", "gaussian" or "rademacher".
        noise: standard deviation of normal noise on the data in training, in the units of `residual` (in the data's on
            curved spaces, where it is tangent): a bottleneck needs some.
        warm_up: share of the steps over which the weight of the likelihood rises from zero.
        z_sample_reconstruction: weight of |f(g(z)) − z|², z drawn from the base.
        x_sample_reconstruction: weight of |g(f(x)) − x|², x decoded from such draws.
        z_reconstruction: weight of |f(g(f(x))) − f(x)|².
        z_projection, x_projection: weight of the squared distance of unprojected codes and reconstructions from their
            spaces.

    >>> from geoflow import Pair, StandardNormal
    >>> from geoflow.nets import MLP
    >>> nets = Pair(MLP(2, 2, activation="silu"), MLP(2, 2, activation="silu"), dim=2, latent_dim=2)
    >>> flow = FreeFormFlow(nets, StandardNormal(2))
    >>> flow.log_prob(flow.sample(5)).shape
    torch.Size([5])
    """

    steered: SteeredBeta | None

    def __init__(
        self,
        autoencoder: Autoencoder,
        base: Density,
        *,
        beta: float | Literal["auto"] | Sequence[float] = 10.0,
        beta_at: float | None = None,
        surrogate: Surrogate = "encoder",
        probes: int | Literal["auto", "exact"] = "auto",
        probe_kind: Kind = "orthonormal",
        noise: float = 0.0,
        warm_up: float = 0.0,
        z_sample_reconstruction: float = 0.0,
        x_sample_reconstruction: float = 0.0,
        z_reconstruction: float = 0.0,
        z_projection: float = 0.0,
        x_projection: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(autoencoder, Autoencoder):
            raise TypeError(
                f"FreeFormFlow expects an Autoencoder, got {type(autoencoder).__name__}: Pair(encoder, decoder, dim=, "
                "latent_dim=) makes one of two networks."
            )
        if not isinstance(base, Density):
            raise TypeError(f"FreeFormFlow expects a Density as base, got {type(base).__name__}.")
        if autoencoder.latent_dim != base.dim:
            raise ValueError(
                f"FreeFormFlow: the auto-encoder encodes to {autoencoder.latent_dim} coordinates, the base has "
                f"{base.dim}."
            )
        if autoencoder.latent_dim > autoencoder.dim:
            raise ValueError(
                f"FreeFormFlow: {autoencoder.latent_dim} latent coordinates for data of {autoencoder.dim}: codes would "
                "fill no volume there. Take as many or fewer."
            )
        if surrogate not in KINDS:
            raise ValueError(f"FreeFormFlow expects a surrogate of {', '.join(KINDS)}; got {surrogate!r}.")
        self.autoencoder, self.base = autoencoder, base
        self.space = base.space if base.dim == autoencoder.dim else Euclidean(autoencoder.dim)
        self.drawn = None
        if isinstance(beta, Sequence) and not isinstance(beta, str):
            self.drawn = DrawnBeta(beta, beta_at)
        elif beta_at is not None:
            raise ValueError(f"FreeFormFlow: beta_at={beta_at} is for two bounds, as beta=(1.0, 100.0).")
        self.beta_at = None if self.drawn is None else self.drawn.value
        told: Any = autoencoder
        if self.drawn is not None:
            if not autoencoder.context_dim:
                raise ValueError(
                    "FreeFormFlow with two bounds of beta expects networks with one column of context more than it has "
                    "itself, in which they are told beta; these have none."
                )
            told = SimpleNamespace(context_dim=autoencoder.context_dim - 1, classes=0)
        self.context_dim, self.classes = validate.common_context((told, base), "FreeFormFlow")
        self.surrogate, self.probes, self.probe_kind = surrogate, probes, probe_kind
        self._probes = probes_for(base.space, probes, probe_kind)
        self.beta = beta if beta == "auto" or self.drawn is not None else _weight(beta, "beta")
        self.steered = SteeredBeta(self.bottleneck) if beta == "auto" else None
        self.noise, self.warm_up = _weight(noise, "noise"), _weight(warm_up, "warm_up")
        self.z_sample_reconstruction = _weight(z_sample_reconstruction, "z_sample_reconstruction")
        self.x_sample_reconstruction = _weight(x_sample_reconstruction, "x_sample_reconstruction")
        self.z_reconstruction = _weight(z_reconstruction, "z_reconstruction")
        self.z_projection = _weight(z_projection, "z_projection")
        self.x_projection = _weight(x_projection, "x_projection")
        self._heat = 1.0
        straight = sorted({type(m).__name__ for m in autoencoder.modules() if isinstance(m, LINEAR)})
        if straight:
            warnings.warn(
                f"FreeFormFlow: {', '.join(straight)} bends nowhere, so that the change of volume has hardly a "
                "gradient: take a smooth activation, as SiLU.",
                stacklevel=2,
            )

    def with_base(self, base: Density) -> "FreeFormFlow":
        """The same auto-encoder (shared, not copied) with another base, as one fitted to its codes afterwards."""
        return type(self)(**{**arguments(self), "base": base})

    def at_beta(self, beta: float) -> "FreeFormFlow":
        """The same networks (shared, not copied), trained for an interval of weights, at one of them."""
        if self.drawn is None:
            raise ValueError("FreeFormFlow.at_beta is for flows trained with two bounds, as beta=(1.0, 100.0).")
        return type(self)(**{**arguments(self), "beta_at": beta})

    # -- densities ------------------------------------------------------------------------------------------------

    def _log_prob(self, x: Points, context: Context = None) -> Values:
        if self.bottleneck:
            raise NotImplementedError(
                f"FreeFormFlow with {self.autoencoder.latent_dim} latent coordinates has no density in "
                f"{self.autoencoder.dim} dimensions: log_prob_on_manifold(x) is that of decode(encode(x)) on the surface "
                "of what it decodes to; distances there are LatentSpace's."
            )
        forward = self._has_forward(x, context)[1]
        z, log_det = exact.log_det(self._to_latent(context), x, self.space, self.base.space, forward)
        return self.base._log_prob(z, given(self.base, context)) + log_det

    def log_prob_decoder(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """log p_base(z) − log|det ∂g/∂z| at z = f(x), ``(*batch)``: the density of samples, at g(f(x)).

        Cost: `dim` derivatives of the decoder.
        """
        if self.bottleneck:
            return self.log_prob_on_manifold(x, context)
        x, context = self._door(x, context, "log_prob_decoder")
        forward, z = self._has_forward(x, context)[1], self._to_latent(context)(x)
        _, log_det = exact.log_det(self._to_data(context), z, self.base.space, self.space, forward)
        return self.base._log_prob(z, given(self.base, context)) - log_det

    def log_prob_on_manifold(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """log p_base(z) − ½ log det J_gᵀJ_g at z = f(x), ``(*batch)``: the density at decode(encode(x)).

        With respect to the volume of the surface that the decoder draws, which has as many dimensions as the latent
        space: not comparable with densities in all of data space, nor between surfaces.
        """
        x, context = self._door(x, context, "log_prob_on_manifold")
        forward, z = self._has_forward(x, context)[1], self._to_latent(context)(x)
        _, log_gram = exact.log_gram(self._to_data(context), z, self.base.space, forward)
        return self.base._log_prob(z, given(self.base, context)) - log_gram

    # -- training -------------------------------------------------------------------------------------------------

    def schedule(self, step: int, steps: int) -> None:
        self.base.schedule(step, steps)
        ramp = step / (self.warm_up * steps) if self.warm_up else 1.0
        self._heat = 1.0 if ramp >= 1 else 0.5 - 0.5 * math.cos(math.pi * ramp)
        if self.steered is not None:
            self.steered.schedule(step, steps)
            self._heat = 0.0 if self.steered.alone else self._heat

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch 2.13 cannot trace derivatives inside of derivatives
    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        """β · reconstruction, the base's loss on the codes, and a term of value zero with the surrogate's gradient.

        The sum has no meaning beyond its gradient: it lacks the change of volume's value, which training never knows.
        """
        x = self._noisy(x.detach())
        forward = self._has_forward(x, context)[0]
        with nullcontext(self._beta) if self.drawn is None else self.drawn.rows(x) as beta:
            return self._terms(x, context, weight, player, beta, forward)

    def _terms(
        self, x: Tensor, context: Context, weight: Tensor | None, player: str | None, beta: Any, forward: bool
    ) -> dict[str, Tensor]:
        """The loss and what it is made of, for one β or one a row."""
        encode, decode = self._to_latent(context), self._to_data(context)
        spaces = (self.space, self.base.space)
        found = volume_change(encode, decode, x, spaces, self._probes, self.surrogate, forward)
        z, back, change = found.z, found.back, found.change
        terms = self.base.loss(z, given(self.base, context), weight=weight, player=player)
        metric = self.base.space._log_volume(z)
        if self.surrogate == "decoder":  # which learns the volume at what it decodes to; the encoder's is given data
            metric = metric - self.space._log_volume(back)
        off = self._squared(x, back)
        total = self._heat * (terms["loss"] - weighted_mean(change + metric, weight))
        terms = {**terms, "reconstruction": weighted_mean(off, weight), "latent loss": terms["loss"].detach()}
        terms["inverse defect"] = weighted_mean(found.defect, weight)
        if self.training and self.steered is not None:
            apart = found.stretch * chord(self.space, x, back.detach()).square().sum(-1)
            self.steered.see(terms["reconstruction"].detach(), terms["inverse defect"], apart.mean())
        total = total + weighted_mean(beta * off, weight)
        for name, rows in self._cycles(x, z, back, context).items():
            terms[name] = weighted_mean(rows, weight)
            total = total + getattr(self, name) * terms[name]
        return {**terms, "loss": total}

    @property
    def _beta(self) -> float:
        """β, where it is steered its present value, and where it is drawn that of evaluation."""
        way = self.steered or self.drawn
        return self.beta if way is None else way.value  # type: ignore[return-value]

    def _noisy(self, x: Tensor) -> Tensor:
        if not self.noise:
            return x
        noise = self.noise * torch.randn_like(x)
        if isinstance(self.space, Euclidean):
            return x + noise / self.autoencoder.residual(x, x + 1).detach()
        return self.space._project(x + self.space._to_tangent(x, noise))

    def _squared(self, x: Tensor, back: Tensor) -> Tensor:
        """|x − back|² in the units of reconstruction."""
        return self.autoencoder.residual(x, x + chord(self.space, x, back)).square().sum(-1)

    def _cycles(self, x: Tensor, z: Tensor, back: Tensor, context: Context) -> dict[str, Tensor]:
        """The auxiliary terms asked for, each a number a row."""
        terms: dict[str, Tensor] = {}
        encode, decode, latent = self._to_latent(context), self._to_data(context), self.base.space
        if self.z_sample_reconstruction or self.x_sample_reconstruction:
            shape = tuple(x.shape[:-1]) if self.base.context_dim or self.base.classes else ()
            drawn = self.base._sample(() if shape else tuple(x.shape[:-1]), given(self.base, context), None).detach()
            made = decode(drawn)
            again = encode(made)
            terms["z_sample_reconstruction"] = chord(latent, drawn, again).square().sum(-1)
            if self.x_sample_reconstruction:
                made = made.detach()
                terms["x_sample_reconstruction"] = self._squared(made, decode(encode(made)))
        if self.z_reconstruction:
            terms["z_reconstruction"] = chord(latent, z, encode(back)).square().sum(-1)
        if self.z_projection:
            raw = self.autoencoder._encode(x, self._own(x, context))
            terms["z_projection"] = chord(latent, latent._project(raw), raw).square().sum(-1)
        if self.x_projection:
            raw = self.autoencoder._decode(z, self._own(z, context))
            terms["x_projection"] = chord(self.space, self.space._project(raw), raw).square().sum(-1)
        return {name: rows for name, rows in terms.items() if getattr(self, name)}

    # -- honesty --------------------------------------------------------------------------------------------------

    def evaluate(self, x: Tensor, context: Tensor | None = None, weight: Tensor | None = None) -> dict[str, float]:
        """Exact figures: "loss" (the encoder's NLL + β · reconstruction), both NLLs, reconstruction, inverse defect.

        NLLs and the defect, the median of |J_f J_g − 1| (largest singular value), are of the first few hundred rows, as
        many as cost about as much as 20,000 evaluations of the networks; reconstruction is of all. A bottleneck has the
        NLL of the decoder's surface alone. That does not compare surfaces, and is small where an untrained decoder draws
        a tiny one: there the loss, by which `fit` keeps weights, is the reconstruction.
        """
        n = rows_for(len(x), self.base.space.dim)
        few, some, share = x[:n], None if context is None else context[:n], None if weight is None else weight[:n]
        forward, spaces = self._has_forward(few, some)[1], (self.space, self.base.space)
        encode, decode = self._to_latent(some), self._to_data(some)
        found = densities(
            encode, decode, lambda z: self.base._log_prob(z, given(self.base, some)), few, spaces, forward, share
        )
        with torch.no_grad():
            off = torch.cat([self._squared(b, self._to_data(c)(self._to_latent(c)(b))) for b, c in blocks(x, context)])
        error = float(weighted_mean(off, weight))
        loss = error if self.bottleneck else found["nll encoder"] + self._beta * error
        return {"loss": loss, "reconstruction": error, **found}

    def verdict(self, figures: dict[str, float]) -> str | None:
        """Why the figures of `evaluate` must not be believed, or None."""
        return verdict(figures)


def _weight(value: Any, name: str) -> float:
    """A finite number that is not negative."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"FreeFormFlow expects a finite `{name}` of at least zero, got {value!r}.")
    return number
