"""Bit-vector and Boolean terms, and a solver for them: the only module that knows Z3.

Terms are built with Z3's C functions directly (its Python wrapper spends five to eight times as long
on each), and constants are folded on the way, so that what a host leaves no choice about never
reaches the solver.  All comparisons of bit-vectors are unsigned; there are no signed ones.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

_Ast: TypeAlias = int


def _loaded() -> ctypes.CDLL:
    """Z3's shared library: the one in the Python package, which itself is never imported, or else the system's."""
    from importlib.util import find_spec

    package = find_spec("z3")
    for folder in (package and package.submodule_search_locations) or ():
        for path in sorted(Path(folder, "lib").glob("*z3.*")):
            if not {".so", ".dylib", ".dll"}.isdisjoint(path.suffixes):
                return ctypes.CDLL(str(path))

    from ctypes.util import find_library

    return ctypes.CDLL(find_library("z3") or "libz3.so")


class _Library:
    """Z3's C functions, typed with plain pointers: no wrapper object and no error check for each call."""

    def __init__(self) -> None:
        library = _loaded()
        pointer, number, text = ctypes.c_void_p, ctypes.c_uint, ctypes.c_char_p
        words, yes = ctypes.POINTER(pointer), ctypes.c_bool

        def typed(names: str, result: Any, *arguments: Any) -> None:
            for name in names.split():
                setattr(self, name, ctypes.CFUNCTYPE(result, *arguments)((name, library)))

        typed("Z3_mk_config", pointer)
        typed("Z3_del_config", None, pointer)
        typed("Z3_mk_context_rc", pointer, pointer)
        typed("Z3_set_error_handler", None, pointer, pointer)
        typed("Z3_get_error_code", number, pointer)
        typed(
            "Z3_inc_ref Z3_dec_ref Z3_solver_inc_ref Z3_solver_dec_ref Z3_model_inc_ref Z3_model_dec_ref"
            " Z3_params_inc_ref Z3_params_dec_ref Z3_solver_push",
            None,
            pointer,
            pointer,
        )
        typed("Z3_solver_pop", None, pointer, pointer, number)
        typed("Z3_mk_string_symbol", pointer, pointer, text)
        typed("Z3_mk_bv_sort", pointer, pointer, number)
        typed(
            "Z3_mk_bool_sort Z3_mk_true Z3_mk_false Z3_mk_params Z3_mk_simple_solver",
            pointer,
            pointer,
        )
        typed("Z3_mk_const Z3_mk_eq Z3_mk_bvule Z3_mk_bvand Z3_mk_bvor Z3_mk_bvxor", pointer, *[pointer] * 3)
        typed("Z3_mk_bvadd Z3_mk_bvsub Z3_mk_bvurem Z3_mk_bvshl Z3_mk_bvlshr", pointer, *[pointer] * 3)
        typed("Z3_mk_numeral", pointer, pointer, text, pointer)
        typed("Z3_get_numeral_string", text, pointer, pointer)
        typed("Z3_mk_unsigned_int64", pointer, pointer, ctypes.c_uint64, pointer)
        typed("Z3_mk_and Z3_mk_or", pointer, pointer, number, words)
        typed("Z3_mk_not Z3_solver_get_model", pointer, pointer, pointer)
        typed("Z3_mk_ite", pointer, *[pointer] * 4)
        typed("Z3_mk_extract", pointer, pointer, number, number, pointer)
        typed("Z3_params_set_uint", None, pointer, pointer, pointer, number)
        typed("Z3_params_set_symbol", None, *[pointer] * 4)
        typed("Z3_solver_set_params Z3_solver_assert", None, pointer, pointer, pointer)
        typed("Z3_solver_check Z3_get_bool_value", ctypes.c_int, pointer, pointer)
        typed("Z3_solver_get_reason_unknown", text, pointer, pointer)
        benchmark = (pointer, text, text, text, text, number, words, pointer)
        typed("Z3_benchmark_to_smtlib_string", text, *benchmark)
        typed("Z3_model_eval", yes, pointer, pointer, pointer, yes, words)
        typed("Z3_get_numeral_uint64", yes, pointer, pointer, ctypes.POINTER(ctypes.c_uint64))
        # One context for the whole process: making one takes 20 to 30 ms.
        config = self.Z3_mk_config()
        self.context: int = self.Z3_mk_context_rc(config)
        self.Z3_del_config(config)
        self.Z3_set_error_handler(self.context, None)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Bool:
    """A Boolean term; `const` is its value where that is known without a solver.

    `op` and `args` tell what it is made of, so that a model can be read without asking Z3 for each term.
    """

    __slots__ = ("args", "ast", "const", "op", "terms")

    def __init__(
        self, terms: Terms, ast: _Ast, op: str, args: tuple[Term, ...] = (), const: bool | None = None
    ) -> None:
        self.terms = terms
        self.ast = ast
        self.op = op
        self.args = args
        self.const = const

    def __and__(self, other: Bool) -> Bool:
        if self.const is not None:
            return other if self.const else self
        if other.const is not None:
            return self if other.const else other
        return self if self.ast == other.ast else self.terms.both("and", self, other)

    def __or__(self, other: Bool) -> Bool:
        if self.const is not None:
            return self if self.const else other
        if other.const is not None:
            return other if other.const else self
        return self if self.ast == other.ast else self.terms.both("or", self, other)

    def __invert__(self) -> Bool:
        return self.terms.negation(self)

    def __bool__(self) -> bool:
        raise TypeError("a term has no truth of its own: ask its `const`, or a solver")


