"""The cases of every runtime, from the files ``tests/contract/runtimes/test_NAME.py``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from support.runtime_contract import RuntimeContract

FOLDER = Path(__file__).parents[1] / "contract" / "runtimes"


def _read(path: Path) -> RuntimeContract:
    """The ``CONTRACT`` that a runtime's test file declares."""
    name = f"contract_of_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    contract: RuntimeContract = module.CONTRACT
    return contract


CONTRACTS = {
    path.stem.removeprefix("test_"): _read(path) for path in sorted(FOLDER.glob("test_*.py"))
}
"""By the runtime's name."""
BACKENDS = {case.key: case for contract in CONTRACTS.values() for case in contract.backends}
CONVERTERS = {
    case.converter: case for contract in CONTRACTS.values() for case in contract.converters
}
