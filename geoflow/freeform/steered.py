"""The weight of reconstruction, found while training: the smallest with which decode undoes encode."""

import math

import torch
from torch import Tensor, nn

START, LEAST, MOST = 100.0, 0.1, 1e6
DEFECT, APART, FLOOR = 0.1**2, 0.05**2, 1.25
"""Allowed: mean of (vᵀJ_f J_g v / |v|² − 1)², mean squared distance of reconstructed codes, reconstruction over its floor."""
ALONE = 0.2
"""Share of the steps in which the floor of a bottleneck is found, without the likelihood."""


class SteeredBeta(nn.Module):
    """β, moved by a hundredth each step: down while running means of the defects are within what is allowed, else up.

    Args:
        bottleneck: whether reconstruction has a floor of its own, which is then found first and kept to within a quarter.
    """

    state: Tensor

    def __init__(self, bottleneck: bool) -> None:
        super().__init__()
        self.bottleneck, self.alone = bottleneck, False
        self.register_buffer("state", torch.tensor([math.log(START), 0.0, math.inf]))

    @property
    def value(self) -> float:
        """β as it stands."""
        return math.exp(float(self.state[0]))

    def schedule(self, step: int, steps: int) -> None:
        """Whether this step is of reconstruction alone."""
        self.alone = self.bottleneck and step < ALONE * steps

    @torch.no_grad()
    def see(self, reconstruction: Tensor, defect: Tensor, apart: Tensor) -> None:
        """Take a step's mean squares: reconstruction, defect, and how far reconstructions are from the data as codes."""
        log_beta, worst, floor = self.state.tolist()
        error = float(reconstruction)
        worst += 0.05 * (max(float(defect) / DEFECT, 0.0 if self.bottleneck else float(apart) / APART) - worst)
        if self.alone:
            floor = error if math.isinf(floor) else floor + 0.05 * (error - floor)
        else:
            tight = worst > 1 or (self.bottleneck and error > FLOOR * floor)
            log_beta = min(max(log_beta + (0.01 if tight else -0.01), math.log(LEAST)), math.log(MOST))
        self.state.copy_(torch.tensor([log_beta, worst, floor]))