class Bv:
    """An unsigned bit-vector term of `width` bits; `const` is its value where that is known."""

    __slots__ = ("args", "ast", "const", "low", "op", "terms", "width")

    def __init__(
        self,
        terms: Terms,
        ast: _Ast,
        width: int,
        op: str,
        args: tuple[Term, ...] = (),
        const: int | None = None,
        low: int = 0,
    ) -> None:
        self.terms = terms
        self.ast = ast
        self.width = width
        self.op = op
        self.args = args
        self.const = const
        self.low = low

    def is_(self, other: Bv | int) -> Bool:
        """Equal."""
        return self.terms.equal(self, self._same(other))

    def at_most(self, other: Bv | int) -> Bool:
        return self.terms.at_most(self, self._same(other))

    def at_least(self, other: Bv | int) -> Bool:
        return self.terms.at_most(self._same(other), self)

    def extract(self, high: int, low: int) -> Bv:
        """Bits `high` down to `low`, both included, counted from 0."""
        return self.terms.extract(self, high, low)

    def __and__(self, other: Bv | int) -> Bv:
        return self.terms.bitwise("and", self, self._same(other))

    def __or__(self, other: Bv | int) -> Bv:
        return self.terms.bitwise("or", self, self._same(other))

    def __xor__(self, other: Bv | int) -> Bv:
        return self.terms.bitwise("xor", self, self._same(other))

    def __add__(self, other: Bv | int) -> Bv:
        """The sum, what is carried beyond the width left out."""
        return self.terms.arithmetic("add", self, self._same(other))

    def __sub__(self, other: Bv | int) -> Bv:
        return self.terms.arithmetic("sub", self, self._same(other))

    def __mod__(self, other: Bv | int) -> Bv:
        return self.terms.arithmetic("urem", self, self._same(other))

    def __lshift__(self, other: Bv | int) -> Bv:
        """What goes beyond the width is left out."""
        return self.terms.arithmetic("shl", self, self._same(other))

    def __rshift__(self, other: Bv | int) -> Bv:
        return self.terms.arithmetic("lshr", self, self._same(other))

    def _same(self, other: Bv | int) -> Bv:
        return self.terms.number(other, self.width) if isinstance(other, int) else other


Term: TypeAlias = Bool | Bv

_Pair = ctypes.c_void_p * 2


