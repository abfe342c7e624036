"""Finds the first source of Fashion-MNIST that there is, and says in one sentence when there is none."""

from __future__ import annotations

import os
import threading
import urllib.request
from abc import ABC, abstractmethod
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ._idx import SIDE, DataError, Labels, Pixels, read_folder

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["DataError", "Source", "fashion_mnist", "find_source", "local_source"]

SYNTHETIC = "synthetic"
VARIABLE = "FASHION_MNIST_DIR"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
REPOSITORY = "zalando-datasets/fashion_mnist"
# how long to wait for the Hub to answer at all, before it counts as unreachable
PATIENCE = 6.0
WHOLE = (60_000, 10_000)
# mean and standard deviation of all training images
STATISTICS = (0.28604, 0.35302)
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

Arrays = dict[str, tuple[Pixels, Labels]]


class Source(ABC):
    """One place where garments come from.

    `label` says what they are, and is printed beside every result on them; `real` is False for drawn ones.
    """

    label: str
    real = True

    @abstractmethod
    def arrays(self) -> Arrays:
        """Images `(n, 28, 28)`, uint8, and labels `(n,)` of the splits train and test; raises DataError."""

    def load(self) -> DatasetDict:
        """The same as a DatasetDict with the features image and label; raises DataError."""
        return as_dataset_dict(self.arrays())

    def statistics(self) -> tuple[float, float]:
        """Mean and population standard deviation of the training images' pixels, divided by 255."""
        images = self.arrays()["train"][0].reshape(-1)
        counts = sum(np.bincount(part, minlength=256) for part in np.array_split(images, 20))
        shades = np.arange(256) / 255
        mean = float(np.average(shades, weights=counts))
        return mean, float(np.sqrt(np.average((shades - mean) ** 2, weights=counts)))


class Folder(Source):
    """The four IDX files in a folder, read and checked at once; raises DataError."""

    def __init__(self, folder: Path) -> None:
        self._splits = read_folder(folder)
        sizes = tuple(len(labels) for _, labels in self._splits.values())
        part = "" if sizes == WHOLE else f"{sizes[0]} training and {sizes[1]} test images of "
        self.label = f"{part}Fashion-MNIST ({folder})"

    def arrays(self) -> Arrays:
        return self._splits


class Hub(Source):
    """The Hugging Face Hub's copy: kept on this machine after the first time, and read from there without a network."""

    label = f"Fashion-MNIST (Hugging Face Hub, {REPOSITORY})"

    @property
    def cached(self) -> dict[str, Path]:
        """The files of an earlier download by `datasets`, per split; empty unless all are there."""
        home = os.environ.get("HF_HOME") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
        )
        root = Path(os.environ.get("HF_DATASETS_CACHE") or os.path.join(home, "datasets"))
        for first in sorted(root.glob(f"{REPOSITORY.replace('/', '___')}/*/*/*/*-train.arrow")):
            paths = {"train": first, "test": first.with_name(first.name.replace("-train.", "-test."))}
            if paths["test"].is_file():
                return paths
        return {}

    def reachable(self) -> bool:
        """Whether the Hub answers, decided within seconds: its own client tries again for minutes."""
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
            return False
        endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        answers = []

        def ask() -> None:
            try:
                with urllib.request.urlopen(f"{endpoint}/api/datasets/{REPOSITORY}", timeout=PATIENCE) as answer:
                    answers.append(answer.status == 200)
            except (OSError, ValueError, HTTPException):
                pass

        # looking up a name knows no timeout, so a thread asks, and is left behind where it takes too long
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        return any(answers)

    def statistics(self) -> tuple[float, float]:
        return STATISTICS

    def load(self) -> DatasetDict:
        from datasets import Dataset, DatasetDict, load_dataset

        try:
            cached = self.cached
            if cached:
                return DatasetDict({split: Dataset.from_file(str(path)) for split, path in cached.items()})
            return load_dataset(REPOSITORY)
        except Exception as error:  # the Hub's client has dozens of its own
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise DataError(f"the Hugging Face Hub did not deliver {REPOSITORY} ({reason[0]}); {ADVICE}") from None

    def arrays(self) -> Arrays:
        found = {}
        for split, dataset in self.load().items():
            images = [np.asarray(image.convert("L"), dtype=np.uint8) for image in dataset["image"]]
            found[split] = np.stack(images), np.asarray(dataset["label"], dtype=np.int64)
        return found


