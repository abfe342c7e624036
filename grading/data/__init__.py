"""Where garments come from: Fashion-MNIST from a folder, Debian or the Hub, or drawn ones where there is none."""

from ._garments import Garments, garments
from ._sources import SYNTHETIC, DataError, Source, fashion_mnist, find_source

__all__ = ["SYNTHETIC", "DataError", "Garments", "Source", "fashion_mnist", "find_source", "garments"]
