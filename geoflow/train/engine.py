"""The seam between `fit` and what runs it: plain torch on one device, or a Lightning Fabric for several."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


class Engine:
    """One process, one device, plain torch.

    Attributes:
        rank, world: of this process.
        alone: whether nothing else looks at the parameters, so that they may share one vector.
    """

    rank = 0
    world = 1
    alone = True

    def place(self, model: nn.Module, device: torch.device) -> torch.device:
        """Bring the model to where it trains; returns that device."""
        return device

    def setup(self, model: nn.Module) -> Callable[..., dict[str, Tensor]]:
        """What training calls in the model's place."""
        return model

    def setup_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        return optimizer

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip(self, parameters: Sequence[Tensor], norm: float | None) -> Tensor:
        """Scale gradients down to a joint norm of at most `norm`; returns the norm before."""
        total = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if norm is not None:
            torch.nn.utils.clip_grads_with_norm_(list(parameters), norm, total)
        return total

    def autocast(self, device: torch.device, precision: str | None) -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()

    def mean(self, value: float) -> float:
        """The number averaged over processes, so that all decide alike."""
        return value

    def same(self, value: int) -> int:
        """The first process's number, in all of them."""
        return value

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in some process."""
        return flag if self.world == 1 else self.mean(float(flag)) > 0

    def refuse_unused(self, players: int) -> None:
        """Refuse several players where a strategy would wait for gradients that a turn does not give."""

    def scaler(self) -> dict[str, Any]:
        """State of a gradient scaler, if there is one."""
        return {}

    def restore_scaler(self, state: dict[str, Any]) -> None:
        pass


class FabricEngine(Engine):
    """A Lightning Fabric: its devices, strategy and precision. Each process takes its share of every batch."""

    alone = False

    def __init__(self, fabric: Any) -> None:
        needed = ("setup_module", "setup_optimizers", "backward", "all_reduce", "global_rank", "world_size", "device")
        lacking = [name for name in needed if not hasattr(fabric, name)]
        if lacking:
            raise TypeError(
                f"fit: fabric must be a lightning_fabric.Fabric, got {type(fabric).__name__} without {lacking[0]}."
            )
        self.fabric = fabric
        self.rank, self.world = int(fabric.global_rank), int(fabric.world_size)

    def place(self, model: nn.Module, device: torch.device) -> torch.device:
        target = torch.device(self.fabric.device)
        model.to(target)
        return target

    def setup(self, model: nn.Module) -> Callable[..., dict[str, Tensor]]:
        return self.fabric.setup_module(model)  # type: ignore[no-any-return]

    def setup_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        return self.fabric.setup_optimizers(optimizer)  # type: ignore[no-any-return]

    def backward(self, loss: Tensor) -> None:
        self.fabric.backward(loss)

    def mean(self, value: float) -> float:
        if self.world == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.fabric.device)
        return float(self.fabric.all_reduce(tensor, reduce_op="mean"))

    def same(self, value: int) -> int:
        return int(self.fabric.broadcast(value))

    def refuse_unused(self, players: int) -> None:
        options = getattr(self.fabric.strategy, "_ddp_kwargs", {})
        if players > 1 and not options.get("find_unused_parameters", False):
            raise ValueError(
                f"fit: {players} players across processes need unused-parameter detection, for a turn leaves the "
                "others' parameters without gradients: Fabric(strategy='ddp_find_unused_parameters_true')."
            )

    def scaler(self) -> dict[str, Any]:
        return dict(self.fabric.strategy.precision.state_dict())

    def restore_scaler(self, state: dict[str, Any]) -> None:
        if state:
            self.fabric.strategy.precision.load_state_dict(state)


def engine(fabric: Any) -> Engine:
    """The engine for `fit(..., fabric=)`."""
    return Engine() if fabric is None else FabricEngine(fabric)
