"""The errors of the zoo. None is transient: the same call fails again."""

from __future__ import annotations


class ZooError(Exception):
    """Base of the zoo's errors; the message says what to do."""

    transient = False


class ShapeMismatch(ZooError):
    """Tensors or attributes of a layer do not fit together; the message names the layer."""


class DuplicateName(ZooError):
    """Two layers of one network want the same name; scope one of them or rename it."""


class UnknownTensor(ZooError):
    """A layer reads a tensor that this builder did not make; build one network with one builder."""


class UnusedLayer(ZooError):
    """A layer reaches no output; connect it or remove it."""


class UnknownArchitecture(ZooError):
    """No architecture or data set of that name is shipped; the message lists those that are."""


class WeightsMismatch(ZooError):
    """Stored weights lack a parameter of the network or hold it in another shape."""


class OperatorNotEmitted(ZooError):
    """An emitter has no rule for an operator; add one to its ``OPERATORS`` table."""


class FormatNotEmitted(ZooError):
    """An emitter does not write the format that a file's name promises; the message lists those it
    does."""


class ToolMissing(ZooError):
    """A package that this function needs is missing; the message says which extra brings it."""
