"""`FlowMatching`: a velocity field, regressed on geodesics from base to data, carries the base along its flow."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from geoflow import validate
from geoflow.carried import Carried
from geoflow.density import Context, Density, Player, given, log_prob_in_blocks, weighted_mean
from geoflow.freeform.bases import default_base
from geoflow.freeform.ode import Rates, dormand_prince, runge_kutta
from geoflow.freeform.probes import frame
from geoflow.freeform.velocity import VelocityNet
from geoflow.registry import arguments, register
from manifolds import Manifold, Product, Simplex
from manifolds.checks import tracing
from manifolds.shapes import Points, Values

HELD = 256
"""Rows of which `evaluate` integrates the density."""


@register
class FlowMatching(Carried):
    """x₁ = where dx/dt = u(x, t) carries x₀ ~ base: log p(x₁) = log p_base(x₀) − ∫₀¹ div u(x_t, t) dt.

    The field is regressed on the velocities of geodesics x_t = exp_{x₀}(t log_{x₀} x₁) from draws x₀ of the base to data
    x₁, at uniform times: E |u(x_t, t) − ẋ_t|² in the space's metric. Nothing is integrated in training.
    [lipman2023, chen2024]

    Every draw solves the equation once, some tens to hundreds of evaluations of the velocity one after the other
    (`evaluations` has the last solve's), where a free-form flow takes one. A log density costs `dim` backward
    derivatives a time more: div u is exact, the trace of the field's Jacobian over an orthonormal basis of the tangent
    space in the embedding. Where the metric is not the embedding's, log_volume at both ends makes up for the rest: its
    change along the path is the integral of the remaining term of the divergence, u(log_volume).

    The base is prepared with the data, and from there on stays as it is. Columns of different units belong behind a
    `Standardize`: ``Flow(Standardize(d), FlowMatching(Euclidean(d)))``.

    Args:
        space: where the points live, with `exp` and `log` and without an edge.
        velocity: a module called with points ``(*batch, ambient_dim)``, times ``(*batch,)`` in [0, 1] and, if `context`
            is not 0, rows ``(*batch, context)``; gives vectors ``(*batch, ambient_dim)``, of which the tangential part
            is taken. It must be smooth on the space, across the seam of angles too. None is a `VelocityNet`.
        base: a density on the space. None is uniform where the volume is finite, else normal around the origin.
        hidden, activation: of the default velocity.
        context: columns of the velocity's condition, 0 for none.
        method: "dopri5", of fifth order with steps that adapt until the root mean square error over all rows and
            coordinates is within `atol` + `rtol` · size, by torchdiffeq (the extra `ode`); or "rk4", of fourth order with
            `steps` equal ones, which can be compiled, vmapped and differentiated again and again.
        steps: of "rk4".
        atol, rtol: of "dopri5".

    Raises:
        ImportError: "dopri5" is used without torchdiffeq.
        ValueError: among others, the adaptive steps shrink to nothing: the field is stiff or not finite.

    >>> from manifolds import Sphere
    >>> flow = FlowMatching(Sphere(2), hidden=(32, 32), method="rk4", steps=8)
    >>> flow.log_prob(flow.sample(5)).shape, flow.evaluations
    (torch.Size([5]), 32)
    """

    def __init__(
        self,
        space: Manifold,
        velocity: nn.Module | None = None,
        base: Density | None = None,
        *,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        context: int = 0,
        method: Literal["dopri5", "rk4"] = "dopri5",
        steps: int = 50,
        atol: float = 1e-5,
        rtol: float = 1e-5,
    ) -> None:
        super().__init__()
        _refuse(space)
        if velocity is not None and not isinstance(velocity, nn.Module):
            raise TypeError(f"FlowMatching expects a module as velocity, got {type(velocity).__name__}.")
        if base is None:
            base = default_base(space, "FlowMatching")
        if not isinstance(base, Density):
            raise TypeError(f"FlowMatching expects a Density as base, got {type(base).__name__}.")
        if base.space != space:
            raise ValueError(
                f"FlowMatching on {space!r} expects a base there, got one on {base.space!r}: geodesics lead from draws of "
                "the base to data."
            )
        if method not in ("dopri5", "rk4"):
            raise ValueError(f"FlowMatching expects method='dopri5' or 'rk4', got {method!r}.")
        for name, value in (("atol", atol), ("rtol", rtol)):
            if not 0 < value < 1:
                raise ValueError(f"FlowMatching expects {name} between 0 and 1, got {value}.")
        self.space, self.base, self.method = space, base, method
        self.context = validate.count(context, "FlowMatching", "context")
        self.hidden, self.activation = tuple(hidden), activation
        self.velocity = VelocityNet(space, hidden, activation, context) if velocity is None else velocity
        self.steps = validate.count(steps, "FlowMatching", "steps", 1)
        self.atol, self.rtol = float(atol), float(rtol)
        own = SimpleNamespace(context_dim=self.context, classes=0)
        self.context_dim, self.classes = validate.common_context((own, base), "FlowMatching")
        self.evaluations = 0

    def with_base(self, base: Density) -> "FlowMatching":
        """The same velocity (shared, not copied) with another base."""
        return type(self)(**{**arguments(self), "base": base})

    # -- the field and its flow -----------------------------------------------------------------------------------

    def _field(self, x: Points, t: Tensor | float, context: Context) -> Tensor:
        """u at points of the space."""
        time = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(x.shape[:-1])
        v = self.velocity(x, time, context) if self.context else self.velocity(x, time)
        return self.space._to_tangent(x, v)

    def _divergence(
        self, x: Points, t: Tensor | float, context: Context, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """u, and its divergence in the volume of the embedding ``(*batch)``: exact, or by noise ``(k, *batch, ambient_dim)``."""
        u, pull_back = torch.func.vjp(lambda y: self._field(y, t, context), x)  # type: ignore[misc]
        basis = frame(self.space, x)
        if noise is not None:
            along = noise if basis is None else ((noise[..., None, :] @ basis) @ basis.mT)[..., 0, :]
            rows = torch.vmap(pull_back)(along)[0]
            return u, (rows * along).sum(-1).mean(0)
        if basis is None:
            basis = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        basis = basis.expand(*x.shape, self.space.dim)
        rows = torch.vmap(pull_back, in_dims=-1, out_dims=-1)(basis)[0]
        return u, (rows * basis).sum((-2, -1))

    def _carry(self, z: Tensor, context: Context) -> Tensor:
        """From time zero to one."""
        end = self._solve(lambda t, y: self._field(self.space._project(y), t, context), z, (0.0, 1.0))
        return self.space._project(end)

    def _solve(self, rates: Rates, y: Tensor, times: tuple[float, float]) -> Tensor:
        """y at the second of the times."""
        count = 0

        def counted(t: Tensor | float, y: Tensor) -> Tensor:
            nonlocal count
            count += 1
            return rates(t, y)

        if self.method == "rk4":
            y = runge_kutta(counted, y, times, self.steps)
        elif y.numel():
            y = dormand_prince(counted, y, times, self.atol, self.rtol)
        self.evaluations = count
        return y

    # -- the density ----------------------------------------------------------------------------------------------

    def _log_prob(self, x: Points, context: Context = None, noise: Tensor | None = None) -> Values:
        """From data back to the base, with the change of log p in the embedding's volume as one more coordinate."""

        def rates(t: Tensor | float, y: Tensor) -> Tensor:
            u, divergence = self._divergence(self.space._project(y[..., :-1]), t, context, noise)
            return torch.cat([u, divergence[..., None]], -1)

        y = self._solve(rates, torch.cat([x, torch.zeros_like(x[..., :1])], -1), (1.0, 0.0))
        start = self.space._project(y[..., :-1])
        log_base = self.base._log_prob(start, given(self.base, context))
        return log_base + y[..., -1] + self.space._log_volume(start) - self.space._log_volume(x)

    def _log_prob_and_score(self, x: Points, context: Context = None) -> tuple[Tensor, Tensor]:
        if self.method == "rk4" or tracing(x):
            return super()._log_prob_and_score(x, context)
        again = torch.is_grad_enabled()  # torchdiffeq's steps are known to autograd alone, not to torch.func
        with torch.enable_grad():
            leaf = x if x.requires_grad else x.detach().requires_grad_()
            value = self._log_prob(leaf, context)
            (gradient,) = torch.autograd.grad(value.sum(), leaf, create_graph=again)
        return (value if again else value.detach()), self.space._egrad_to_rgrad(x, gradient)

    def log_prob_estimate(
        self, x: Tensor, context: Tensor | None = None, *, probes: int = 1, generator: Generator | None = None
    ) -> Tensor:
        """An unbiased estimate of `log_prob` ``(*batch)``, for many dimensions: its cost does not grow with `dim`.

        The trace is estimated by Hutchinson's Rademacher vectors, projected onto the tangent space; a row keeps its own
        along the path. [grathwohl2019]

        Args:
            x: points ``(*batch, dim)``.
            context: as `log_prob`.
            probes: vectors a row, each one backward derivative.
            generator: of the vectors.
        """
        probes = validate.count(probes, "FlowMatching.log_prob_estimate", "probes", 1)
        x, context = self._door(x, context, "log_prob_estimate")
        signs = torch.randint(0, 2, (probes, *x.shape), generator=generator, device=x.device)
        return self._log_prob(x, context, 2 * signs.to(x) - 1)

    @torch.no_grad()
    def sample_euler(
        self,
        n: int | tuple[int, ...] = (),
        steps: int = 100,
        context: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """Draws like `sample` by `steps` equal ones x ← exp_x(u/steps): of first order, one evaluation each."""
        steps = validate.count(steps, "FlowMatching.sample_euler", "steps", 1)
        shape, context = self._draws(n, context, "sample_euler")
        context = self._spread(context, shape)
        x = self.base._sample(shape, given(self.base, context), generator)
        for i in range(steps):
            x = self.space._exp(x, self._field(x, i / steps, context) / steps)
        self.evaluations = steps
        return self.space._project(x)

    # -- training -------------------------------------------------------------------------------------------------

    def _geodesic(self, x0: Points, x1: Points, t: Values) -> tuple[Tensor, Tensor]:
        """x_t and ẋ_t by the derivative of exp: log_{x_t}(x₁) / (1 − t) would lose its digits as t goes to one."""
        v = self.space._log(x0, x1)
        return torch.func.jvp(lambda s: self.space._exp(x0, s[..., None] * v), (t,), (torch.ones_like(t),))  # type: ignore[return-value]

    def _squared_errors(self, x: Tensor, context: Context, generator: Generator | None = None) -> Tensor:
        """|u(x_t, t) − ẋ_t|² for each row, with a draw of the base and a time of its own."""
        with torch.no_grad():
            x0 = self.base._sample(tuple(x.shape[:-1]), given(self.base, context), generator)
            t = torch.rand(x.shape[:-1], generator=generator, dtype=x.dtype, device=x.device)
            x_t, target = self._geodesic(x0, x, t)
        off = self._field(x_t, t, context) - target
        return self.space._inner(x_t, off, off)

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        """The mean squared error of the velocity: its least value is a variance, unknown and not zero."""
        return {"loss": weighted_mean(self._squared_errors(x, context), weight)}

    def players(self) -> list[Player]:
        """The velocity alone: the regression has no gradient for the base."""
        parameters = [p for p in self.velocity.parameters() if p.requires_grad]
        return [Player("velocity", parameters)] if parameters else []

    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Prepare the base on the data: a normal one starts at their mean."""
        self.base.prepare(x, given(self.base, context))

    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """Finish the base."""
        self.base.finish(x, given(self.base, context))

    @torch.no_grad()
    def evaluate(self, x: Tensor, context: Tensor | None = None, weight: Tensor | None = None) -> dict[str, float]:
        """Mean and median negative log-likelihood in nats of up to 256 rows, and the regression's loss on all.

        `fit` monitors the first, which is what flow matching is for and what compares with other models; the regression's
        loss is mostly the variance of its targets, beside which late improvements of the density do not show. Rows, base
        draws and times are the same in every call, and the solver is the model's own: a check costs about as much as a
        few dozen training steps.
        """
        chosen = torch.randperm(len(x), generator=Generator().manual_seed(0))[:HELD].sort().values.to(x.device)
        few, some = x[chosen], None if context is None else context[chosen]
        rows = -log_prob_in_blocks(self, few, some)
        errors = self._squared_errors(x, context, Generator(x.device).manual_seed(0))
        return {
            "loss": float(weighted_mean(rows, None if weight is None else weight[chosen])),
            "nll median": float(rows.median()),
            "flow matching": float(weighted_mean(errors, weight)),
        }


def _refuse(space: Any) -> None:
    """Raise where there are no geodesics between any two points, or where a flow could leave."""
    if not isinstance(space, Manifold):
        raise TypeError(f"FlowMatching expects a space, as Sphere(2), got {type(space).__name__}.")
    for factor in space.factors if isinstance(space, Product) else (space,):
        if isinstance(factor, Simplex):
            raise ValueError(f"FlowMatching would leave {factor!r} over its edge: take log-ratios of the shares.")
    x = space._project(torch.ones(space.ambient_dim))
    try:
        space._exp(x, space._log(x, x))
    except NotImplementedError as error:
        raise ValueError(f"FlowMatching needs geodesics: {error} A free-form flow needs only `project`.") from None
