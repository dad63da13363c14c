"""Conversions by hand: from a file to a file, with the runtime environments of this machine."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.contract.conversion_graph import (
    ConversionPath,
    Node,
    cheapest_path,
    describe_path,
    missing_tools,
    needs,
    tools_on_path,
    usable,
)
from agent.contract.trial import (
    SCHEMA,
    DatasetRef,
    Limits,
    ModelRef,
    Option,
    ReferenceRef,
    RuntimeRef,
    Scenario,
    Tolerance,
    TrialRequest,
)
from agent.worker import cli_support as board
from agent.worker.attempts.conversion import ConversionInputs, ConversionRunner
from agent.worker.attempts.engine_cache import EngineCache, folder_bytes
from agent.worker.environments.conversion_planning import ConversionPlan
from agent.worker.isolation.child_process import CancelRequest
from agent.worker.isolation.runner_client import RunnerClient
from orchestrator.domain.errors import FarmError, UserError
from orchestrator.domain.file_inspection import Inspector
from orchestrator.local.reference_runs import ReferenceRunner
from orchestrator.service.models import source_file


@dataclass(frozen=True)
class ConversionRequest:
    """What to make: ``goal`` out of ``source``, which is of ``format`` and ``precision``, through
    ``via``."""

    source: Path
    format: str
    precision: str
    goal: Node
    via: tuple[str, ...] = ()
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)
    calibration: str = ""
    dataset: Path | None = None


@dataclass(frozen=True)
class ConversionProduct:
    """What was made: its main file or folder, all of its bytes, and what was done."""

    path: Path
    size_bytes: int
    steps: tuple[str, ...]
    seconds: float


class LocalConverter:
    """``state_dir``: of this machine's own agent, whose runtime environments are used."""

    def __init__(self, state_dir: Path, inspect: Inspector) -> None:
        self._inspect = inspect
        self._environments = board.environments(state_dir)
        self._references = ReferenceRunner(state_dir)
        self._tools = self._environments.tools()

    def start(self, order: ConversionRequest) -> Node:
        """The (format, precision) of the source."""
        return order.format, order.precision

    def plan(self, order: ConversionRequest) -> ConversionPath:
        """The cheapest way.

        Raises:
            UserError: no converter leads there, or one that does is not installed: which and where.
        """
        start = self.start(order)
        if start == order.goal and not order.via:
            raise UserError(f"{order.source} is {start[0]} in {start[1]} already")
        way = cheapest_path(usable(self._tools), (start,), (order.goal,), order.via)
        if way is None:
            raise UserError(self._why_not(start, order))
        self._check_options(order, way)
        calibrated = [
            tool.name for tool in tools_on_path(way, self._tools) if tool.needs_calibration
        ]
        if calibrated and not order.calibration:
            raise UserError(
                f"{calibrated[0]} needs calibration data: give --dataset FILE.npz, or say "
                "--calibration random"
            )
        return way

    def explain(self, order: ConversionRequest) -> list[str]:
        """The way in words, a line a step: what runs where, what it keeps, what it lacks."""
        way = self.plan(order)
        lines = [describe_path(self.start(order), way)]
        for edge in way:
            [tool] = tools_on_path((edge,), self._tools)
            keeps = ", ".join(word.replace("_", " ") for word in tool.keeps) or "nothing"
            line = f"{edge.converter}: in {edge.environment}, cost {edge.cost:g}, keeps {keeps}"
            lines.append(line + (", needs calibration" if tool.needs_calibration else ""))
        return lines

    def make(
        self, order: ConversionRequest, output: Path, note: Callable[[str], None]
    ) -> ConversionProduct:
        """Convert, check each step against the source's own outputs, and put the result at
        ``output``: nothing is left there where anything fails.

        Raises:
            UserError: the source or the order is not right. FarmError: a converter failed.
        """
        way = self.plan(order)
        note(describe_path(self.start(order), way))
        with (
            tempfile.TemporaryDirectory(prefix="benchfarm-convert-") as name,
            CancelRequest() as cancel,
        ):
            folder = Path(name)
            request, files = self._request(order, folder)
            runner = RunnerClient("convert")
            shop = ConversionRunner(
                self._environments,
                EngineCache(folder / "engines", 1 << 40),
                lambda p, j, f, b: runner.convert(p, j, f, b, cancel),
                lambda p, j, f, b: runner.reference(p, j, f, b, cancel),
                "",
            )
            done = shop.convert(request, ConversionPlan(self.start(order), way), files)
            if done.converted is None or done.converted.status != "ok":
                failure = done.outcome.failure or (done.converted and done.converted.failure)
                raise FarmError(f"{failure.kind}: {failure.message}" if failure else "it failed")
            made = _moved(Path(done.converted.artifact), output)
            return ConversionProduct(made, _bytes(made), done.converted.steps, done.seconds)

    def _request(
        self, order: ConversionRequest, folder: Path
    ) -> tuple[TrialRequest, ConversionInputs]:
        """The conversion as an attempt's would be, with a reference that the source computes."""
        file = source_file.SourceFile(
            order.source.name, order.format, order.precision, _sha256(order.source), order.source
        )
        dataset = None
        if order.dataset is not None:
            dataset = source_file.CheckedDataset.read(
                self._inspect, order.dataset, order.dataset.name, _sha256(order.dataset)
            )
        read = source_file.read(
            self._inspect,
            self._references,
            order.source.stem,
            file,
            order.shapes,
            dataset,
            str(folder),
        )
        reference = ReferenceRef("", 0, source_file.REFERENCE_FEEDS, read.origin)
        given: DatasetRef | None = dataset.ref if dataset else None
        request = TrialRequest(
            schema=SCHEMA,
            attempt_id="convert",
            trial_id="convert",
            model=ModelRef(
                file.name,
                order.format,
                file.sha256,
                file.path.stat().st_size,
                read.inputs,
                read.outputs,
            ),
            runtime=RuntimeRef("", precision=order.goal[1], options=dict(order.options)),
            scenario=Scenario(),
            reference=reference,
            tolerance=Tolerance(0.0, 1.0),
            dataset=given,
            calibration=order.calibration,
            limits=Limits(convert_s=7200.0, memory_mib=16384),
        )
        return request, ConversionInputs(order.source, read.reference, order.dataset)

    def _check_options(self, order: ConversionRequest, way: ConversionPath) -> None:
        known = {key for tool in tools_on_path(way, self._tools) for key in tool.options}
        for key in order.options:
            if key not in known:
                names = ", ".join(sorted(known)) or "none"
                raise UserError(f"--option {key}: the converters on this way have {names}")

    def _why_not(self, start: Node, order: ConversionRequest) -> str:
        words = f"{order.source}: from {start[0]} in {start[1]} to {order.goal[0]} in "
        words += order.goal[1] + (f" through {', '.join(order.via)}" if order.via else "")
        absent = missing_tools(self._tools, (start,), (order.goal,), order.via)
        if absent:
            return (
                words
                + f" this machine lacks a tool: {needs(absent)}; add an environment "
                + ("that has it with `benchfarm-agent runtimes add`")
            )
        made = sorted({f"{f} ({p})" for f, p in self._targets(start)})
        return f"{words} no converter leads; from here to: {', '.join(made) or 'nothing'}"

    def _targets(self, start: Node) -> list[Node]:
        """Everything that the installed tools make of it."""
        edges = usable(self._tools)
        nodes = {edge.target for edge in edges} - {start}
        return [node for node in nodes if cheapest_path(edges, (start,), (node,)) is not None]


def _moved(artifact: Path, output: Path) -> Path:
    """The artifact at ``output``: a single file under that name; a folder, or a file with its
    companions, as a folder of that name."""
    together = artifact if artifact.is_dir() else artifact.parent
    alone = not artifact.is_dir() and len(list(together.iterdir())) == 1
    try:
        if alone:
            shutil.copyfile(artifact, output)
            return output
        shutil.copytree(together, output)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}") from None
    return output


def _bytes(path: Path) -> int:
    return folder_bytes(path) if path.is_dir() else path.stat().st_size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
