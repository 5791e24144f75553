"""Data sets: made data follow the density they claim, tables have names and labels, loaders say what is missing."""

import numpy as np
import pytest
import torch

from geoflow import datasets
from geoflow.datasets import Dataset

TOYS = {
    "two_moons": datasets.two_moons,
    "ring": datasets.ring,
    "spiral": datasets.spiral,
    "eight_gaussians": datasets.eight_gaussians,
    "four_gaussians": datasets.four_gaussians,
    "noisy_sine": datasets.noisy_sine,
}
SHIPPED = {
    "digits": (datasets.digits, (1797, 64), 10),
    "wine": (datasets.wine, (178, 13), 3),
    "breast_cancer": (datasets.breast_cancer, (569, 30), 2),
}


def check_shape(data: Dataset) -> None:
    assert data.x.ndim == 2
    assert data.x.is_floating_point()
    assert bool(data.x.isfinite().all())
    assert len(data.columns) == len(set(data.columns)) == data.x.shape[1]
    for extra in (data.labels, data.test):
        assert extra is None or extra.shape == (len(data),)
    assert data.about.endswith(".")


@pytest.mark.parametrize("make", TOYS.values(), ids=TOYS)
def test_toy_follows_its_density(make):
    data = make(4000, seed=1)
    check_shape(data)
    p = data.density
    side = torch.linspace(-5, 5, 400)
    grid = torch.cartesian_prod(side, side)
    cell = float((side[1] - side[0]) ** 2)
    log_p = p.log_prob(grid).double()
    assert float(log_p.exp().sum() * cell) == pytest.approx(1, abs=1e-3)
    # the mean of log p over the draws is that over the density, within five standard errors
    entropy = -float((log_p.exp() * log_p).sum() * cell)
    rows = -p.log_prob(data.x).double()
    assert abs(float(rows.mean()) - entropy) < 5 * float(rows.std()) / len(rows) ** 0.5
    low, high = data.x.amin(0), data.x.amax(0)
    again = p.sample(4000, generator=torch.Generator().manual_seed(2))
    assert bool((again.mean(0) - data.x.mean(0)).abs().le(0.15 * (high - low)).all())


@pytest.mark.parametrize("make", TOYS.values(), ids=TOYS)
def test_toy_is_repeated_by_its_seed_alone(make):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    a, b, c = make(50, seed=3), make(50, seed=3), make(50, seed=4)
    assert torch.equal(a.x, b.x)
    assert not torch.equal(a.x, c.x)
    assert torch.equal(torch.get_rng_state(), state)


def test_toy_density_is_smooth_along_its_curve():
    data = datasets.ring(10, noise=0.3)
    t = torch.linspace(0, 6.28, 500)
    around = data.density.log_prob(2 * torch.stack([t.cos(), t.sin()], -1))
    assert float(around.max() - around.min()) < 1e-4


def test_labels_of_the_moons_are_their_curves():
    data = datasets.two_moons(400, noise=0.01)
    upper = data.x[data.labels == 0]
    assert bool(((upper.norm(dim=-1) - 1).abs() < 0.06).all())


@pytest.mark.parametrize(("make", "shape", "classes"), SHIPPED.values(), ids=SHIPPED)
def test_shipped(make, shape, classes):
    data = make()
    check_shape(data)
    assert tuple(data.x.shape) == shape
    assert data.labels.unique().tolist() == list(range(classes))


def test_dequantised_digits_hold_their_levels():
    x = datasets.digits().x
    levels = datasets.digits(dequantise=False).x * 16
    assert bool(((x >= 0) & (x < 1)).all())
    assert torch.equal((x * 17).floor(), levels)
    assert not torch.equal(datasets.digits(seed=1).x, x)


def test_frame_keeps_names_and_labels():
    pandas = pytest.importorskip("pandas")
    frame = datasets.wine().frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == [*datasets.wine().columns, "label"]


@pytest.mark.parametrize("bad", [{"n": 0}, {"noise": 0.0}, {"noise": float("nan")}])
def test_toys_refuse(bad):
    with pytest.raises(ValueError, match=r"expects noise|at least 1"):
        datasets.two_moons(**bad)


