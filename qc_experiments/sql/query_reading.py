"""Read the beginning of a query from left to right, and refuse what no continuation makes valid.

It knows clauses and their order, operands and operators, parentheses, and which names stand for what
(`scopes`). Of expressions it knows no more than that operands and operators take turns.
"""

from __future__ import annotations

from dataclasses import dataclass

from qc_experiments.sql.scopes import Outlook, Reference, Scope, Source
from qc_experiments.sql.table_names import Columns, TableNames
from qc_experiments.sql.tokens import Token, tokens
from qc_experiments.sql.words import (
    BEFORE_OPERAND,
    BINARY,
    CLAUSES,
    ENDS_OPERAND,
    FREE_NEXT,
    JOINS,
    RESERVED,
    SET_OPERATIONS,
    WORDS,
    begins,
    sqlite_functions,
)

_QUERY = ("select", "with", "values")
_STARTS = (*_QUERY, "(")
_SIGNS = "+-~@:$"
"""Marks that may stand before an operand."""
_UNNAMED_TABLES = (
    "main",
    "json_each",
    "json_tree",
    "sqlite_master",
    "sqlite_schema",
    "generate_series",
)
_END = Token("mark", "", 0, 0, 0)


class Refused(Exception):
    """The text cannot become a valid query."""


@dataclass
class _Frame:
    """Parentheses: a query (``query``), tables of a FROM (``from``), or what a function or list holds."""

    kind: str
    outer: Scope
    source: Source | None = None  # the function in a FROM whose arguments these hold


