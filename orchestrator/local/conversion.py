"""Conversions by hand: from file to file, with the runtime environments of this machine."""

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
from agent.contract.scoring import NOT_SCORED, Scoring
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
from orchestrator.domain import other_ways
from orchestrator.domain.errors import FarmError, UserError
from orchestrator.domain.file_inspection import Inspector
from orchestrator.local.reference_runs import ReferenceRunner
from orchestrator.service.models import source_file


@dataclass(frozen=True)
class ConversionRequest:
    """A conversion of ``source``, in ``format`` and ``precision``, to ``goal`` through the
    converters ``via``."""

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
    """The result: its main file or folder, its total size, and the steps that were taken."""

    path: Path
    size_bytes: int
    steps: tuple[str, ...]
    seconds: float


class LocalConverter:
    """Plans and runs conversions. ``state_dir``: the local agent's, whose environments are used."""

    def __init__(self, state_dir: Path, inspect: Inspector) -> None:
        self._inspect = inspect
        self._environments = board.environments(state_dir)
        self._references = ReferenceRunner(state_dir)
        self._tools = self._environments.tools()

    def start(self, wanted: ConversionRequest) -> Node:
        """The (format, precision) of the source."""
        return wanted.format, wanted.precision

    def nearest(self, starts: Sequence[Node], goal: Node, via: Sequence[str]) -> Node:
        """The file of a model with the cheapest way to ``goal``; the first where there is no
        way from any."""
        way = cheapest_path(usable(self._tools), [s for s in starts if s != goal], (goal,), via)
        return way[0].source if way else starts[0]

    def plan(self, wanted: ConversionRequest) -> ConversionPath:
        """The cheapest sequence of converters.

        Raises:
            UserError: no converters lead there, or one of them is not installed.
        """
        start = self.start(wanted)
        if start == wanted.goal and not wanted.via:
            raise UserError(f"{wanted.source} is {start[0]} in {start[1]} already")
        way = cheapest_path(usable(self._tools), (start,), (wanted.goal,), wanted.via)
        if way is None:
            raise UserError(self._why_not(start, wanted))
        self._check_options(wanted, way)
        calibrated = [
            tool.name for tool in tools_on_path(way, self._tools) if tool.needs_calibration
        ]
        if calibrated and not wanted.calibration:
            raise UserError(
                f"{calibrated[0]} needs calibration data: give --dataset FILE.npz, or say "
                "--calibration random"
            )
        return way

    def explain(self, wanted: ConversionRequest) -> list[str]:
        """The planned steps in words, a line each: where a converter runs and what it preserves."""
        way = self.plan(wanted)
        lines = [describe_path(self.start(wanted), way)]
        for edge in way:
            [tool] = tools_on_path((edge,), self._tools)
            keeps = ", ".join(word.replace("_", " ") for word in tool.keeps) or "nothing"
            line = f"{edge.converter}: in {edge.environment}, cost {edge.cost:g}, keeps {keeps}"
            lines.append(line + (", needs calibration" if tool.needs_calibration else ""))
        return lines

    def make(
        self, wanted: ConversionRequest, output: Path, note: Callable[[str], None]
    ) -> ConversionProduct:
        """Convert, check each step against the source's outputs, and write the result to
        ``output``, or nothing if it fails.

        Raises:
            UserError: the source or the request is wrong. FarmError: a converter failed.
        """
        way = self.plan(wanted)
        note(describe_path(self.start(wanted), way))
        with (
            tempfile.TemporaryDirectory(prefix="benchfarm-convert-") as name,
            CancelRequest() as cancel,
        ):
            folder = Path(name)
            request, files = self._request(wanted, folder)
            runner = RunnerClient("convert")
            conversions = ConversionRunner(
                self._environments,
                EngineCache(folder / "engines", 1 << 40),
                lambda p, j, f, b: runner.convert(p, j, f, b, cancel),
                lambda p, j, f, b: runner.reference(p, j, f, b, cancel),
                "",
            )
            done = conversions.convert(request, ConversionPlan(self.start(wanted), way), files)
            if done.converted is None or done.converted.status != "ok":
                failure = done.outcome.failure or (done.converted and done.converted.failure)
                raise FarmError(f"{failure.kind}: {failure.message}" if failure else "it failed")
            made = _place_output(Path(done.converted.artifact), output)
            return ConversionProduct(made, _size_bytes(made), done.converted.steps, done.seconds)

    def _request(
        self, wanted: ConversionRequest, folder: Path
    ) -> tuple[TrialRequest, ConversionInputs]:
        """A request like that of an attempt, with reference outputs computed from the source."""
        file = source_file.SourceFile(
            wanted.source.name,
            wanted.format,
            wanted.precision,
            _sha256(wanted.source),
            wanted.source,
        )
        dataset = None
        if wanted.dataset is not None:
            dataset = source_file.CheckedDataset.read(
                self._inspect,
                wanted.dataset,
                wanted.dataset.name,
                _sha256(wanted.dataset),
                Scoring(NOT_SCORED),  # only its calibration samples are used
            )
        read = source_file.read_source(
            self._inspect,
            self._references,
            wanted.source.stem,
            file,
            wanted.shapes,
            dataset,
            str(folder),
        )
        reference = ReferenceRef("", 0, read.feeds, read.origin)
        given: DatasetRef | None = dataset.ref if dataset else None
        request = TrialRequest(
            schema=SCHEMA,
            attempt_id="convert",
            trial_id="convert",
            model=ModelRef(
                file.name,
                wanted.format,
                file.sha256,
                file.path.stat().st_size,
                read.inputs,
                read.outputs,
            ),
            runtime=RuntimeRef("", precision=wanted.goal[1], options=dict(wanted.options)),
            scenario=Scenario(),
            reference=reference,
            tolerance=Tolerance(0.0, 1.0),
            dataset=given,
            calibration=wanted.calibration,
            limits=Limits(convert_s=7200.0, memory_mib=16384),
        )
        return request, ConversionInputs(wanted.source, read.reference, wanted.dataset)

    def _check_options(self, wanted: ConversionRequest, way: ConversionPath) -> None:
        known = {key for tool in tools_on_path(way, self._tools) for key in tool.options}
        for key in wanted.options:
            if key not in known:
                names = ", ".join(sorted(known)) or "none"
                raise UserError(f"--option {key}: the converters on this way have {names}")

    def _why_not(self, start: Node, wanted: ConversionRequest) -> str:
        words = f"{wanted.source}: from {start[0]} in {start[1]} to {wanted.goal[0]} in "
        words += wanted.goal[1] + (f" through {', '.join(wanted.via)}" if wanted.via else "")
        absent = missing_tools(self._tools, (start,), (wanted.goal,), wanted.via)
        if absent:
            return (
                words
                + f" this machine lacks a tool: {needs(absent)}; add an environment "
                + f"that has it with {other_ways.adding(absent)}"
            )
        made = sorted({f"{f} ({p})" for f, p in self._targets(start)})
        nearest = "" if wanted.via else other_ways.in_words(self._tools, (start,), (wanted.goal,))
        reached = ", ".join(made) or "nothing"
        return f"{words} no converter leads; from here to: {reached}{nearest}"

    def _targets(self, start: Node) -> list[Node]:
        """All nodes that the installed converters reach from ``start``."""
        edges = usable(self._tools)
        nodes = {edge.target for edge in edges} - {start}
        return [node for node in nodes if cheapest_path(edges, (start,), (node,)) is not None]


def _place_output(artifact: Path, output: Path) -> Path:
    """Copy the artifact to ``output``: a single file as a file; a folder, or a file with companion
    files, as a folder."""
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


def _size_bytes(path: Path) -> int:
    return folder_bytes(path) if path.is_dir() else path.stat().st_size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
