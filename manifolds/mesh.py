"""Surfaces made of triangles, as spaces: points are 3-vectors on a face."""

import hashlib
import math
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from manifolds import series
from manifolds.manifold import Device, Manifold
from manifolds.paths import straight_walk, taut_joins
from manifolds.shapes import Frames, Points, Values
from manifolds.surface import SURFACES, Surface, foot, nearest_face


class Mesh(Manifold):
    """The surface of a triangle mesh in ℝ³ with the metric of the embedding; its volume is the sum of the faces' areas.

    `project` gives the closest point of the surface: its derivative is the projector of the face there, of the edge if
    the closest point is on an edge, and zero at a vertex. The face is found by libigl where the extra is installed
    (``pip install "geoflow[mesh]"``; some 10 µs a point near a surface of 6000 faces), else from the nearest centroids
    with a certified bound (some 80 µs): the same point. `to_tangent` is the plane of the face; on an edge, of one of its
    faces.

    `exp` walks straight across edges, and refuses to leave over a border. `dist` is the length of a taut path: one that
    neither pulling shortens nor passing a vertex on its other side. It is symmetric, and its derivatives are those of
    that path. On two meshes of 5000 faces it was the shortest of all in nine of ten pairs, and at most 1 % longer; so the
    triangle inequality holds to that. Cost: some 20 ms a pair there; pairs broadcast. `log`, and what follows from it, is
    lacking: a shortest path may turn at a vertex, and its first direction does not tell where.

    Args:
        vertices: ``(V, 3)``, numbers in any array.
        faces: ``(F, 3)``, three numbers of vertices a face, from 0. Faces need no common orientation; for `exp` and
            `dist` at most two may share an edge.

    >>> square = Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    >>> square
    Mesh(4 vertices, 2 faces)
    >>> square.project(torch.tensor([0.3, 0.2, 5.0]))
    tensor([0.3000, 0.2000, 0.0000])
    """

    def __init__(self, vertices: Any, faces: Any) -> None:
        v, f = _vertices(vertices), _faces(faces, len(vertices))
        self.key = hashlib.sha256(v.tobytes() + b"faces" + f.tobytes()).hexdigest()
        surface = SURFACES.get(self.key)
        self._surface = SURFACES[self.key] = Surface(v, f, self.key) if surface is None else surface
        s = self._surface
        self.vertices, self.faces = torch.from_numpy(s.vertices), torch.from_numpy(s.faces)
        self.areas, self._corners = torch.from_numpy(s.areas), torch.from_numpy(s.corners)
        self._normals, self._frames = torch.from_numpy(s.normals), torch.from_numpy(s.frames)
        self._slopes = torch.from_numpy(s.slopes)

    @property
    def dim(self) -> int:
        return 2

    @property
    def ambient_dim(self) -> int:
        return 3

    def config(self) -> dict[str, Any]:
        return {"vertices": self.vertices.tolist(), "faces": self.faces.tolist()}

    def face(self, x: Tensor) -> Tensor:
        """Number of the face nearest to each point ``(*batch)``; on an edge, of one of its faces."""
        return self._face(self._vectors(x, "x", "face"))

    def barycentric(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The face ``(*batch)`` and the coordinates ``(*batch, 3)`` of each point in it, linear in x."""
        return self._barycentric(self._points(x, "x", "barycentric"))

    def _face(self, x: Tensor) -> Tensor:
        return nearest_face(x.detach(), self.key)

    def _barycentric(self, x: Points) -> tuple[Tensor, Tensor]:
        face = self._face(x)
        corners, slopes = self._of(self._corners, face, x), self._of(self._slopes, face, x)
        return face, ((x[..., None, :] - corners.roll(-1, -2)) * slopes).sum(-1)

    def _of(self, table: Tensor, face: Tensor, like: Tensor) -> Tensor:
        """Rows of a table of the faces, in the dtype and on the device of a tensor."""
        rows = table.to(like.device).index_select(0, face.reshape(-1))  # not table[face]: 0-d indices cannot be mapped
        return rows.to(like.dtype).reshape(face.shape + table.shape[1:])

    def _project(self, x: Points) -> Points:
        return foot(x, self._of(self._corners, self._face(x), x))

    def _to_tangent(self, x: Points, v: Points) -> Points:
        n = self._of(self._normals, self._face(x), v)
        return v - (v * n).sum(-1, keepdim=True) * n

    def _tangent_basis(self, x: Points) -> Frames:
        return self._of(self._frames, self._face(x), x)

    def _exp(self, x: Points, v: Points) -> Points:
        x, v = torch.broadcast_tensors(x, v)
        motion = straight_walk(x.detach(), v.detach(), self.key).to(x)
        return _moved(motion, x + v)

    def _log(self, x: Points, y: Points) -> Points:
        self._lacks("log", "`dist` gives lengths; for paths, use an optimiser over `retract`")

    def _parts(self, x: Points, y: Points) -> tuple[Tensor, Tensor, Tensor]:
        """The straight line from x to y in x's plane, the length of a path with bends, and whether it is straight."""
        x, y = torch.broadcast_tensors(x, y)
        join = taut_joins(x.detach(), y.detach(), self.key).to(x)
        line = _moved(join[..., :12], y) - x
        ends = series.norm(x - join[..., 12:15]) + series.norm(y - join[..., 15:18])
        return line, ends + join[..., 18], join[..., 19] > 0

    def _dist(self, x: Points, y: Points) -> Values:
        line, bent, straight = self._parts(x, y)
        return torch.where(straight, series.norm(line), bent)

    def _squared_dist(self, x: Points, y: Points) -> Values:
        line, bent, straight = self._parts(x, y)
        return torch.where(straight, (line * line).sum(-1), bent * bent)

    @property
    def log_volume_total(self) -> float:
        return math.log(float(self.areas.sum()))

    @property
    def injectivity_radius(self) -> float:
        """Zero: right behind a corner two straight paths meet."""
        return 0.0

    def _sample_uniform(
        self, shape: tuple[int, ...], generator: Generator | None, dtype: torch.dtype, device: Device
    ) -> Tensor:
        """Points uniform on the surface: a face by its area, and in it Dirichlet(1, 1, 1) coordinates."""
        weights = torch.empty(*shape, 3, dtype=torch.float64, device=device).exponential_(generator=generator)
        heap = self.areas.cumsum(0).to(weights.device)
        u = torch.rand(*shape, generator=generator, dtype=torch.float64, device=device)
        face = torch.searchsorted(heap, u * heap[-1], right=True)
        x = self.place(face.clamp(max=len(heap) - 1), weights)
        return x.to(dtype)

    def place(self, face: Tensor, weights: Tensor) -> Tensor:
        """The points of faces ``(*batch)`` with barycentric weights ``(*batch, 3)``, of any positive sum."""
        weights = weights / weights.sum(-1, keepdim=True)
        return (weights[..., None] * self._of(self._corners, face, weights)).sum(-2)

    def eigenfunctions(self, k: int) -> tuple[Tensor, Tensor]:
        """The k smallest eigenvalues ``(k,)`` of −Δ, and the eigenfunctions' values at the vertices ``(V, k)``.

        L φ = λ M φ with the cotangent Laplacian L and a third of the area of its faces as the mass M of a vertex;
        φᵀ M φ = 1, and the entry of largest modulus is positive. The first is constant with λ = 0. Eigenfunctions of
        a repeated eigenvalue are any basis of their space. Cost: a sparse factorisation, and k vectors from it.
        """
        import scipy.sparse
        from scipy.sparse.linalg import eigsh

        s, n = self._surface, len(self.vertices)
        used, place = np.unique(s.faces, return_inverse=True)
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k < len(used):
            raise ValueError(
                f"{self!r}.eigenfunctions expects 1 <= k < {len(used)}, the number of vertices; got {k!r}."
            )
        i, j, third = (np.roll(place.reshape(s.faces.shape), -r, 1).reshape(-1) for r in range(3))
        e = s.edges
        cotangent = (-(np.roll(e, -1, 1) * np.roll(e, -2, 1)).sum(-1) / (4 * s.areas[:, None])).reshape(-1)  # opposite
        mass = np.bincount(third, np.repeat(s.areas / 3, 3))
        values = np.concatenate([-cotangent, -cotangent, cotangent, cotangent])
        where = (np.concatenate([i, j, i, j]), np.concatenate([j, i, i, j]))
        laplacian = scipy.sparse.csc_array((values, where), shape=2 * (len(used),))
        start = np.cos(np.arange(len(used)))
        eigenvalues, phi = eigsh(laplacian, k, scipy.sparse.diags_array(mass).tocsc(), sigma=-0.01, v0=start)
        order = eigenvalues.argsort()
        phi = phi[:, order] * np.sign(phi[np.abs(phi).argmax(0), np.arange(k)])[order]
        full = np.zeros((n, k))
        full[used] = phi
        return torch.from_numpy(eigenvalues[order].clip(0)), torch.from_numpy(full)

    # -- a value object -----------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mesh) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __reduce__(self) -> tuple[Any, ...]:
        return Mesh, (self.vertices.numpy(), self.faces.numpy())

    def __repr__(self) -> str:
        return f"Mesh({len(self.vertices)} vertices, {len(self.faces)} faces)"


def _moved(motion: Tensor, x: Tensor) -> Tensor:
    """A rotation (row major) and a shift ``(..., 12)`` applied to points."""
    return (motion[..., :9].unflatten(-1, (3, 3)) * x[..., None, :]).sum(-1) + motion[..., 9:]


def _vertices(given: Any) -> np.ndarray:
    v = np.array(given.detach().cpu() if isinstance(given, Tensor) else given, dtype=np.float64)
    if v.ndim != 2 or v.shape[1] != 3:
        raise ValueError(f"Mesh expects `vertices` of shape (V, 3), got {v.shape}.")
    bad = np.flatnonzero(~np.isfinite(v).all(-1))
    if len(bad):
        raise ValueError(f"Mesh expects finite `vertices`; vertex {', '.join(map(str, bad[:3]))} is not.")
    return v


def _faces(given: Any, vertices: int) -> np.ndarray:
    f = np.array(given.detach().cpu() if isinstance(given, Tensor) else given)
    if f.ndim != 2 or f.shape[1] != 3 or not len(f):
        raise ValueError(f"Mesh expects `faces` of shape (F, 3) with at least one face, got {f.shape}.")
    if f.dtype.kind not in "iu":
        raise ValueError(f"Mesh expects `faces` as whole numbers, got {f.dtype}.")
    bad = np.flatnonzero(((f < 0) | (f >= vertices)).any(-1))
    if len(bad):
        raise ValueError(
            f"Mesh expects `faces` that name vertices 0 to {vertices - 1}; face {bad[0]} is {f[bad[0]].tolist()}"
            + (": do the numbers start from 1?" if f.min() == 1 and f.max() == vertices else ".")
        )
    return f.astype(np.int64)