class QueryReading:
    """One reading of a text.

    Args:
        names: tables and columns of the schema.
        dialect: of sqlglot.
    """

    def __init__(self, names: TableNames, dialect: str) -> None:
        self._names, self._dialect = names, dialect
        self._sqlite = dialect == "sqlite"
        self._scope = Scope(None, dict(names.tables))
        self._frames: list[_Frame] = []
        self._outlook = Outlook.POSSIBLE
        self._tokens: list[Token] = []
        self._place = 0  # of the token that is read
        self._open_end: int | None = None  # where the text ends, if it may go on
        self._operand = False  # an operand stands right before
        self._free = False  # the next word may be any
        self._alias = False  # AS stands right before
        self._want_source = False  # FROM, JOIN or a comma of FROM stands right before
        self._source: Source | None = None  # the last source, as long as an alias may follow
        self._joining = False  # in the condition of a join
        self._item: str | None = None  # name of the select item that is read, if it has one

    def read(self, sql: str, ended: bool) -> Outlook:
        """What can still become of a text.

        Args:
            sql: the beginning of a query.
            ended: whether it is all of it.

        Raises:
            Refused: if nothing can.
        """
        self._tokens = tokens(sql, self._dialect)
        self._open_end = None if ended else len(sql)
        while self._place < len(self._tokens):
            token = self._tokens[self._place]
            if token.text == ";":
                ended = True
                break
            self._take(token, self._is_partial(token))
            self._place += 1
        if ended:
            self._need(not self._frames and not self._alias)
            self._end_query()
        return self._outlook

    def _ahead(self, distance: int = 1) -> Token:
        place = self._place + distance
        return self._tokens[place] if 0 <= place < len(self._tokens) else _END

    def _inside(self) -> bool:
        """Whether this is in parentheses that hold neither a query nor tables."""
        return bool(self._frames) and self._frames[-1].kind not in ("query", "from")

    def _note(self, outlook: Outlook) -> None:
        self._need(outlook is not Outlook.IMPOSSIBLE)
        self._outlook = min(self._outlook, outlook)

    def _need(self, condition: object) -> None:
        if not condition:
            raise Refused

    def _take(self, token: Token, partial: bool) -> None:
        if self._place == 0:
            start = token.text.lower()
            begun = partial and any(word.startswith(start) for word in _STARTS)
            self._need(begun or start in _STARTS)
            if begun and start != "(":
                return
        if token.kind == "mark":
            self._mark(token.text)
        elif token.kind in ("string", "number"):
            self._literal(token)
        elif token.kind == "quoted" or not self._keyword(token.text.lower(), partial):
            self._name(token, partial)

    # Marks and literals

    def _mark(self, text: str) -> None:
        if text in "([{":
            self._open(text)
        elif text in ")]}":
            self._close()
        elif text == ",":
            self._comma()
        elif text == "*" and not self._operand:
            self._operand, self._item = True, "*"
        else:
            before = self._ahead(-1)
            operator = before.kind == "mark" and before.text not in "()[]{},*"
            self._need((self._operand or operator or text in _SIGNS) and not self._want_source)
            self._free = text == ":" and operator  # a type after ::
            self._operand, self._item = False, None

    def _literal(self, token: Token) -> None:
        if self._want_source:  # a file, as DuckDB reads them
            self._need(not self._sqlite)
            return self._found_source(None, None)
        named = self._alias or (self._scope.clause == "select" and token.kind == "string")
        touching = self._ahead(-1).end == token.start
        self._need(named or self._free or touching or not (self._operand and self._sqlite))
        self._operand, self._free, self._alias, self._item = True, False, False, None
        return None

    def _open(self, text: str) -> None:
        following = self._ahead()
        scope, clause = self._scope, self._scope.clause
        if text == "(" and following.is_word(*_QUERY):
            if clause == "" or clause in SET_OPERATIONS:  # a part of a set operation
                self._frames.append(_Frame("query", scope))
            else:
                role = "with" if clause == "with" else "derived" if self._want_source else "value"
                self._frames.append(_Frame("query", scope))
                self._scope = Scope(scope, dict(scope.tables), role)
            self._want_source, self._joining, self._source = False, False, None
        elif text == "(" and self._want_source:
            self._frames.append(_Frame("from", scope))
        else:
            before = self._ahead(-1)
            self._frames.append(_Frame(before.text.lower() or "list", scope, self._source))
            self._source = None
        self._operand = self._alias = self._free = False

    def _close(self) -> None:
        self._need(self._frames)
        frame = self._frames.pop()
        inner, outer = self._scope, frame.outer
        if frame.kind == "from":
            self._need(not self._want_source)
            self._end_source()
            self._joining, self._source = False, Source(None, frozenset())
        elif frame.kind == "query":
            self._end_query()
            columns = None if "*" in inner.items else frozenset(filter(None, inner.items))
            self._scope, self._joining = outer, False
            if inner is outer:
                outer.clause = "having"  # what may follow: a set operation, ORDER BY, LIMIT
            elif inner.role == "derived":
                self._found_source(None, columns)
            elif inner.role == "with" and outer.with_name:
                outer.tables[outer.with_name] = None if outer.items else columns
                outer.items = []
            elif outer.clause == "from":
                self._joining = True
            self._item = None
        else:
            self._need(self._operand or self._ahead(-1).text in "([{" or frame.kind == "over")
            self._item, self._source = None, frame.source
        self._operand, self._free, self._alias = True, False, False

    def _comma(self) -> None:
        self._need(self._operand or self._source is not None)
        if not self._inside():
            if self._scope.clause == "select":
                self._scope.items.append(self._item)
            elif self._scope.clause == "from":
                self._end_source()
                self._want_source, self._joining = True, False
        self._operand, self._alias, self._item = False, False, None
        self._free = self._scope.clause == "window" and not self._inside()

    # Words

    def _keyword(self, word: str, partial: bool) -> bool:
        """Take a word of SQL; false for one that is a name here."""
        if self._alias or (self._free and word not in RESERVED):
            return False
        if partial and self._want_source:
            starts = _QUERY if self._ahead(-1).text == "(" else ("lateral",)
            return any(one.startswith(word) for one in starts)
        if partial:
            return begins(word, operand=not self._operand and self._source is None)
        if word not in WORDS:
            return False
        after = self._ahead().text
        if word not in RESERVED and not (word in JOINS and self._source_or_join()):
            if after == "." or (word in self._names.columns and not self._operand):
                return False
            if self._want_source and word in self._scope.tables:
                return False
            if after == "(" and word not in ("over", "filter", "all", "any", "some", "lateral"):
                return False
        self._word(word)
        return True

    def _source_or_join(self) -> bool:
        return self._scope.clause == "from" and (self._source is not None or self._operand)

    def _word(self, word: str) -> None:
        outside, in_from = not self._inside(), self._scope.clause == "from"
        if word in CLAUSES and outside:
            self._clause(word)
        elif word in SET_OPERATIONS and outside:
            self._set_operation(word)
        elif word in JOINS and in_from and outside:
            self._need(not self._want_source)
            self._end_source()
            self._scope.shares_names |= word == "natural"
            self._want_source, self._joining, self._operand = word == "join", False, False
        elif word in ("on", "using") and in_from and outside:
            self._need(not self._want_source)
            self._end_source()
            self._scope.shares_names |= word == "using"
            self._joining, self._operand = True, False
        elif word == "as":
            self._need(self._operand or self._source is not None or self._scope.clause == "with")
            self._alias = self._scope.clause != "with" or self._inside()
        elif word == "with" and outside and self._scope.clause == "":
            self._scope.clause = "with"
        elif word == "values" and not self._operand:
            self._scope.clause, self._scope.bound = "having", True
            self._scope.items.append("*")
        elif self._source is None or self._joining or self._inside():
            negated = self._ahead(-1).is_word("not")
            self._need(word not in BINARY or self._operand or negated)
            self._free = word in FREE_NEXT
            ends = word in ENDS_OPERAND or (self._operand and word not in BEFORE_OPERAND)
            self._operand, self._item = ends and not self._free, None

    def _clause(self, word: str) -> None:
        scope = self._scope
        if word == "select":
            self._need(scope.clause in ("", "with", *SET_OPERATIONS))
            if scope.clause not in SET_OPERATIONS:
                scope.items = []
            scope.clause, self._operand = "select", False
            return
        rank, before = CLAUSES[word], CLAUSES.get(scope.clause, 0)
        self._need(0 < before < rank and not self._want_source)
        self._need(self._operand or self._source is not None)
        if scope.clause == "select":
            scope.items.append(self._item)
        self._end_source()
        if word != "from":
            self._note(scope.close_from())
        scope.clause, self._want_source = word, word == "from"
        self._joining, self._operand, self._free = False, False, word == "window"

    def _set_operation(self, word: str) -> None:
        scope = self._scope
        self._need(0 < CLAUSES.get(scope.clause, 0) < CLAUSES["order"])
        self._end_query()
        scope.aliases.update(filter(None, scope.items))
        scope.clause, scope.bound, scope.sources, scope.shares_names = word, False, [], False
        self._operand = False

    # Names

    def _chain(self, token: Token, partial: bool) -> tuple[list[str], bool]:
        """The parts of a dotted name, read to its end, and whether the text ends within it."""
        parts = [_name_of(token)]
        while self._ahead().text == ".":
            self._place += 1
            following = self._ahead()
            if following.kind in ("word", "quoted") or following.text == "*":
                self._place += 1
                parts.append("*" if following.text == "*" else _name_of(following))
                partial = self._is_partial(following)
            elif following is _END:
                return [*parts, ""], True
            else:
                raise Refused
        return parts, partial

    def _is_partial(self, token: Token) -> bool:
        """Whether the text ends in a word that may go on."""
        return token.end == self._open_end and not _is_closed(token)

    def _name(self, token: Token, partial: bool) -> None:
        parts, partial = self._chain(token, partial)
        scope, name = self._scope, parts[-1]
        if self._want_source:
            self._table(parts, partial)
        elif self._free or scope.clause == "with":
            if scope.clause == "with":
                if self._inside():
                    scope.items.append(name)  # its columns are named apart
                else:
                    scope.with_name = name
                    scope.tables[name] = None
            self._free, self._operand = False, True
        elif self._alias or self._source is not None or self._operand:
            self._name_after_operand(token, name, partial)
        elif self._ahead().text == "(" and len(parts) == 1:
            self._need(not self._sqlite or token.kind == "quoted" or name in sqlite_functions())
        else:
            qualifier = parts[-2] if len(parts) > 1 else None
            forgiven = self._sqlite and token.text[0] == '"' and qualifier is None
            if self._frames and self._frames[-1].kind == "using":
                forgiven = True
            may_call = self._ahead() is _END and name in sqlite_functions()
            if not (may_call and self._open_end):
                self._note(scope.refer(Reference(qualifier, name, partial, forgiven)))
            self._operand, self._item = True, name

    def _name_after_operand(self, token: Token, name: str, partial: bool) -> None:
        """An alias; anything else has no business there."""
        if self._inside() or (self._source is None and self._scope.clause != "select"):
            self._need(self._alias or not self._sqlite)  # a type, as in CAST(x AS type)
            if not self._alias:
                self._note(Outlook.DOUBTFUL)
        elif partial:
            return
        elif self._source is not None:
            source, self._source = self._source, None
            self._note(self._scope.bind(Source(name, source.columns)))
            self._joining = True  # no other alias
        else:
            self._scope.aliases.add(name)
            self._item = name
        self._alias, self._operand = False, True

    def _table(self, parts: list[str], partial: bool) -> None:
        name, tables = parts[-1], self._scope.tables
        odd = len(parts) > 1 or not self._sqlite
        if partial:
            if not any(table.startswith(name) for table in tables):
                self._need(odd or any(one.startswith(name) for one in _UNNAMED_TABLES))
                self._note(Outlook.DOUBTFUL)
            return
        is_function = self._ahead().text == "("
        if name not in tables and not is_function:
            self._need(odd or name in _UNNAMED_TABLES)
            self._note(Outlook.DOUBTFUL)
        self._found_source(name, tables.get(name))

    def _found_source(self, name: str | None, columns: Columns) -> None:
        self._source = Source(name, columns)
        self._want_source, self._operand = False, True

    def _end_source(self) -> None:
        if self._source is not None:
            source, self._source = self._source, None
            self._note(self._scope.bind(source))

    def _end_query(self) -> None:
        """A query is over: all its names must be bound, here or around it."""
        scope = self._scope
        self._need(CLAUSES.get(scope.clause, 0) and not self._want_source and not self._free)
        self._need(self._operand or self._source is not None)
        if scope.clause == "select":
            scope.items.append(self._item)
        self._end_source()
        self._note(scope.close_from())
        self._item = None


def _is_closed(token: Token) -> bool:
    """Whether a token is over, whatever may follow it."""
    if token.kind == "quoted":
        return len(token.text) > 1 and token.text[-1] == (
            "]" if token.text[0] == "[" else token.text[0]
        )
    return token.kind != "word"


def _name_of(token: Token) -> str:
    name = token.name() if token.kind == "word" or _is_closed(token) else token.text[1:].lower()
    return name or ""
