"""What Hypothesis draws for the suites: small tensors of every shape, layout, offset and float type.

Entries come from a seeded normal distribution, rounded to two decimals so that a failing example can be read;
shape, seed, offset, spread and layout shrink, and the simplest example is the one that is shown.
"""

from functools import cache
from itertools import product
from math import prod

import torch
from hypothesis import strategies as st

FLOATS = (torch.float32, torch.float64)
LAYOUTS = ("contiguous", "transposed", "strided")


# what a strategy is made of is made once: composite strategies ask for it with each example, and making one costs more
# than drawing from it; and each of their draws costs about as much as making the tensor does, so that they draw several
# small things as one where these shrink well together
@cache
def dtypes():
    """float32 and float64."""
    return st.sampled_from(FLOATS)


@cache
def seeds():
    """Seeds for a torch.Generator."""
    return st.integers(0, 2**31 - 1)


@cache
def thousandths(low, high):
    """Numbers between `low` and `high` with three decimals, times 1000."""
    return st.integers(round(low * 1000), round(high * 1000))


@cache
def numbers(low, high):
    """Python floats with three decimals, for hyper-parameters."""
    return thousandths(low, high).map(lambda n: n / 1000)


@cache
def looks(dtype=None):
    """A float type, one of FLOATS or the one given, and a layout."""
    return st.sampled_from([(kind, layout) for layout in LAYOUTS for kind in (FLOATS if dtype is None else (dtype,))])


def generator(seed):
    """A CPU generator in the state that `seed` gives."""
    return torch.Generator().manual_seed(seed)


@cache
def sides(*longest, shortest=1):
    """Tuples of side lengths from `shortest` to the `longest` of each dimension, those of few elements first."""
    every = product(*(range(shortest, side + 1) for side in longest))
    return st.sampled_from(sorted(every, key=lambda shape: (prod(shape), shape)))


@cache
@st.composite
def shapes(draw, min_dims=0, max_dims=4, min_side=1, max_side=5):
    """Tuples of side lengths."""
    dims = draw(st.integers(min_dims, max_dims))
    shape = ()
    while len(shape) < dims:
        # up to three sides are few enough tuples for each to be as likely as any other
        shape += draw(sides(*[max_side] * min(dims - len(shape), 3), shortest=min_side))
    return shape


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
    return _tensors(shape, looks(dtype), seeds(), thousandths(-max_offset, max_offset), thousandths(0.5, max_spread))


@st.composite
def _tensors(draw, shape, look, seed, offset, spread):
    if isinstance(shape, st.SearchStrategy):
        shape = draw(shape)
    dtype, layout = draw(look)
    offset, spread = draw(offset) / 1000, draw(spread) / 1000
    return normal(shape, draw(seed), dtype=dtype, offset=offset, spread=spread, layout=layout)


@st.composite
def pairs(draw, **how):
    """Two tensors of one shape and float type, with statistics of their own."""
    x = draw(tensors(**how))
    return x, draw(tensors(tuple(x.shape), dtype=x.dtype))
