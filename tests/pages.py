"""The code blocks of README.md, CONTRIBUTING.md and docs/, as a reader sees them.

A comment in the line before a block says how tests treat it; a reader does not see it:

- ``<!-- run with: OPTIONS -->``: the fast tests carry its commands out, each with these options.
- ``<!-- run -->``: the same, as they are written.
- ``<!-- not run: REASON -->``: its commands are only parsed.

Commands of any other block are parsed by the fast tests and carried out by the long ones. All
Python is executed, the blocks of a page in their order; a block that begins with ``# NAME.py`` is a
file, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted((CHECKOUT / "docs").rglob("*.md")),
]
PROGRAMS = {
    ".", "apt-get", "aws", "bash", "cd", "curl", "docker", "export", "git", "kubectl", "make",
    "pip", "python", "python3", "ray", "raynas", "source",
}  # fmt: skip
SHELLS = ("", "bash", "console", "sh", "shell")
OTHER_LANGUAGES = ("text", "yaml", "toml", "sql", "json")

_BLOCK = re.compile(
    r"^(?:<!-- (?P<how>not run|run with|run)(?:: (?P<rest>[^\n]*))? -->\n)?"
    r"```(?P<language>\w*)\n(?P<body>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block, or an indented line that begins with a program.

    Attributes:
        page: The page's path within the checkout.
        language: The word behind the fence; empty for none.
        body: The text.
        how: "not run", "run with", "run", or empty.
        rest: The reason, or the options.
    """

    page: str
    language: str
    body: str
    how: str = ""
    rest: str = ""

    @property
    def is_shell(self) -> bool:
        """Whether it has commands."""
        return self.language in SHELLS

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands, without their remarks; one that ends with a backslash goes on."""
        lines = re.sub(r"\s*\\\n\s*", " ", self.body).splitlines()
        plain = (re.sub(r"\s+#.*$|^#.*$", "", line).removeprefix("$ ").strip() for line in lines)
        return tuple(line for line in plain if line)

    @property
    def file(self) -> str:
        """The name of the file that it shows; empty if it shows none."""
        found = re.match(r"# (\S+\.py)\n", self.body)
        return found[1] if found else ""


def blocks_of(page: str, text: str) -> list[Block]:
    """Return the blocks of a page in their order.

    Args:
        page: The page's path within the checkout.
        text: Its text.
    """
    found = []
    places = []
    for match in _BLOCK.finditer(text):
        found.append(
            (
                match.start(),
                Block(
                    page, match["language"], match["body"], match["how"] or "", match["rest"] or ""
                ),
            )
        )
        places.append(match.span())
    for line in re.finditer(r"^    (\S.*)$", text, re.MULTILINE):
        inside = any(start <= line.start() < end for start, end in places)
        if not inside and line[1].split()[0] in PROGRAMS:
            found.append((line.start(), Block(page, "", line[1] + "\n")))
    return [block for _, block in sorted(found, key=lambda pair: pair[0])]


BLOCKS = [
    block
    for page in PAGES
    for block in blocks_of(page.relative_to(CHECKOUT).as_posix(), page.read_text())
]

MY_IMAGES = """
import numpy as np

labels = np.arange(160) % 4
pixels = np.random.default_rng(0).integers(0, 256, (160, 16, 16, 3)).astype(np.uint8)
pixels[:, 4:8, 4:8] //= 1 + labels[:, None, None, None].astype(np.uint8)
"""
