"""The zoo: each architecture is described once, without a framework, and emitted for several.

``network`` holds the description, ``builder`` makes one, ``emit_onnx`` and ``emit_torch`` write it
out with the same weights, ``catalogue`` finds architectures by name. Standard library and NumPy
only; ``onnx`` and ``torch`` are imported inside the functions that need them, because part of this
package runs in the pytorch runtime environment.
"""
