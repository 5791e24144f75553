"""Flows of images: FrEIA's wavelets, torch's convolutions, and digits that become more likely."""

import math
from typing import Any

import pytest
import torch
from torch import Generator

from geoflow import Standardize, StandardNormal, fit, load, save
from geoflow.datasets import digits
from geoflow.flows import AtEachPixel, ImageCoupling, LULinear, OnColumns, Squeeze, glow_image
from geoflow.levels import Dequantized
from tests.laws.tools import close


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=Generator().manual_seed(seed))


def test_wavelets_are_freias() -> None:
    """Their Haar blocks, ordered by wavelet; squeezing without them is torch's pixel_unshuffle, regrouped."""
    from FrEIA.modules import HaarDownsampling

    x = noise(5, 3, 4, 6)
    (theirs,), _ = HaarDownsampling([(3, 4, 6)], order_by_wavelet=True).double()([x.clone()])
    part = Squeeze((3, 4, 6), haar=True)
    assert part.squeezed == tuple(theirs.shape[1:])
    z = part.encode(x.flatten(1))
    close(z, theirs.flatten(1), 1e-12)
    close(z.square().sum(-1), x.flatten(1).square().sum(-1), 1e-10)
    plain = Squeeze((3, 4, 6)).encode(x.flatten(1)).reshape(5, 4, 3, 2, 3)
    close(plain, torch.nn.functional.pixel_unshuffle(x, 2).reshape(5, 3, 4, 2, 3).transpose(1, 2), 0)


def test_a_map_of_channels_is_a_convolution_of_size_one() -> None:
    """conv2d with the map's matrix; its log-det is that of one pixel times their number."""
    inner = LULinear(3, order=[2, 0, 1]).double()
    for p in inner.parameters():
        p.data.copy_(0.3 * noise(*p.shape))
    part, x = AtEachPixel(inner, (3, 4, 2)), noise(5, 3, 4, 2)
    matrix = torch.func.jacrev(inner.encode)(torch.zeros(3, dtype=torch.float64)).detach()
    z, log_det = part.encode_and_log_det(x.flatten(1))
    close(z.detach(), torch.nn.functional.conv2d(x, matrix[..., None, None]).flatten(1), 1e-12)
    close(log_det.detach(), (8 * torch.linalg.slogdet(matrix).logabsdet).expand(5), 1e-12)


def test_channels_are_scaled_as_wholes() -> None:
    part, x = (
        AtEachPixel(Standardize(2), (2, 3, 3)).double(),
        noise(200, 2, 3, 3) * torch.tensor([3.0, 0.1])[:, None, None],
    )
    part.prepare(x.flatten(1))
    z = part.encode(x.flatten(1)).reshape(200, 2, 9)
    close(z.square().mean((0, 2)), torch.ones(2).double(), 1e-6)


def test_couplings_see_neighbours_of_the_other_half_alone() -> None:
    """What a pixel of b becomes depends on itself and on 5 × 5 pixels of a around it, which stay."""
    part = ImageCoupling((2, 7, 7), channels=6, activation="tanh").double()
    for p in part.parameters():
        p.data.add_(0.3 * noise(*p.shape))
    jacobian = torch.func.jacrev(part.encode)(noise(98)).reshape(2, 7, 7, 2, 7, 7).detach()
    new_b, kept = jacobian[0, 3, 3], jacobian[1]
    close(kept[:, :, 0].reshape(49, 49), torch.eye(49).double(), 0)
    assert not kept[:, :, 1].any()
    assert bool((new_b[0, 1:6, 1:6] != 0).all())
    assert int((new_b[0] != 0).sum()) == 25
    assert int((new_b[1] != 0).sum()) == 1