class Drawn(Source):
    """Garments drawn by a program from a fixed seed, for machines without Fashion-MNIST."""

    real = False
    label = "synthetic garments (drawn by a program; accuracies on them say nothing about photographs)"

    def __init__(self, n_train: int = WHOLE[0], n_test: int = WHOLE[1]) -> None:
        self.sizes = {"train": n_train, "test": n_test}

    @cached_property
    def _splits(self) -> Arrays:
        from ._drawn import draw

        return {split: draw(size, stream) for stream, (split, size) in enumerate(self.sizes.items())}

    def arrays(self) -> Arrays:
        return self._splits


ADVICE = f"give a folder with the four IDX files (--data DIR or {VARIABLE}), or `--data {SYNTHETIC}` for drawn garments"


def find_source(data: str | os.PathLike[str] | None = None) -> Source:
    """The source that is asked for, or the first that there is.

    data: a folder with the IDX files, 'synthetic', or None for the folder that FASHION_MNIST_DIR names, then
    Debian's, then the Hugging Face Hub. A folder that is named is never passed over. Nothing is downloaded here.
    Raises DataError when no source is at hand, or the folder named is not one.
    """
    source = local_source(data)
    if source is not None:
        return source
    hub = Hub()
    if hub.reachable():
        return hub
    raise DataError(
        f"Fashion-MNIST was found nowhere: no folder was given (--data DIR or {VARIABLE}), {DEBIAN} does not exist "
        f"(Debian's package dataset-fashion-mnist), and the Hugging Face Hub ({REPOSITORY}) is not reachable from "
        f"here; `--data {SYNTHETIC}` draws garments instead"
    )


def local_source(data: str | os.PathLike[str] | None = None) -> Source | None:
    """As `find_source`, but only what needs no network; None where there is nothing."""
    if data is not None and os.fspath(data) == SYNTHETIC:
        return Drawn()
    named = os.fspath(data) if data is not None else os.environ.get(VARIABLE)
    if named:
        return Folder(Path(named).expanduser())
    if DEBIAN.is_dir():
        return Folder(DEBIAN)
    hub = Hub()
    return hub if hub.cached else None


def fashion_mnist(data: str | os.PathLike[str] | None = None) -> DatasetDict:
    """Fashion-MNIST as a DatasetDict with the splits train and test: a PIL `image` and a `label` from 0 to 9.

    data: a folder with the IDX files, 'synthetic' for drawn garments, or None for the first source there is.
    Raises DataError, with one sentence, when there is none or it is damaged.
    """
    return find_source(data).load()


def as_dataset_dict(splits: Arrays) -> DatasetDict:
    """Arrays as the Hub would deliver them. Each image is stored as a PGM file: a short header before its raw pixels.

    Packing 70,000 PNG files takes half a minute; this is one copy of the pixels.
    """
    from datasets import ClassLabel, DatasetDict, Features, Image

    features = Features({"image": Image(), "label": ClassLabel(names=list(CLASS_NAMES))})
    return DatasetDict({split: _as_dataset(*arrays, features=features) for split, arrays in splits.items()})


def _as_dataset(images: Pixels, labels: Labels, features: object) -> object:
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo

    header = np.frombuffer(f"P5 {SIDE} {SIDE} 255\n".encode(), dtype=np.uint8)
    count, width = len(images), len(header) + SIDE * SIDE
    files = np.empty((count, width), dtype=np.uint8)
    files[:, : len(header)] = header
    files[:, len(header) :] = images.reshape(count, -1)
    starts = np.arange(count + 1, dtype=np.int32) * width
    content = pa.BinaryArray.from_buffers(pa.binary(), count, [None, pa.py_buffer(starts), pa.py_buffer(files)])
    stored = pa.StructArray.from_arrays([content, pa.nulls(count, pa.string())], ["bytes", "path"])
    table = pa.table({"image": stored, "label": pa.array(labels, pa.int64())})
    return Dataset(table, info=DatasetInfo(features=features))
