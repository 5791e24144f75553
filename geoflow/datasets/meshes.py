"""Triangle meshes from files: Wavefront .obj, .off, and .ply in text or binary."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from geoflow.datasets import folder as shelf
from manifolds import Mesh

_PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}


def mesh(name: str, folder: str | os.PathLike[str] | None = None) -> Mesh:
    """A mesh of your folder, ``manifolds/mesh/<name>``; the ending may be left out. Lengths are in the file's unit.

    Args:
        name: as ``"spot_simp"``, or with its ending where several files differ in that.
        folder: where ``manifolds/mesh`` is; by default GEOFLOW_DATA names it.
    """
    root = shelf._root(folder) / "manifolds" / "mesh"
    found = [p for p in (root / name, *(root / f"{name}{e}" for e in _READERS)) if p.is_file()]
    if not found:
        has = shelf.available(folder)["manifolds/mesh"]
        there = f" (there: {', '.join(has)})" if has else ""
        raise FileNotFoundError(
            f"{root / name} is missing, as {' or '.join(_READERS)}{there}. It comes from "
            f"{shelf.SOURCES['manifolds/mesh']}."
        )
    return read_mesh(found[0])


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """The mesh in one .obj, .off or .ply file; faces of more than three corners are cut into fans of triangles."""
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"{path}: read_mesh reads {', '.join(_READERS)}.")
    try:
        vertices, faces = _READERS[path.suffix.lower()](path)
    except (IndexError, KeyError, StopIteration, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} is cut off or no {path.suffix} file: {error or 'it ends too early'}") from None
    triangles = [(f[0], b, c) for f in faces for b, c in pairwise(f[1:])]
    return Mesh(vertices, np.array(triangles, dtype=np.int64).reshape(-1, 3))


def _obj(path: Path) -> tuple[np.ndarray, list[list[int]]]:
    vertices: list[list[float]] = []
    faces: list[list[int]] = []
    for words in _words(path):
        if words[0] == "v":
            vertices.append([float(w) for w in words[1:4]])
        elif words[0] == "f":  # corner/texture/normal, from 1, or from the end if negative
            corners = [int(w.split("/")[0]) for w in words[1:]]
            faces.append([c - 1 if c > 0 else len(vertices) + c for c in corners])
    return np.array(vertices, dtype=np.float64).reshape(-1, 3), faces


def _off(path: Path) -> tuple[np.ndarray, list[list[int]]]:
    lines = _words(path)
    head = next(lines)
    if head[0] != "OFF":
        raise ValueError("its first word is not OFF")
    v, f = (int(w) for w in (head[1:] or next(lines))[:2])
    vertices = np.array([[float(w) for w in next(lines)[:3]] for _ in range(v)])
    return vertices, [[int(w) for w in line[1 : 1 + int(line[0])]] for line in (next(lines) for _ in range(f))]


def _ply(path: Path) -> tuple[np.ndarray, list[list[int]]]:
    raw = path.read_bytes()
    head, mark, body = raw.partition(b"end_header")
    body = body[body.index(b"\n") + 1 :] if mark else body
    lines = [line.split() for line in head.decode("ascii").splitlines() if line.strip()]
    if not mark or lines[0] != ["ply"]:
        raise ValueError("it has no ply header")
    kind = next(line[1] for line in lines if line[0] == "format")
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in lines:
        if line[0] == "element":
            elements.append((line[1], int(line[2]), []))
        elif line[0] == "property":
            elements[-1][2].append(line[1:])
    order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}[kind]
    numbers = iter(body.split()) if kind == "ascii" else None
    at = 0

    def take(name: str) -> float:
        nonlocal at
        if numbers is not None:
            return float(next(numbers))
        dtype = np.dtype(order + _PLY_TYPES[name])
        at += dtype.itemsize
        return float(np.frombuffer(body, dtype, 1, at - dtype.itemsize)[0])

    vertices, faces = [], []
    for name, count, properties in elements:
        for _ in range(count):
            row: dict[str, list[float]] = {}
            for p in properties:
                row[p[-1]] = [take(p[2]) for _ in range(int(take(p[1])))] if p[0] == "list" else [take(p[0])]
            if name == "vertex":
                vertices.append([row[c][0] for c in "xyz"])
            elif name == "face":
                corners = row["vertex_indices"] if "vertex_indices" in row else row["vertex_index"]
                faces.append([int(c) for c in corners])
    return np.array(vertices).reshape(-1, 3), faces


def _words(path: Path) -> Iterator[list[str]]:
    """The words of each line that has some, without comments."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.partition("#")[0].split()
            if words:
                yield words


_READERS = {".obj": _obj, ".off": _off, ".ply": _ply}
