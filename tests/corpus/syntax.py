"""Single questions of iptables-restore's syntax: what either backend loads is read to what it then prints, and what both
refuse is refused, but for forms that have no other sense (MEANT).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from . import reader, saved, tool
from .meaning import cause
from .verdicts import Case, general

LAW = "syntax"


def _filter(*lines: str) -> str:
    return "\n".join(["*filter", *lines, "COMMIT", ""])


_LOOP = (":A - [0:0]", ":B - [0:0]", "-A A -j B", "-A B -j A")

TEXTS: Mapping[str, str] = {
    "blank after COMMIT": "*filter\n-A INPUT -j ACCEPT\nCOMMIT \n",
    "blank after the table": "*filter \n-A INPUT -j ACCEPT\nCOMMIT\n",
    "blank after the star": "* filter\n-A INPUT -j ACCEPT\nCOMMIT\n",
    "CRLF": "*filter\r\n-A INPUT -j ACCEPT\r\nCOMMIT\r\n",
    "blanks before a rule": _filter("   -A INPUT -j ACCEPT"),
    "blanks before COMMIT": "*filter\n  COMMIT\n",
    "blank before a comment": _filter(" # x"),
    "blank before the star": " *filter\nCOMMIT\n",
    "comment after a rule": _filter("-A INPUT -j ACCEPT # x"),
    "blank lines": "\n\n*filter\n\n-A INPUT -j ACCEPT\n\nCOMMIT\n\n",
    "no COMMIT": "*filter\n-A INPUT -j ACCEPT\n",
    "no end of the last line": "*filter\n-A INPUT -j ACCEPT\nCOMMIT",
    "a rule before its chain": _filter("-A X -j ACCEPT", ":X - [0:0]"),
    "a jump before its chain": _filter("-A INPUT -j X", ":X - [0:0]"),
    "a chain twice": _filter(":X - [0:0]", "-A X -j ACCEPT", ":X - [0:0]"),
    "-N twice": _filter("-N X", "-N X"),
    "-N and a head": _filter("-N X", "-A X -j ACCEPT", ":X - [0:0]"),
    "a built-in chain twice": _filter(":INPUT DROP [0:0]", "-A INPUT -j ACCEPT", ":INPUT ACCEPT [0:0]"),
    "no counters": _filter(":INPUT DROP", ":X -"),
    "a chain that calls itself": _filter(":X - [0:0]", "-A X -j X", "-A INPUT -j X"),
    "two chains in a ring": _filter(*_LOOP, "-A INPUT -j A"),
    "a ring that nothing reaches": _filter(*_LOOP),
    "a ring under a condition": _filter(*_LOOP, "-A INPUT -s 1.2.3.4 -j A"),
    "a ring of goto": _filter(":X - [0:0]", "-A X -g X", "-A INPUT -j X"),
    "a jump to a built-in chain": _filter("-A INPUT -j OUTPUT"),
    "counters before": _filter("[1:2] -A INPUT -j ACCEPT"),
    "counters by -c": _filter("-A INPUT -c 1 2 -j ACCEPT"),
    "single quotes": _filter("-A INPUT -m comment --comment 'a b' -j ACCEPT"),
    "a quote inside a word": _filter('-A INPUT -m comment --comment a"b c"d -j ACCEPT'),
    "a quote that does not end": _filter('-A INPUT -m comment --comment "a b'),
    "an escaped quote": _filter('-A INPUT -m comment --comment "a \\"b\\" c" -j ACCEPT'),
    "an empty word": _filter('-A INPUT -m comment --comment "" -j ACCEPT'),
    "UTF-8": _filter('-A INPUT -m comment --comment "größe" -j ACCEPT'),
    "a backslash at the end": _filter("-A INPUT \\", "-j ACCEPT"),
    "tabs": _filter("-A\tINPUT\t-j\tACCEPT"),
    "lower case commit": "*filter\ncommit\n",
    "--append": _filter("--append INPUT --jump ACCEPT"),
    "-P": _filter("-P INPUT DROP"),
    "-P with counters": _filter("-P INPUT DROP [0:0]"),
    "the same table twice": _filter("-A INPUT -j DROP") + _filter("-A INPUT -j ACCEPT"),
    "a name of 28": _filter(f":{'A' * 28} - [0:0]"),
    "a name of 29": _filter(f":{'A' * 29} - [0:0]"),
    "odd characters in a name": _filter(":a.b/c@d - [0:0]", "-A INPUT -j a.b/c@d"),
    "a name that begins with -": _filter(":-x - [0:0]"),
    "a chain named like a target": _filter(":LOG - [0:0]", "-A INPUT -j LOG"),
    "a chain named REJECT": _filter(":REJECT - [0:0]", "-A REJECT -j DROP", "-A INPUT -j REJECT"),
    "a policy for a user's chain": _filter(":X ACCEPT [0:0]"),
    "- for a built-in chain": _filter(":INPUT - [0:0]", "-A INPUT -j ACCEPT"),
    "policy REJECT": _filter(":INPUT REJECT [0:0]"),
    "policy DROP in nat": "*nat\n:OUTPUT DROP [0:0]\nCOMMIT\n",
    "policy RETURN": _filter(":INPUT RETURN [0:0]"),
    "-I at a number": _filter("-A INPUT -j ACCEPT", "-A INPUT -j DROP", "-I INPUT 2 -j RETURN"),
    "-I at the end": _filter("-A INPUT -j ACCEPT", "-I INPUT 2 -j DROP"),
    "-I past the end": _filter("-A INPUT -j ACCEPT", "-I INPUT 3 -j DROP"),
    "-I at 0": _filter("-I INPUT 0 -j DROP"),
    "-I of two addresses": _filter("-A INPUT -j DROP", "-I INPUT -s 1.1.1.1,2.2.2.2 -j ACCEPT"),
    "-I of two addresses at a number": _filter("-A INPUT -j DROP", "-I INPUT 2 -s 1.1.1.1,2.2.2.2 -j ACCEPT"),
    "-A of two by two addresses": _filter("-A INPUT -s 1.1.1.1,2.2.2.2 -d 3.3.3.3,4.4.4.4 -j ACCEPT"),
    "`!` with two addresses": _filter("-A INPUT ! -s 1.1.1.1,2.2.2.2 -j ACCEPT"),
    "-D by number": _filter("-A INPUT -j ACCEPT", "-A INPUT -j DROP", "-D INPUT 1"),
    "-D by its words": _filter(
        "-A INPUT -p tcp --dport 80 -j ACCEPT",
        "-A INPUT -j DROP",
        "-D INPUT -p 6 -m tcp --dport http -j ACCEPT",
    ),
    "-D of two addresses": _filter(
        "-A INPUT -s 1.1.1.1,2.2.2.2", "-A INPUT -j DROP", "-D INPUT -s 1.1.1.1,2.2.2.2"
    ),
    "-D of nothing": _filter("-D INPUT -j DROP"),
    "-R": _filter("-A INPUT -j ACCEPT", "-A INPUT -j DROP", "-R INPUT 2 -j RETURN"),
    "-R past the end": _filter("-A INPUT -j ACCEPT", "-R INPUT 2 -j RETURN"),
    "-R by two": _filter("-A INPUT -j ACCEPT", "-R INPUT 1 -s 1.1.1.1,2.2.2.2 -j RETURN"),
    "-F of a chain": _filter("-A INPUT -j ACCEPT", "-A OUTPUT -j DROP", "-F INPUT"),
    "-F": _filter(":X - [0:0]", "-A INPUT -j ACCEPT", "-A OUTPUT -j DROP", "-F"),
    "-X of a chain": _filter(":X - [0:0]", "-X X"),
    "-X of a chain with rules": _filter(":X - [0:0]", "-A X -j ACCEPT", "-X X"),
    "-X of a called chain": _filter(":X - [0:0]", "-A INPUT -j X", "-X X"),
    "-X": _filter(":X - [0:0]", ":Y - [0:0]", "-X"),
    "-E": _filter(":X - [0:0]", "-A INPUT -j X", "-E X Y"),
    "-E to a name that is there": _filter(":X - [0:0]", ":Y - [0:0]", "-E X Y"),
    "-Z": _filter("-A INPUT -j ACCEPT", "-Z", "-Z INPUT", "-Z INPUT 1"),
    "-C of what is there": _filter("-A INPUT -j ACCEPT", "-C INPUT -j ACCEPT"),
    "-C of what is not": _filter("-C INPUT -j ACCEPT"),
    "-L": _filter("-A INPUT -j ACCEPT", "-L"),
    "-t": _filter("-t filter -A INPUT -j ACCEPT"),
    "-t in a comment": _filter('-A INPUT -m comment --comment "-t nat" -j ACCEPT'),
    "-4": _filter("-4 -A INPUT -j ACCEPT"),
    "-6": _filter("-6 -A INPUT -j ACCEPT", "-A INPUT -j DROP"),
    "-w": _filter("-w -A INPUT -j ACCEPT"),
    "two commands in a line": _filter("-A INPUT -A OUTPUT -j ACCEPT"),
    "two targets": _filter("-A INPUT -j ACCEPT -j DROP"),
    "a rule without a target": _filter("-A INPUT -s 1.1.1.1"),
    "a target first": _filter("-A INPUT -j ACCEPT -p tcp --dport 80"),
    "a module before its -p": _filter("-A INPUT -m tcp --dport 80 -p tcp -j ACCEPT"),
    "no -p at all": _filter("-A INPUT -m tcp --dport 80 -j ACCEPT"),
    "`! -p`": _filter("-A INPUT ! -p tcp -j ACCEPT"),
    "`! -p` with a port": _filter("-A INPUT ! -p tcp -m tcp --dport 80 -j ACCEPT"),
    "`-p !`": _filter("-A INPUT -p ! tcp -j ACCEPT"),
    "two `!`": _filter("-A INPUT ! ! -p tcp -j ACCEPT"),
    "`!` before -j": _filter("-A INPUT ! -j ACCEPT"),
    "`!` before -m": _filter("-A INPUT ! -m tcp -p tcp -j ACCEPT"),
    "-p twice": _filter("-A INPUT -p tcp -p udp -j ACCEPT"),
    "-s twice": _filter("-A INPUT -s 1.1.1.1 -s 2.2.2.2 -j ACCEPT"),
    "a short form": _filter("-A INPUT -p tcp --dpo 80 -j ACCEPT"),
    "a short form of two": _filter("-A INPUT -p tcp --d 80 -j ACCEPT"),
    "an option with =": _filter("-A INPUT --protocol=tcp --dport=80 -j ACCEPT"),
    "a glued short option": _filter("-A INPUT -ptcp -s1.1.1.1 -jACCEPT"),
    "a word of no option": _filter("-A INPUT x -j ACCEPT"),
    "no chain": _filter("-A"),
    "an unknown module": _filter("-A INPUT -m nosuch -j ACCEPT"),
    "an unknown option": _filter("-A INPUT -p tcp --nosuch 1 -j ACCEPT"),
    "an unknown target": _filter("-A INPUT -j NOSUCH"),
    "an unknown table": "*nosuch\nCOMMIT\n",
    "an unknown built-in chain": "*nat\n-A FORWARD -j ACCEPT\nCOMMIT\n",
    "-i in OUTPUT": _filter("-A OUTPUT -i eth0 -j ACCEPT"),
    "-o in INPUT": _filter("-A INPUT -o eth0 -j ACCEPT"),
    "-i in a chain that OUTPUT calls": _filter(":X - [0:0]", "-A X -i eth0 -j ACCEPT", "-A OUTPUT -j X"),
    "a long interface": _filter("-A INPUT -i abcdefghijklmnop -j ACCEPT"),
    "a long comment": _filter(f"-A INPUT -m comment --comment {'x' * 256} -j ACCEPT"),
    "port 0:65535, negated": _filter("-A INPUT -p tcp ! --dport 0:65535 -j DROP"),
    "-i +, negated": _filter("-A INPUT ! -i + -j DROP"),
    "-s 0.0.0.0/0, negated": _filter("-A INPUT ! -s 0.0.0.0/0 -j DROP"),
    "a mask with holes": _filter("-A INPUT -s 10.0.0.1/255.0.255.0 -j ACCEPT"),
    "an address of two parts": _filter("-A INPUT -s 127.1 -j ACCEPT"),
    "an address of four with zeros": _filter("-A INPUT -s 010.001.000.009 -j ACCEPT"),
    "a mask of 33": _filter("-A INPUT -s 1.1.1.1/33 -j ACCEPT"),
    "-p 0": _filter("-A INPUT -p 0 -j ACCEPT"),
    "-p all": _filter("-A INPUT -p all -j ACCEPT"),
    "-p 256": _filter("-A INPUT -p 256 -j ACCEPT"),
    "-p TCP": _filter("-A INPUT -p TCP --syn -j ACCEPT"),
    "a port by name": _filter("-A INPUT -p tcp --dport https -j ACCEPT"),
    "ports the wrong way round": _filter("-A INPUT -p tcp --dport 90:80 -j ACCEPT"),
    "an open range": _filter("-A INPUT -p tcp --dport 80: --sport :90 -j ACCEPT"),
    "a hexadecimal port": _filter("-A INPUT -p tcp --dport 0x50 -j ACCEPT"),
    "fragments": _filter("-A INPUT -f -j ACCEPT", "-A INPUT ! -f -j ACCEPT"),
    "goto": _filter(":X - [0:0]", "-A INPUT -g X"),
    "goto a target": _filter("-A INPUT -g ACCEPT"),
    "a rule of a table that has ended": "*filter\nCOMMIT\n-A INPUT -j ACCEPT\n",
    "two tables, one COMMIT": "*filter\n*nat\nCOMMIT\n",
    "nothing": "",
    "comments alone": "# x\n",
}
"""Texts by what they ask."""

MEANT = ("blank after COMMIT", "CRLF", "blanks before COMMIT", "blank before a comment", "blank before the star", "no end of the last line",
         "`-p !`")  # fmt: skip
"""Forms of old dumps and of what a mail or an editor leaves, which the tool refuses, and which can mean one thing alone."""


def cases() -> Iterator[Case]:
    for name, text in TEXTS.items():
        yield judge(name, text)


def judge(name: str, text: str) -> Case:
    got = {backend: tool.load(text, "v4", backend) for backend in tool.BACKENDS}
    loads = [backend for backend, it in got.items() if isinstance(it, tool.Loaded)]
    kind = {2: "both load", 1: f"{loads[0] if loads else ''} loads", 0: "both refuse"}[len(loads)]

    def case(outcome: str, cause: str = "", detail: str = "", ways: tuple[str, ...] = ()) -> Case:
        return Case(LAW, name, kind, outcome, cause, detail, ways)

    match reader.ask(text, "t"):
        case reader.Crashed(where, trace):
            return case("crashed", f"an exception that is not ours: {where}", trace[-600:])
        case reader.Refused(code, message, shown):
            if len(loads) == 2 and not all(
                saved.is_empty(it.saved) for it in got.values() if isinstance(it, tool.Loaded)
            ):
                return case("refused", f"refused, and both load it: {code} {general(message)}", shown)
            return case("refused")
        case reader.Read() as heard:
            if not loads:
                errors = [it.error for it in got.values() if isinstance(it, tool.NotLoaded)]
                if name in MEANT:
                    return case("meant")
                if reader.refusal_found(heard) is not None:
                    return case("linted")
                return case("read", f"read, and both refuse it: {general(errors[0])}", errors[0])
            mine = {
                b: tool.load(reader.spelled(heard.rules.get("v4") or heard.rules["v6"]), "v4", b)
                for b in loads
            }
            faults: list[tuple[str, str]] = []
            for backend, it in mine.items():
                there = got[backend]
                assert isinstance(there, tool.Loaded)
                if isinstance(it, tool.NotLoaded):
                    return case("not loaded", f"what we spell is refused: {general(it.error)}", it.error)
                if left := saved.compare(there.saved, it.saved).left:
                    faults.append((cause(left), f"{backend}: {left}"))
            if len(faults) == len(loads):
                return case("differs", *faults[0])
            return case("the same as one backend" if faults else "the same")
