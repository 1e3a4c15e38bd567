"""Names in a query that is read from left to right: tables, aliases, columns and what binds them."""

from __future__ import annotations

from collections.abc import Iterable

from qc_experiments.sql.reading import END, Beyond, Reading, Refused, is_closed
from qc_experiments.sql.scopes import Outlook, Reference, Source
from qc_experiments.sql.table_names import Columns, written_name
from qc_experiments.sql.tokens import Token
from qc_experiments.sql.words import (
    AGGREGATES,
    BEFORE_BY,
    BINARY,
    CLAUSES,
    ENDS_OPERAND,
    JOINS,
    RESERVED,
    SET_OPERATIONS,
    TABLE_FUNCTIONS,
    TYPES_AND_UNITS,
    WORDS,
    functions,
    sqlite_functions,
)

_UNNAMED_TABLES = (
    "main",
    "json_each",
    "json_tree",
    "sqlite_master",
    "sqlite_schema",
    "sqlite_temp_master",
    "sqlite_temp_schema",
    "sqlite_sequence",
    "sqlite_stat1",
    "sqlite_dbpage",
    "dbstat",
    "generate_series",
    "pragma_",
)
_HOME = frozenset({"", "main", "public", "temp"})
"""Schemas whose tables need no name of a schema."""
_AFTER_NAME = RESERVED - {"with"} | frozenset(CLAUSES) | JOINS | BINARY | {"end"}
"""Words before which another one is a name."""
_AFTER_ALIAS = frozenset((",", ")", ";", *CLAUSES, *SET_OPERATIONS))
"""What may stand after the alias of a result."""
_NO_ALIAS = ("end", "isnull", "notnull")
"""Words that end an operand and are no alias without AS."""
_NO_FUNCTIONS = ("over", "filter", "all", "any", "some", "lateral", "sets")
"""Words that a parenthesis may follow and that are no functions."""
_TAKE_LISTS = BINARY | {"offset"}
"""The same of words after an operand."""
_FORGIVING = ("list_", "array_", "apply", "filter", "reduce")
"""How it begins what stands before the arguments of a lambda in DuckDB."""