class Terms:
    """Where terms live: they may be mixed only with terms of the same `Terms`, and die with it."""

    def __init__(self) -> None:
        global _shared
        if _shared is None:
            _shared = _Library()
        self._lib = lib = _shared
        self._c = c = lib.context
        self._kept: list[_Ast] = []
        self._sorts: dict[int, _Ast] = {}
        self._bool_sort = self._keep(lib.Z3_mk_bool_sort(c))
        self._numbers: dict[tuple[int, int], Bv] = {}
        self._names: dict[str, Term] = {}
        self._not: dict[_Ast, Bool] = {}
        self._equal: dict[tuple[_Ast, _Ast], Bool] = {}
        self.true = Bool(self, self._keep(lib.Z3_mk_true(c)), "true", const=True)
        self.false = Bool(self, self._keep(lib.Z3_mk_false(c)), "false", const=False)

    def __del__(self) -> None:
        if sys.is_finalizing() or not hasattr(self, "_kept"):
            return
        release = self._lib.Z3_dec_ref
        for ast in self._kept:
            release(self._c, ast)

    def _keep(self, ast: _Ast | None) -> _Ast:
        if ast is None:
            raise AssertionError(f"Z3 refused a term (error {self._lib.Z3_get_error_code(self._c)})")
        self._lib.Z3_inc_ref(self._c, ast)
        self._kept.append(ast)
        return ast

    def _sort(self, width: int) -> _Ast:
        sort = self._sorts.get(width)
        if sort is None:
            sort = self._sorts[width] = self._keep(self._lib.Z3_mk_bv_sort(self._c, width))
        return sort

    # -- leaves

    def number(self, value: int, width: int) -> Bv:
        key = (value, width)
        term = self._numbers.get(key)
        if term is None:
            if not 0 <= value < 1 << width:
                raise AssertionError(f"{value} does not fit into {width} bits")
            sort = self._sort(width)
            if value < 1 << 64:
                ast = self._lib.Z3_mk_unsigned_int64(self._c, value, sort)
            else:
                ast = self._lib.Z3_mk_numeral(self._c, str(value).encode(), sort)
            term = self._numbers[key] = Bv(self, self._keep(ast), width, "number", const=value)
        return term

    def truth(self, value: bool) -> Bool:
        return self.true if value else self.false

    def variable(self, name: str, width: int) -> Bv:
        """The bit-vector variable with this name; the same one each time."""
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = Bv(self, self._constant(name, self._sort(width)), width, name)
        if not isinstance(known, Bv) or known.width != width:
            raise AssertionError(f"{name} is a variable of another sort")
        return known

    def unknown(self, name: str) -> Bool:
        """The Boolean variable with this name; the same one each time."""
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = Bool(self, self._constant(name, self._bool_sort), name)
        if not isinstance(known, Bool):
            raise AssertionError(f"{name} is a variable of another sort")
        return known

    def _constant(self, name: str, sort: _Ast) -> _Ast:
        symbol = self._lib.Z3_mk_string_symbol(self._c, name.encode())
        return self._keep(self._lib.Z3_mk_const(self._c, symbol, sort))

    # -- Booleans

    def all_of(self, parts: Iterable[Bool]) -> Bool:
        return self._junction("and", parts, self.true, self.false, self._lib.Z3_mk_and)

    def any_of(self, parts: Iterable[Bool]) -> Bool:
        return self._junction("or", parts, self.false, self.true, self._lib.Z3_mk_or)

    def _junction(self, op: str, parts: Iterable[Bool], unit: Bool, zero: Bool, make: Any) -> Bool:
        kept: dict[_Ast, Bool] = {}
        for part in parts:
            if part.const is None:
                kept[part.ast] = part
            elif part.const == zero.const:
                return zero
        if not kept:
            return unit
        if len(kept) == 1:
            return next(iter(kept.values()))
        array = (ctypes.c_void_p * len(kept))(*kept)
        return Bool(self, self._keep(make(self._c, len(kept), array)), op, tuple(kept.values()))

    def both(self, op: str, a: Bool, b: Bool) -> Bool:
        """The `op` of two terms, neither of which is a constant: most junctions are of two."""
        make = self._lib.Z3_mk_and if op == "and" else self._lib.Z3_mk_or
        return Bool(self, self._keep(make(self._c, 2, _Pair(a.ast, b.ast))), op, (a, b))

    def negation(self, part: Bool) -> Bool:
        if part.const is not None:
            return self.truth(not part.const)
        known = self._not.get(part.ast)
        if known is None:
            ast = self._keep(self._lib.Z3_mk_not(self._c, part.ast))
            known = self._not[part.ast] = Bool(self, ast, "not", (part,))
            self._not[known.ast] = part
        return known

    # -- bit-vectors

    def equal(self, a: Bv, b: Bv) -> Bool:
        if a.ast == b.ast:
            return self.true
        if a.const is not None and b.const is not None:
            return self.truth(a.const == b.const)
        known = self._equal.get((a.ast, b.ast))
        if known is None:
            ast = self._keep(self._lib.Z3_mk_eq(self._c, a.ast, b.ast))
            known = self._equal[a.ast, b.ast] = Bool(self, ast, "=", (a, b))
        return known

    def at_most(self, a: Bv, b: Bv) -> Bool:
        if a.ast == b.ast or a.const == 0 or b.const == (1 << b.width) - 1:
            return self.true
        if a.const is not None and b.const is not None:
            return self.truth(a.const <= b.const)
        return Bool(self, self._keep(self._lib.Z3_mk_bvule(self._c, a.ast, b.ast)), "<=", (a, b))

    def extract(self, a: Bv, high: int, low: int) -> Bv:
        width = high - low + 1
        if width == a.width:
            return a
        if a.const is not None:
            return self.number(a.const >> low & (1 << width) - 1, width)
        ast = self._keep(self._lib.Z3_mk_extract(self._c, high, low, a.ast))
        return Bv(self, ast, width, "extract", (a,), low=low)

    def bitwise(self, what: str, a: Bv, b: Bv) -> Bv:
        """`what` is and, or or xor."""
        if a.const is not None and b.const is not None:
            folded = {"and": a.const & b.const, "or": a.const | b.const, "xor": a.const ^ b.const}
            return self.number(folded[what], a.width)
        make = getattr(self._lib, f"Z3_mk_bv{what}")
        return Bv(self, self._keep(make(self._c, a.ast, b.ast)), a.width, f"bv{what}", (a, b))

    def arithmetic(self, what: str, a: Bv, b: Bv) -> Bv:
        """`what` is add, sub, shl, lshr or urem (b is then no 0)."""
        if a.const is not None and b.const is not None:
            return self.number(_reckoned(f"bv{what}", a.const, b.const, a.width), a.width)
        if b.const == 0:
            return a
        make = getattr(self._lib, f"Z3_mk_bv{what}")
        return Bv(self, self._keep(make(self._c, a.ast, b.ast)), a.width, f"bv{what}", (a, b))

    def choose(self, condition: Bool, yes: Bv, no: Bv) -> Bv:
        """`yes` where the condition holds, else `no`."""
        if condition.const is not None:
            return yes if condition.const else no
        if yes.ast == no.ast:
            return yes
        ast = self._lib.Z3_mk_ite(self._c, condition.ast, yes.ast, no.ast)
        return Bv(self, self._keep(ast), yes.width, "ite", (condition, yes, no))

    # -- values

    def under(self, values: dict[str, int | bool]) -> Model:
        """The model in which the named variables have these values, and all others 0 or false."""
        return Model(lambda term: int(values.get(term.op, 0)))

    def found(self, model: int) -> Model:
        """What a solver's model says; it dies with the model's last reader."""
        return Model(_Found(self, model))


