"""The documentation against the repository: pages, links, paths, names and words."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FOLDERS = (
    "agent", "orchestrator", "playbooks", "inventory", "benchmarks", "requirements", "tests",
    "examples", "docs",
)  # fmt: skip
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").glob("*.md")],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
CODE = re.compile(r"```.*?```", re.DOTALL)
IN_BACKTICKS = re.compile(r"`([^`\s]+)`")
SOURCES = (".py", ".md", ".yaml", ".toml", ".html", ".sh", ".ipynb", ".c", "")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text("utf-8")), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in plain}


@each_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(link)
    assert broken == []


def test_the_index_lists_every_page() -> None:
    index = DOCS / "README.md"
    linked = {
        (DOCS / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text("utf-8"))
    }
    pages = {page.resolve() for page in DOCS.rglob("*.md")} - {index.resolve()}
    assert sorted(page.relative_to(ROOT).as_posix() for page in pages - linked) == []


def test_the_index_has_the_decisions_with_their_numbers_and_titles() -> None:
    expected = []
    for record in sorted((DOCS / "decisions").glob("*.md")):
        number, title = record.read_text("utf-8").splitlines()[0].removeprefix("# ").split(". ", 1)
        assert record.name.startswith(f"{int(number):04}-")
        expected.append(f"{number}. [{title}](decisions/{record.name})")
    index = (DOCS / "README.md").read_text("utf-8").splitlines()
    assert [line for line in index if "](decisions/" in line] == expected


@each_page
def test_named_paths_exist(page: Path) -> None:
    """``agent/runtimes/NAME/backend.py``: a word in capitals stands for any name. A guide names
    files that its reader is going to write, too: of those the folder has to exist."""
    found = IN_BACKTICKS.findall(CODE.sub("", page.read_text("utf-8")))
    guide = page.parent.name == "guides"
    missing = [
        text
        for text in found
        if is_path(text) and not exists(text.rpartition("/")[0] if guide else text)
    ]
    assert missing == []


def is_path(text: str) -> bool:
    first, slash, rest = text.partition("/")
    return first in FOLDERS and bool(slash and rest)


def exists(text: str) -> bool:
    pattern = re.sub(r"\b[A-Z]{2,}\b", "*", text.partition("::")[0]).rstrip("/")
    return any(ROOT.glob(re.sub(r"\{([^}]*)\}", "*", pattern)))


@each_page
def test_named_modules_and_classes_exist(page: Path) -> None:
    found = IN_BACKTICKS.findall(CODE.sub("", page.read_text("utf-8")))
    missing = [text for text in found if is_dotted(text) and not is_defined(text)]
    assert missing == []


def is_dotted(text: str) -> bool:
    """A module or what it defines; ``agent.json`` and ``agent.log`` are files."""
    if not re.fullmatch(r"(agent|orchestrator|playbooks)(\.\w+)+", text):
        return False
    return not text.endswith((".json", ".log", ".lock", ".py", ".service"))


def is_defined(text: str) -> bool:
    parts = text.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        file = (
            path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        )
        if file.is_file():
            return length == len(parts) or parts[length] in defined(file)
    return False


@cache
def defined(file: Path) -> frozenset[str]:
    """Names that a module defines or imports at its top level."""
    names: set[str] = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return frozenset(names)


def test_no_file_cites_a_note_that_is_not_in_the_repository() -> None:
    """The repository explains itself: a comment cites a page of ``docs/``."""
    notes = r"\b(FACTS|DESIGN)\b"
    in_tests = r"(FACTS|DESIGN)( ?§|\.md| decision| says)"  # there FACTS may name a constant
    found = []
    for file in sources():
        pattern = re.compile(in_tests if file.is_relative_to(ROOT / "tests") else notes)
        lines = enumerate(file.read_text("utf-8", errors="replace").splitlines(), 1)
        name = file.relative_to(ROOT).as_posix()
        found += [f"{name}:{n}: {line.strip()}" for n, line in lines if pattern.search(line)]
    assert found == []


def sources() -> list[Path]:
    """Every text file that people write, but for the changelog and this file."""
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*")]
    files += [file for file in ROOT.iterdir() if file.name != "CHANGELOG.md"]
    return [f for f in files if f.is_file() and f.suffix in SOURCES and f != Path(__file__)]


@each_page
def test_no_sentence_begins_with_of_or_as(page: Path) -> None:
    text = CODE.sub("", page.read_text("utf-8"))
    starts = re.compile(r"(?:^[-*|> ]*|[.:;|] |\*\* )(?:Of|As) .*", re.MULTILINE)
    assert starts.findall(text) == []


INLINE = re.compile(r"`((?:benchfarm|benchfarm-agent) [^`]+)`")
TYPED = re.compile(
    r"(?:^|[$#] |&& )(?:[A-Z_]+=\S+ )*((?:benchfarm|benchfarm-agent) .*)$", re.MULTILINE
)


def commands(page: Path) -> list[str]:
    """Command lines of benchfarm in a page: in its console blocks, and in backticks."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"```(?:console|sh)\n(.*?)```", text, re.DOTALL)
    typed = [re.sub(r"\s#\s.*", "", line) for b in blocks for line in TYPED.findall(prompted(b))]
    inline = INLINE.findall(CODE.sub("", text).replace("\n", " "))
    return [line for line in typed + inline if not line.startswith("benchfarm.")]


