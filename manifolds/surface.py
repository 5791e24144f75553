"""A triangle mesh as a table of faces: sizes, neighbours, and the face nearest to a point."""

import functools
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor
from torch import library as operators

SURFACES: WeakValueDictionary[str, "Surface"] = WeakValueDictionary()
"""Surfaces in use by the hash of their content: the operators below take a key, for they may take no object."""

POINTS = 3
"""Points on an edge through which a first path may run."""

_ROWS = 2048


def foot(x: Tensor, corners: Tensor) -> Tensor:
    """The point of each triangle ``(..., 3, 3)`` nearest to `x` ``(..., 3)``.

    Over the face its derivative is the face's projector, over an edge the edge's; beyond a corner it is zero.
    """
    a, e = corners, corners.roll(-1, -2) - corners
    n = torch.linalg.cross(e[..., 0, :], e[..., 1, :])
    n = n / n.norm(dim=-1, keepdim=True)
    outward = torch.linalg.cross(e, n[..., None, :])
    w = x[..., None, :] - a
    inside = ((w * outward).sum(-1) <= 0).all(-1)
    t = ((w * e).sum(-1) / (e * e).sum(-1)).clamp(0, 1)
    ends = a + t[..., None] * e
    off = ((x[..., None, :] - ends) ** 2).sum(-1).detach()
    on_edge = ends.gather(-2, off.argmin(-1)[..., None, None].expand(*ends.shape[:-2], 1, 3))[..., 0, :]
    on_face = x - n * (w[..., 0, :] * n).sum(-1, keepdim=True)
    return torch.where(inside[..., None], on_face, on_edge)


