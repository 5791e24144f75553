"""Real tables that scikit-learn ships, so that no download is needed."""

import torch
from torch import Generator

from geoflow.datasets.dataset import Dataset


def digits(dequantise: bool = True, seed: int = 0) -> Dataset:
    """1797 handwritten digits of 8 × 8 pixels in 17 grey levels, with labels 0 to 9.

    Grey levels are whole numbers, on which a density grows without bound: uniform noise in [0, 1) is added to each, and
    x = (level + noise) / 17 lies in [0, 1). The density of x is then a lower bound of the levels' probability.

    Args:
        dequantise: add the noise; without, x = level / 16.
        seed: of the noise.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    level = torch.as_tensor(bunch.data, dtype=torch.float32)
    noise = torch.rand(level.shape, generator=Generator().manual_seed(seed))
    x = (level + noise) / 17 if dequantise else level / 16
    columns = tuple(f"pixel_{i // 8}_{i % 8}" for i in range(64))
    done = f"uniform noise added, divided by 17 (seed {seed})" if dequantise else "divided by 16, as shipped"
    return Dataset("digits", x, columns, torch.as_tensor(bunch.target), about=f"scikit-learn's 8 × 8 digits, {done}.")


def wine() -> Dataset:
    """178 Italian wines, 13 measurements in their own units, labelled by cultivar 0 to 2: few rows, mixed units."""
    from sklearn.datasets import load_wine

    bunch = load_wine()
    x = torch.as_tensor(bunch.data, dtype=torch.float64)
    return Dataset("wine", x, tuple(bunch.feature_names), torch.as_tensor(bunch.target), about="scikit-learn's wine.")


def breast_cancer() -> Dataset:
    """569 tumours, 30 measurements of cell nuclei, labelled malignant 0 and benign 1; several columns nearly repeat."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    x = torch.as_tensor(bunch.data, dtype=torch.float64)
    columns = tuple(str(n) for n in bunch.feature_names)
    return Dataset("breast_cancer", x, columns, torch.as_tensor(bunch.target), about="scikit-learn's breast cancer.")
