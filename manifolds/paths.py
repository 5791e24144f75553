"""Straight paths on a triangle mesh: across an edge a path goes on straight when the next face is turned into its plane.

Which faces a path crosses is found here on numbers. What the crossing does is a rigid motion, constant while the faces
stay the same, so positions and lengths are plain formulas in the end points, with all their derivatives.
"""

import cmath
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import library as operators

from manifolds.surface import SURFACES, Surface, mapped, rows

_MOST_STEPS = 100_000
_SLACK = 1e-10


def walk(surface: Surface, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The rigid motions ``(n, 12)`` (rotation, shift) that take x + v to the ends of the straight walks along v."""
    q, shift = surface.across
    face = surface.nearest(x)
    turn, move = np.tile(np.eye(3), (len(x), 1, 1)), np.zeros_like(x)
    p, d, behind = x.copy(), v.copy(), np.full(len(x), -1)
    going = np.arange(len(x))
    for _ in range(_MOST_STEPS):
        f = face[going]
        out = surface.outward[f]
        height = ((p[going, None] - surface.corners[f]) * out).sum(-1)
        rate = (d[going, None] * out).sum(-1)
        ahead = (rate > 0) & (np.arange(3) != behind[going, None])
        time = np.where(ahead, np.maximum(-height, 0) / np.where(ahead, rate, 1), np.inf)
        edge = time.argmin(-1)
        time = time.min(-1)
        leaves = time < 1
        going, f, edge, time = going[leaves], f[leaves], edge[leaves], time[leaves, None]
        if not len(going):
            return np.concatenate([turn.reshape(-1, 9), move], -1)
        face[going], behind[going] = surface.neighbors[f, edge].T
        if (face[going] < 0).any():
            raise ValueError("a straight path leaves the mesh over its border: `exp` expects shorter vectors there.")
        r, s = q[f, edge], shift[f, edge]
        p[going] = (r @ (p[going] + time * d[going])[..., None])[..., 0] + s
        d[going] = (r @ ((1 - time) * d[going])[..., None])[..., 0]
        move[going] = (r @ move[going][..., None])[..., 0] + s
        turn[going] = r @ turn[going]
    raise ValueError(f"a straight path crosses more than {_MOST_STEPS} edges: `exp` expects shorter vectors.")


@dataclass
class Taut:
    """The shortest path within a strip of faces.

    Attributes:
        length: of the whole path.
        bends: the vertices that it touches, in order, where they lie when the strip is flat in its first face's plane.
        middle: length between the first of them and the last.
        turns: vertices of the strip past which a shorter path may run.
    """

    length: float
    bends: list[complex]
    middle: float
    turns: list[int]


class Strips:
    """Strips of faces between points of one surface, and how to pull a path taut in them and across them."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface
        self.faces, self.neighbors = surface.lists
        self.angles, self.border = surface.angles, surface.border
        self.trees: dict[Any, tuple[np.ndarray, np.ndarray]] = {}

    def first(self, f: int, x: np.ndarray, g: int, y: np.ndarray) -> list[int] | None:
        """A strip by Dijkstra over points on edges; None between pieces that nothing joins."""
        graph, places, sides, nodes = self.surface.links
        if (source := (f, *x)) not in self.trees:
            from scipy.sparse import csr_array
            from scipy.sparse.csgraph import dijkstra

            near = nodes[f][nodes[f] >= 0]
            weights = np.concatenate([graph.data, np.linalg.norm(places[near] - x, axis=-1)])
            ends = np.concatenate([graph.indices, near])
            starts = np.append(graph.indptr, len(ends))  # x is one more node
            whole = csr_array((weights, ends, starts), shape=2 * (len(places) + 1,))
            if len(self.trees) >= 32:
                self.trees.clear()
            self.trees[source] = dijkstra(whole, indices=len(places), return_predecessors=True)
        far, before = self.trees[source]
        near = nodes[g][nodes[g] >= 0]
        if not len(near) or not np.isfinite(far[near]).any():
            return None
        node = int(near[(far[near] + np.linalg.norm(places[near] - y, axis=-1)).argmin()])
        strip = [g]
        while node != len(places):
            one, other = sides[node].tolist()
            strip.append(other if one == strip[-1] else one)
            node = int(before[node])
        return strip[::-1]

    def taut(self, strip: list[int], x: np.ndarray, y: np.ndarray) -> Taut:
        """Lays the strip out flat (points are complex numbers) and pulls the path taut."""
        s = self.surface
        f = strip[0]
        local = (s.corners[f] - s.corners[f, 0]) @ s.frames[f]
        at = {v: complex(*c) for v, c in zip(self.faces[f], local.tolist(), strict=True)}
        begin = complex(*((x - s.corners[f, 0]) @ s.frames[f]))
        portals: list[tuple[int, int, complex, complex]] = []
        for f, g in pairwise(strip):
            i = next(i for i in range(3) if self.neighbors[f][i][0] == g)
            a, b = self.faces[f][i], self.faces[f][(i + 1) % 3]
            inner = at[self.faces[f][i - 1]]
            left, right = (b, a) if ((at[b] - at[a]).conjugate() * (inner - at[a])).imag > 0 else (a, b)
            portals.append((left, right, at[left], at[right]))
            j = self.neighbors[f][i][1]
            c = self.faces[g][j - 1]
            at = {left: at[left], right: at[right]}
            at[c] = at[left] + (at[right] - at[left]) * s.apexes[g][j][self.faces[g][j] != left]
        g = strip[-1]
        share = ((y - np.roll(s.corners[g], -1, 0)) * s.slopes[g]).sum(-1)
        end = sum(float(w) * at[v] for w, v in zip(share, self.faces[g], strict=True))
        return self._pull(begin, complex(end), portals)

    def _pull(self, begin: complex, end: complex, portals: list[tuple[int, int, complex, complex]]) -> Taut:
        gates = [*portals, (-1, -1, end, end)]
        path: list[tuple[int, complex, int, int]] = [(-1, begin, -1, 0)]  # vertex, place, gate, side (+1 left)
        k = 0
        while path[-1][2] < len(portals):
            apex = path[-1][1]
            left = right = k
            for i in range(k, len(gates)):
                far_left, far_right = gates[i][2] - apex, gates[i][3] - apex
                to_left, to_right = gates[left][2] - apex, gates[right][3] - apex
                if _turn(to_left, far_left) <= 0:
                    if _turn(to_right, far_left) < 0:  # the left side has come over the right one: bend there
                        path.append((gates[right][1], gates[right][3], right, -1))
                        break
                    left = i
                if _turn(to_right, far_right) >= 0:
                    if _turn(gates[left][2] - apex, far_right) > 0:
                        path.append((gates[left][0], gates[left][2], left, 1))
                        break
                    right = i
            else:
                path.append((-1, end, len(portals), 0))
            v, _, gate, side = path[-1]
            k = gate + 1
            while side and k < len(portals) and portals[k][0 if side > 0 else 1] == v:
                k += 1
        path = [p for i, p in enumerate(path) if i in (0, len(path) - 1) or p[1] not in (begin, end)]
        pieces = [abs(b[1] - a[1]) for a, b in pairwise(path)]
        bends = [p[1] for p in path[1:-1]]
        return Taut(sum(pieces), bends, sum(pieces[1:-1]) if bends else 0.0, self._turns(path, portals))

    def _turns(
        self, path: list[tuple[int, complex, int, int]], portals: list[tuple[int, int, complex, complex]]
    ) -> list[int]:
        """Vertices with less angle behind them than on the side of the path, the most promising first."""
        gain: dict[int, float] = {}
        for i in range(1, len(path) - 1):
            v, place, _, side = path[i]
            bend = side * cmath.phase((path[i + 1][1] - place) / (place - path[i - 1][1]))
            gain[v] = math.pi + bend - (self.angles[v] - math.pi - bend)
            if self.angles[v] - math.pi - bend >= math.pi - _SLACK:
                gain[v] = -1.0
        for (_, a, start, _), (_, b, stop, _) in pairwise(path):
            for left, right, to_left, to_right in portals[start + 1 : stop]:
                for v, place in ((left, to_left), (right, to_right)):
                    if v not in gain and place not in (a, b):
                        gain[v] = 2 * abs(cmath.phase((b - place) / (a - place))) - self.angles[v]
        return [v for v, g in sorted(gain.items(), key=lambda item: -item[1]) if g > _SLACK and not self.border[v]]

    def around(self, strip: list[int], v: int) -> list[int] | None:
        """The strip that passes the vertex v on its other side."""
        i = next((k for k, f in enumerate(strip[:-1]) if v in self.faces[f]), -1)
        if i < 0 or v not in self.faces[strip[i + 1]]:
            return None
        j = i
        while j + 1 < len(strip) and v in self.faces[strip[j + 1]]:
            j += 1
        fan, avoid = [strip[i]], strip[i + 1]
        while fan[-1] != strip[j]:
            f = fan[-1]
            ways = [self.neighbors[f][k][0] for k in range(3) if v in (self.faces[f][k], self.faces[f][(k + 1) % 3])]
            step = [g for g in ways if g != avoid]
            if len(step) != 1 or step[0] < 0 or len(fan) > len(self.faces):
                return None
            avoid = f
            fan.append(step[0])
        return strip[:i] + fan + strip[j + 1 :]

    def shortest(self, f: int, x: np.ndarray, g: int, y: np.ndarray) -> tuple[list[int], Taut] | None:
        """The first strip, improved by passing vertices on their other side for as long as that is shorter."""
        strip = self.first(f, x, g, y)
        if strip is None:
            return None
        best = self.taut(strip, x, y)
        improved = True
        while improved:
            improved = False
            for turns in ([best.turns] if len(best.turns) > 1 else []) + [[v] for v in best.turns]:  # all at once first
                other: list[int] | None = strip
                for v in turns:
                    other = self.around(other, v) if other is not None else None
                if other is None:
                    continue
                path = self.taut(other, x, y)
                if path.length < best.length * (1 - _SLACK):
                    strip, best, improved = other, path, True
                    break
        return strip, best


def _turn(a: complex, b: complex) -> float:
    """Positive where b lies to the left of a."""
    return a.real * b.imag - a.imag * b.real


def joins(surface: Surface, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What the lengths of paths from x to y are made of ``(n, 20)``.

    A rotation and a shift that turn y's face into the plane of x's along the path. Then the first vertex that the path
    touches, turned into the plane of x, the last one, turned into that of y, and the length between them; and whether
    there are none: the path is straight.
    """
    strips = Strips(surface)
    q, shift = surface.across
    result = np.zeros((len(x), 20))
    for k, (f, g) in enumerate(zip(surface.nearest(x).tolist(), surface.nearest(y).tolist(), strict=True)):
        swap = (f, *x[k]) > (g, *y[k])  # so that the way there is the way back
        a, b, start, stop = (y[k], x[k], g, f) if swap else (x[k], y[k], f, g)
        turn, move, first, last = np.eye(3), np.zeros(3), a, b
        found = strips.shortest(start, a, stop, b) if start != stop else ([start], Taut(0.0, [], 0.0, []))
        if found is None:
            result[k] = [*turn.reshape(-1), *move, *x[k], *y[k], math.inf, 0.0]
            continue
        strip, path = found
        for near, far in pairwise(strip):
            i = next(i for i in range(3) if surface.neighbors[far, i, 0] == near)
            turn, move = turn @ q[far, i], turn @ shift[far, i] + move
        if path.bends:
            flat = np.array([(z.real, z.imag) for z in (path.bends[0], path.bends[-1])])
            first, last = flat @ surface.frames[start].T + surface.corners[start, 0]
            last = turn.T @ (last - move)
        if swap:
            turn, first, last = turn.T, last, first
            move = -turn @ move
        result[k] = [*turn.reshape(-1), *move, *first, *last, path.middle, not path.bends]
    return result


@operators.custom_op("manifolds::straight_walk", mutates_args=())
def straight_walk(x: Tensor, v: Tensor, key: str) -> Tensor:
    """`walk` for tensors of one batch, as an operator."""
    return rows(lambda x, v: walk(SURFACES[key], x, v), x, v)


@operators.custom_op("manifolds::taut_joins", mutates_args=())
def taut_joins(x: Tensor, y: Tensor, key: str) -> Tensor:
    """`joins` for tensors of one batch, as an operator."""
    return rows(lambda x, y: joins(SURFACES[key], x, y), x, y)


@straight_walk.register_fake
def _(x: Tensor, v: Tensor, key: str) -> Tensor:
    return x.new_empty((*x.shape[:-1], 12), dtype=torch.float64)


@taut_joins.register_fake
def _(x: Tensor, y: Tensor, key: str) -> Tensor:
    return x.new_empty((*x.shape[:-1], 20), dtype=torch.float64)


straight_walk.register_vmap(mapped(straight_walk, 2))
taut_joins.register_vmap(mapped(taut_joins, 2))
