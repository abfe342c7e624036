"""The sources of garments: in which order they are looked for, and what a damaged one is told."""

from __future__ import annotations

import gzip
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from grading.data import DataError, fashion_mnist, find_source, garments
from grading.data import _sources as sources
from grading.data._idx import read_folder

NAMES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


def images_file(images: np.ndarray, magic: int = 0x803) -> bytes:
    return struct.pack(">4I", magic, *images.shape) + images.tobytes()


def labels_file(labels: np.ndarray, magic: int = 0x801) -> bytes:
    return struct.pack(">2I", magic, len(labels)) + labels.astype(np.uint8).tobytes()


@pytest.fixture
def arrays() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(7)
    return {
        split: (random.integers(0, 256, (size, 28, 28), dtype=np.uint8), random.integers(0, 10, size))
        for split, size in (("train", 12), ("test", 5))
    }


@pytest.fixture
def folder(tmp_path: Path, arrays: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """A small copy of the data set, half of it gzipped."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    (images, labels), (test_images, test_labels) = arrays["train"], arrays["test"]
    (folder / f"{NAMES[0]}.gz").write_bytes(gzip.compress(images_file(images)))
    (folder / NAMES[1]).write_bytes(labels_file(labels))
    (folder / NAMES[2]).write_bytes(images_file(test_images))
    (folder / f"{NAMES[3]}.gz").write_bytes(gzip.compress(labels_file(test_labels)))
    return folder


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without any source: no variable, no Debian package, no cache, no network."""
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    monkeypatch.setattr(sources, "DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_a_folder_is_read_as_it_was_written(folder, arrays):
    data = fashion_mnist(str(folder))
    assert list(data) == ["train", "test"]
    for split, (images, labels) in arrays.items():
        assert data[split]["label"][:] == labels.tolist()
        for element, image in zip(data[split], images, strict=True):
            assert element["image"].mode == "L"
            assert np.array_equal(np.asarray(element["image"]), image)
    assert data["train"].features["label"].names[9] == "Ankle boot"
    assert find_source(folder).label == f"12 training and 5 test images of Fashion-MNIST ({folder})"


def test_statistics_are_those_of_the_training_pixels(folder, arrays):
    pixels = arrays["train"][0] / 255
    assert find_source(folder).statistics() == pytest.approx((pixels.mean(), pixels.std()))


def test_gzip_is_told_by_content_not_by_name(folder):
    packed = folder / f"{NAMES[0]}.gz"
    packed.write_bytes(gzip.decompress(packed.read_bytes()))
    bare = folder / NAMES[1]
    bare.write_bytes(gzip.compress(bare.read_bytes()))
    assert len(read_folder(folder)["train"][1]) == 12


def test_a_folder_goes_before_the_variable_before_debian(folder, monkeypatch, tmp_path):
    with pytest.raises(DataError):
        find_source(None)
    (tmp_path / "debian").symlink_to(folder)
    assert str(tmp_path / "debian") in find_source(None).label
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    assert str(folder) in find_source(None).label
    assert str(tmp_path / "debian") in find_source(str(tmp_path / "debian")).label


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_a_folder_that_is_named_is_never_passed_over(by, folder, monkeypatch, tmp_path):
    (tmp_path / "debian").symlink_to(folder)
    missing = tmp_path / "mistyped"
    monkeypatch.setenv("FASHION_MNIST_DIR", str(missing if by == "variable" else folder))
    with pytest.raises(DataError, match="mistyped does not exist"):
        find_source(str(missing) if by == "argument" else None)


def test_no_source_is_one_sentence_that_names_all_three_at_once(monkeypatch):
    start = time.perf_counter()
    with pytest.raises(DataError) as caught:
        fashion_mnist(None)
    text = str(caught.value)
    for word in (
        "--data",
        "FASHION_MNIST_DIR",
        "debian",
        "Hugging Face Hub",
        "zalando-datasets/fashion_mnist",
        "synthetic",
    ):
        assert word in text
    assert "\n" not in text
    assert time.perf_counter() - start < 5


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="not reachable"):
        find_source(None)
    monkeypatch.setattr(sources, "PATIENCE", 0.2)

    def never_answers(*args, **how):
        time.sleep(30)
        raise TimeoutError

    monkeypatch.setattr(sources.urllib.request, "urlopen", never_answers)
    start = time.perf_counter()
    with pytest.raises(DataError, match="not reachable"):
        find_source(None)
    assert time.perf_counter() - start < 5


def test_the_hubs_copy_on_this_machine_is_read_without_a_network(folder, arrays, tmp_path):
    kept = tmp_path / "huggingface/datasets/zalando-datasets___fashion_mnist/fashion_mnist/0.0.0/abc"
    kept.mkdir(parents=True)
    for split, dataset in fashion_mnist(folder).items():
        dataset.save_to_disk(str(tmp_path / split))
        next((tmp_path / split).glob("*.arrow")).rename(kept / f"fashion_mnist-{split}.arrow")
    source = find_source(None)
    assert "Hugging Face" in source.label
    assert np.array_equal(source.arrays()["test"][0], arrays["test"][0])
    assert garments(None).real


def test_a_failing_download_is_one_sentence(monkeypatch):
    import datasets

    def fails(*args: object, **how: object) -> None:
        raise ConnectionError("something long\nand a second line")

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(DataError, match=r"did not deliver .*something long.*--data DIR") as caught:
        sources.Hub().load()
    assert "\n" not in str(caught.value)


def damaged(folder: Path, name: str, content: bytes | None) -> str:
    """The sentence about a folder in which one file is replaced, or taken away."""
    for path in (folder / name, folder / f"{name}.gz"):
        path.unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        find_source(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(name, folder):
    assert f"has no {name}" in damaged(folder, name, None)


def test_an_empty_file(folder):
    assert "is empty" in damaged(folder, NAMES[0], b"")


def test_a_header_that_is_cut_off(folder):
    assert "ends within its header" in damaged(folder, NAMES[0], struct.pack(">2I", 0x803, 12))


def test_images_that_are_cut_off(folder, arrays):
    assert "ends after 9392 of the 9408 bytes" in damaged(folder, NAMES[0], images_file(arrays["train"][0])[:-16])


def test_a_file_that_goes_on_after_its_end(folder, arrays):
    assert "goes on after" in damaged(folder, NAMES[1], labels_file(arrays["train"][1]) + b"\0")


def test_a_gzip_stream_that_is_cut_off(folder, arrays):
    assert "cut off" in damaged(folder, NAMES[0], gzip.compress(images_file(arrays["train"][0]))[:-200])


def test_a_gzip_stream_that_is_damaged(folder, arrays):
    packed = bytearray(gzip.compress(images_file(arrays["train"][0])))
    packed[len(packed) // 2] ^= 255
    assert "damaged" in damaged(folder, NAMES[0], bytes(packed))


def test_labels_under_the_name_of_images(folder, arrays):
    text = damaged(folder, NAMES[0], labels_file(arrays["train"][1]))
    assert "holds labels, expected images" in text
    assert "renamed" in text


def test_another_kind_of_file(folder):
    assert "no IDX file" in damaged(folder, NAMES[2], b"<!DOCTYPE html><html>")


def test_images_of_another_size(folder):
    assert "32 x 32" in damaged(folder, NAMES[0], images_file(np.zeros((12, 32, 32), dtype=np.uint8)))


def test_labels_of_another_length(folder, arrays):
    text = damaged(folder, NAMES[1], labels_file(arrays["train"][1][:-2]))
    assert "12 images" in text
    assert "10 labels" in text


def test_a_label_above_nine(folder, arrays):
    labels = arrays["train"][1].copy()
    labels[3] = 10
    assert "label 10 at position 3" in damaged(folder, NAMES[1], labels_file(labels))


def test_a_header_that_announces_terabytes(folder):
    assert "cannot be" in damaged(folder, NAMES[0], struct.pack(">4I", 0x803, 2**32 - 1, 28, 28))


def test_a_folder_in_place_of_a_file(folder):
    (folder / f"{NAMES[0]}.gz").unlink()
    (folder / NAMES[0]).mkdir()
    with pytest.raises(DataError, match="has no"):
        find_source(folder)


def test_a_file_in_place_of_the_folder(folder):
    with pytest.raises(DataError, match="is not a folder"):
        find_source(folder / NAMES[1])


def test_drawn_garments_are_the_same_every_time_and_never_called_fashion_mnist():
    first, second = sources.Drawn(300, 100), sources.Drawn(300, 100)
    for split, (images, labels) in first.arrays().items():
        assert images.shape == (len(labels), 28, 28)
        assert images.dtype == np.uint8
        assert np.array_equal(images, second.arrays()[split][0])
        assert set(labels.tolist()) == set(range(10))
        assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    assert not np.array_equal(first.arrays()["train"][0][:100], first.arrays()["test"][0])
    assert "Fashion-MNIST" not in first.label
    assert "synthetic" in first.label
    assert find_source("synthetic").label == first.label


def test_drawn_kinds_can_be_told_apart():
    """The mean images of the kinds differ: the nearest one is right far more often than by chance."""
    drawn = sources.Drawn(1000, 300).arrays()
    images, labels = drawn["train"]
    means = np.stack([images[labels == kind].mean(axis=0) for kind in range(10)]).reshape(10, -1)
    seen = drawn["test"][0].reshape(300, 1, -1).astype(float)
    nearest = np.linalg.norm(seen - means, axis=2).argmin(axis=1)
    assert (nearest == drawn["test"][1]).mean() > 0.4


def test_what_the_capstone_gets(folder, arrays):
    found = garments(str(folder))
    assert found.real
    assert "Fashion-MNIST" in found.label
    assert np.array_equal(found.train_images.numpy(), arrays["train"][0])
    assert found.labels.tolist() == arrays["test"][1].tolist()


def test_the_capstone_never_downloads(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(sources, "Drawn", lambda: None)

    def asked(self: object) -> bool:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr(sources.Hub, "reachable", asked)
    assert sources.local_source(None) is None
