"""The measured child process: one job on stdin, one answer on stdout, logs on stderr.

Standard library and NumPy only, Python 3.8 syntax; a runtime is imported inside functions, because
this code runs under whatever interpreter a board's vendor bindings need.
"""