class NameReading(Reading):
    """What the names in a text are."""

    def _chain(self, token: Token, partial: bool) -> tuple[list[str], bool]:
        """The parts of a dotted name, read to its end, and whether the text ends within it."""
        parts = [_name_of(token)]
        while self._ahead().text == ".":
            self._place += 1
            following = self._ahead()
            named = following.kind in ("word", "quoted", *(("string",) if self._sqlite else ()))
            if named or following.text == "*":
                self._place += 1
                parts.append("*" if following.text == "*" else _name_of(following))
                partial = self._is_partial(following)
            elif following is END:
                return [*parts, ""], True
            else:
                raise Refused
        return parts, partial

    def _means_name(self, word: str, following: Token, negated: bool) -> bool:
        """Whether a word that is not reserved is a name here, as what stands around it says."""
        before, after, clause = self._ahead(-1), following.text, self._scope.clause
        if self._want_source:
            return self._sqlite or word not in ("lateral", "only")
        if word == "by":
            return not before.is_word(*BEFORE_BY)
        if clause == "with":
            if (
                word == "recursive"
                and before.is_word("with")
                and after != "("
                and not following.is_word("as")
            ):
                return False
            return self._inside() or before.text == "," or before.is_word("with", "recursive")
        joins = clause == "from" and (self._source is not None or self._operand)
        if word in JOINS and (joins or before.is_word(*JOINS)):
            return False
        if after == ".":
            return True
        if self._source is not None:
            if word in CLAUSES:  # OFFSET 3, or an alias
                return word != "qualify" and (after == "," or following.is_word(*_AFTER_NAME))
            return word not in ("for", "indexed", "tablesample")
        if after == "(":
            lists = word in _TAKE_LISTS and (self._operand or negated)
            return not (word in _NO_FUNCTIONS or lists)
        if not self._operand:
            return self._is_operand(word, before, following)
        last = clause == "select" and not self._inside() and word not in _NO_ALIAS
        if last and word in CLAUSES and following.end in (0, self._open_end):
            raise Beyond(self._outlook)  # an alias, if FROM follows
        if last and (after in (",", ")") or following.is_word("from")):  # an alias without AS
            self._scope.aliases.add(word)
            return self._sqlite or word in BINARY
        return False

    def _is_operand(self, word: str, before: Token, following: Token) -> bool:
        """Whether a word is a name where an operand is due, and no keyword that stands before one."""
        frame = self._frames[-1].kind if self._frames else ""
        if word == "all" or (word in ENDS_OPERAND and word not in BINARY):
            return False
        if before.text == "(" and frame in ("over", "as"):  # OVER (RANGE ...
            return False
        if following.kind in ("mark", "number"):
            if following.end == 0:  # the end of the text
                return self._open_end is None or (
                    word in BINARY | frozenset(CLAUSES) and not before.is_word("not")
                )
            return following.kind == "mark" and following.text != "["
        if following.kind == "string":
            return self._sqlite and word not in BINARY
        if following.kind == "word" and following.end == self._open_end:
            raise Beyond(self._outlook)  # it may become a keyword
        if following.is_word(*_AFTER_NAME):
            return not (following.is_word("from") and frame == "trim")
        plain = following.kind == "quoted" or following.text.lower() not in WORDS
        selected = self._scope.clause == "select" and not self._inside()
        return plain and word not in BINARY and (word in TYPES_AND_UNITS or selected)

    def _name(self, token: Token, partial: bool) -> None:
        before, frame = self._ahead(-1), self._frames[-1].kind if self._frames else ""
        parts, partial = self._chain(token, partial)
        scope, name = self._scope, parts[-1]
        if self._want_source:
            return self._table(parts, partial)
        if scope.clause == "with":
            if self._inside():
                scope.items.append(name)  # its columns are named apart
            else:
                scope.with_name = name
                scope.tables[name] = None
            self._operand = True
            return None
        if self._free or frame == "columns" or (before.text == "(" and frame in ("over", "as")):
            self._free, self._operand = False, True  # any name, of a window for example
            return None
        if scope.clause in SET_OPERATIONS and before.is_word("by"):  # BY NAME
            scope.first = ["*"]
        elif self._alias or self._source is not None or self._operand:
            if self._source is None or not before.is_word("by", "with"):  # an index, ORDINALITY
                self._name_after_operand(token, name, partial)
        elif self._sqlite and before.is_word("in"):
            self._need(_known(name, (*scope.tables, *_UNNAMED_TABLES), partial) or len(parts) > 1)
            self._operand = True
        elif self._ahead().text in ("(", "{") and (len(parts) == 1 or not self._sqlite):
            self._need(not self._sqlite or token.kind == "quoted" or name in sqlite_functions())
            if scope.clause == "where" and name in AGGREGATES:  # of a query around it, if at all
                self._note(Outlook.DOUBTFUL)
        elif self._sqlite or len(parts) > 1 or self._ahead().kind != "string":  # JSON '{}'
            self._column(token, parts, partial)
            self._operand, self._item = True, name
        return None

    def _column(self, token: Token, parts: list[str], partial: bool) -> None:
        scope, loose = self._scope, not self._sqlite
        qualifier, name = parts[-2] if len(parts) > 1 else None, parts[-1]
        if loose and (len(parts) > 2 or self._names_value()):  # a field; a key or an argument
            return
        if self._frames and self._frames[-1].kind == "using":
            self._need(scope.shares(Reference(None, name, partial)))
            return
        forgiven = self._sqlite and token.text[0] == '"' and qualifier is None
        forgiven |= any(frame.kind.startswith(_FORGIVING) for frame in self._frames)
        ends = self._ends()
        if ends and (self._sqlite or qualifier is None) and name in functions(sqlite=self._sqlite):
            return
        if loose and partial and _known(parts[0], self._names.all_schemas, qualifier is None):
            return  # schema.table.column
        named = (one.name for each in scope.scopes() for one in each.sources)
        if ends and qualifier is None and name in named:  # a dot may follow
            return
        joining = scope.clause == "from"
        found = scope.refer(Reference(qualifier, name, partial, forgiven, loose, joining))
        # It may yet be a function: ROLLUP (, pg_catalog.lower(
        may_call = ends and loose and not any(one.name == qualifier for one in scope.sources)
        self._note(max(found, Outlook.DOUBTFUL) if may_call else found)

    def _names_value(self) -> bool:
        """Whether the name is followed by its value: {a: 1}, f(a => 1), f(a := 1), SELECT a: 1."""
        mark, after = self._ahead().text, self._ahead(2).text
        if mark == ":" and after != ":":
            return not self._frames or self._frames[-1].kind != "["
        return mark == "=" and after in (">", "") and self._inside()

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
            following = self._ahead()
            renamed = not self._sqlite and (following.text == "(" or self._ends())  # AS t(a, b)
            columns = None if renamed else source.columns or None  # none: those of a join
            self._note(self._scope.bind(Source(name, columns), given=True))
            self._joining = True  # no other alias
        else:
            self._scope.aliases.add(name)
            self._item = name
            self._due = _AFTER_ALIAS if self._sqlite or self._ahead().text != "(" else ()
        self._alias, self._operand = False, True

    def _table(self, parts: list[str], partial: bool) -> None:
        name, tables = parts[-1], self._names.tables if len(parts) > 1 else self._scope.tables
        odd = not self._sqlite or parts[0] in ("main", "temp")
        self._need(odd or len(parts) == 1)
        begun = not self._sqlite and self._ends() and len(parts) == 1
        begun = begun and _known(name, TABLE_FUNCTIONS, partial)
        is_function = self._ahead().text == "(" or begun
        if not self._stands(parts, partial) and not is_function:
            self._need(odd or _known(name, _UNNAMED_TABLES, partial))
            self._note(Outlook.DOUBTFUL)
        if not partial:
            self._found_source(name, tables.get(name))

    def _stands(self, parts: list[str], partial: bool) -> bool:
        """Whether a table is known to stand where it is said to, or else a schema begins so."""
        names, own = self._names, frozenset({""})
        if len(parts) == 1 and not names.all_schemas:
            return _known(parts[0], self._scope.tables, partial)
        schema = parts[-2] if len(parts) > 1 else ""
        wanted = _HOME if schema in _HOME else {schema}
        stands = [
            one
            for one, columns in (names.tables if schema else self._scope.tables).items()
            if wanted & (names.schemas[one] if columns is names.tables.get(one, own) else own)
        ]
        begun = partial and len(parts) == 1 and _known(parts[0], names.all_schemas, partial)
        return begun or _known(parts[-1], stands, partial)

    def _found_source(self, name: str | None, columns: Columns) -> None:
        self._source = Source(name, columns)
        self._want_source, self._operand = False, True

    def _end_source(self) -> None:
        if self._source is not None:
            source, self._source = self._source, None
            self._note(self._scope.bind(source))

    def _end_item(self, *, last: bool) -> None:
        """A result is over: all SELECTs of a set operation have as many, and so many has that of an IN."""
        items, width = self._scope.items, self._scope.width
        items.append(self._item)
        if width is not None and "*" not in items:
            self._need(len(items) == width if last else len(items) < width)

    def _end_query(self) -> None:
        """A query is over: all its names must be bound, here or around it."""
        scope = self._scope
        self._need(CLAUSES.get(scope.clause, 0) and not self._want_source and not self._free)
        self._need((self._operand or self._source is not None) and not self._pending)
        if scope.clause == "select":
            self._end_item(last=True)
        self._end_source()
        self._note(scope.close_from())
        self._item = None


def _name_of(token: Token) -> str:
    whole = token.kind == "word" or is_closed(token)
    return (written_name(token) if whole else token.text[1:].lower()) or ""


def _known(name: str, names: Iterable[str], partial: bool) -> bool:
    """Whether a name is one of some, or begins one."""
    if name.startswith("pragma_") and "pragma_" in names:
        return True
    return any(one.startswith(name) if partial else one == name for one in names)
