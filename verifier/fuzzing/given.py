"""The user's own rules in the kernel: their text as it stands, where it is what `iptables-restore` reads."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from ..hosts import Setting
from ..kernel.errors import RulesRefused
from ..kernel.oracle import Oracle
from ..reading.detect import Format
from ..reading.hosts import read_host
from ..reading.rules import read_rules
from ..values import Family, Place


class Text(Struct, frozen=True):
    """Saved text of rules, unchanged, and its file."""

    file: Path
    text: str

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(Place(str(self.file), n) for n in range(1, self.text.count("\n") + 2))


def text_of(path: Path, family: Family) -> Text | None:
    """The text of a file of rules, or of the one that a host file names; None where several make the rules, or where it is no
    saved text of this family alone.
    """
    files: tuple[Path, ...] = (path,)
    if path.suffix in (".yaml", ".yml"):
        views = read_host(path).views
        files = next((view.rules_files for view in views if view.host.family is family), ())
    if len(files) != 1:
        return None
    # newline: what ends a line is the tool's to judge.
    with files[0].open(encoding="utf-8", newline="") as opened:
        text = opened.read()
    read = read_rules(text.removeprefix("\ufeff").replace("\r\n", "\n"), str(files[0]), family=family)
    if read.format != Format.SAVE.value or set(read.families) != {family}:
        return None
    return Text(files[0], text)


def load(oracle: Oracle, setting: Setting, text: Text | None) -> str | None:
    """Load the text unchanged, or where there is none the rules as they are spelled; returns why it is not the text, where the tool
    refuses it.  Raises RulesRefused where it refuses both.
    """
    if text is None:
        oracle.load(setting.rules)
        return None
    try:
        oracle.load(setting.rules, text.text, text.places)
        return None
    except RulesRefused as error:
        oracle.load(setting.rules)
        return f"{error.message} ({error.place}): loaded instead as `chainproof show` spells what was read"
