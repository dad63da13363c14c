"""Command lines that the documentation tells its reader to type, with what it says they print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)
BLOCK = re.compile(r"^ *```(console|sh)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
PROMPT = re.compile(r"^ *(?P<prompt>[\w-]*[$#]) +(?P<command>.*)$")
REMARK = re.compile(r"\s+#\s.*")


@dataclass(frozen=True)
class Typed:
    """One command line of a page."""

    page: str
    line: int
    host: str
    """Whose prompt it stands behind: ``board``, ``controller``; empty for the reader's own."""
    command: str
    printed: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def typed(page: Path) -> list[Typed]:
    """Every command line of a page's ``console`` and ``sh`` blocks, in order."""
    text = page.read_text("utf-8")
    name = page.relative_to(ROOT).as_posix()
    found: list[Typed] = []
    for block in BLOCK.finditer(text):
        first = text[: block.start(2)].count("\n") + 1
        prompted = block[1] == "console"
        found += _of_block(name, first, block[2], prompted)
    return found


def _of_block(page: str, first: int, block: str, prompted: bool) -> list[Typed]:
    found: list[Typed] = []
    lines = iter(enumerate(block.splitlines(), first))
    for number, line in lines:
        match = PROMPT.match(line) if prompted else None
        if prompted and not match:
            if found:
                last = found.pop()
                found.append(
                    Typed(page, last.line, last.host, last.command, (*last.printed, line.strip()))
                )
            continue
        host, command = (match["prompt"][:-1], match["command"]) if match else ("", line.strip())
        while command.endswith("\\"):
            command = command[:-1].rstrip() + " " + next(lines)[1].strip()
        command = REMARK.sub("", command).strip()
        if command:
            found.append(Typed(page, number, host, command, ()))
    return found
