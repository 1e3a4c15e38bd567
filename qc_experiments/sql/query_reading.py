"""Read the beginning of a query from left to right, and refuse what no continuation makes valid.

It knows clauses and their order, operands and operators, parentheses, and which names stand for what
(`scopes`). Of expressions it knows no more than that operands and operators take turns.
"""

from __future__ import annotations

from qc_experiments.sql.name_reading import Beyond, Frame, NameReading, Refused, is_closed
from qc_experiments.sql.scopes import Outlook, Scope, Source
from qc_experiments.sql.tokens import Token, tokens
from qc_experiments.sql.words import (
    BEFORE_OPERAND,
    BINARY,
    CLAUSES,
    ENDS_OPERAND,
    FREE_NEXT,
    JOINS,
    NOT_OF_SQLITE,
    RESERVED,
    SET_OPERATIONS,
    WORDS,
    begins,
)

_QUERY = ("select", "with", "values")
_STARTS = (*_QUERY, "(")
_BEYOND = {"duckdb": ("from", "pivot", "unpivot", "table"), "postgres": ("table",)}
"""How else queries begin that are let through."""
_PLAIN = ("select", "distinct", "all", ",", "(")
"""What stands before parentheses that leave a column its name."""
_WITHIN = {
    "from": ("extract", "trim", "substring", "overlay", "position"),
    "where": ("filter",),
    **dict.fromkeys(("select", "group", "having"), ()),
}
"""Clauses that stand in the parentheses of these functions only."""
_SIGNS = "+-~@"
"""Marks that may stand before an operand."""


