"""Calico's selector expressions over labels: `all()`, `has(rack) && zone in {'a', 'b'}`.

Owns: their grammar and meaning. Must not: know what is selected, or remember results (indexes do that).

A recursive descent parser over tokens; what comes out are small frozen values that call each other. Binding, weakest
first: `||`, `&&`, `!`. An absent label makes `!=` and `not in` true, every other comparison false.
Source: Calico API reference, "Selectors".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Labels = Mapping[str, str]
Test = Callable[[Labels], bool]

MAX_LENGTH = 4096
MAX_DEPTH = 100

_TOKEN = re.compile(
    r"""\s*(?:(?P<op>\|\||&&|==|!=|[!(){},])|(?P<string>'[^']*'|"[^"]*")|(?P<word>[A-Za-z0-9_./-]+))""", re.VERBOSE
)


class SelectorError(ValueError):
    """Not a selector; the message says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector; equal texts are equal selectors."""

    text: str
    _test: Test

    def matches(self, labels: Labels) -> bool:
        return self._test(labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def parse(text: str) -> Selector:
    """Raises SelectorError. The empty text selects everything, as `all()` does."""
    text = text.strip()
    if len(text) > MAX_LENGTH:
        raise SelectorError(f"the selector has {len(text)} characters, at most {MAX_LENGTH} are allowed")
    if not text:
        return Selector(text, _everything)
    parser = _Parser(_tokens(text))
    test = parser.any_of(0)
    parser.end()
    return Selector(text, test)


def _everything(_labels: Labels) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise SelectorError(f"character {at + 1}: unexpected {text[at:].strip()[0]!r}")
        kind = str(match.lastgroup)
        found.append(_Token(kind, match[kind], match.start(kind)))
        at = match.end()
    return [*found, _Token("end", "the end", len(text))]


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0

    def any_of(self, depth: int) -> Test:
        if depth > MAX_DEPTH:
            raise SelectorError(f"nested deeper than {MAX_DEPTH}")
        tests = [self._all_of(depth)]
        while self._take("||"):
            tests.append(self._all_of(depth))
        return tests[0] if len(tests) == 1 else lambda labels: any(test(labels) for test in tests)

    def end(self) -> None:
        if self._peek.kind != "end":
            raise self._expected("`&&`, `||` or the end")

    def _all_of(self, depth: int) -> Test:
        tests = [self._one(depth)]
        while self._take("&&"):
            tests.append(self._one(depth))
        return tests[0] if len(tests) == 1 else lambda labels: all(test(labels) for test in tests)

    def _one(self, depth: int) -> Test:
        if depth > MAX_DEPTH:
            raise SelectorError(f"nested deeper than {MAX_DEPTH}")
        if self._take("!"):
            inner = self._one(depth + 1)
            return lambda labels: not inner(labels)
        if self._take("("):
            inner = self.any_of(depth + 1)
            self._need(")")
            return inner
        word = self._word("a label, `all()`, `has(…)`, `!` or `(`")
        if self._peek.text == "(" and self._peek.kind == "op":
            return self._call(word)
        return self._comparison(word)

    def _call(self, name: str) -> Test:
        self._need("(")
        if name == "all":
            self._need(")")
            return _everything
        if name == "has":
            label = self._word("a label")
            self._need(")")
            return lambda labels: label in labels
        raise self._expected("`all` or `has` before `(`")

    def _comparison(self, label: str) -> Test:
        if self._take("=="):
            value = self._string()
            return lambda labels: labels.get(label) == value
        if self._take("!="):
            value = self._string()
            return lambda labels: labels.get(label) != value
        operator = self._word("an operator")
        if operator == "in":
            values = self._set()
            return lambda labels: labels.get(label) in values
        if operator == "not" and self._peek.text == "in":
            self._next += 1
            values = self._set()
            return lambda labels: labels.get(label) not in values
        return self._text_comparison(label, operator)

    def _text_comparison(self, label: str, operator: str) -> Test:
        if operator in ("starts", "ends"):
            if self._peek.text != "with":
                raise self._expected(f"`with` after `{operator}`")
            self._next += 1
        elif operator != "contains":
            raise self._expected("`==`, `!=`, `in`, `not in`, `contains`, `starts with` or `ends with`")
        value = self._string()
        test = {"contains": str.__contains__, "starts": str.startswith, "ends": str.endswith}[operator]
        return lambda labels: label in labels and bool(test(labels[label], value))

    def _set(self) -> frozenset[str]:
        self._need("{")
        values: set[str] = set()
        while not self._take("}"):
            if values:
                self._need(",")
            values.add(self._string())
        return frozenset(values)

    # --- tokens -------------------------------------------------------------------------------------------------------

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, operator: str) -> bool:
        found = self._peek.kind == "op" and self._peek.text == operator
        self._next += found
        return found

    def _need(self, operator: str) -> None:
        if not self._take(operator):
            raise self._expected(f"`{operator}`")

    def _word(self, what: str) -> str:
        if self._peek.kind != "word":
            raise self._expected(what)
        self._next += 1
        return self._tokens[self._next - 1].text

    def _string(self) -> str:
        if self._peek.kind != "string":
            raise self._expected("a value in quotes")
        self._next += 1
        return self._tokens[self._next - 1].text[1:-1]

    def _expected(self, what: str) -> SelectorError:
        return SelectorError(f"character {self._peek.at + 1}: expected {what}, found {self._peek.text!r}")