@pytest.fixture
def folder(tmp_path):
    """The layout that loaders read, filled with small made arrays."""
    rng = np.random.default_rng(0)
    for kind in ("adbench", "uci_regression", "power_subset", "mnist"):
        (tmp_path / kind).mkdir()
    np.savez(tmp_path / "adbench/thyroid.npz", X=rng.integers(0, 9, (20, 3)), y=rng.integers(0, 2, 20).astype(np.uint8))
    mask = np.zeros((21, 10), bool)
    mask[3, 2] = mask[20, 2] = True
    packed = np.packbits(mask, axis=0)
    data = rng.normal(size=(21, 4)).astype(np.float32)
    np.savez(tmp_path / "uci_regression/bike.npz", data=data, test_mask=packed, n_rows=21)
    names = np.array(["power", "voltage"])
    np.savez(tmp_path / "power_subset/household_power_first_month.npz", X=rng.normal(size=(9, 2)), columns=names)
    images = rng.integers(0, 256, (6, 28, 28)).astype(np.uint8)
    labels = np.arange(6, dtype=np.uint8)
    np.savez(tmp_path / "mnist/mnist.npz", x_train=images[:4], y_train=labels[:4], x_test=images[4:], y_test=labels[4:])
    return tmp_path


def test_loaders_read_the_layout(folder, monkeypatch):
    monkeypatch.setenv("GEOFLOW_DATA", str(folder))
    for data in (
        datasets.adbench("thyroid"),
        datasets.uci_regression("bike"),
        datasets.power_subset(),
        datasets.mnist(),
    ):
        check_shape(data)
    bike = datasets.uci_regression("bike", fold=2)
    assert bike.columns[-1] == "y"
    assert bike.test.nonzero().flatten().tolist() == [3, 20]
    assert datasets.power_subset().columns == ("power", "voltage")
    images = datasets.mnist()
    assert images.test.tolist() == [False] * 4 + [True] * 2
    assert images.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal((images.x * 256).floor() / 255, datasets.mnist(dequantise=False).x)
    assert datasets.available(folder)["adbench"] == ["thyroid"]


def test_loaders_say_what_is_missing(folder, monkeypatch):
    monkeypatch.delenv("GEOFLOW_DATA", raising=False)
    with pytest.raises(ValueError, match=r"folder=.*GEOFLOW_DATA"):
        datasets.mnist()
    with pytest.raises(FileNotFoundError, match=r"no folder"):
        datasets.mnist(folder=folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"there: thyroid.*Minqi824/ADBench"):
        datasets.adbench("shuttle", folder)
    with pytest.raises(ValueError, match=r"folds 0 to 9"):
        datasets.uci_regression("bike", 10, folder)
    np.savez(folder / "adbench/empty.npz", Z=np.zeros(3))
    with pytest.raises(ValueError, match=r"expected arrays X, y; it has Z"):
        datasets.adbench("empty", folder)


def test_the_real_files_load_where_they_are():
    import os

    if not os.environ.get("GEOFLOW_DATA"):
        pytest.skip("GEOFLOW_DATA is not set")
    found = datasets.available()
    for name in found["adbench"]:
        check_shape(datasets.adbench(name))
    for name in found["uci_regression"]:
        check_shape(datasets.uci_regression(name))


def test_earth_gives_each_place_once_on_the_sphere(tmp_path):
    (tmp_path / "manifolds/earth/rfm").mkdir(parents=True)
    path = tmp_path / "manifolds/earth/rfm/flood.csv"
    path.write_text("LATITUDE,LONGITUDE\n90,0\n0,90\n0,90\n-30,180\n")
    found = datasets.earth("flood", tmp_path)
    check_shape(found)
    assert len(found) == 3
    torch.testing.assert_close(found.x.norm(dim=1), torch.ones(3, dtype=found.x.dtype))
    with pytest.raises(FileNotFoundError, match=r"fire\.csv is missing.*Riemannian_MeanFlow"):
        datasets.earth("fire", tmp_path)
    with pytest.raises(ValueError, match="volcano, earthquake, flood, fire"):
        datasets.earth("storm", tmp_path)


