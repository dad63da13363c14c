"""Builds runtime environments: complete or not at all, named by a hash of their content, reused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.contract.child_jobs import Probed
from agent.contract.device import RuntimeFacts
from agent.contract.versions import fits
from agent.facts import nvidia
from agent.system.durable import sync_folder
from agent.worker.environments import package_tools
from agent.worker.environments.package_tools import PackageTool, interpreter
from agent.worker.environments.recipes import RuntimeRequirement
from agent.worker.errors import BadInput, DiskFull, EnvironmentMissing
from agent.worker.uplink.blob_cache import is_disk_full

FOLDER = "runtimes"
"""Below a state folder."""
MANIFEST_NAME = "manifest.json"
_TEMPORARY = "tmp-"
_ENVIRONMENT = "env"

Note = Callable[[str], None]
"""``note(line)`` tells the user what happens."""


@dataclass(frozen=True)
class EnvironmentManifest:
    """What was built, as ``manifest.json`` holds it.

    Attributes:
        request: hash of the requirements and the lock that it was built from.
        requirements: those of each call of the package tool.
        pins: every distribution in it, as ``name==version``.
        tool: the package tool's name.
        build_s, size_mib: the time and the disk space that it took.
        cuda: the CUDA version that its torch was built for; empty: a CPU build, or no torch.
    """

    name: str
    backend: str
    variant: str
    version: str
    request: str
    requirements: tuple[tuple[str, ...], ...]
    pins: tuple[str, ...]
    python: str
    machine: str
    tool: str
    build_s: float
    size_mib: float
    cuda: str = ""

    @property
    def cost(self) -> str:
        """Time and disk space for people: ``12.3 s, 236 MiB``."""
        return f"{self.build_s:.1f} s, {self.size_mib:.0f} MiB"


class EnvironmentBuilder:
    """Builds environments below ``folder``, one at a time: the caller holds the lock.

    A folder there whose name does not begin with ``tmp-`` is complete: it is renamed into place
    after the backend has answered in it.
    """

    def __init__(
        self,
        folder: Path,
        probe: Callable[[str], Probed],
        tools: PackageTool | None = None,
        clock: Callable[[], float] = time.monotonic,
        gpu: Callable[[], bool] = nvidia.present,
    ) -> None:
        self._folder = folder.absolute()
        self._gpu = gpu
        self.probe = probe
        self._tools = tools
        self._clock = clock

    def python(self, name: str) -> Path:
        """The interpreter of a built environment."""
        return interpreter(self._folder / name / _ENVIRONMENT)

    def manifest(self, name: str) -> EnvironmentManifest | None:
        """The manifest of an environment; ``None`` for one that was not built here."""
        try:
            data = json.loads((self._folder / name / MANIFEST_NAME).read_text("utf-8"))
            steps = tuple(tuple(step) for step in data.pop("requirements"))
            return EnvironmentManifest(requirements=steps, pins=tuple(data.pop("pins")), **data)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def build(
        self, wanted: RuntimeRequirement, wheelhouse: Path | None, note: Note
    ) -> EnvironmentManifest:
        """An environment for ``wanted``: one that was built from the same request, else a new one.

        Raises:
            BadInput: no such version, no interpreter for it, or no such wheelhouse.
            EnvironmentMissing: it was built, but the backend does not answer in it.
            IndexUnreachable, DiskFull, BuildFailed, ChildFailed: nothing is left behind.
        """
        if wheelhouse is not None:
            wheelhouse = _checked(wheelhouse)
        python, python_version = package_tools.base_python(wanted.backend, wanted.recipe)
        request = _request_hash(wanted, python_version)
        kept = self._built_from(request)
        if kept is not None:
            note(f"{wanted.label}: here already as {kept.name} (it cost {kept.cost})")
            self._warn(kept, note)
            return kept
        with _disk_errors(), self._temporary() as folder:
            self._require_space(wanted)
            tools = self._tools or package_tools.find()
            note(f"{wanted.label}: building with {tools.name}, about {wanted.recipe.mib} MiB …")
            began = self._clock()
            environment = folder / _ENVIRONMENT
            self._install(tools, wanted, python, environment, wheelhouse)
            facts = self._probed(wanted, interpreter(environment))
            pins = tools.frozen(environment)
            manifest = EnvironmentManifest(
                name=_name(wanted, facts.version, pins, python_version),
                backend=wanted.backend,
                variant=wanted.recipe.variant,
                version=facts.version,
                request=request,
                requirements=wanted.steps,
                pins=pins,
                python=python_version,
                machine=wanted.machine,
                tool=tools.name,
                build_s=round(self._clock() - began, 2),
                size_mib=round(tree_mib(environment), 1),
                cuda=tools.cuda(environment) if wanted.has_torch else "",
            )
            self._move_into_place(folder, manifest)
        note(f"{wanted.label}: built {manifest.name} in {manifest.cost}")
        self._warn(manifest, note)
        return manifest

    def warning(self, manifest: EnvironmentManifest) -> str:
        """A flaw of an environment that works; empty: none."""
        return _unwanted_cuda(manifest.name, manifest.cuda, self._gpu())

    def _warn(self, manifest: EnvironmentManifest, note: Note) -> None:
        warning = self.warning(manifest)
        if warning:
            note(f"warning: {warning}")

    def discard(self, name: str) -> bool:
        """Delete a built environment; false if there is none of that name here."""
        home = self._folder / name
        if self.manifest(name) is None:
            return False
        trash = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self._folder))
        os.rename(home, trash / home.name)  # at once: half of it must never be found under its name
        shutil.rmtree(trash, ignore_errors=True)
        return True

    def _install(
        self,
        tools: PackageTool,
        wanted: RuntimeRequirement,
        python: str,
        environment: Path,
        wheelhouse: Path | None,
    ) -> None:
        tools.make(python, environment, seeded=wanted.recipe.pip_first)
        for number, step in enumerate(wanted.steps):
            by_pip = wanted.recipe.pip_first and number == 0
            bare = step == wanted.bare
            # Not pip's first step: an index of torch's builds alone has few versions of what torch
            # needs, and the next step corrects them. No wheelhouse: it has one version of each.
            locked = wheelhouse is None and not (by_pip or bare)
            lock = wanted.lock if locked else None
            tools.install(environment, step, wheelhouse, by_pip, bare, lock)

    def _probed(self, wanted: RuntimeRequirement, python: Path) -> RuntimeFacts:
        """What the backend answers there. Raises ``EnvironmentMissing``, ``ChildFailed``."""
        backend = wanted.backend
        found = next((r for r in self.probe(str(python)).runtimes if r.backend == backend), None)
        if found is None:
            raise EnvironmentMissing(f"{wanted.label}: the runner has no backend {backend!r}")
        if found.missing:
            raise EnvironmentMissing(
                f"{wanted.label} was built but does not answer: {found.missing}"
            )
        if not fits(found.version, wanted.version):
            raise EnvironmentMissing(f"{wanted.label} was built but answers as {found.version}")
        return found

    def _built_from(self, request: str) -> EnvironmentManifest | None:
        if not self._folder.is_dir():
            return None
        for home in self._folder.iterdir():
            manifest = self.manifest(home.name)
            if manifest is not None and manifest.request == request and self._runs(home.name):
                return manifest
        return None

    def _runs(self, name: str) -> bool:
        """Whether it has an interpreter: a link to the base, which may have been removed."""
        return os.access(self.python(name), os.X_OK)

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        for stale in self._folder.glob(f"{_TEMPORARY}*"):  # left by a power cut or a kill
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self._folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _require_space(self, wanted: RuntimeRequirement) -> None:
        free_mib = shutil.disk_usage(self._folder).free / 2**20
        if free_mib < wanted.recipe.mib:
            raise DiskFull(
                f"{wanted.label} needs about {wanted.recipe.mib} MiB, and {self._folder} has "
                f"{free_mib:.0f} MiB free"
            )

    def _move_into_place(self, folder: Path, manifest: EnvironmentManifest) -> None:
        """What is there under that name does not run any more, or it would have been reused."""
        home = self._folder / manifest.name
        _relocate(folder / _ENVIRONMENT, home / _ENVIRONMENT)
        text = json.dumps(asdict(manifest), indent=2) + "\n"
        (folder / MANIFEST_NAME).write_text(text, "utf-8")
        os.sync()  # tens of thousands of files: one by one takes minutes on a memory card
        if home.exists() and not self.discard(manifest.name):
            shutil.rmtree(home)
        os.rename(folder, home)
        sync_folder(self._folder)


def tree_mib(folder: Path) -> float:
    """MiB of the files below a folder, links not followed."""
    total = 0
    for root, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(root, name)).st_size for name in names)
    return total / 2**20


def _checked(wheelhouse: Path) -> Path:
    folder = wheelhouse.expanduser().absolute()
    if not folder.is_dir():
        raise BadInput(f"--wheelhouse {wheelhouse}: no such folder; expected one of wheels")
    if not any(folder.glob("*.whl")):
        raise BadInput(
            f"--wheelhouse {wheelhouse}: no wheels in it; fill it with `pip download -d DIR …`"
        )
    return folder


def _request_hash(wanted: RuntimeRequirement, python_version: str) -> str:
    parts = {
        "backend": wanted.backend,
        "variant": wanted.recipe.variant,
        "steps": wanted.steps,
        "python": python_version,
        "machine": wanted.machine,
        "system": platform.system(),
        "lock": wanted.lock.read_text("utf-8") if wanted.lock else "",
    }
    return _hash(parts)


def _name(
    wanted: RuntimeRequirement, version: str, pins: tuple[str, ...], python_version: str
) -> str:
    content = _hash({"request": _request_hash(wanted, python_version), "pins": pins})
    variant = f"-{wanted.recipe.variant}" if wanted.recipe.variant else ""
    return f"{wanted.backend}{variant}-{version}-{content[:10]}"


def _hash(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _relocate(environment: Path, target: Path) -> None:
    """Rewrite the paths in its scripts (``benchmark_app`` and the like) for its move to
    ``target``."""
    old, new = os.fsencode(environment), os.fsencode(target)
    for script in [*(environment / "bin").iterdir(), environment / "pyvenv.cfg"]:
        if script.is_symlink() or not script.is_file():
            continue
        text = script.read_bytes()
        if old in text and b"\0" not in text:
            script.write_bytes(text.replace(old, new))


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"no space left for a runtime environment: {error}") from error
        raise


def _unwanted_cuda(name: str, cuda: str, gpu: bool) -> str:
    """The warning about an environment whose torch was built for ``cuda``; empty: none."""
    if not cuda or gpu:
        return ""
    return (
        f"torch in {name} is a build for CUDA {cuda}, gigabytes larger, and this machine has no "
        f"NVIDIA GPU: for a CPU build run `benchfarm-agent runtimes remove {name}`, set "
        "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu (or give wheels by "
        "--wheelhouse), and add it again"
    )
