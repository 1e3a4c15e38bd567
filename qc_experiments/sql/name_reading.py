"""Names in a query that is read from left to right: tables, aliases, columns and what binds them."""

from __future__ import annotations

from dataclasses import dataclass

from qc_experiments.sql.scopes import Outlook, Reference, Scope, Source
from qc_experiments.sql.table_names import Columns, TableNames
from qc_experiments.sql.tokens import Token
from qc_experiments.sql.words import AGGREGATES, CLAUSES, sqlite_functions

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
class Frame:
    """Parentheses: a query (``query``), tables of a FROM (``from``), or what a function or list holds."""

    kind: str
    outer: Scope
    source: Source | None = None  # the function in a FROM whose arguments these hold


class NameReading:
    """What stands where in the text, and the names that were read.

    Args:
        names: tables and columns of the schema.
        dialect: of sqlglot.
    """

    def __init__(self, names: TableNames, dialect: str) -> None:
        self._names, self._dialect = names, dialect
        self._sqlite = dialect == "sqlite"
        self._scope = Scope(None, dict(names.tables))
        self._frames: list[Frame] = []
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
        return token.end == self._open_end and not is_closed(token)

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
            if scope.clause == "where" and name in AGGREGATES:  # of a query around it, if at all
                self._note(Outlook.DOUBTFUL)
        else:
            qualifier = parts[-2] if len(parts) > 1 else None
            forgiven = self._sqlite and token.text[0] == '"' and qualifier is None
            if self._frames:  # columns that are shared, and arguments of a lambda in DuckDB
                forgiven |= self._frames[-1].kind.startswith(("using", "list_", "array_"))
            may_call = self._ahead() is _END and name in sqlite_functions()
            if not (may_call and self._open_end):
                found = scope.refer(Reference(qualifier, name, partial, forgiven))
                ends = self._ahead() is _END and self._open_end is not None  # ROLLUP (
                may_call = ends and qualifier is None and not self._sqlite
                self._note(max(found, Outlook.DOUBTFUL) if may_call else found)
            self._operand, self._item = True, name

    def _name_after_operand(self, token: Token, name: str, partial: bool) -> None:
        """An alias; anything else has no business there."""
        if self._inside() or (self._source is None and self._scope.clause != "select"):
            cast = bool(self._frames) and self._frames[-1].kind == "cast"
            self._need(self._alias or cast or not self._sqlite)
            if not self._alias:
                self._note(Outlook.DOUBTFUL)
        elif partial:
            if self._source is not None:
                self._note(self._scope.outlook_of_alias(name, self._source, given=self._alias))
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
        odd = not self._sqlite or parts[0] in ("main", "temp")
        self._need(odd or len(parts) == 1)
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


def is_closed(token: Token) -> bool:
    """Whether a token is over, whatever may follow it."""
    if token.kind == "word":
        return False
    if token.kind not in ("quoted", "string"):
        return True
    mark = "]" if token.text[0] == "[" else token.text[0]
    return len(token.text) > 1 and token.text[-1] == (mark if token.kind == "quoted" else "'")


def _name_of(token: Token) -> str:
    whole = token.kind == "word" or is_closed(token)
    return (token.name() if whole else token.text[1:].lower()) or ""