DECIDES = {"and": 0, "or": 1}
"""The value of a part that decides the whole."""


class Model:
    """Values for all variables, and so for all terms: each term is computed from its parts, once."""

    def __init__(self, leaf: Callable[[Term], int]) -> None:
        self._leaf = leaf
        self._known: dict[int, int] = {}

    def holds(self, term: Bool) -> bool:
        return term.const if term.const is not None else bool(self._of(term))

    def value(self, term: Bv) -> int:
        return term.const if term.const is not None else self._of(term)

    def _of(self, term: Term) -> int:
        """The term's value, its parts' first; by a stack of our own, since formulas are deeper than Python's.

        Only what makes a difference is looked at: of a choice the part that is chosen, of "and" and "or" the parts up to the
        first that decides.
        """
        known = self._known
        waiting, begun = [term], [0]
        while waiting:
            top = waiting[-1]
            parts = top.args
            value: int | None
            if top.op == "ite":
                part, value = parts[0], None
                chosen = known.get(part.ast)
                if chosen is not None:
                    part = parts[1 if chosen else 2]
                    value = part.const if part.const is not None else known.get(part.ast)
            elif top.op in DECIDES:
                value = 1 - DECIDES[top.op]
                for place in range(begun[-1], len(parts)):
                    part = parts[place]
                    its = known.get(part.ast)
                    if its != value:
                        begun[-1], value = place, its
                        break
            else:
                for part in parts:
                    if part.const is None and part.ast not in known:
                        value = None
                        break
                else:
                    value = self._computed(top)
            if value is None:
                waiting.append(part)
                begun.append(0)
            else:
                known[top.ast] = value
                waiting.pop()
                begun.pop()
        return known[term.ast]

    def _computed(self, term: Term) -> int:
        """The value of a leaf, or of a term whose parts are constants or known."""
        if not term.args:
            return self._leaf(term)
        values = [int(p.const) if p.const is not None else self._known[p.ast] for p in term.args]
        match term.op:
            case "not":
                return 1 - values[0]
            case "=":
                return int(values[0] == values[1])
            case "<=":
                return int(values[0] <= values[1])
            case "bvand":
                return values[0] & values[1]
            case "bvor":
                return values[0] | values[1]
            case "bvxor":
                return values[0] ^ values[1]
            case "bvadd" | "bvsub" | "bvurem" | "bvshl" | "bvlshr" if isinstance(term, Bv):
                return _reckoned(term.op, values[0], values[1], term.width)
            case "extract" if isinstance(term, Bv):
                return values[0] >> term.low & ((1 << term.width) - 1)
            case _:
                raise AssertionError(f"no value for {term.op}")


