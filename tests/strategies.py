"""What Hypothesis draws for the suites: small tensors of every shape, layout, offset and float type.

Entries come from a seeded normal distribution, rounded to two decimals so that a failing example can be read;
shape, seed, offset, spread and layout shrink, and the simplest example is the one that is shown.
"""

from functools import cache

import torch
from hypothesis import strategies as st

FLOATS = (torch.float32, torch.float64)
LAYOUTS = ("contiguous", "transposed", "strided")


# what a strategy is made of is made once: composite strategies ask for it with each example, and making one costs more
# than drawing from it
@cache
def dtypes():
    """float32 and float64."""
    return st.sampled_from(FLOATS)


@cache
def seeds():
    """Seeds for a torch.Generator."""
    return st.integers(0, 2**31 - 1)


@cache
def numbers(low, high):
    """Python floats with three decimals, for hyper-parameters."""
    return st.integers(round(low * 1000), round(high * 1000)).map(lambda n: n / 1000)


def generator(seed):
    """A CPU generator in the state that `seed` gives."""
    return torch.Generator().manual_seed(seed)


@cache
def shapes(min_dims=0, max_dims=4, min_side=1, max_side=5):
    """Tuples of side lengths."""
    return st.lists(st.integers(min_side, max_side), min_size=min_dims, max_size=max_dims).map(tuple)


def normal(shape, seed, *, dtype=torch.float32, offset=0.0, spread=1.0, layout="contiguous"):
    """A tensor of rounded normal numbers with the given mean and standard deviation, laid out in memory as asked."""
    shape = tuple(shape)
    stored = (
        shape[::-1]
        if layout == "transposed"
        else (*shape[:-1], 2 * shape[-1])
        if layout == "strided" and shape
        else shape
    )
    entries = torch.randn(stored, generator=generator(seed), dtype=torch.float64)
    entries = ((entries * 100).round() / 100 * spread + offset).to(dtype)
    if layout == "transposed":
        return entries.permute(tuple(reversed(range(len(shape)))))
    return entries[..., ::2] if layout == "strided" and shape else entries


@cache
def tensors(shape=None, *, min_dims=0, max_dims=4, min_side=1, max_side=5, dtype=None, max_offset=4.0, max_spread=3.0):
    """Float tensors; `shape` is a tuple or a strategy, and `dtype` a fixed one, where given."""
    if shape is None:
        shape = shapes(min_dims, max_dims, min_side, max_side)
    return _tensors(
        shape if isinstance(shape, st.SearchStrategy) else st.just(shape),
        seeds(),
        dtypes() if dtype is None else st.just(dtype),
        numbers(-max_offset, max_offset),
        numbers(0.5, max_spread),
        st.sampled_from(LAYOUTS),
    )


@st.composite
def _tensors(draw, shape, seed, dtype, offset, spread, layout):
    return normal(
        draw(shape), draw(seed), dtype=draw(dtype), offset=draw(offset), spread=draw(spread), layout=draw(layout)
    )


@st.composite
def pairs(draw, **how):
    """Two tensors of one shape and float type, with statistics of their own."""
    x = draw(tensors(**how))
    return x, draw(tensors(tuple(x.shape), dtype=x.dtype))
