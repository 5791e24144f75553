"""One player's turn: a forward and a backward on a fresh batch, and a step of its optimiser alone."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from geoflow.density import Player, Sampler
from geoflow.train import nonfinite
from geoflow.train.engine import Engine
from geoflow.train.flat import Flat
from geoflow.train.plan import Plan


class NotFinite(Exception):
    """A loss or gradient that is no number; the message says where."""


class Turn:
    """A player with its optimiser.

    Args:
        player: whose parameters are stepped.
        named: whether the loss is told the player's name (there are several).
        model: the bare model.
        call: what is called in its place: the model, compiled or wrapped.
        plan, runner: of the run.
    """

    def __init__(
        self,
        player: Player,
        named: bool,
        model: Sampler,
        call: Callable[..., dict[str, Tensor]],
        plan: Plan,
        runner: Engine,
    ) -> None:
        self.name, self.repeat, self.named = player.name, player.repeat, named
        self.model, self.call, self.plan, self.runner = model, call, plan, runner
        self.parameters = [p for p in player.parameters if p.requires_grad]
        if not self.parameters:
            raise ValueError(f"fit: player {player.name!r} has no trainable parameters: leave it out of players().")
        self.cleared = [p for p in model.parameters() if p.requires_grad]
        lr = plan.config["lr"] * player.lr_scale
        self.flat: Flat | None = None
        if player.optimizer is not None:
            self.optimizer = player.optimizer(self.parameters, lr)
        else:
            if not named and runner.alone and Flat.pays(self.parameters, model):
                self.flat = Flat(self.parameters)
            fused = self.parameters[0].device.type in ("cpu", "cuda")
            kind: dict[str, Any] = {"fused": True} if fused else {"foreach": True}
            self.optimizer = torch.optim.Adam(self._stepped(), lr, weight_decay=plan.settings.weight_decay, **kind)
        self.wrapped = runner.setup_optimizer(self.optimizer)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def _stepped(self) -> list[nn.Parameter]:
        return self.parameters if self.flat is None else [self.flat.vector]

    def release(self) -> None:
        """Leave the parameters as they would be without an optimiser."""
        if self.flat is not None:
            self.flat.release()

    def slow(self, factor: float) -> None:
        """Set the learning rates to a share of the first ones."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = factor * rate

    def take(self, index: Tensor, step: int) -> dict[str, Tensor]:
        """Step on the rows of the given numbers; returns the terms of the loss.

        Raises:
            NotFinite: the loss or the gradient is not finite; the parameters are as before.
        """
        index = index[self.runner.rank :: self.runner.world]
        x, context = self.plan.rows.take(index)
        given: dict[str, Any] = {} if self.plan.weight is None else {"weight": self.plan.weight[index]}
        if self.named:
            given["player"] = self.name
        for p in self.cleared:
            p.grad = None
        if self.flat is not None:
            self.flat.clear()
        before = torch.get_rng_state()  # two microseconds, so that a bad batch can be looked at again
        with self.runner.autocast(x.device, self.plan.settings.precision), self.flat or nullcontext():
            terms = self.call(x, context, **given)
        loss = terms["loss"]
        if not loss.requires_grad:
            raise ValueError(f"fit: the loss of player {self.name!r} does not depend on any trainable parameter.")
        self.runner.backward(loss)
        if self.flat is not None:
            self.flat.collect()
        norm = self.runner.clip(self._stepped(), self.plan.settings.clip)
        if self.runner.any(not bool((loss.detach() + norm).isfinite())):
            torch.set_rng_state(before)
            raise NotFinite(self._diagnosis(index, (x, context), given, loss, step))
        self.wrapped.step()
        prefix = f"{self.name} " if self.named else ""
        return {prefix + k: v.detach() if isinstance(v, Tensor) else torch.tensor(float(v)) for k, v in terms.items()}

    def _diagnosis(
        self, index: Tensor, batch: tuple[Tensor, Tensor | None], given: dict[str, Any], loss: Tensor, step: int
    ) -> str:
        """Which step, rows and part of the model gave something that is no number. One more pass over the batch."""
        rows = index.tolist()
        shown = ", ".join(map(str, rows[:8])) + (" ..." if len(rows) > 8 else "")
        player = f" of player {self.name!r}" if self.named else ""
        where = f"{player} at step {step + 1} of {self.plan.steps}, batch rows {shown}"
        if bool(loss.isfinite()):
            if self.flat is not None:
                self.flat.spread()
            guilty = nonfinite.guilty_gradient(self.model) or "another process"
            return f"the gradient{where}, is not finite, first in {guilty}"
        guilty = nonfinite.first_guilty(self.model, lambda: self.model(*batch, **given)) or "nothing at a second look"
        return f"the loss{where}, is {float(loss.detach()):g}; first not finite: {guilty}"
