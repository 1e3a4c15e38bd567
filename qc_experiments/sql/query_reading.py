"""Read the beginning of a query from left to right, and refuse what no continuation makes valid.

It knows clauses and their order, operands and operators, parentheses, and which names stand for what
(`scopes`). Of expressions it knows no more than that operands and operators take turns.
"""

from __future__ import annotations

from qc_experiments.sql.mark_reading import BEYOND, QUERY, MarkReading
from qc_experiments.sql.reading import Beyond, Refused, is_closed
from qc_experiments.sql.scopes import Outlook
from qc_experiments.sql.tokens import Token, tokens
from qc_experiments.sql.words import (
    BEFORE_BY,
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

_STARTS = (*QUERY, "(")
_WITHIN = {
    "from": ("extract", "trim", "substring", "overlay", "position"),
    "where": ("filter",),
    **dict.fromkeys(("select", "group", "having"), ()),
}
"""Clauses that stand in the parentheses of these functions only."""
_PAIRS = {"case": "end", "between": "and"}
_PARTS = JOINS | frozenset((*CLAUSES, *SET_OPERATIONS, "on", "using", "as"))
"""Words that end an expression which is not in parentheses."""


class QueryReading(MarkReading):
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
            self._need(not (self._frames or self._alias or (self._due and ";" not in self._due)))
            last = self._tokens[-1] if self._tokens else None
            self._need(last is not None and (last.kind == "word" or is_closed(last)))
            self._end_query()
        return self._outlook

    def _take(self, token: Token, partial: bool) -> None:
        if self._place == 0:
            start = token.text.lower()
            beyond = BEYOND.get(self._dialect, ())
            if any(word.startswith(start) if partial else word == start for word in beyond):
                raise Beyond
            if self._may_begin_more(start):
                raise Beyond
            begun = partial and any(word.startswith(start) for word in _STARTS)
            self._need(begun or start in _STARTS)
            if begun and start != "(":
                return
        if self._due:
            word, due, self._due = token.text.lower(), self._due, ()
            self._need(any(one.startswith(word) if partial else one == word for one in due))
            if partial:
                return
        if token.kind == "mark":
            self._mark(token.text)
        elif token.kind == "number" or (token.kind == "string" and not self._is_named(token)):
            self._literal(token)
        elif token.kind != "word" or not self._keyword(token.text.lower(), partial):
            self._name(token, partial)

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
        in_from = self._scope.clause == "from" and not self._want_source
        if in_from and following.text == "(" and word in BEYOND.get(self._dialect, ()):
            raise Beyond  # PIVOT (...
        frame, before = self._frames[-1].kind if self._frames else "", self._ahead(-1)
        if frame == "extract" and before.text == "(":
            self._operand = True  # a unit of time
            return True
        if partial and self._want_source:
            starts = QUERY if self._ahead(-1).text == "(" else ("lateral",)
            return any(one.startswith(word) for one in starts)
        trims = frame == "trim" and before.is_word("both", "leading", "trailing")
        if partial and ((trims and not self._sqlite) or self._after_is_distinct()):
            return "from".startswith(word)
        if partial:
            due = not self._operand and self._source is None
            begun = word in CLAUSES or word in SET_OPERATIONS
            begun = begun and not (self._sqlite and word in NOT_OF_SQLITE)
            if begun and not due and not self._inside():
                self._whole(word)
                return True
            pair = before.text == "(" or before.is_word(*BEFORE_BY, "distinct", "not")
            return begins(word, operand=due, pair=pair, sqlite=self._sqlite)
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
        before = self._ahead(-1)
        self._need(not (self._pending and outside and word in _PARTS))
        compared = word == "from" and self._after_is_distinct()
        if word in CLAUSES and outside and not (compared or before.is_word("within")):
            self._clause(word)
        elif word in SET_OPERATIONS and outside:
            self._set_operation(word)
        elif word in JOINS and in_from and outside:
            self._need(not self._want_source)
            self._end_source()
            self._scope.shares_names |= word == "natural"
            self._want_source, self._joining, self._operand = word == "join", False, False
            self._due = () if word == "join" else JOINS
        elif word == "tablesample" or (word == "using" and self._ahead().is_word("sample")):
            self._end_source()
            self._joining, self._operand = True, True
        elif word in ("on", "using") and in_from and outside:
            self._need(not self._want_source)
            self._end_source()
            self._scope.shares_names |= word == "using"
            sampled = word == "using" and self._dialect == "duckdb"  # USING SAMPLE
            self._need(sampled or len(self._scope.sources) > 1)
            self._joining, self._operand = True, False
        elif word == "as":
            if self._joining and outside and before.text == ")" and not self._sqlite:
                raise Beyond  # USING (id) AS both
            self._need(self._source is not None or not (in_from and outside))
            self._need(self._operand or self._source is not None or self._scope.clause == "with")
            self._alias = self._scope.clause != "with" or self._inside()
        elif word == "with" and outside and self._scope.clause == "":
            self._scope.clause = "with"
        elif word == "values" and not self._operand:
            self._scope.clause, self._scope.bound = "having", True
            self._scope.items.append("*")
            self._due = ("(",)
        elif word == "for" and self._frames and self._frames[-1].kind == "[":
            raise Beyond  # [f(x) FOR x IN list]
        elif self._source is None or self._joining or self._inside():
            if self._inside() and word in _WITHIN and not compared:
                self._need(self._frames[-1].kind in _WITHIN[word])
            negated = before.is_word("not")
            self._need(word not in BINARY or self._operand or negated)
            self._free = word in FREE_NEXT
            if word in _PAIRS and (word == "between" or not self._operand):
                self._pending.append(_PAIRS[word])
            elif self._operand and self._pending[-1:] == [word]:
                self._pending.pop()
            ends = word in ENDS_OPERAND or (self._operand and word not in BEFORE_OPERAND)
            ends = ends or (word == "all" and before.is_word("by", "limit"))  # DuckDB
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
        previous = self._ahead(-1)
        empty = previous.text == "," and self._dialect == "duckdb"
        empty = empty or (previous.is_word("select") and self._dialect == "postgres")
        self._need(self._operand or self._source is not None or empty)
        if scope.clause == "select" and not empty:
            self._end_item(last=True)
        if word == "order" and not self._sqlite:  # which names results before columns
            scope.aliases.update(filter(None, scope.items))
        self._end_source()
        if word != "from":
            self._note(scope.close_from())
        scope.clause, self._want_source = word, word == "from"
        self._joining, self._operand, self._free = False, False, word == "window"
        self._due = ("by",) if word in ("group", "order") else ()

    def _set_operation(self, word: str) -> None:
        scope = self._scope
        self._need(0 < CLAUSES.get(scope.clause, 0) < CLAUSES["order"])
        if self._frames and self._frames[-1].kind == "from" and not self._sqlite:
            raise Beyond  # of parts in parentheses
        self._end_query()
        scope.results.update(filter(None, scope.items))
        scope.aliases = set()
        scope.earlier += scope.sources
        scope.first = scope.items if scope.first is None else scope.first
        if "*" not in scope.items and self._dialect != "duckdb":  # where COLUMNS() is several
            scope.width = len(scope.items)
        scope.clause, scope.bound, scope.sources, scope.shares_names = word, False, [], False
        self._operand = False
