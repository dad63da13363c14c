"""Runtimes called as their own documentation calls them: nothing of benchfarm is imported here.

One file for each, with one function: ``load(model, array, threads)`` makes the model ready on one
input and gives back the call to time, the runtime's own latency in ns (or None), and whose call it
is. ``__main__`` has the loop.
"""
