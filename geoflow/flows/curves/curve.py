"""What a curve of one coordinate can do."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor


class Curve(ABC):
    """Monotone curves g(x; θ) of d coordinates at once: x ``(d, n)``, and θ ``(each · d, n)`` chooses the curves.

    `there` and `back` are for autograd; `taped` and `pull` are the same with the derivative in closed form, for fewer
    operations (see `geoflow.flows.by_hand`).

    Attributes:
        each: numbers in θ for each coordinate, which stand together unless the curve says otherwise; zeros give the
            identity.
    """

    each: int

    @abstractmethod
    def there(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """g(x; θ) and log g′(x; θ), each ``(d, n)``."""

    @abstractmethod
    def back(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The x with g(x; θ) = y, and −log g′(x; θ)."""

    @abstractmethod
    def taped(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, Any]:
        """g(x; θ), the sum ``(n,)`` of log g′, and what `pull` needs; unseen by autograd, and θ may be overwritten."""

    @abstractmethod
    def back_taped(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Any]:
        """The x with g(x; θ) = y, and what `taped` would have kept there."""

    @abstractmethod
    def pull(self, tape: Any, g: Tensor, g_log_det: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients at x and θ, from those at g(x; θ) ``(d, n)`` and at the sum ``(n,)``."""
