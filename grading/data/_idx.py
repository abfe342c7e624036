"""Reads the four IDX files of Fashion-MNIST, gzipped or not, and believes nothing that a header says."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

SIDE = 28
CLASSES = 10
# third byte: unsigned bytes; fourth byte: number of dimensions
IMAGE_MAGIC, LABEL_MAGIC = 0x0803, 0x0801
KINDS = {IMAGE_MAGIC: "images", LABEL_MAGIC: "labels"}
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# a header is four numbers from a stranger: do not reserve gigabytes on its word
MOST_IMAGES = 1_000_000
GZIP = b"\x1f\x8b"


class DataError(Exception):
    """One sentence on why there are no images: which file or source, what is wrong with it, what to do."""


def read_folder(folder: Path) -> dict[str, tuple[Pixels, Labels]]:
    """Images `(n, 28, 28)` and labels `(n,)` of the splits train and test.

    Raises DataError where a file is missing, cut off, renamed, or does not fit its partner.
    """
    found = {split: [_locate(folder, name) for name in names] for split, names in FILES.items()}
    return {split: _read_pair(*paths) for split, paths in found.items()}


def _locate(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}: give the folder that holds the four IDX files of Fashion-MNIST")
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    files = ", ".join(f"{name}[.gz]" for names in FILES.values() for name in names)
    raise DataError(f"{folder} has no {name} (nor {name}.gz): put the four files there, named {files}")


def _read_pair(image_path: Path, label_path: Path) -> tuple[Pixels, Labels]:
    images = _read(image_path, IMAGE_MAGIC)
    labels = _read(label_path, LABEL_MAGIC)
    if len(images) != len(labels):
        raise DataError(
            f"{image_path.name} has {len(images)} images and {label_path.name} has {len(labels)} labels "
            f"(in {image_path.parent}): take both files from one copy of the data set"
        )
    if labels.max() >= CLASSES:
        raise DataError(
            f"{label_path}: label {labels.max()} at position {labels.argmax()}, and Fashion-MNIST has 0 to 9; "
            "the file is damaged or belongs to another data set"
        )
    return images, labels.astype(np.int64)


def _read(path: Path, magic: int) -> Pixels:
    """The entries of one file in the shape that its header gives, after checking that it is the true one."""
    with _opened(path) as file:
        header = _numbers(file.read(4))
        if header != [magic]:
            raise DataError(_not_the_kind(path, header, magic))
        shape = _numbers(file.read(12 if magic == IMAGE_MAGIC else 4))
        if len(shape) != (3 if magic == IMAGE_MAGIC else 1):
            raise DataError(f"{path} ends within its header; {AGAIN}")
        if magic == IMAGE_MAGIC and shape[1:] != [SIDE, SIDE]:
            raise DataError(
                f"{path} has images of {shape[1]} x {shape[2]} pixels, and Fashion-MNIST's are {SIDE} x {SIDE}; {AGAIN}"
            )
        if not 0 < shape[0] <= MOST_IMAGES:
            raise DataError(f"{path}: its header announces {shape[0]} {KINDS[magic]}, which cannot be; {AGAIN}")
        size = int(np.prod(shape))
        content = file.read(size + 1)
    if len(content) != size:
        more = "goes on after" if len(content) > size else f"ends after {len(content)} of"
        raise DataError(f"{path} {more} the {size} bytes that its header announces; {AGAIN}")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


AGAIN = "copy or download the file again"


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file's content, unpacked where it is packed, whatever its name says."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield cast(BinaryIO, unpacked)
            else:
                yield file
    except EOFError:
        raise DataError(f"{path} is cut off: the gzip stream in it has no end; {AGAIN}") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged and cannot be unpacked ({error}); {AGAIN}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def _numbers(raw: bytes) -> list[int]:
    """Big-endian 32-bit numbers; bytes that do not fill one are left out."""
    return [int(number) for number in np.frombuffer(raw[: len(raw) // 4 * 4], dtype=">u4")]


def _not_the_kind(path: Path, header: list[int], magic: int) -> str:
    if not header:
        return f"{path} is empty or ends within its header; {AGAIN}"
    if header[0] in KINDS:
        return f"{path} holds {KINDS[header[0]]}, expected {KINDS[magic]}: has the file been renamed?"
    return (
        f"{path} is no IDX file of {KINDS[magic]}: it begins with {header[0]:#010x}, expected {magic:#010x}; "
        "is it another file under this name?"
    )
