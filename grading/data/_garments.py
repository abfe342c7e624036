"""What the capstone is judged on: images to learn from, and others whose labels only the judge keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._sources import Drawn, local_source

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Garments:
    """Training images `(n, 28, 28)`, uint8, with labels `(n,)`; held-out images, and their labels for the judge.

    `label` says what the images are, and `real` whether they are Fashion-MNIST.
    """

    label: str
    real: bool
    train_images: Tensor
    train_labels: Tensor
    images: Tensor
    labels: Tensor


def garments(folder: str | None = None) -> Garments:
    """The first source on this machine, else drawn garments: judging never downloads.

    Raises DataError when a folder is named and is not one, or a file in it is damaged.
    """
    import torch

    source = local_source(folder) or Drawn()
    arrays = source.arrays()
    train_images, train_labels, images, labels = (
        torch.from_numpy(array.copy()) for split in ("train", "test") for array in arrays[split]
    )
    return Garments(source.label, source.real, train_images, train_labels, images, labels)
