"""Where garments come from: Fashion-MNIST from a folder, Debian or the Hub, or drawn ones where there is none."""

from ._garments import Garments, garments
from ._sources import DataError, Source, fashion_mnist, find_source

__all__ = ["DataError", "Garments", "Source", "fashion_mnist", "find_source", "garments"]