def _reckoned(op: str, a: int, b: int, width: int) -> int:
    """What Z3 makes of two numbers of this width."""
    match op:
        case "bvadd":
            return a + b & (1 << width) - 1
        case "bvsub":
            return a - b & (1 << width) - 1
        case "bvurem":
            return a % b if b else a
        case "bvshl":
            return a << b & (1 << width) - 1 if b < width else 0
        case "bvlshr":
            return a >> b
        case _:
            raise AssertionError(f"no value for {op}")


class _Found:
    """The variables of a model that Z3 found; those that it left open are 0 or false."""

    def __init__(self, terms: Terms, model: int) -> None:
        self._terms = terms
        self._model = model
        terms._lib.Z3_model_inc_ref(terms._c, model)

    def __del__(self) -> None:
        if hasattr(self, "_model"):
            self._terms._lib.Z3_model_dec_ref(self._terms._c, self._model)

    def __call__(self, term: Term) -> int:
        out = ctypes.c_void_p()
        t = self._terms
        if (
            not t._lib.Z3_model_eval(t._c, self._model, term.ast, True, ctypes.byref(out))
            or out.value is None
        ):
            raise AssertionError("Z3 could not evaluate a variable")
        if isinstance(term, Bool):
            return int(t._lib.Z3_get_bool_value(t._c, out.value) == 1)
        if term.width > 64:
            told: bytes = t._lib.Z3_get_numeral_string(t._c, out.value)
            return int(told)
        number = ctypes.c_uint64()
        if not t._lib.Z3_get_numeral_uint64(t._c, out.value, ctypes.byref(number)):
            raise AssertionError("Z3 left a bit-vector undecided")
        return number.value


