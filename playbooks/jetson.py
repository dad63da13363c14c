"""What all Jetsons have in common: JetPack's TensorRT, and power modes."""

from __future__ import annotations

from playbooks.classes import BoardClass
from playbooks.errors import Unfit
from playbooks.power_rights import rights_step
from playbooks.step_runner import Step
from playbooks.target import BoardTarget

_ASK = (
    "test -x /usr/src/tensorrt/bin/trtexec || command -v trtexec || python3 -I -c 'import tensorrt'"
)


def jetson_steps(board_class: BoardClass) -> list[Step]:
    """TensorRT is JetPack's, so its absence is said before anything is installed."""
    power = [rights_step(board_class.power)] if board_class.power else []
    return [Step("tensorrt", _no_tensorrt, _ask_for_tensorrt), *power]


def _no_tensorrt(site: BoardTarget) -> str:
    return "" if site.host.is_true(_ASK) else "no TensorRT"


def _ask_for_tensorrt(site: BoardTarget) -> None:
    raise Unfit(
        f"{site.host.name} has neither trtexec nor TensorRT's Python bindings: install JetPack's "
        "packages there (`sudo apt install nvidia-jetpack`, or libnvinfer-bin and "
        "python3-libnvinfer), or choose another class by --class"
    )
