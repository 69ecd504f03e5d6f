"""A file's text, or an error that says what keeps it from being read, and where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..values import Place
from .errors import InputError

WAYS_OUT: Mapping[type[OSError], str] = {
    FileNotFoundError: "a path is taken from the folder of the file that names it, on the command line from the one that you are in",
    IsADirectoryError: "name a file in it",
    PermissionError: "you may not read it: run as somebody who may, or copy it",
}


def read_text(path: Path, what: str, code: str, error: type[InputError]) -> str:
    """The text of a file in UTF-8, lines ended by LF, without a byte order mark.

    Raises `error`, of this code and about `what` ("the rules file"), where the file cannot be opened,
    and at the first byte that no text in UTF-8 has.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        hint = WAYS_OUT.get(type(e))
        raise error(code, f"{what} cannot be read: {e.strerror}", Place(str(path), 0), hint=hint) from None
    except ValueError as e:
        raise error(code, f"{what} cannot be read: {e}", Place(str(path), 0)) from None
    try:
        text = data.decode("utf-8-sig")
        bad = data.find(b"\0")
    except UnicodeDecodeError as e:
        text = ""
        bad = e.start
    if bad < 0:
        return text.replace("\r\n", "\n")
    begin = data.rfind(b"\n", 0, bad) + 1
    end = data.find(b"\n", bad)
    before = data[begin:bad].decode("utf-8", "replace")
    line = data[begin : end if end >= 0 else len(data)].decode("utf-8", "replace")
    raise error(
        code,
        f"{what} is no text in UTF-8: byte {data[bad]:#04x}",
        Place(str(path), data.count(b"\n", 0, bad) + 1, len(before) + 1),
        line=line.rstrip("\r"),
        hint="is it the right file?" if not data[bad] else "write it anew in UTF-8",
    )