class Outcome(Enum):
    """What a solver says of its assertions."""

    SAT = "sat"
    UNSAT = "unsat"
    UNKNOWN = "unknown"


class Result(Struct, frozen=True):
    """A solver's answer: `model` iff SAT, `reason` iff UNKNOWN."""

    outcome: Outcome
    model: Model | None = None
    reason: str = ""


TUNED = ((b"phase_selection", 0), (b"relevancy", 0), (b"arith.solver", 0))
"""What a bit is tried as first: 0, as most bits of packets are; every part of a formula counts from the beginning; and no
theory of arithmetic is made ready, since nothing asks it.
"""

UNASKED = (b"string_solver", b"none")
"""Nor one of strings."""


class Solver:
    """Assertions that must hold together (QF_BV), with a time limit in milliseconds for each check."""

    def __init__(self, terms: Terms, timeout_ms: int = 10_000, scripts: list[str] | None = None) -> None:
        """`scripts`, where it is given, gets every question that is asked as an SMT-LIB script."""
        self._terms = terms
        self._scripts = scripts
        self._added: list[Bool] = []
        lib, c = terms._lib, terms._c
        self._solver = lib.Z3_mk_simple_solver(c)
        lib.Z3_solver_inc_ref(c, self._solver)
        params = lib.Z3_mk_params(c)
        lib.Z3_params_inc_ref(c, params)
        for name, value in ((b"timeout", timeout_ms), *TUNED):
            lib.Z3_params_set_uint(c, params, lib.Z3_mk_string_symbol(c, name), value)
        lib.Z3_params_set_symbol(c, params, *(lib.Z3_mk_string_symbol(c, word) for word in UNASKED))
        lib.Z3_solver_set_params(c, self._solver, params)

    def __del__(self) -> None:
        if hasattr(self, "_solver"):  # An interruption may come before there is one.
            self._terms._lib.Z3_solver_dec_ref(self._terms._c, self._solver)

    def add(self, *parts: Bool) -> None:
        if self._scripts is not None:
            self._added += parts
        self._assert(self._solver, parts)

    def _assert(self, solver: int, parts: Iterable[Bool]) -> None:
        for part in parts:
            self._terms._lib.Z3_solver_assert(self._terms._c, solver, part.ast)

    def check(self, *extra: Bool) -> Result:
        """Whether all assertions, and `extra` for this once, can hold together."""
        found = self._checked(extra)
        if self._scripts is not None:
            self._scripts.append(self._script(extra, found.outcome))
        return found

    def _checked(self, extra: Sequence[Bool]) -> Result:
        t = self._terms
        lib, c = t._lib, t._c
        lib.Z3_solver_push(c, self._solver)
        try:
            self._assert(self._solver, extra)
            match lib.Z3_solver_check(c, self._solver):
                case 1:
                    model = lib.Z3_solver_get_model(c, self._solver)
                    return Result(Outcome.SAT, t.found(model))
                case -1:
                    return Result(Outcome.UNSAT)
                case _:
                    reason = lib.Z3_solver_get_reason_unknown(c, self._solver)
                    return Result(Outcome.UNKNOWN, reason=reason.decode())
        finally:
            lib.Z3_solver_pop(c, self._solver, 1)

    def _script(self, extra: Sequence[Bool], outcome: Outcome) -> str:
        """The same question as an SMT-LIB 2 script, for any solver of QF_BV, with what was answered here.

        The terms are told as they were built, not (Z3_solver_to_string) as Z3 has simplified them.
        """
        t = self._terms
        asserted = [part.ast for part in (*self._added, *extra)]
        array = (ctypes.c_void_p * len(asserted))(*asserted)
        said = (b"chainproof", b"QF_BV", outcome.value.encode(), b"")
        told: bytes = t._lib.Z3_benchmark_to_smtlib_string(t._c, *said, len(asserted), array, t.true.ast)
        return told.decode()


_shared: _Library | None = None
