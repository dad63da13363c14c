"""The zoo: each architecture is described once, independent of frameworks, and emitted for several.

``network`` holds the description, ``builder`` makes one, ``emit_onnx``, ``emit_torch`` and
``emit_keras`` write it out with the same weights, ``catalogue`` finds architectures by name.
Standard library and NumPy only; ``onnx``, ``torch`` and ``keras`` are imported inside the functions
that need them, because part of this package runs in runtime environments (``__main__``).
"""
