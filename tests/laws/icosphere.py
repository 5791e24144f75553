"""Meshes near the unit sphere: the icosahedron, its faces cut in four and pushed out, again and again."""

import itertools

import numpy as np

from manifolds import Mesh


def icosphere(level: int) -> Mesh:
    """20 · 4^level faces with corners on the unit sphere, oriented outwards."""
    golden = (1 + 5**0.5) / 2
    corners = [(0, a, b * golden) for a, b in itertools.product((1, -1), repeat=2)]
    v = np.array([np.roll(c, k) for c in corners for k in range(3)], dtype=float)
    side = np.linalg.norm(v[:, None] - v, axis=-1) < 2.1
    faces = [
        t for t in itertools.combinations(range(12), 3) if all(side[i, j] for i, j in itertools.combinations(t, 2))
    ]
    f = np.array([t if np.linalg.det(v[list(t)]) > 0 else t[::-1] for t in faces])
    for _ in range(level):
        edges, where = np.unique(
            np.sort(np.stack([f, np.roll(f, -1, 1)], -1), -1).reshape(-1, 2), axis=0, return_inverse=True
        )
        a, b, c = f.T
        ab, bc, ca = (len(v) + where.reshape(-1, 3)).T
        v = np.concatenate([v, v[edges].mean(1)])
        v /= np.linalg.norm(v, axis=-1, keepdims=True)
        f = np.concatenate([np.stack(t, -1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return Mesh(v / np.linalg.norm(v, axis=-1, keepdims=True), f)
