"""Calico's selector expressions over labels: `all()`, `has(rack) && zone in {'a', 'b'}`.

Owns: their grammar, down to its error cases. Must not: know what is selected, or remember what was (indexes do that).

A recursive descent parser over tokens. Binding, weakest first: `||`, `&&`, `!`. As in Calico, a word's meaning depends
on what stands before it: after a label comes an operator, so `in == 'x'` and `has(all)` are about labels so named;
`starts with` may be one word or two; `has(`, `all(` and `global(` take no space before the parenthesis, but any within;
blanks and tabs are spaces, a line's end is not; strings have no escapes, so a value may hold one of the two quotes.
Source: Calico v3.30, libcalico-go/lib/selector (tokenizer, parser and their tests).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from manx_core.selectors.expression import All, And, Expression, Global, LabelTest, Not, Or, TestOperator, holds
from manx_core.selectors.selector import Labels

MAX_LENGTH = 4096
MAX_DEPTH = 100
MAX_LABEL_LENGTH = 512

_LABEL = r"[A-Za-z0-9_./-]+"
_SPACE = re.compile(r"[ \t]*")
_TOKEN = re.compile(
    rf"""(?P<op>\|\||&&|==|!=|[!(){{}},])
      | (?P<string>'[^']*'|"[^"]*")
      | has\([ \t]*(?P<has>{_LABEL})[ \t]*\)
      | (?P<call>(?:all|global)\()[ \t]*\)
      | (?P<label>{_LABEL})""",
    re.VERBOSE,
)
_BROKEN_CALL = re.compile(r"(has|all|global)\(")
_OPERATOR = re.compile(r"contains|starts[ \t]*with|ends[ \t]*with|not[ \t]*in|in")
_OPERATORS: dict[str, TestOperator] = {
    "contains": "contains",
    "startswith": "starts with",
    "endswith": "ends with",
    "notin": "not in",
    "in": "in",
}


class SelectorError(ValueError):
    """Not a selector; the message says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector; equal expressions are equal selectors."""

    text: str
    expression: Expression

    def matches(self, labels: Labels) -> bool:
        return holds(self.expression, labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and other.expression == self.expression

    def __hash__(self) -> int:
        return hash(self.expression)


@lru_cache(maxsize=8192)
def parse(text: str) -> Selector:
    """Raises SelectorError. The empty text selects everything, as `all()` does."""
    if len(text) > MAX_LENGTH:
        raise SelectorError(f"the selector has {len(text)} characters, at most {MAX_LENGTH} are allowed")
    parser = _Parser(_tokens(text))
    return Selector(text, parser.whole())


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """op, string, has, call, label, operator (between a label and its values) or end."""
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = _skip(text, 0)
    while at < len(text):
        after_label = bool(found) and found[-1].kind == "label"
        token, at = _token(text, at, after_label)
        found.append(token)
        at = _skip(text, at)
    return [*found, _Token("end", "the end", len(text))]


def _token(text: str, at: int, after_label: bool) -> tuple[_Token, int]:
    """The token at that place, and where it ends."""
    word = _OPERATOR.match(text, at) if after_label else None
    if word is not None:
        return _Token("operator", re.sub(r"[ \t]", "", word[0]), at), word.end()
    broken = _BROKEN_CALL.match(text, at)
    match = _TOKEN.match(text, at)
    kind = str(match.lastgroup) if match else ""
    if match is None or (broken is not None and kind == "label"):
        raise _unexpected(text, at, broken)
    if kind == "label" and len(match[kind]) > MAX_LABEL_LENGTH:
        raise SelectorError(f"character {at + 1}: a label's name has at most {MAX_LABEL_LENGTH} characters")
    return _Token(kind, match[kind], at), match.end()


def _unexpected(text: str, at: int, broken: re.Match[str] | None) -> SelectorError:
    if broken is not None:
        return SelectorError(f"character {at + 1}: expected `{broken[0]}{'label' if broken[1] == 'has' else ''})`")
    if text[at] in "'\"":
        return SelectorError(f"character {at + 1}: the string has no end")
    return SelectorError(f"character {at + 1}: unexpected {text[at]!r}")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0

    def whole(self) -> Expression:
        if self._peek.kind == "end":
            return All()
        expression = self._any_of(0)
        if self._peek.kind != "end":
            raise self._expected("`&&`, `||` or the end")
        return expression

    def _any_of(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise SelectorError(f"nested deeper than {MAX_DEPTH}")
        parts = [self._all_of(depth)]
        while self._take("||"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all_of(self, depth: int) -> Expression:
        parts = [self._one(depth)]
        while self._take("&&"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self, depth: int) -> Expression:
        negated = False
        while self._take("!"):
            negated = not negated
        part = self._operation(depth)
        return Not(part) if negated else part

    def _operation(self, depth: int) -> Expression:
        if self._take("("):
            inner = self._any_of(depth + 1)
            self._need(")")
            return inner
        token = self._peek
        self._next += token.kind in ("has", "call", "label")
        if token.kind == "has":
            return LabelTest(token.text, "has")
        if token.kind == "call":
            return All() if token.text == "all(" else Global()
        if token.kind == "label":
            return self._comparison(token.text)
        raise self._expected("a label, `has(label)`, `all()`, `global()`, `!` or `(`")

    def _comparison(self, label: str) -> LabelTest:
        if self._take("=="):
            return LabelTest(label, "in", (self._string(),))
        if self._take("!="):
            return LabelTest(label, "not in", (self._string(),))
        token = self._peek
        if token.kind != "operator":
            raise self._expected("`==`, `!=`, `in`, `not in`, `contains`, `starts with` or `ends with`")
        self._next += 1
        operator = _OPERATORS[token.text]
        values = self._set() if operator in ("in", "not in") else (self._string(),)
        return LabelTest(label, operator, values)

    def _set(self) -> tuple[str, ...]:
        """Values in quotes between braces; as in Calico there may be none, and a comma after the last."""
        self._need("{")
        values: set[str] = set()
        while self._peek.kind == "string":
            values.add(self._string())
            if not self._take(","):
                break
        self._need("}")
        return tuple(sorted(values))

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

    def _string(self) -> str:
        if self._peek.kind != "string":
            raise self._expected("a value in quotes")
        self._next += 1
        return self._tokens[self._next - 1].text[1:-1]

    def _expected(self, what: str) -> SelectorError:
        return SelectorError(f"character {self._peek.at + 1}: expected {what}, found {self._peek.text!r}")
