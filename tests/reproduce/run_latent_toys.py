"""Models without public code, on toys of two columns whose likelihood is known: bounds and draws."""

import functools
import math
import time
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor
from torch.distributions import Normal

from geoflow import GaussianMixture, LatentModel, fit
from geoflow.autoencoders import Gaussian, StickBreaking, recipes, shares
from geoflow.metrics import mmd_test
from tests.reproduce.renewed import renew

INTRO = """# Models without public code, on toys with a known prior

Made by `nox -s reproduce -- latent_toys` on {date}, torch {version}, one thread. Row by row the same is
`python -m tests.reproduce.run_latent_toys "<toy>: <model>" ...`.

Toys in the plane, all x = f(z) + {noise} n with n standard normal and log p(x) known. "curve": z standard normal,
f(z) = (z1, z2/2 + z1²/4 - 1/4), so that the prior of a plain VAE is the right one. "modes": f(z) = z, both coordinates from
½ N(-1, {width}²) + ½ N(1, {width}²), so that it is not, and the prior has to find four modes (or the decoder to tear one
apart). "sticks": three shares of a stick broken twice, each time uniformly, as the corners of a triangle: the prior of the
stick-breaking VAE, which is told this concentration, 1. "fractions": the two fractions themselves that the stick is broken
at, twice as large: the same prior, but fractions that are independent given x too, as all posteriors of stick-breaking VAEs are.
{rows:,} training rows; {rows:,} others are held out.

Every model has codes of two dimensions, networks of two layers of 64, the Gaussian cost with the deviation known, and
{epochs} epochs in batches of {batch} at a learning rate of {rate}, the same for all; {seeds} seeds of rows, start and order.
FactorVAE's γ is {gamma}; the hierarchical prior's codes have two dimensions. "Known prior": the VAE is told the density of z.
One thing was set after a first look, at seeds of this table: the curve's bend, which was twice as much and then too much for
any VAE with Gaussian posteriors. What else failed here in earlier versions was looked into, and the recipes mended, at other
seeds, 10 to 17.

Bound: mean ELBO of held-out rows minus their mean log p, nats, and how far it is above that of the plain VAE of the same
seed: less than -.1 would be a failure. The hierarchical prior's takes 16 draws of the inner codes, as training does. With
{draws} draws: the importance-weighted bound. Draws, with the noise: {compared:,}
beside {compared:,} held-out rows by `mmd_test`, 200 permutations: p of each seed (below .05 once in twenty if nothing is
wrong; .005 is the least there is).

| toy: model | bound - log p, each seed | above the VAE's | with {draws} draws, mean | p of draws, each seed | seconds a seed |
|---|---|---|---|---|---|
"""
NOISE, WIDTH, ROWS, EPOCHS, BATCH, RATE, SEEDS, GAMMA = 0.25, 0.35, 10_000, 40, 200, 2e-3, 3, 6.0
SIDE = 2.0
"""Of the square."""
DRAWS, COMPARED, NETS = 100, 2000, {"hidden": (64, 64)}


def curve(seed: int) -> tuple[Tensor, Tensor]:
    """Rows ``(2 ROWS, 2)`` and log p of each, by quadrature over z1."""
    g = Generator().manual_seed(100 + seed)
    z, n = torch.randn(2, 2 * ROWS, 2, generator=g)
    x = torch.stack([z[:, 0], z[:, 1] / 2 + z[:, 0].square() / 4 - 0.25], 1) + NOISE * n
    t = torch.linspace(-7, 7, 701, dtype=torch.float64)
    first = Normal(t, NOISE).log_prob(x[:, :1].double())
    second = Normal(t.square() / 4 - 0.25, (NOISE**2 + 0.25) ** 0.5).log_prob(x[:, 1:].double())
    joint = first + second + Normal(0.0, 1.0).log_prob(t) + (t[1] - t[0]).log()
    return x, torch.logsumexp(joint, 1)


def modes(seed: int) -> tuple[Tensor, Tensor]:
    """Rows ``(2 ROWS, 2)`` and log p of each."""
    density = mixture((WIDTH**2 + NOISE**2) ** 0.5)
    x = density.sample(2 * ROWS, generator=Generator().manual_seed(100 + seed))
    return x, density.log_prob(x)


def sticks(seed: int) -> tuple[Tensor, Tensor]:
    """Rows ``(2 ROWS, 2)`` and log p of each, by the midpoint rule over fractions."""
    prior, g = StickBreaking(3, 1.0), Generator().manual_seed(100 + seed)
    x = bent(shares(prior.sample(2 * ROWS, generator=g))) + NOISE * torch.randn(2 * ROWS, 2, generator=g)
    v = (torch.arange(60) + 0.5) / 60  # uniform: Beta(1, 1)
    centers = bent(shares(torch.cartesian_prod(v, v).logit()))
    blocks = [Normal(centers, NOISE).log_prob(part[:, None]).sum(-1) for part in x.split(2000)]
    return x, torch.cat([torch.logsumexp(b.double(), 1) for b in blocks]) - 2 * math.log(len(v))


def fractions(seed: int) -> tuple[Tensor, Tensor]:
    """Rows ``(2 ROWS, 2)``, uniform on a square but for the noise, and log p of each."""
    g = Generator().manual_seed(100 + seed)
    x = SIDE * torch.rand(2 * ROWS, 2, generator=g) + NOISE * torch.randn(2 * ROWS, 2, generator=g)
    edge = Normal(torch.zeros((), dtype=torch.float64), NOISE)
    return x, ((edge.cdf(x.double()) - edge.cdf(x.double() - SIDE)) / SIDE).log().sum(1)


def bent(share: Tensor) -> Tensor:
    """Of three shares the corners of a triangle."""
    return share @ torch.tensor([[-1.5, -1.0], [1.5, -1.0], [0.0, 1.5]])


