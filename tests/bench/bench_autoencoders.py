"""Training steps of auto-encoders with a prior beside pythae's at equal networks: time and memory."""

import statistics
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.autoencoders import LatentModel, recipes
from tests.bench.timing import alive, interleaved, ratio, write

DIM, LATENT, HIDDEN, BATCH, PSEUDO, CODES = 784, 16, (256, 256), 100, 50, 60_000
Step = Callable[[], object]


def ours(model: LatentModel, x: Tensor) -> Step:
    """A step as `fit` takes it: every player in turn."""
    model.prepare(x)
    players = model.players()
    turns = [(p.name, torch.optim.Adam(list(p.parameters), 1e-3, fused=True)) for p in players]

    def step() -> None:
        for name, optimiser in turns:
            model.zero_grad()
            model(x, **({"player": name} if len(turns) > 1 else {}))["loss"].backward()
            optimiser.step()

    return step


def pythae_networks() -> tuple[Any, Any, Any]:
    """A stochastic encoder, a deterministic one, and a decoder, of the bench's widths."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self, stochastic: bool) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Linear(DIM, HIDDEN[0]), nn.ReLU(inplace=True), nn.Linear(*HIDDEN), nn.ReLU(inplace=True)
            )
            self.heads = nn.ModuleList([nn.Linear(HIDDEN[1], LATENT) for _ in range(1 + stochastic)])

        def forward(self, x: Tensor) -> Any:
            h = self.body(x)
            names = ("embedding", "log_covariance")
            return ModelOutput(**{name: head(h) for name, head in zip(names, self.heads, strict=False)})

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            widths = (LATENT, *HIDDEN[::-1])
            self.body = nn.Sequential(
                nn.Linear(*widths[:2]), nn.ReLU(inplace=True), nn.Linear(*widths[1:]), nn.ReLU(inplace=True)
            )
            self.last = nn.Linear(HIDDEN[0], DIM)

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=torch.sigmoid(self.last(self.body(z))))

    return Encoder(True), Encoder(False), Decoder()


def theirs(name: str, x: Tensor) -> Step:
    """A step of pythae's model, its optimisers as its own trainers set them up."""
    from pythae import models
    from pythae.data.datasets import BaseDataset

    stochastic, deterministic, decoder = pythae_networks()
    given = {"input_dim": (DIM,), "latent_dim": LATENT}
    if name == "VAE":
        config: Any = models.VAEConfig(**given, reconstruction_loss="bce")
        model: Any = models.VAE(config, stochastic, decoder)
    elif name == "WAE-MMD":
        config = models.WAE_MMD_Config(**given, kernel_choice="imq")
        model = models.WAE_MMD(config, deterministic, decoder)
    elif name == "RAE-L2":
        config = models.RAE_L2_Config(**given)
        model = models.RAE_L2(config, deterministic, decoder)
    elif name == "VampPrior":
        config = models.VAMPConfig(**given, reconstruction_loss="bce", number_components=PSEUDO)
        model = models.VAMP(config, stochastic, decoder)
    else:
        config = models.Adversarial_AE_Config(**given, reconstruction_loss="bce")
        critic = _critic()
        model = models.Adversarial_AE(config, stochastic, decoder, critic)
    batch = BaseDataset(x, torch.zeros(len(x)))
    inputs = {"data": batch.data}
    if name != "AAE":
        decay = {"weight_decay": 1e-7} if name == "RAE-L2" else {}  # where pythae leaves the penalty of the decoder
        groups: list[dict[str, Any]] = [{"params": model.encoder.parameters()}]
        groups += [{"params": [w for n, w in model.named_parameters() if not n.startswith("encoder")], **decay}]
        optimiser = torch.optim.Adam(groups, 1e-3, fused=True)

        def alone() -> None:
            optimiser.zero_grad()
            model(inputs).loss.backward()
            optimiser.step()

        return alone
    parts = {
        "autoencoder": [*model.encoder.parameters(), *model.decoder.parameters()],
        "critic": [*critic.parameters()],
    }
    optimisers = {k: torch.optim.Adam(w, 1e-3, fused=True) for k, w in parts.items()}

    def step() -> None:
        out = model(inputs)
        optimisers["autoencoder"].zero_grad()
        out.autoencoder_loss.backward(retain_graph=True)
        optimisers["critic"].zero_grad()
        out.discriminator_loss.backward()
        for one in optimisers.values():
            one.step()

    return step


