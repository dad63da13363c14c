"""TVM: a compiled library in the Relax virtual machine, its input set beforehand."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import tvm


def load(model: str, array: Any, threads: int) -> tuple[Callable[[], object], None, str]:
    os.environ["TVM_NUM_THREADS"] = str(threads)  # read when its pool starts
    machine = tvm.relax.VirtualMachine(tvm.runtime.load_module(model), tvm.cpu())
    machine.set_input("main", tvm.runtime.tensor(array))
    return partial(machine.module["invoke_stateful"], "main"), None, "module['invoke_stateful']"