TOYS = {"curve": curve, "modes": modes, "sticks": sticks, "fractions": fractions}


def mixture(width: float) -> GaussianMixture:
    """Four Gaussians in the corners of a square."""
    centers = torch.cartesian_prod(torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, 1.0]))
    return GaussianMixture.of(torch.ones(4), centers, (width**2 * torch.eye(2)).expand(4, 2, 2)).requires_grad_(False)


def known() -> Gaussian:
    return Gaussian(NOISE)


MODELS: dict[str, Callable[[], LatentModel]] = {
    "VAE": lambda: recipes.vae(2, 2, cost=known(), **NETS),
    "VAE, known prior": lambda: recipes.vae(2, 2, cost=known(), prior=mixture(WIDTH), **NETS),
    "implicit optimal": lambda: recipes.implicit_optimal(2, 2, cost=known(), **NETS),
    "resampled": lambda: recipes.resampled(2, 2, cost=known(), **NETS),
    "hierarchical": lambda: recipes.hierarchical(2, 2, top=2, cost=known(), **NETS),
    "stick-breaking": lambda: recipes.stick_breaking(2, 3, concentration=1.0, cost=known(), **NETS),
    "FactorVAE": lambda: recipes.factor_vae(2, 2, cost=known(), gamma=GAMMA, ratio=(64, 64), **NETS),
}


@functools.cache
def trained(toy: str, name: str, seed: int) -> tuple[float, float, float, float]:
    """Bound and bound with draws, each minus log p; the p-value of draws; seconds of training."""
    x, log_p = TOYS[toy](seed)
    (train, held_out), exact = x.split(ROWS), float(log_p[ROWS:].mean())
    torch.manual_seed(seed)
    model = MODELS[name]()
    start = time.process_time()
    fit(model, train, epochs=EPOCHS, batch_size=BATCH, lr=RATE, validation=0, seed=seed, progress=False)
    seconds = time.process_time() - start
    g = Generator().manual_seed(200 + seed)
    one, many = (float(model.log_prob_bound(held_out, k, g).mean()) - exact for k in (1, DRAWS))
    drawn = model.sample(COMPARED, generator=g)
    drawn = drawn + NOISE * torch.randn(drawn.shape, generator=g)  # decoded codes are the means of p(x | z)
    return one, many, mmd_test(drawn, held_out[:COMPARED], seed=seed).p_value, seconds


def row(both: str) -> Iterator[str]:
    toy, name = both.split(": ")
    found, beside = ([trained(toy, n, seed) for seed in range(SEEDS)] for n in (name, "VAE"))
    cells = [
        both,
        " ".join(f"{f[0]:+.3f}" for f in found),
        " ".join(f"{f[0] - b[0]:+.3f}" for f, b in zip(found, beside, strict=True)),
        f"{sum(f[1] for f in found) / SEEDS:+.3f}",
        " ".join(f"{f[2]:.3f}" for f in found),
        f"{sum(f[3] for f in found) / SEEDS:.0f}",
    ]
    yield f"| {' | '.join(cells)} |"


NAMES = [
    *(f"curve: {name}" for name in MODELS if name not in ("VAE, known prior", "stick-breaking")),
    *(f"modes: {name}" for name in MODELS if name not in ("FactorVAE", "stick-breaking")),
    *(f"{toy}: {name}" for toy in ("sticks", "fractions") for name in ("VAE", "stick-breaking")),
]


READING = """
## What it says

Where the standard normal is the right prior all models have draws that the test cannot tell from data, and bounds within
.1 nat of the VAE's. On four modes the VAE's own draws fail, and the hierarchical prior's with them, its bound within .05 nat:
Gaussians through small networks do not come apart there. The resampled and the implicit optimal prior find the modes, to .03
nats, like a VAE that is told them; of the latter codes are held at the base's deviation, without which they grew to twice that,
its constant was estimated too low (a bound above log p is none) and its draws lacked the outer modes.

The stick-breaking VAE passes where data are the fractions, which are independent given x as its posteriors are: draws that
the test cannot tell from data, the bound within .03 nat of the VAE's. Where they are the shares its bound is as near, but its
draws fail at two seeds of three. They are near: with 100 draws the bound comes to .014 nats of log p. Two reasons were found at
other seeds. Fractions that are independent given x do not fit there: with the true decoder, not learned, the bound is .062 below
log p (seed 10), and .057 of that are the posterior's; a learned decoder bends what it draws for a better bound (.048 below). And
the first share, whose law is not that of the others, takes the wrong corner of the triangle in some half of all starts and keeps
it, .03 nats below those that find it. What did not help: raising the weight of KL over the first half of training from 0, or
lowering it from 10 (seed 13, before the decoder was shown centered shares), and a longer triangle (seed 10, no better bound).
The toy of fractions was made when this was known, and looked at with seeds 10 and 11 first.
"""


def written(rows: dict[str, list[str]]) -> str:
    """The whole page."""
    facts = {
        "noise": NOISE,
        "width": WIDTH,
        "rows": ROWS,
        "epochs": EPOCHS,
        "batch": BATCH,
        "rate": RATE,
        "seeds": SEEDS,
        "gamma": GAMMA,
        "draws": DRAWS,
        "compared": COMPARED,
    }
    text = INTRO.format(date=time.strftime("%Y-%m-%d"), version=torch.__version__, **facts)
    text += "".join(f"{line}\n" for name in NAMES for line in rows.get(name, []))
    lacking = [name for name in NAMES if not rows.get(name)]
    return text + (f"\nNot run yet: {'; '.join(lacking)}.\n" if lacking else "") + READING


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    renew("latent_toys.md", NAMES, row, written)
