"""Steps for all Jetsons: JetPack's TensorRT, and the right to set power modes."""

from __future__ import annotations

from playbooks.classes import BoardClass
from playbooks.errors import Unfit
from playbooks.power_rights import rights_step
from playbooks.step_runner import Step
from playbooks.target import BoardTarget

_TENSORRT_QUERY = (
    "test -x /usr/src/tensorrt/bin/trtexec || command -v trtexec || python3 -I -c 'import tensorrt'"
)


def jetson_steps(board_class: BoardClass) -> list[Step]:
    """Require JetPack's TensorRT before anything is installed, and permit power modes."""
    power = [rights_step(board_class.power)] if board_class.power else []
    return [Step("tensorrt", _no_tensorrt, _require_tensorrt), *power]


def _no_tensorrt(target: BoardTarget) -> str:
    return "" if target.host.is_true(_TENSORRT_QUERY) else "no TensorRT"


def _require_tensorrt(target: BoardTarget) -> None:
    raise Unfit(
        f"{target.host.name} has neither trtexec nor TensorRT's Python bindings: install JetPack's "
        "packages there (`sudo apt install nvidia-jetpack`, or libnvinfer-bin and "
        "python3-libnvinfer), or choose another class by --class"
    )
