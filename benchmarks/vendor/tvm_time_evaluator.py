"""``INTERPRETER -I …/tvm_time_evaluator.py LIBRARY INPUT.npy THREADS SECONDS``: TVM's own timer on
one input; prints the median of its repeats in ns."""

from __future__ import annotations

import os
import statistics
import sys
import time

import numpy as np
import tvm

library, array, threads, seconds = sys.argv[1:]
os.environ["TVM_NUM_THREADS"] = threads  # read when its pool starts, at the first parallel loop
machine = tvm.relax.VirtualMachine(tvm.runtime.load_module(library), tvm.cpu())
machine.set_input("main", tvm.runtime.tensor(np.load(array)))
machine.invoke_stateful("main")
start = time.perf_counter()
machine.invoke_stateful("main")
repeats = max(5, int(float(seconds) / (time.perf_counter() - start)))
timer = machine.time_evaluator("invoke_stateful", tvm.cpu(), number=1, repeat=repeats)
print(1e9 * statistics.median(timer("main").results))
