"""What is kept while a query is read from left to right, and how it is asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from qc_experiments.sql.scopes import Outlook, Scope, Source
from qc_experiments.sql.table_names import TableNames
from qc_experiments.sql.tokens import Token

END = Token("mark", "", 0, 0, 0)


class Refused(Exception):
    """The text cannot become a valid query."""


class Beyond(Exception):
    """What follows is not read here, such as DuckDB's PIVOT: the text is let through."""

    def __init__(self, outlook: Outlook = Outlook.DOUBTFUL) -> None:
        super().__init__()
        self.outlook = outlook


@dataclass
class Frame:
    """Parentheses: a query (``query``), tables of a FROM (``from``), or what a function or list holds."""

    kind: str
    outer: Scope
    source: Source | None = None  # the function in a FROM whose arguments these hold
    pending: list[str] = field(default_factory=list)  # what `Reading` keeps around them


class Reading:
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
        self._due: Collection[str] = ()  # one of these must come next
        self._pending: list[str] = []  # what must yet come: END of a CASE, AND of a BETWEEN
        self._alias = False  # AS stands right before
        self._want_source = False  # FROM, JOIN or a comma of FROM stands right before
        self._source: Source | None = None  # the last source, as long as an alias may follow
        self._joining = False  # in the condition of a join
        self._item: str | None = None  # name of the select item that is read, if it has one

    def _ahead(self, distance: int = 1) -> Token:
        place = self._place + distance
        return self._tokens[place] if 0 <= place < len(self._tokens) else END

    def _inside(self) -> bool:
        """Whether this is in parentheses that hold neither a query nor tables."""
        return bool(self._frames) and self._frames[-1].kind not in ("query", "from")

    def _note(self, outlook: Outlook) -> None:
        self._need(outlook is not Outlook.IMPOSSIBLE)
        self._outlook = min(self._outlook, outlook)

    def _need(self, condition: object) -> None:
        if not condition:
            raise Refused

    def _ends(self) -> bool:
        """Whether the text, which may go on, ends here."""
        return self._ahead() is END and self._open_end is not None

    def _is_partial(self, token: Token) -> bool:
        """Whether the text ends in a word that may go on."""
        return token.end == self._open_end and not is_closed(token)


def is_closed(token: Token) -> bool:
    """Whether a token is over, whatever may follow it."""
    if token.kind == "word":
        return False
    if token.kind not in ("quoted", "string"):
        return True
    if token.text[0] == "$":
        mark = token.text[: token.text.index("$", 1) + 1]
        return token.text.endswith(mark) and len(token.text) >= 2 * len(mark)
    mark = "]" if token.text[0] == "[" else token.text[0]
    return len(token.text) > 1 and token.text[-1] == (mark if token.kind == "quoted" else "'")
