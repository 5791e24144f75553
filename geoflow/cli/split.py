"""Which rows a model never saw: drawn by seed and share, noted in its file, found again on the same table."""

from typing import Any

import numpy as np

from geoflow.tables import Table


def held_out(rows: int, share: float, seed: int) -> np.ndarray:
    """Mask of the rows held out ``(rows,)``; at least one where the share is not 0."""
    mask = np.zeros(rows, dtype=bool)
    count = max(1, round(share * rows)) if share > 0 else 0
    mask[np.random.default_rng(seed).permutation(rows)[:count]] = True
    return mask


def note(table: Table, share: float, seed: int) -> dict[str, Any]:
    """What a model file keeps of the split."""
    return {
        "seed": seed,
        "fraction": share,
        "rows": len(table.values),
        "fingerprint": table.fingerprint(),
        "file": table.raw.path,
    }


def recall(table: Table, split: dict[str, Any] | None) -> np.ndarray | None:
    """The mask of the rows held out when the model was fitted, if this is the table it was fitted to."""
    if not split or split["fingerprint"] != table.fingerprint():
        return None
    return held_out(len(table.values), split["fraction"], split["seed"])
