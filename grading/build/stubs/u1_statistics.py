# %% [markdown]
# # Unit 1: statistics
#
# A deep network is a long chain of matrix products. Multiply often enough by numbers that are a little too large
# and the result overflows; a little too small, and it vanishes. To keep a chain of fifty layers in the middle we
# must be able to say *how large* a tensor is, in one or two numbers. Those numbers are its mean and its standard
# deviation, and every later unit is about holding them near 0 and 1.
#
# All statistics in this course are **population** statistics: they divide by the number of elements n, because the
# tensor at hand is everything there is, not a sample from which we guess. `torch.var` divides by n - 1 unless told
# otherwise; half of the mistakes in this course start there.

# %%
import torch
from torch import Tensor

# %% [markdown]
# ## How large is a tensor?
#
# Take the data 1, 2, 4, 18. The mean, 6.25, says where the data lie, but not how far apart they are: 6, 6, 6, 7 has
# the same mean. The deviations from the mean, -5.25, -4.25, -2.25 and 11.75, say how far, but their own mean is
# always 0.


# %%
def mean(t: Tensor) -> Tensor:
    """The arithmetic mean of all elements: their sum divided by their count.

    t: float tensor of any shape with at least one element. Returns a 0-dim tensor of t's dtype.
    """
    raise NotImplementedError("mean: replace this line with your own")


# %% [markdown]
# ## Variance and standard deviation
#
# To keep positive and negative deviations from cancelling, square them before averaging:
#
# $$\operatorname{Var}[X] = \operatorname{E}\left[(X - \operatorname{E}[X])^2\right]$$
#
# For 1, 2, 4, 18 that is 47.1875. The square has changed the unit, from metres to square metres, so the variance
# cannot be compared with the data; its root, the standard deviation, can: 6.8693.


# %%
def variance(t: Tensor) -> Tensor:
    """The mean of the squared deviations from the mean, E[(X - E[X])²]; divides by n.

    t: float tensor of any shape. Returns a 0-dim tensor of t's dtype.
    """
    raise NotImplementedError("variance: replace this line with your own")


# %%
def standard_deviation(t: Tensor) -> Tensor:
    """The square root of the variance, in the unit of the data.

    t: float tensor of any shape. Returns a 0-dim tensor of t's dtype.
    """
    raise NotImplementedError("standard_deviation: replace this line with your own")


# %% [markdown]
# Squaring is not the only way to lose the sign: the **mean absolute deviation** takes absolute values instead. On
# the same data it is 5.875. The one far element, 18, weighs less in it than in the standard deviation, because it
# is not squared.


# %%
def mean_absolute_deviation(t: Tensor) -> Tensor:
    """The mean distance of the elements from their mean, E[|X - E[X]|].

    t: float tensor of any shape. Returns a 0-dim tensor of t's dtype.
    """
    raise NotImplementedError("mean_absolute_deviation: replace this line with your own")


# %% [markdown]
# **Question.** A hundred readings lie evenly between -1 and 1: standard deviation 0.58, mean absolute deviation
# 0.5. One more reading arrives, and it is 100. Which of the two numbers grows by the larger factor, and why? When
# would you want the other one?

# %% [markdown] question="u1-outlier" points=2
# Your answer here.

# %% [markdown]
# ## Variance in one pass
#
# Multiplying the square out gives a form that needs no second pass over the data:
#
# $$\operatorname{Var}[X] = \operatorname{E}[X^2] - \operatorname{E}[X]^2$$
#
# It is the one to write down on paper and the one to keep two running sums for. It is also the one to be careful
# with: when the mean is large and the spread small, it subtracts two large, nearly equal numbers. With a mean of
# 4000 and a standard deviation of 1, E[X²] is about 16,000,000; a float32 there moves in steps of 1, as large as
# the answer itself.


# %%
def variance_shortcut(t: Tensor) -> Tensor:
    """The variance as E[X²] - E[X]², from two sums in one pass, without forming deviations.

    t: float tensor of any shape. Returns a 0-dim tensor of t's dtype.
    """
    raise NotImplementedError("variance_shortcut: replace this line with your own")


# %%
if __name__ == "__main__":
    for centre in (0, 100, 4000, 100_000):
        data = centre + torch.randn(10_000)
        print(f"mean {centre:>7}: variance {variance(data):.4f}, shortcut {variance_shortcut(data):.4f}")

# %% [markdown]
# ## Two variables at once
#
# Replace one of the two equal factors of the variance by another variable and you have the **covariance**:
#
# $$\operatorname{Cov}[X, Y] = \operatorname{E}\left[(X - \operatorname{E}[X])(Y - \operatorname{E}[Y])\right]$$
#
# It is positive when large X come with large Y, negative when large X come with small Y, and its size depends on
# the units of both. Divided by both standard deviations it becomes **Pearson's correlation**, a number from -1 to 1
# without a unit. All three must use the same divisor, n or n - 1, or the correlation of a line comes out as
# something else than 1.
#
# Both need pairs. Two tensors of different shape have no pairs, and PyTorch would broadcast them silently into
# numbers that mean nothing: refuse them.


# %%
def covariance(x: Tensor, y: Tensor) -> Tensor:
    """E[(X - E[X])(Y - E[Y])] over the pairs of elements at equal positions; divides by n.

    x, y: float tensors of one shape. Returns a 0-dim tensor of their dtype.
    Raises ValueError when the shapes differ.
    """
    raise NotImplementedError("covariance: replace this line with your own")


# %%
def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's correlation coefficient: the covariance divided by both standard deviations.

    x, y: float tensors of one shape, neither of them constant. Returns a 0-dim tensor of their dtype, from -1 to 1;
    exactly ±1, to rounding, when one is an affine function of the other.
    Raises ValueError when the shapes differ.
    """
    raise NotImplementedError("correlation: replace this line with your own")


# %% [markdown]
# **Question.** X is drawn evenly from -1 to 1, and Y is X². What is their correlation, and does it mean that they
# have nothing to do with each other?

# %% [markdown] question="u1-parabola" points=2
# Your answer here.