def test_bsds300_patches(tmp_path):
    """Made images whose grey level rises by four from pixel to pixel to the right, each on a level of its own."""
    import io
    import tarfile

    from PIL import Image

    (tmp_path / "bsds300").mkdir()
    with tarfile.open(tmp_path / "bsds300/bsds300_color_jpg.tar", "w") as tar:
        for i in range(300):
            grey = np.broadcast_to(10 + 4 * np.arange(24) + i % 7, (16, 24)).astype(np.uint8)
            jpg = io.BytesIO()
            Image.fromarray(np.stack([grey] * 3, -1)).save(jpg, "jpeg", quality=100)
            member = tarfile.TarInfo(f"{'train' if i < 200 else 'test'}/{i:03d}.jpg")
            member.size = jpg.tell()
            jpg.seek(0)
            tar.addfile(member, jpg)
    data = datasets.bsds300(450, 101, seed=1, folder=tmp_path)
    check_shape(data)
    assert data.x.shape == (551, 63)
    assert data.test.sum() == 101
    assert torch.equal(data.test, data.labels >= 200)
    per_image = torch.bincount(data.labels)
    assert per_image[:200].unique().tolist() == [2, 3]
    assert per_image[200:].tolist() == [2] + [1] * 99
    whole = torch.cat([data.x, -data.x.sum(1, keepdim=True)], 1).reshape(-1, 8, 8)  # the last pixel follows
    assert torch.allclose((whole[:, :, 1:] - whole[:, :, :-1]).mean(0), torch.tensor(4 / 256), atol=1e-3)
    assert (whole[:, 1:] - whole[:, :-1]).abs().max() <= 3 / 256  # noise, and what the compression loses
    assert not torch.equal(data.x, datasets.bsds300(450, 101, seed=2, folder=tmp_path).x)
    assert torch.equal(data.x, datasets.bsds300(450, 101, seed=1, folder=tmp_path).x)
    with pytest.raises(FileNotFoundError, match=r"BIDS/BSDS500"):
        datasets.bsds300(folder=tmp_path / "bsds300")
    with pytest.raises(ValueError, match=r"n must be at least 200"):
        datasets.bsds300(10, folder=tmp_path)