def _critic() -> Any:
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDiscriminator

    class Critic(BaseDiscriminator):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(LATENT, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1)
            )

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(embedding=torch.sigmoid(self.net(z)))

    return Critic()


OURS: dict[str, Callable[[], LatentModel]] = {
    "VAE": lambda: recipes.vae(DIM, LATENT, hidden=HIDDEN),
    "WAE-MMD": lambda: recipes.wae_mmd(DIM, LATENT, hidden=HIDDEN),
    "RAE-L2": lambda: recipes.rae(DIM, LATENT, kind="l2", hidden=HIDDEN),
    "VampPrior": lambda: recipes.vampprior(DIM, LATENT, hidden=HIDDEN, components=PSEUDO),
    "AAE": lambda: recipes.aae(DIM, LATENT, hidden=HIDDEN, critic=(256, 256)),
}


def mixtures() -> str:
    """Ten Gaussians fitted to codes, as `fit_prior` does it, beside scikit-learn's, both from k-means."""
    from sklearn.mixture import GaussianMixture as Theirs

    from geoflow import GaussianMixture

    truth = GaussianMixture.from_data(torch.randn(2000, LATENT), components=10)
    z = truth.sample(CODES)
    steps: dict[str, Step] = {
        "geoflow": lambda: GaussianMixture.from_data(z, components=10, seed=0),
        "scikit-learn": lambda: Theirs(10, random_state=0).fit(z.numpy()),
    }
    seconds = interleaved(steps, rounds=5, budget=120.0)
    mine: Any = steps["geoflow"]()
    other: Any = steps["scikit-learn"]()
    told = "{:.2f} [{:.2f}, {:.2f}]".format(*ratio(seconds["scikit-learn"], seconds["geoflow"]))
    return (
        f"Ten Gaussians of full covariance on {CODES:,} codes of {LATENT} dimensions, as `fit_prior` fits them: "
        f"{statistics.median(seconds['geoflow']):.1f} s, scikit-learn {told} times as long; mean log-likelihood "
        f"{float(mine.log_prob(z).mean()):.3f} and {float(other.score(z.numpy())):.3f} nats.\n"
    )


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    x = torch.rand(BATCH, DIM)
    lines = [
        "| model | geoflow, ms | pythae / geoflow | tensors of a step, MiB: geoflow | pythae |",
        "|---|---|---|---|---|",
    ]
    for name, make in OURS.items():
        steps = {"geoflow": ours(make(), x), "pythae": theirs(name, x)}
        seconds = interleaved(steps, rounds=101, budget=20.0)
        sizes = {k: alive(step) for k, step in steps.items()}
        told = "{:.2f} [{:.2f}, {:.2f}]".format(*ratio(seconds["pythae"], seconds["geoflow"]))
        own = 1e3 * statistics.median(seconds["geoflow"])
        lines.append(f"| {name} | {own:.2f} | **{told}** | {sizes['geoflow']:.1f} | {sizes['pythae']:.1f} |")
        sys.stderr.write(lines[-1] + "\n")
    body = (
        f"A training step on {BATCH} rows of {DIM} numbers, perceptrons {DIM}-{HIDDEN[0]}-{HIDDEN[1]}-{LATENT} and their "
        "mirror, Adam (fused), float32, one thread, against pythae 0.1.2 with the same networks. Above 1: geoflow is "
        "faster. Adversarial models take a turn each of auto-encoder and critic: pythae's share one forward pass, geoflow's "
        f"have one each, on batches of their own in `fit`. VampPrior has {PSEUDO} pseudo-inputs; pythae's decoder of RAE-L2 "
        "is held by the optimiser's weight decay, geoflow's by a term of the loss. Tensors: what a step adds at its peak, "
        "counted by torch's profiler. What the models are checked for: tests/reproduce/results/latent_checks.md.\n\n"
    )
    write(
        "autoencoders.md",
        "Auto-encoders with a prior beside pythae",
        "nox -s bench -- autoencoders",
        body + "\n".join(lines) + "\n\n" + mixtures(),
    )


if __name__ == "__main__":
    main()