class Surface:
    """Geometry of a mesh in float64, on the CPU; what is dear is worked out when first asked for.

    Attributes:
        corners: ``(faces, 3, 3)``; edge i of a face runs from corner i to the next.
        normals, frames, areas: of each face; a frame's two columns span its plane, the first along edge 0.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, key: str) -> None:
        self.vertices, self.faces, self.key = vertices, faces, key
        self.corners = vertices[faces]
        self.edges = np.roll(self.corners, -1, 1) - self.corners
        n = np.cross(self.edges[:, 0], self.edges[:, 1])
        double_area = np.linalg.norm(n, axis=-1)
        longest = np.linalg.norm(self.edges, axis=-1).max(-1)
        bad = np.flatnonzero(~(double_area > 1e-12 * longest**2))
        if len(bad):
            raise ValueError(
                f"Mesh expects faces with an area; face {', '.join(map(str, bad[:3]))} has none"
                f"{f' ({len(bad)} faces in all)' if len(bad) > 1 else ''}: leave such faces out."
            )
        self.areas = double_area / 2
        self.normals = n / double_area[:, None]
        first = self.edges[:, 0] / np.linalg.norm(self.edges[:, 0], axis=-1, keepdims=True)
        self.frames = np.stack([first, np.cross(self.normals, first)], -1)
        out = np.cross(self.edges, self.normals[:, None])
        self.outward = out / np.linalg.norm(out, axis=-1, keepdims=True)

    @functools.cached_property
    def neighbors(self) -> np.ndarray:
        """``(faces, 3, 2)``: the face across each edge and that edge's number there; −1 at the border."""
        f, i = (g.reshape(-1) for g in np.indices(self.faces.shape))
        ends = np.sort(np.stack([self.faces, np.roll(self.faces, -1, 1)], -1).reshape(-1, 2), -1)
        order = np.lexsort((ends[:, 1], ends[:, 0]))
        same = (ends[order][1:] == ends[order][:-1]).all(-1)
        if (same[1:] & same[:-1]).any():
            v = ends[order][1:-1][same[1:] & same[:-1]][0]
            raise ValueError(
                f"this mesh has an edge with more than two faces (vertices {v[0]} and {v[1]}), where no path goes "
                "straight on: `exp` and `dist` expect at most two faces an edge."
            )
        a, b = order[:-1][same], order[1:][same]
        table = np.full((*self.faces.shape, 2), -1)
        table[f[a], i[a]] = np.stack([f[b], i[b]], -1)
        table[f[b], i[b]] = np.stack([f[a], i[a]], -1)
        return table

    @functools.cached_property
    def across(self) -> tuple[np.ndarray, np.ndarray]:
        """Rotations ``(faces, 3, 3, 3)`` and shifts ``(faces, 3, 3)`` that turn a face's plane into its neighbour's.

        The hinge is their common edge e: with m the unit vectors in the planes that point out of the faces there,
        Q = e eᵀ − m' mᵀ − (e × m')(e × m)ᵀ.
        """
        g, j = self.neighbors[..., 0], self.neighbors[..., 1]
        e = self.edges / np.linalg.norm(self.edges, axis=-1, keepdims=True)
        m, other = self.outward, self.outward[g, j]
        q = e[..., :, None] * e[..., None, :] - other[..., :, None] * m[..., None, :]
        q -= np.cross(e, other)[..., :, None] * np.cross(e, m)[..., None, :]
        return q, self.corners - (q @ self.corners[..., None])[..., 0]

    @functools.cached_property
    def lists(self) -> tuple[list[list[int]], list[list[list[int]]]]:
        """Faces and neighbours as lists, which are faster one by one."""
        return self.faces.tolist(), self.neighbors.tolist()

    @functools.cached_property
    def angles(self) -> np.ndarray:
        """Of all faces around each vertex together: 2π where the surface is flat."""
        cosine = -(self.edges * np.roll(self.edges, 1, 1)).sum(-1)
        sine = np.linalg.norm(np.cross(self.edges, np.roll(self.edges, 1, 1)), axis=-1)
        return np.bincount(self.faces.reshape(-1), np.arctan2(sine, cosine).reshape(-1), len(self.vertices))

    @functools.cached_property
    def border(self) -> np.ndarray:
        """Whether each vertex lies on an edge of one face only."""
        on = np.zeros(len(self.vertices), dtype=bool)
        f, i = np.nonzero(self.neighbors[..., 0] < 0)
        on[self.faces[f, i]] = on[self.faces[f, (i + 1) % 3]] = True
        return on

    @functools.cached_property
    def links(self) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        """A sparse graph of ways over faces, the places of its nodes, their two faces each, and the nodes of each face.

        Nodes are POINTS points on each edge between two faces, and each face joins those on its different edges.
        """
        from scipy.sparse import coo_array

        f, i = np.nonzero(self.neighbors[..., 0] >= 0)
        g, j = self.neighbors[f, i].T
        ordered = np.sort(self.neighbors[..., 0], -1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
            raise ValueError(
                "this mesh has two faces that share two edges: `dist` expects faces that share at most one."
            )
        once = (f < g) | ((f == g) & (i < j))
        f, i, g, j = f[once], i[once], g[once], j[once]
        nodes = np.full((len(self.faces), 3, POINTS), -1)
        nodes[f, i] = nodes[g, j] = np.arange(len(f) * POINTS).reshape(-1, POINTS)
        share = (np.arange(POINTS)[:, None] + 1.0) / (POINTS + 1)
        places = (self.corners[f, i][:, None] + share * self.edges[f, i][:, None]).reshape(-1, 3)
        one, other = np.broadcast_arrays(nodes[..., None], np.roll(nodes, 1, 1)[..., None, :])
        both = (one >= 0) & (other >= 0)
        a, b = np.concatenate([one[both], other[both]]), np.concatenate([other[both], one[both]])
        length = np.linalg.norm(places[a] - places[b], axis=-1)
        graph = coo_array((length, (a, b)), shape=2 * (len(places),)).tocsr()
        return graph, places, np.repeat(np.stack([f, g], -1), POINTS, 0), nodes.reshape(-1, 3 * POINTS)

    @functools.cached_property
    def apexes(self) -> list[list[tuple[complex, complex]]]:
        """For edge j of a face from l to r, its third corner as l + (r − l) w: w for l its start, and for l its end."""
        e = self.edges
        w = np.roll(self.corners, 1, 1) - self.corners
        square = (e * e).sum(-1)
        along = (w * e).sum(-1) / square
        high = 1j * 2 * self.areas[:, None] / square
        return [[tuple(p) for p in f] for f in np.stack([along + high, 1 - along + high], -1).tolist()]

    @functools.cached_property
    def slopes(self) -> np.ndarray:
        """``(faces, 3, 3)``: the gradient of each barycentric coordinate; coordinate i is zero on the edge after i."""
        heights = 2 * self.areas[:, None] / np.linalg.norm(self.edges, axis=-1)
        return np.roll(-self.outward / heights[..., None], -1, 1)

    # -- the nearest face ---------------------------------------------------------------------------------------

    @functools.cached_property
    def _compiled(self) -> Any:
        """libigl's tree of boxes, if the extra `mesh` is installed."""
        if find_spec("igl") is None:
            return None
        import igl

        tree = igl.AABB()
        tree.init(self.vertices, self.faces)
        return tree

    @functools.cached_property
    def _centroids(self) -> Any:
        from scipy.spatial import cKDTree

        centroids = self.corners.mean(1)
        return cKDTree(centroids), np.linalg.norm(self.corners - centroids[:, None], axis=-1).max(-1)

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """Numbers of the faces nearest to points ``(n, 3)``: by libigl if installed, else by `nearest_by_centroids`."""
        tree = self._compiled
        if tree is None:
            return self.nearest_by_centroids(points)
        found: np.ndarray = np.asarray(tree.squared_distance(self.vertices, self.faces, points)[1], dtype=np.int64)
        return found.reshape(len(points))

    def nearest_by_centroids(self, points: np.ndarray) -> np.ndarray:
        """The same without a compiled library, certified: only faces that cannot be nearest are left out.

        The faces with the nearest centroids bound the distance by b; no face is nearer whose centroid is farther than b
        plus its radius.
        """
        tree, radius = self._centroids
        found = np.empty(len(points), dtype=np.int64)
        for start in range(0, len(points), _ROWS):
            p = points[start : start + _ROWS]
            near = tree.query(p, k=np.arange(1, min(8, len(radius)) + 1))[1]
            bound = self._distances(np.repeat(p, near.shape[1], 0), near.reshape(-1)).reshape(near.shape).min(-1)
            bound = bound * (1 + 1e-9)
            lists = tree.query_ball_point(p, bound + radius.max())
            row = np.repeat(np.arange(len(p)), [len(c) for c in lists])
            face = np.concatenate([np.asarray(c, dtype=np.int64) for c in lists])
            possible = np.linalg.norm(p[row] - tree.data[face], axis=-1) - radius[face] <= bound[row]
            row, face = row[possible], face[possible]
            best = np.lexsort((face, self._distances(p[row], face), row))
            found[start : start + _ROWS] = face[best[np.unique(row[best], return_index=True)[1]]]
        return found

    def _distances(self, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(points)
        return np.asarray((foot(x, torch.from_numpy(self.corners[faces])) - x).norm(dim=-1))


def rows(work: Callable[..., np.ndarray], *arrays: Tensor) -> Tensor:
    """`work` on float64 arrays ``(n, 3)``, for tensors of one batch; its result ``(n, ...)`` in that batch."""
    batch = arrays[0].shape[:-1]
    flat = [np.ascontiguousarray(a.detach().cpu().double().numpy().reshape(-1, 3)) for a in arrays]
    flat = [np.where(np.isfinite(a), a, 0.0) for a in flat]  # what is not a number comes out again of the formulas
    done = torch.from_numpy(work(*flat))
    return done.reshape((*batch, *done.shape[1:])).to(arrays[0].device)


def mapped(op: Callable[..., Tensor], arguments: int) -> Callable[..., Any]:
    """The rule for `torch.vmap` of an operator of tensors with one batch: the new axis is one more batch axis."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Tensor, int]:
        tensors = [
            t.movedim(d, 0) if d is not None else t.expand(info.batch_size, *t.shape)
            for t, d in zip(given[:arguments], in_dims[:arguments], strict=True)
        ]
        return op(*tensors, *given[arguments:]), 0

    return rule


@operators.custom_op("manifolds::nearest_face", mutates_args=())
def nearest_face(x: Tensor, key: str) -> Tensor:
    """Number of the face nearest to each point: an operator, so that it can be traced, mapped and compiled around."""
    return rows(SURFACES[key].nearest, x)


@nearest_face.register_fake
def _(x: Tensor, key: str) -> Tensor:
    return x.new_empty(x.shape[:-1], dtype=torch.long)


nearest_face.register_vmap(mapped(nearest_face, 1))
