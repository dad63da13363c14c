"""Layouts of exported programs, as torch itself makes their graphs."""

from __future__ import annotations

import json
import subprocess

import pytest

from support.environments import ROOT, python_of
from support.runner_child import require

PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from agent.runtimes.pytorch.layouts import layout

class Plain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
    def forward(self, x):
        return torch.relu(self.norm(self.conv(x * 2 + 1)))

class ChannelsLast(Plain):
    def forward(self, x):
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

class Hidden(Plain):
    def forward(self, x):
        return super().forward(torch.softmax(x, 1)).softmax(1)

class Pooled(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.max_pool2d(x.transpose(2, 3), 2)

class Flat(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1)

found = {}
for kind, shape in ((Plain, (1, 3, 8, 8)), (ChannelsLast, (1, 8, 8, 3)), (Hidden, (1, 3, 8, 8)),
                    (Pooled, (1, 3, 8, 8)), (Flat, (1, 3, 8, 8))):
    program = torch.export.export(kind().eval(), (torch.zeros(shape),))
    core = program.run_decompositions()
    for name, p in ((kind.__name__, program), (kind.__name__ + "Core", core)):
        nodes = {n.name: n for n in p.graph_module.graph.nodes}
        (given,), (made,) = p.graph_signature.user_inputs, p.graph_signature.user_outputs
        found[name] = [layout(nodes[given], True), layout(nodes[made], False)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def layouts() -> dict[str, list[str]]:
    require("pytorch")
    ended = subprocess.run(
        [python_of("pytorch"), "-c", PROGRAM, str(ROOT)], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, list[str]] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize(
    ("name", "given", "made"),
    [
        ("Plain", "NCHW", "NCHW"),
        ("ChannelsLast", "NHWC", "NHWC"),
        ("Hidden", "", ""),
        ("Pooled", "", "NCHW"),
        ("Flat", "", ""),
    ],
)
@pytest.mark.parametrize("form", ["", "Core"], ids=["as exported", "decomposed"])
def test_layouts_follow_from_the_graph(
    layouts: dict[str, list[str]], name: str, form: str, given: str, made: str
) -> None:
    assert layouts[name + form] == [given, made]