@pytest.fixture
def images(tmp_path):
    """Colour sheets and faces in the layout that loaders read: one training sheet, half a test sheet, four portraits."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for kind in ("cifar10", "faces", "celeba/img_align_celeba"):
        (tmp_path / kind).mkdir(parents=True)
    for part in ("train", "test"):
        levels = rng.integers(0, 256, (1280, 800, 3), dtype=np.uint8)
        levels[:640] = 255
        Image.fromarray(levels).save(tmp_path / f"cifar10/{part}_00.webp", lossless=True, method=0, quality=0)
    y = rng.integers(0, 10, 1500).astype(np.uint8)
    np.savez(tmp_path / "cifar10/labels.npz", train=y[:1000], test=y[1000:])
    np.savez(tmp_path / "faces/freyfaces.npz", images=rng.integers(0, 256, (5, 28, 20), dtype=np.uint8))
    faces = rng.integers(0, 256, (6, 64, 64), dtype=np.uint8)
    np.savez(tmp_path / "faces/olivetti.npz", images=faces, target=np.repeat(np.arange(3, dtype=np.uint8), 2))
    for i in range(4):  # red grows to the right, green downwards, blue from one to the next; a white frame is cut off
        levels = np.full((218, 178, 3), 255, np.uint8)
        levels[39:179, 19:159, 0], levels[39:179, 19:159, 1] = np.arange(140), np.arange(140)[:, None]
        levels[39:179, 19:159, 2] = 40 * i
        path = tmp_path / f"celeba/img_align_celeba/{i + 1:06d}.jpg"
        Image.fromarray(levels).save(path, quality=95, subsampling=0)
    return tmp_path


def test_colour_images_are_flat_with_channels_first(images):
    from PIL import Image

    data = datasets.cifar10(dequantise=False, folder=images)
    check_shape(data)
    assert data.x.shape == (1500, 3072)
    assert int(data.test.sum()) == 500
    assert bool(data.test[1000:].all())
    sheet = np.asarray(Image.open(images / "cifar10/train_00.webp"))
    for i in (0, 27, 999):
        tile = sheet[32 * (i // 25) :][:32, 32 * (i % 25) :][:, :32]
        assert np.array_equal((255 * data.x[i]).round().reshape(3, 32, 32).permute(1, 2, 0).numpy(), tile)
    assert data.columns[1024 + 32 * 3 + 5] == "pixel_1_3_5"
    noisy = datasets.cifar10(folder=images).x
    assert 0.9999 < float(noisy.max()) < 1
    assert float(((noisy * 256).floor() / 255 - data.x).abs().max()) < 1e-6
    Image.new("RGB", (800, 320)).save(images / "cifar10/test_00.webp")
    with pytest.raises(ValueError, match=r"1280 high, got 800 × 320 in test_00.webp"):
        datasets.cifar10(folder=images)
    (images / "cifar10/test_00.webp").unlink()
    with pytest.raises(FileNotFoundError, match=r"there: labels, train_00.*taneishi/convnetjs"):
        datasets.cifar10(folder=images)


def test_faces(images):
    frey, olivetti = (make(dequantise=False, folder=images) for make in (datasets.frey_faces, datasets.olivetti))
    for data, name, shape in ((frey, "freyfaces", (5, 560)), (olivetti, "olivetti", (6, 4096))):
        check_shape(data)
        assert data.x.shape == shape
        with np.load(images / f"faces/{name}.npz") as file:
            assert np.array_equal((255 * data.x).round().numpy(), file["images"].reshape(shape))
    assert frey.columns[21] == "pixel_1_1"
    assert frey.labels is None
    assert olivetti.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_celeba_from_a_folder(images):
    data = datasets.celeba(size=20, dequantise=False, folder=images)
    check_shape(data)
    assert data.x.shape == (4, 1200)
    assert data.test is None
    assert not data.observables
    levels = 255 * data.x.reshape(4, 3, 20, 20)
    ramp = 3 + 7 * torch.arange(20.0)
    for i in range(4):
        for channel, wanted in zip(
            levels[i], (ramp.expand(20, 20), ramp[:, None].expand(20, 20), 40.0 * i), strict=True
        ):
            assert float((channel - wanted).abs().max()) < 6
    lists = images / "celeba"
    names = [f"{i + 1:06d}.jpg" for i in range(4)]
    signs = [(-1, 1), (1, 1), (1, -1), (-1, -1)]
    rows = [f"{name} {a:2d} {b:2d}" for name, (a, b) in zip(names, signs, strict=True)]
    (lists / "list_attr_celeba.txt").write_text("\n".join(["4", "Smiling Young", *rows]) + "\n")
    (lists / "list_eval_partition.txt").write_text("".join(f"{name} {i // 2 * 2}\n" for i, name in enumerate(names)))
    known = datasets.celeba(size=8, rows=range(1, 4), folder=images)
    assert {k: v.tolist() for k, v in known.observables.items()} == {"Smiling": [1, 1, 0], "Young": [1, 0, 0]}
    assert known.test.tolist() == [False, True, True]
    assert len(datasets.celeba(size=8, rows=3, folder=images)) == 3
    for bad in (range(2, 5), range(0)):
        with pytest.raises(ValueError, match=r"holds 4 .jpg images, and rows range"):
            datasets.celeba(rows=bad, folder=images)
    (lists / "list_attr_celeba.txt").write_text("\n".join(["4", "Smiling Young", *rows[:2]]))
    with pytest.raises(ValueError, match=r"a name and 2 numbers for 000003.jpg, and 1 others"):
        datasets.celeba(size=8, folder=images)
    from PIL import Image

    Image.new("RGB", (64, 64)).save(lists / "img_align_celeba/000000.jpg")
    with pytest.raises(ValueError, match=r"178 × 218 pixels; .*000000.jpg has \(64, 64\)"):
        datasets.celeba(folder=images)
    with pytest.raises(FileNotFoundError, match=r"img_align_celeba.zip"):
        datasets.celeba(folder=lists)


@pytest.mark.parametrize(("latent", "components"), [(8, 64), (16, 83)])
def test_latent_toy_hides_its_dimension_from_linear_methods(latent, components):
    data = datasets.latent_toy(latent)
    check_shape(data)
    spectrum = torch.linalg.eigvalsh(torch.cov(data.x.double().T)).flip(0).cumsum(0)
    assert int((spectrum < 0.99 * spectrum[-1]).sum()) + 1 == components
    assert list(data.observables) == [f"z{j + 1}" for j in range(latent)]
    fresh, other = datasets.latent_toy(latent, seed=1), datasets.latent_toy(latent, map_seed=1)
    assert torch.equal(other.observables["z1"], data.observables["z1"])
    assert not torch.equal(fresh.observables["z1"], data.observables["z1"])
    means = [x.mean(0) for x in (data.x, fresh.x, other.x)]  # of one map, and of another
    assert float((means[1] - means[0]).abs().max()) < 0.02 < float((means[2] - means[0]).abs().max()) / 5
