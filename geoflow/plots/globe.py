"""The sphere as it is seen from far above one of its places."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geoflow.plots.figures import INK, STRAIGHT, as_array
from manifolds import Sphere

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Circle


class Globe:
    """Half of S² on a disc of radius one: calling it with points gives (east, north) ``(*batch, 2)``, NaN behind.

    The result goes to every plot that takes points or paths, ``plot_geodesics(globe(path), straight=False)``; `plot_density`
    and `plot_fermat_ball` take the globe itself, as ``globe=``.

    Args:
        above: the place ``(3,)`` in the middle of the picture.
    """

    def __init__(self, above: Any) -> None:
        middle = torch.as_tensor(as_array(above), dtype=torch.float64)
        if middle.shape != (3,) or not float(middle.norm()) > 0:
            raise ValueError(
                f"Globe expects one point (3,) of the sphere, got {tuple(middle.shape)}: see latlon_to_sphere."
            )
        self.above = Sphere(2).project(middle)
        pole = middle.new_tensor([0.0, 0.0, 1.0]) if abs(self.above[2]) < 0.999 else middle.new_tensor([1.0, 0.0, 0.0])
        north = Sphere(2).project(pole - (pole @ self.above) * self.above)
        self.view = torch.stack([torch.linalg.cross(north, self.above), north])

    def __call__(self, x: Any) -> np.ndarray:
        points = as_array(x)
        if points.shape[-1] != 3:
            raise ValueError(f"Globe expects points (*batch, 3) of the sphere, got shape {points.shape}.")
        behind = points @ self.above.numpy() < 0
        return np.where(behind[..., None], np.nan, points @ self.view.numpy().T)

    def lift(self, flat: Tensor) -> Tensor:
        """Points of the picture ``(*batch, 2)`` on the sphere ``(*batch, 3)``; what lies outside the disc, on its rim."""
        inside = flat / flat.norm(dim=-1, keepdim=True).clamp_min(1.0)
        height = (1 - inside.square().sum(-1, keepdim=True)).clamp_min(0).sqrt()
        return Sphere(2).project(inside @ self.view.to(flat) + height * self.above.to(flat))

    def draw(self, ax: "Axes", every: int = 30) -> "Circle":
        """The rim, which it returns, and thin meridians and parallels `every` so many degrees."""
        from matplotlib.patches import Circle

        rim = Circle((0, 0), 1, fill=False, color=INK, linewidth=0.8, zorder=2.5)
        ax.add_patch(rim)
        along, across = np.radians(np.arange(-90, 91, 2)), np.radians(np.arange(-180, 180, every))
        meridians = [(along, lon + 0 * along) for lon in across]
        parallels = [(lat + 0 * along, 2 * along) for lat in np.radians(np.arange(every - 90, 90, every))]
        for lat, lon in meridians + parallels:
            xyz = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)
            ax.plot(*self(xyz).T, color=STRAIGHT, linewidth=0.4, alpha=0.5, zorder=1.5)
        room = 1.02
        ax.set(aspect="equal", xlim=(-room, room), ylim=(-room, room), xticks=[], yticks=[], xlabel="", ylabel="")
        ax.spines[:].set_visible(False)
        return rim
