"""GIN: a flow that changes no volume, and a normal density per class, find the sources that classes differ in."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from geoflow import validate
from geoflow.carried import blocks
from geoflow.columns import Standardize
from geoflow.density import Density, Player, given, weighted_mean
from geoflow.distributions import ClassConditional
from geoflow.flows import by_hand, identify
from geoflow.flows.coupling import AffineCoupling
from geoflow.flows.flow import Flow
from geoflow.flows.linear import Permutation, Unimodular
from geoflow.maps import Bijection, ChainBijection
from geoflow.registry import register


@register
class GIN(Flow):
    """log p(x | u) = log N(encode(x); mean_u, diag std_u²) + a constant: the map changes no volume but by its scaler.

    With the volume fixed only the base can be narrow, so that noise goes to latents of small deviation and what matters
    to few of large: the `spectrum` says how many. Which axes these are is known up to order, scale and sign if, and as
    far as, the ratios of deviations differ between classes (`identifiability`). [sorrenson2020]

    Means and deviations are not learned by gradient. They start as the data's, follow the codes of each batch as running
    averages that the batch itself is already in, and in `finish` become exact over all training rows. `finish` also
    turns the informative axes to where the classes' covariances are most nearly diagonal, which never raises the loss,
    and sorts latents by their spectrum. Weights of rows count in the loss and the running averages, not in these closing
    statistics.

    Args:
        bijection: a chain that ends in `Unimodular`, which `finish` sets; `gin` builds one.
        base: a `ClassConditional` density, which no gradient trains.
        decay: of the running averages, per batch; 0 is the batch's own statistics. Where averages lag, sources were
            more often left spread over more latents than their number; where few rows of a class are in a batch, they
            have to.
        noise: (first, last) deviation of the fresh noise that rows get in each training step, in units of the data's
            root mean square deviation, see `schedule`; (0, 0) is none.
        reversible: train with the memory of one layer (see `Flow`).
    """

    base: ClassConditional
    share: Tensor

    def __init__(
        self,
        bijection: ChainBijection,
        base: ClassConditional,
        decay: float = 0.5,
        noise: Sequence[float] = (1.0, 0.001),
        reversible: bool = False,
    ) -> None:
        if not isinstance(base, ClassConditional):
            raise TypeError(f"GIN expects a ClassConditional base, got {type(base).__name__}: Flow takes any density.")
        super().__init__(bijection, base, reversible)
        if base.dim < 4:
            raise ValueError(
                f"GIN expects dim >= 4, got {base.dim}: on halves of one coordinate a coupling that preserves volume can "
                "only shift. Use realnvp(dim, base=ClassConditional(dim, classes)), or append columns of noise."
            )
        if not isinstance(bijection, ChainBijection) or not isinstance(bijection.parts[-1], Unimodular):
            raise TypeError("GIN expects a ChainBijection that ends in Unimodular: gin(dim, classes) builds one.")
        if not 0 <= decay < 1:
            raise ValueError(f"GIN expects a decay in [0, 1), got {decay}.")
        if len(noise) != 2 or not (noise[0] >= noise[1] > 0 or noise[0] == noise[1] == 0):
            raise ValueError(f"GIN expects noise as (first, last), falling and above 0, or (0, 0); got {tuple(noise)}.")
        self.decay, self.noise = decay, (float(noise[0]), float(noise[1]))
        self.now = 0.0
        self.register_buffer("share", torch.full((base.classes,), 1 / base.classes))

    def with_base(self, base: Density) -> Flow:
        """The same bijection (shared, not copied) with another base; a plain `Flow` if that is of another kind."""
        if isinstance(base, ClassConditional):
            return GIN(self.bijection, base, self.decay, self.noise, self.reversible)  # type: ignore[arg-type]
        return Flow(self.bijection, base, self.reversible)

    # -- training -----------------------------------------------------------------------------------------------------

    def players(self) -> list[Player]:
        """One, with the maps' parameters alone."""
        parameters = [p for p in self.bijection.parameters() if p.requires_grad]
        return [Player("all", parameters)] if parameters else []

    @torch.no_grad()
    def prepare(self, x: Tensor, context: Tensor | None = None) -> None:
        """Prepare the maps, then the statistics of each class on the codes; every class needs two rows."""
        assert context is not None
        self.bijection.prepare(x)
        self._set_statistics(self._codes(x, context), context)

    def loss(
        self, x: Tensor, context: Tensor | None = None, *, weight: Tensor | None = None, player: str | None = None
    ) -> dict[str, Tensor]:
        """Mean negative log-likelihood; in training that under the running averages with this batch in them.

        In `fit`, rows get fresh noise (see `schedule`); elsewhere none.
        """
        if self.training and self.now:
            x = x + self.now * self._scale * torch.randn_like(x)
        z, log_det = by_hand.encode(self.bijection, x, None, self.reversible)
        if self.training and context is not None:
            self._follow(z.detach(), context, weight)
        terms = self.base.loss(z, given(self.base, context), weight=weight)
        return {"loss": terms["loss"] - weighted_mean(log_det, weight)}

    def schedule(self, step: int, steps: int) -> None:
        """Cool the noise: from the first to the last deviation by equal factors over six tenths of the steps.

        Under much noise the loss sees where data lie at large and is smooth; narrow latents are fitted once that is
        right, while the rate is still high.
        """
        first, last = self.noise
        self.now = last * (first / last) ** max(0.0, 1 - step / (0.6 * steps)) if first else 0.0

    @torch.no_grad()
    def _follow(self, z: Tensor, labels: Tensor, weight: Tensor | None) -> None:
        """Take the batch into the running averages; a class that it lacks keeps its own, and so do all if it is not finite."""
        mean, log_std = self.base.mean, self.base.log_std
        w = z.new_ones(len(z)) if weight is None else weight
        count = z.new_zeros(self.classes).index_add(0, labels, w)
        sure = count.clamp_min(torch.finfo(z.dtype).tiny)[:, None]
        off = z - mean[labels]
        shift = torch.zeros_like(mean).index_add(0, labels, w[:, None] * off) / sure
        square = torch.zeros_like(mean).index_add(0, labels, w[:, None] * (off - shift[labels]).square()) / sure
        new = 1 - self.decay ** (count / count.mean())[:, None]
        variance = (1 - new) * (2 * log_std).exp() + new * square + new * (1 - new) * shift.square()
        finite = variance.isfinite() & (variance > 0)
        mean.copy_(torch.where(finite, mean + new * shift, mean))
        log_std.copy_(torch.where(finite, 0.5 * variance.log(), log_std))

    @torch.no_grad()
    def finish(self, x: Tensor, context: Tensor | None = None) -> None:
        """Turn to the axes that classes tell apart, sort them, and take exact statistics of all rows."""
        self.now = 0.0
        assert context is not None
        self.bijection.finish(x)
        moments = identify.class_moments(self._codes(x, context), context)
        order = identify.spectrum(moments.std).argsort(descending=True)
        covariance = moments.covariance[:, order][:, :, order]
        turn = torch.eye(self.dim, dtype=torch.float64, device=x.device)
        k = identify.informative(identify.spectrum(moments.std))
        if int(torch.bincount(context).min()) > k:  # else some class has no covariance of full rank
            turn[:k, :k] = identify.joint_diagonalizer(covariance[:, :k, :k], moments.share)
        after = identify.spectrum((turn @ covariance @ turn.mT).diagonal(dim1=-2, dim2=-1).sqrt())
        turn = turn[after.argsort(descending=True)][:, order.argsort()]
        self._closing.set_matrix(turn @ self._closing.matrix.double())
        self._set_statistics(self._codes(x, context), context)

    @property
    def _scale(self) -> Tensor:
        """The data's root mean square deviation, from the scaler in front; one without it."""
        first = self.bijection.parts[0]  # type: ignore[union-attr, index]
        return first.std if isinstance(first, Standardize) else self.share.new_ones(())

    @property
    def _closing(self) -> Unimodular:
        """The linear map at the end."""
        last = self.bijection.parts[-1]  # type: ignore[union-attr, index]
        assert isinstance(last, Unimodular)
        return last

    def _set_statistics(self, z: Tensor, labels: Tensor) -> None:
        self.base.prepare(z, labels)
        self.share.copy_(torch.bincount(labels, minlength=self.classes) / len(labels))

    # -- what was found -----------------------------------------------------------------------------------------------

    @property
    def spectrum(self) -> Tensor:
        """Root mean square over classes of the latents' deviations ``(dim,)``; falling, once `finish` has sorted them."""
        return identify.spectrum(self.base.log_std.detach().exp())

    def informative(self, floor: float | None = None) -> int:
        """Number of latents that carry more than noise, by one of the rules of `identify.informative`."""
        return identify.informative(self.spectrum, floor)

    def identifiability(self, dims: int | None = None) -> Tensor:
        """The `identifiability_gap` of each pair of the first `dims` latents ``(dims, dims)``, in nats.

        None takes those that are informative by the largest gap of the spectrum.
        """
        dims = self.informative() if dims is None else validate.count(dims, "GIN.identifiability", "dims", 1)
        return identify.identifiability_gap(self.base.log_std.detach().exp()[:, :dims], self.share)

    @torch.no_grad()
    def sweep(self, latent: int, context: Tensor, steps: int = 9, reach: float = 2.0) -> Tensor:
        """Data along one latent, the others at their means: ``(*batch, steps, dim)`` for labels ``(*batch,)``.

        Args:
            latent: which, from 0.
            context: the classes.
            steps: points on the way, at equal distances.
            reach: how far to either side of the mean, in that latent's deviations.
        """
        latent = validate.count(latent, "GIN.sweep", "latent")
        if latent >= self.dim:
            raise ValueError(f"GIN.sweep: latents are numbered 0 to {self.dim - 1}, got {latent}.")
        labels = validate.context(context, None, 0, self.classes, "GIN.sweep")
        assert labels is not None
        z = self.base.mean[labels][..., None, :].repeat_interleave(validate.count(steps, "GIN.sweep", "steps", 1), -2)
        along = torch.linspace(-reach, reach, steps, dtype=z.dtype, device=z.device)
        z[..., latent] += along * self.base.log_std[labels][..., latent, None].exp()
        return torch.cat([self.bijection._decode(b) for b, _ in blocks(z.reshape(-1, self.dim), None)]).reshape(z.shape)


