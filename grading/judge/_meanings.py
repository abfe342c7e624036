"""What Python and PyTorch say when they fail, and what somebody who is learning either has to do about that."""

from __future__ import annotations

_SHAPES = (
    "Shapes are lined up from the last dimension, and their sides must be equal or 1: which sides have those two, and "
    "is a `keepdim=True`, a transpose or a reshape missing?"
)
_NO_SIDES = (
    "A 0-dim tensor is one number without sides: there is no length to ask for, and nothing to loop over or unpack."
)
_ONE_NUMBER = (
    "Only a tensor of one element is a number: `item`, `float` and the functions of `math` take no other, those of "
    "torch take any."
)
_NO_TENSOR = "Functions of torch take tensors; for plain numbers there is `math`."
_NO_CALL = "A method without parentheses is the method itself: call it, as in `t.numel()`."
_INIT_FIRST = "`super().__init__()` has to come first in `__init__`."
_POWER = "A power is written `**`; `^` is an exclusive or."
_SEVERAL = (
    "Several values stand where one is expected: take one of them, or loop over them. A hook, say, is given the "
    "inputs of its module as a tuple."
)
_NO_FILES = (
    "Code that is graded has neither files nor network, and starts no processes: what is to be put back later is kept "
    "in memory, as by `copy.deepcopy(model.state_dict())`; `torch.save` writes to an `io.BytesIO` just as well."
)
# by a part of the message that no other failure has; the first that is found counts
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
        "An earlier backward has used the graph up: call it once in a step, and detach what is kept from step to step."
    ),
    "grad can be implicitly created only for scalar outputs": (
        "`backward` starts from one number: take the mean or the sum first."
    ),
    "must match the size of tensor": _SHAPES,
    "doesn't match the broadcast shape": _SHAPES,
    "mat1 and mat2 shapes cannot be multiplied": (
        "In `a @ b` the last side of a must be as long as the first of b: is a transpose or a reshape missing?"
    ),
    "Boolean value of Tensor with": (
        "Python asks for one truth there (`if`, `and`, `not`, `in`, `min`, `max`), and a tensor has one for each "
        "element: compare shapes, ask `is None`, or choose element by element, as `torch.where` does."
    ),
    "Dimension out of range": (
        "The tensor has fewer dimensions than that; they are counted from 0, and `x.ndim` says how many there are."
    ),
    "Dimension specified as 0 but tensor has no dimensions": _NO_SIDES,
    "iteration over a 0-d tensor": _NO_SIDES,
    "len() of a 0-d tensor": _NO_SIDES,
    "only one element tensors can be converted": _ONE_NUMBER,
    "cannot be converted to Scalar": _ONE_NUMBER,
    "must be Tensor, not float": _NO_TENSOR,
    "must be Tensor, not int": _NO_TENSOR,
    "bitwise_xor": _POWER,
    "for ^:": _POWER,
    "'builtin_function_or_method'": _NO_CALL,
    "'method'": _NO_CALL,
    "'generator'": "A generator has no length, and is empty once it has been gone through: make a list of it.",
    "object is not an iterator": "`next` takes an iterator: `next(iter(...))`.",
    "before Module.__init__() call": _INIT_FIRST,
    "has no attribute '_modules'": _INIT_FIRST,
    "has no attribute '_backward_hooks'": _INIT_FIRST,
    'is missing the required "forward" function': "A module computes what it returns in a method named `forward`.",
    "(torch.nn.Parameter or None expected)": (
        "A parameter is replaced by nothing but a parameter: change it in place under `with torch.no_grad():`."
    ),
    "'NoneType'": (
        "Something there is None: an argument or an attribute that was not given, what a function without `return` "
        "gives, the bias of a layer that has none, or a gradient before the first backward."
    ),
    "'tuple' object has no attribute": _SEVERAL,
    "'list' object has no attribute": _SEVERAL,
    "'float' object has no attribute": "That is a plain number: `float`, `item` and `tolist` give what is no tensor.",
    "object is not callable": (
        "Parentheses behind a value call it: is a `*` missing, or does a value have the name of a function?"
    ),
    "positional argument": (
        "The call and the definition disagree about the arguments; a method has `self` first, which Python gives."
    ),
    "cannot access local variable": (
        "A name to which a function assigns anywhere is its own everywhere in it, and has no value before that line."
    ),
    "free variable": "A function inside another one reads a name that the outer one has not given a value yet.",
    "' is not defined": (
        "Nothing has that name there: is `self.` missing (a method reaches what its object keeps through it), or an "
        "import, or is it spelt otherwise where it gets its value?"
    ),
    "Permission denied": _NO_FILES,
    "Operation not permitted": _NO_FILES,
    "No such file or directory": _NO_FILES,
    "maximum recursion depth exceeded": (
        "A call leads back to itself without end; in `__getattr__`, each attribute that is not there calls it again."
    ),
}


def meaning_of(raised: str) -> str | None:
    """What the exception that `raised` ends with means, if that needs saying."""
    last = raised.splitlines()[-1]
    return next((meaning for said, meaning in MEANINGS.items() if said in last), None)
