"""What marks do in a query that is read from left to right: parentheses, commas, operators, literals."""

from __future__ import annotations

from qc_experiments.sql.name_reading import NameReading
from qc_experiments.sql.reading import Beyond, Frame
from qc_experiments.sql.scopes import Scope, Source
from qc_experiments.sql.tokens import Token
from qc_experiments.sql.words import SET_OPERATIONS

QUERY = ("select", "with", "values")
BEYOND = {"duckdb": ("from", "pivot", "unpivot", "table"), "postgres": ("table",)}
"""How else queries begin that are let through."""
_PLAIN = ("select", "distinct", "all", ",", "(")
"""What stands before parentheses that leave a column its name."""
_SIGNS = {"sqlite": "+-~@", "duckdb": "+-~@#", "postgres": "+-~@|!"}
"""Marks that may stand before an operand."""


class MarkReading(NameReading):
    """What the marks in a text do."""

    def _mark(self, text: str) -> None:
        if text in "([{":
            self._open(text)
        elif text in ")]}":
            self._close()
        elif text == ",":
            self._comma()
        elif text == "*" and not self._operand:
            self._operand, self._free, self._item = True, False, "*"
        else:
            before = self._ahead(-1)
            operator = before.kind == "mark" and before.text not in "()[]{},*"
            number = text == "." and self._open_end is not None and self._ahead().text == ""  # .5
            slicing = text == ":" and self._frames and self._frames[-1].kind == "["
            may_stand = (
                self._operand
                or operator
                or text in _SIGNS.get(self._dialect, "+-~@")
                or number
                or slicing
            )
            if self._may_begin_more(text) and not (may_stand and not self._want_source):
                raise Beyond
            self._need(may_stand and not self._want_source)
            sampled = self._ahead(-2).is_word("sample", "tablesample", "limit")
            sampled = sampled or self._ahead().text == ")"
            field = text == "." and self._operand and not self._sqlite
            self._free = field or (text == ":" and before.text == ":")  # a type after ::
            self._operand = text == "%" and sampled and not self._sqlite  # 10 per cent
            self._item = None

    def _may_begin_more(self, text: str) -> bool:
        """Whether a mark at the end of the text may begin a comment, or a string in dollars."""
        marks = ("-", "/") if self._sqlite else ("-", "/", "$")
        return text in marks and self._tokens[self._place].end == self._open_end

    def _literal(self, token: Token) -> None:
        if self._want_source:  # a file, as DuckDB reads them
            self._need(not self._sqlite)
            return self._found_source(None, None)
        touching = self._ahead(-1).end == token.start
        due = not self._operand or self._free or self._ahead(-1).is_word("rows", "range", "groups")
        self._need(due or touching or not self._sqlite)
        self._operand, self._free, self._alias, self._item = True, False, False, None
        return None

    def _is_named(self, token: Token) -> bool:
        """Whether a string is a name, as SQLite takes it where no literal may stand."""
        before, scope = self._ahead(-1), self._scope
        if self._alias or not self._sqlite:
            return self._alias
        bare = self._operand and scope.clause == "select" and not self._inside()
        due = self._want_source or self._source is not None or scope.clause == "with"
        return due or self._ahead().text == "." or (bare and before.end != token.start)

    def _open(self, text: str) -> None:
        following = self._ahead()
        scope, clause = self._scope, self._scope.clause
        beyond = following.is_word(*BEYOND.get(self._dialect, ()))
        if beyond and text == "(" and (self._want_source or following.is_word("from")):
            raise Beyond
        if text == "(" and following.is_word(*QUERY):
            if clause == "" or clause in SET_OPERATIONS:  # a part of a set operation
                self._frames.append(Frame("query", scope))
            else:
                role = "with" if clause == "with" else "derived" if self._want_source else "value"
                self._frames.append(Frame("query", scope))
                self._scope = Scope(scope, dict(scope.tables), role)
                negated = self._ahead(-2).is_word("not")
                row = self._ahead(-3 if negated else -2).text == ")"  # (a, b) IN (SELECT c, d
                if self._ahead(-1).is_word("in") and not row and self._dialect != "duckdb":
                    self._scope.width = 1
            self._want_source, self._joining, self._source = False, False, None
        elif text == "(" and self._want_source:
            self._frames.append(Frame("from", scope))
        else:
            before = self._ahead(-1)
            # IS DISTINCT FROM (a + 1): no tables
            word = "list" if before.is_word("from", "query") else before.text.lower()
            kind = text if text in "[{" else word or "list"
            if text == "(" and not self._sqlite:  # AS t(a, b), ::STRUCT(a INT)
                after_name = (
                    self._operand and self._source is None and kind not in ("filter", "group")
                )
                names = after_name or (clause == "from" and before.is_word("as"))
                kind = "columns" if names else kind
            self._frames.append(Frame(kind, scope, self._source))
            self._source = None
        self._operand = self._alias = self._free = False
        self._frames[-1].pending, self._pending = self._pending, []

    def _close(self) -> None:
        self._need(self._frames and not self._pending)
        frame = self._frames.pop()
        inner, outer = self._scope, frame.outer
        if frame.kind == "from":
            self._need(not self._want_source)
            self._end_source()
            self._joining, self._source = False, Source(None, frozenset())
        elif frame.kind == "query":
            self._end_query()
            columns = inner.result(sqlite=self._sqlite)
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
            before = self._ahead(-1).text
            empty = before in "([{" or (before == ":" and frame.kind == "[")
            empty = empty or (before == "," and not self._sqlite)  # as DuckDB lets lists end
            self._need(self._operand or empty or frame.kind == "over")
            self._item = self._item if frame.kind in _PLAIN else None
            self._source = frame.source
        self._operand, self._free, self._alias = True, False, False
        self._pending = frame.pending

    def _comma(self) -> None:
        self._need((self._operand or self._source is not None) and not self._pending)
        if not self._inside():
            if self._scope.clause == "select":
                self._end_item(last=False)
            elif self._scope.clause == "from":
                self._end_source()
                self._want_source, self._joining = True, False
        elif self._frames[-1].kind in _PLAIN:
            self._frames[-1].kind = "list"
        self._operand, self._alias, self._item = False, False, None
        self._free = self._scope.clause == "window" and not self._inside()
