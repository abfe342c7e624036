"""What Python and PyTorch say when they fail, and what somebody who is learning either has to do about that."""

from __future__ import annotations

_SHAPES = (
    "Shapes are lined up from the last dimension, and their sides must be equal or 1: is a `keepdim=True` or a reshape "
    "missing?"
)
_NO_SIDES = "A 0-dim tensor is one number without sides: there is no length to ask for, and nothing to loop over."
_ONE_NUMBER = "Only a tensor of one element is a number: over which dimensions should be summed or averaged first?"
# by a part of the message that no other failure has
MEANINGS = {
    "a leaf Variable that requires grad is being used in an in-place operation": (
        "What autograd watches is changed in place: a parameter's update belongs under `with torch.no_grad():`, "
        "and an input stays as it is."
    ),
    "does not require grad and does not have a grad_fn": (
        "Nothing leads from there back to a parameter: was it computed under no_grad, or detached?"
    ),
    "has been modified by an inplace operation": (
        "A value that the gradient still needs was overwritten: make a new tensor instead of changing it in place."
    ),
    "backward through the graph a second time": (
        "What an earlier step computed is still attached: detach what is kept from one step to the next."
    ),
    "must match the size of tensor": _SHAPES,
    "doesn't match the broadcast shape": _SHAPES,
    "Boolean value of Tensor with": (
        "`if`, `and`, `or`, `not`, `min` and `max` ask for one truth, and a tensor has any number: compare with `is "
        "None`, or choose element by element, as `torch.where` does."
    ),
    "Dimension out of range": (
        "The tensor has fewer dimensions than that: where inputs may have several numbers of them, ask `x.ndim`."
    ),
    "Dimension specified as 0 but tensor has no dimensions": _NO_SIDES,
    "iteration over a 0-d tensor": _NO_SIDES,
    "len() of a 0-d tensor": _NO_SIDES,
    "only one element tensors can be converted": _ONE_NUMBER,
    "cannot be converted to Scalar": _ONE_NUMBER,
    "before Module.__init__() call": "`super().__init__()` has to come first in `__init__`.",
    "(torch.nn.Parameter or None expected)": (
        "A parameter is not replaced by a tensor: change it in place under `with torch.no_grad():`."
    ),
    "'NoneType'": (
        "Something there is None: what a function without `return` gives, the bias of a layer that has none, or a "
        "gradient that no backward has filled."
    ),
    "maximum recursion depth exceeded": (
        "A call leads back to itself without end; in `__getattr__`, each attribute that is not there calls it again."
    ),
}


def meaning_of(raised: str) -> str | None:
    """What the exception that `raised` ends with means, if that needs saying."""
    last = raised.splitlines()[-1]
    return next((meaning for said, meaning in MEANINGS.items() if said in last), None)