class QueryReading(NameReading):
    """One reading of a text.

    Args:
        names: tables and columns of the schema.
        dialect: of sqlglot.
    """

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
            last = self._tokens[-1] if self._tokens else None
            self._need(last is not None and (last.kind == "word" or is_closed(last)))
            self._end_query()
        return self._outlook

    def _take(self, token: Token, partial: bool) -> None:
        if self._place == 0:
            start = token.text.lower()
            beyond = _BEYOND.get(self._dialect, ())
            if any(word.startswith(start) if partial else word == start for word in beyond):
                raise Beyond
            if self._may_begin_more(start):
                raise Beyond
            begun = partial and any(word.startswith(start) for word in _STARTS)
            self._need(begun or start in _STARTS)
            if begun and start != "(":
                return
        self._need(token.text == "(" or not self._ahead(-1).is_word("values"))
        if token.kind == "mark":
            self._mark(token.text)
        elif token.kind == "number" or (token.kind == "string" and not self._is_named(token)):
            self._literal(token)
        elif token.kind != "word" or not self._keyword(token.text.lower(), partial):
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
            self._operand, self._free, self._item = True, False, "*"
        else:
            before = self._ahead(-1)
            operator = before.kind == "mark" and before.text not in "()[]{},*"
            number = text == "." and self._open_end is not None and self._ahead().text == ""  # .5
            slicing = text == ":" and self._frames and self._frames[-1].kind == "["
            may_stand = self._operand or operator or text in _SIGNS or number or slicing
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
        if text == "(" and following.is_word(*_QUERY):
            if clause == "" or clause in SET_OPERATIONS:  # a part of a set operation
                self._frames.append(Frame("query", scope))
            else:
                role = "with" if clause == "with" else "derived" if self._want_source else "value"
                self._frames.append(Frame("query", scope))
                self._scope = Scope(scope, dict(scope.tables), role)
            self._want_source, self._joining, self._source = False, False, None
        elif text == "(" and self._want_source:
            if following.is_word(*_BEYOND.get(self._dialect, ())):
                raise Beyond
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

    def _comma(self) -> None:
        self._need(self._operand or self._source is not None)
        if not self._inside():
            if self._scope.clause == "select":
                self._scope.items.append(self._item)
            elif self._scope.clause == "from":
                self._end_source()
                self._want_source, self._joining = True, False
        elif self._frames[-1].kind in _PLAIN:
            self._frames[-1].kind = "list"
        self._operand, self._alias, self._item = False, False, None
        self._free = self._scope.clause == "window" and not self._inside()

    # Words

    def _keyword(self, word: str, partial: bool) -> bool:
        """Take a word of SQL; false for one that is a name here."""
        if self._alias or (self._free and word not in RESERVED):
            return False
        following = self._ahead()
        if (
            word in ("x" if self._sqlite else "xbn")
            and following.kind == "string"
            and following.start == self._tokens[self._place].end
        ):
            return True  # a blob, x'00ff', or B'01': what follows is its literal
        frame, before = self._frames[-1].kind if self._frames else "", self._ahead(-1)
        if frame == "extract" and before.text == "(":
            self._operand = True  # a unit of time
            return True
        if partial and self._want_source:
            starts = _QUERY if self._ahead(-1).text == "(" else ("lateral",)
            return any(one.startswith(word) for one in starts)
        trims = frame == "trim" and before.is_word("both", "leading", "trailing")
        if partial and ((trims and not self._sqlite) or self._after_is_distinct()):
            return "from".startswith(word)
        if partial:
            due = not self._operand and self._source is None
            if not due and not self._inside() and word in (*CLAUSES, *SET_OPERATIONS):
                self._whole(word)
                return True
            return begins(word, operand=due, sqlite=self._sqlite)
        if word not in WORDS or (self._sqlite and word in NOT_OF_SQLITE):
            return False
        negated = before.is_word("not")
        if word not in RESERVED and self._means_name(word, following, negated):
            return False
        if word == "like" and following.text in ("(", "") and not (self._operand or negated):
            return False  # the function
        self._word(word)
        return True

    def _whole(self, word: str) -> None:
        """Take a word that begins a clause, at the end of the text: what waits must be bound."""
        may_be_alias = self._scope.clause == "select" or self._source is not None
        try:
            self._word(word)
        except Refused:
            if not may_be_alias:
                raise
            self._note(Outlook.DOUBTFUL)  # an alias may begin so: group_name

    def _after_is_distinct(self) -> bool:
        """Whether IS [NOT] DISTINCT stands right before, which FROM follows."""
        return self._ahead(-1).is_word("distinct") and self._ahead(-2).is_word("is", "not")

    def _word(self, word: str) -> None:
        outside, in_from = not self._inside(), self._scope.clause == "from"
        compared = word == "from" and self._after_is_distinct()
        if word in CLAUSES and outside and not (compared or self._ahead(-1).is_word("within")):
            self._clause(word)
        elif word in SET_OPERATIONS and outside:
            self._set_operation(word)
        elif word in JOINS and in_from and outside:
            self._need(not self._want_source)
            self._end_source()
            self._scope.shares_names |= word == "natural"
            self._want_source, self._joining, self._operand = word == "join", False, False
        elif word == "tablesample" or (word == "using" and self._ahead().is_word("sample")):
            self._end_source()
            self._joining, self._operand = True, True
        elif word in ("on", "using") and in_from and outside:
            self._need(not self._want_source)
            self._end_source()
            self._scope.shares_names |= word == "using"
            self._joining, self._operand = True, False
        elif word == "as":
            self._need(self._source is not None or not (in_from and outside))
            self._need(self._operand or self._source is not None or self._scope.clause == "with")
            self._alias = self._scope.clause != "with" or self._inside()
        elif word == "with" and outside and self._scope.clause == "":
            self._scope.clause = "with"
        elif word == "values" and not self._operand:
            self._scope.clause, self._scope.bound = "having", True
            self._scope.items.append("*")
        elif word == "for" and self._frames and self._frames[-1].kind == "[":
            raise Beyond  # [f(x) FOR x IN list]
        elif self._source is None or self._joining or self._inside():
            if self._inside() and word in _WITHIN and not compared:
                self._need(self._frames[-1].kind in _WITHIN[word])
            negated = self._ahead(-1).is_word("not")
            self._need(word not in BINARY or self._operand or negated)
            self._free = word in FREE_NEXT
            ends = word in ENDS_OPERAND or (self._operand and word not in BEFORE_OPERAND)
            ends = ends or (word == "all" and self._ahead(-1).is_word("by", "limit"))  # DuckDB
            if word != "collate":
                named = not self._operand and word in ENDS_OPERAND and word not in RESERVED
                self._item = word if named else None
            joins = not self._sqlite and self._inside() and self._frames[-1].kind in _WITHIN["from"]
            self._operand = ends and not self._free and not (joins and word in ("from", "for"))

    def _clause(self, word: str) -> None:
        scope = self._scope
        if word == "select":
            self._need(scope.clause in ("", "with", *SET_OPERATIONS))
            scope.items, scope.clause, self._operand = [], "select", False
            return
        rank, before = CLAUSES[word], CLAUSES.get(scope.clause, 0)
        turned = not self._sqlite and scope.clause == "offset" and word in ("limit", "fetch")
        self._need((0 < before < rank or turned) and not self._want_source)
        trailing = self._ahead(-1).text == "," and self._dialect == "duckdb"
        self._need(self._operand or self._source is not None or trailing)
        if scope.clause == "select" and not trailing:
            scope.items.append(self._item)
        if word == "order" and not self._sqlite:  # which names results before columns
            scope.aliases.update(filter(None, scope.items))
        self._end_source()
        if word != "from":
            self._note(scope.close_from())
        scope.clause, self._want_source = word, word == "from"
        self._joining, self._operand, self._free = False, False, word == "window"

    def _set_operation(self, word: str) -> None:
        scope = self._scope
        self._need(0 < CLAUSES.get(scope.clause, 0) < CLAUSES["order"])
        if self._frames and self._frames[-1].kind == "from" and not self._sqlite:
            raise Beyond  # of parts in parentheses
        self._end_query()
        scope.aliases.update(filter(None, scope.items))
        scope.earlier += scope.sources
        scope.first = scope.items if scope.first is None else scope.first
        scope.clause, scope.bound, scope.sources, scope.shares_names = word, False, [], False
        self._operand = False