def gin(
    dim: int,
    classes: int,
    *,
    depth: int = 16,
    hidden: Sequence[int] | None = None,
    clamp: float = 2.0,
    activation: str = "silu",
    decay: float = 0.5,
    noise: Sequence[float] = (1.0, 0.001),
    generator: Generator | None = None,
) -> GIN:
    """General incompressible-flow network: couplings that preserve volume, and a normal density per class.

    Nonlinear ICA with labels: ``fit(gin(dim, classes), x, labels)``, then `spectrum`, `informative`, `identifiability`,
    ``bijection.encode(x)``, whose first columns are the sources found, and `sweep`. It needs sources whose deviations differ
    between classes, in ratio; see `GIN`. With one class it is the unconditional flow, which finds the subspace and not
    the axes. [sorrenson2020]

    Data are centred, divided by one factor for all columns, and turned to their principal axes: the volume is that
    factor's, everywhere. Long training pays: the axes are found last.

    Args:
        dim: number of columns, at least four.
        classes: number of labels; the context is an integer tensor ``(n,)`` below it.
        depth: number of couplings; two transform every coordinate once.
        hidden: widths of the couplings' networks; None is two layers as wide as the data, at least 64.
        clamp, activation: of the couplings (see `AffineCoupling`).
        decay, noise: of the running statistics, and first and last in training (see `GIN`).
        generator: of the permutations (the networks' weights come from the global generator).

    >>> flow = gin(4, 3)
    >>> flow.log_prob(torch.zeros(5, 4), torch.zeros(5, dtype=torch.long)).shape
    torch.Size([5])
    """
    dim = validate.count(dim, "gin", "dim", 1)
    depth = validate.count(depth, "gin", "depth", 1)
    base = ClassConditional(dim, validate.count(classes, "gin", "classes", 1))
    hidden = (max(64, dim),) * 2 if hidden is None else hidden
    parts: list[Bijection] = [Standardize(dim, "all"), Unimodular(dim, "principal")]
    for layer in range(depth if dim >= 4 else 0):
        parts.append(AffineCoupling(dim, 0, hidden, activation, clamp, volume_preserving=True))
        if layer % 2 == 1 and layer < depth - 1:
            parts.append(Permutation(dim, generator=generator))
    return GIN(ChainBijection(*parts, Unimodular(dim)), base, decay, noise)
