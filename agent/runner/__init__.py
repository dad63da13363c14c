"""The measured child process: one job on stdin, one answer on stdout, logs on stderr.

Standard library and NumPy only, Python 3.8 syntax: this code runs under the interpreter that a
board's vendor bindings need. Runtimes are imported inside functions only.
"""