def prompted(block: str) -> str:
    """The lines of a block that a user types; all of it where none has a prompt."""
    lines = block.replace("\\\n", " ").splitlines()
    typed = [line for line in lines if re.match(r"^[\w-]*[$#] ", line)]
    return "\n".join(typed or lines)


@each_page
def test_commands_exist_with_their_options(page: Path) -> None:
    wrong = [f"{line}: {why}" for line in commands(page) if (why := why_wrong(line))]
    assert wrong == []


@each_page
def test_make_targets_exist(page: Path) -> None:
    named = re.findall(r"(?:`|[$#] )make ([a-z-]+)", page.read_text("utf-8"))
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert sorted({*named} - {*targets}) == []


def why_wrong(line: str) -> str:
    """What a command line names that is not there; empty where all of it is."""
    program, *words = line.replace("`", "").split()
    command: Any = roots()[program]
    words.reverse()
    while words:
        word = words.pop().strip(",;:()[]")
        if word in ("|", ">", "&&", "…", "...", "") or word.startswith("…"):
            return ""
        if word.startswith("-"):
            name, given, _ = word.partition("=")
            option = next((p for p in command.params if name in p.opts), None)
            if option is None:
                return f"{command.name} has no option {name}"
            if words and not option.is_flag and not given:
                words.pop()
        elif hasattr(command, "commands"):
            unknown = [each for each in word.split("|") if each not in command.commands]
            if unknown:
                return f"{command.name} has no command {unknown[0]}"
            command = command.commands[word.partition("|")[0]]
    return ""


@cache
def roots() -> dict[str, Any]:
    """The two programs' commands."""
    from typer.main import get_command

    import agent.cli
    import orchestrator.cli

    return {
        "benchfarm": get_command(orchestrator.cli.app),
        "benchfarm-agent": get_command(agent.cli.app),
    }


@each_page
def test_sweeps_in_the_pages_are_accepted(page: Path) -> None:
    from orchestrator.domain import spec

    for block in re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        if re.search(r"^runtimes:\n  - [{]", block, re.MULTILINE) and "recognise:" not in block:
            whole = block if "models:" in block else f"name: x\nmodels: [x]\n{block}"
            spec.parse(whole, page.name)


def test_the_table_of_environments_has_the_sizes_of_the_recipes() -> None:
    from agent.runtimes import registry

    table = (DOCS / "runtimes.md").read_text("utf-8")
    for name, runtime in registry.RUNTIMES.items():
        for recipe in runtime.recipes:
            label = f"{name}@{recipe.variant}" if recipe.variant else name
            row = rf"^\| {re.escape(label)}( [^|]*)? \| .*\| {recipe.mib} MiB \|$"
            assert re.search(row, table, re.MULTILINE), f"{label}: {recipe.mib} MiB"


def test_what_docstrings_and_comments_name_exists() -> None:
    """Pages of ``docs/``, and dotted names in double backticks."""
    missing = []
    for file in sources():
        text = file.read_text("utf-8", errors="replace") if file.suffix == ".py" else ""
        pages = re.findall(r"(?<!/)\bdocs/[a-z\d/-]+\.md\b", text)
        missing += [f"{file.name}: {page}" for page in pages if not (ROOT / page).is_file()]
        names = re.findall(r"``([\w.]+)``", text)
        missing += [f"{file.name}: {n}" for n in names if is_dotted(n) and not is_defined(n)]
    assert missing == []