@pytest.mark.parametrize("squeeze", ["haar", "space"])
def test_decoding_refills_in_the_same_order(squeeze: Any) -> None:
    """Distinct values come back in their places, and the volume is the Jacobian's."""
    flow = glow_image((1, 8, 4), scales=2, depth=2, channels=4, squeeze=squeeze, activation="tanh").double()
    for p in flow.bijection.parameters():
        p.data.add_(0.1 * noise(*p.shape))
    x = (torch.arange(32, dtype=torch.float64) + 0.5)[torch.randperm(32)][None] / 32
    z, log_det = flow.bijection.encode_and_log_det(x)
    back, undone = flow.bijection.decode_and_log_det(z)
    close(back, x, 1e-10)
    close(undone, -log_det, 1e-9)
    jacobian = torch.func.jacrev(flow.bijection.encode)(x[0])
    close(torch.linalg.slogdet(jacobian).logabsdet, log_det[0], 1e-9)


def test_half_of_the_channels_leave_after_each_scale() -> None:
    """The finest wavelets go to the base: what is done to the others afterwards does not touch them."""
    flow = glow_image((1, 8, 8), scales=3, depth=1)
    sizes = [m.bijection.dim for m in flow.modules() if isinstance(m, OnColumns)]
    assert sizes == [32, 16]
    x = torch.rand(3, 64, generator=Generator().manual_seed(0))
    before = flow.bijection.encode(x).detach()
    inner = next(m for m in flow.modules() if isinstance(m, OnColumns)).bijection
    for p in inner.parameters():
        p.data.add_(0.1)
    after = flow.bijection.encode(x).detach()
    assert torch.equal(after[:, 32:], before[:, 32:])
    assert not torch.equal(after[:, :32], before[:, :32])


def test_digits_become_more_likely(tmp_path: Any) -> None:
    """scikit-learn's 8 × 8 digits in 17 levels: a quarter bit a pixel better than their normal in the same columns."""
    data = digits(dequantise=False)
    x = (data.x * 16).round()[torch.randperm(len(data.x), generator=Generator().manual_seed(0))]
    torch.manual_seed(0)
    model = Dequantized(glow_image((1, 8, 8), depth=2, channels=8), 17)
    model.prepare(x[:1500])
    start = model.evaluate(x[1500:])["bits per dim"]
    fit(model, x[:1500], epochs=6, lr=1e-2, seed=0, progress=False)
    end = model.evaluate(x[1500:])["bits per dim"]
    assert end < start - 0.25
    assert end < math.log2(17) - 1.2
    drawn = model.sample(200, generator=Generator().manual_seed(0))
    assert (drawn.mean(0) - x.mean(0)).abs().mean() < 1
    save(model, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.evaluate(x[1500:]) == model.evaluate(x[1500:])


def test_conditions_reach_every_pixel() -> None:
    flow = glow_image((1, 4, 4), scales=1, depth=2, channels=4, context=3)
    for p in flow.bijection.parameters():
        p.data.add_(0.1)
    x, c = torch.rand(2, 16, generator=Generator().manual_seed(0)), torch.eye(3)[:2]
    assert not torch.allclose(flow.log_prob(x, c), flow.log_prob(x, c.roll(1, 0)))
    assert flow.sample(5, c).shape == (5, 2, 16)


def test_refusals(unchecked: None) -> None:
    for make, words in (
        (lambda: glow_image((1, 7, 8)), "sides of 7 × 8 cannot be halved 2 times"),
        (lambda: glow_image((8, 8)), r"shape \(channels, height, width\), got \(8, 8\)"),
        (lambda: glow_image((1, 8, 8), squeeze="db4"), "squeeze='haar' or 'space', got 'db4'"),  # type: ignore[arg-type]
        (lambda: glow_image((1, 8, 8), depth=0), "depth"),
        (lambda: glow_image((1, 8, 8), base=StandardNormal(10)), "encodes to 64 coordinates, the base has 10"),
        (lambda: Squeeze((1, 3, 4)), "even sides, got 3 × 4"),
        (lambda: AtEachPixel(LULinear(2), (3, 2, 2)), "a LULinear of 2 coordinates for 3 channels"),
        (lambda: ImageCoupling((1, 4, 4)), "two channels or more: put a Squeeze before it"),
        (lambda: ImageCoupling((2, 4, 4), clamp=0.0), "clamp > 0, got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
