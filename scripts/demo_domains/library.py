"""The library: authors, books, members and loans."""

from __future__ import annotations

from demo_domains.grammar import (
    Combo,
    Dice,
    Domain,
    Entity,
    Family,
    Pools,
    months,
    noun,
    np,
    phrase,
    sort_keys,
    spans,
    values,
)
from demo_domains.people import days_later, full_names, iso_date

SCHEMA = (
    "CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT, country TEXT, born INTEGER);",
    "CREATE TABLE book (id INTEGER PRIMARY KEY, title TEXT, "
    "author_id INTEGER REFERENCES author (id), genre TEXT, year INTEGER, pages INTEGER);",
    "CREATE TABLE member (id INTEGER PRIMARY KEY, name TEXT, city TEXT, joined TEXT);",
    "CREATE TABLE loan (id INTEGER PRIMARY KEY, book_id INTEGER REFERENCES book (id), "
    "member_id INTEGER REFERENCES member (id), day TEXT, returned TEXT);",
)

AUTHORS = (
    ("Claire Fontaine", "France", 1948),
    ("Kenji Morita", "Japan", 1952),
    ("Aoife Brennan", "Ireland", 1964),
    ("Daniel Okafor", "Canada", 1971),
    ("Lucia Amaral", "Brazil", 1939),
    ("Ingrid Solberg", "Norway", 1957),
    ("Arjun Mehta", "India", 1968),
    ("Hugo Lambert", "France", 1929),
    ("Yuki Nakata", "Japan", 1977),
    ("Sean Gallagher", "Ireland", 1943),
    ("Margaret Doyle", "Canada", 1934),
    ("Paulo Teixeira", "Brazil", 1962),
    ("Lars Nygaard", "Norway", 1946),
    ("Priya Nair", "India", 1979),
    ("Elise Moreau", "France", 1974),
    ("Emi Sato", "Japan", 1966),
    ("Colm Farrelly", "Ireland", 1955),
    ("Ruth Adler", "Canada", 1950),
    ("Bianca Prado", "Brazil", 1981),
    ("Sigrid Haugen", "Norway", 1932),
    ("Vikram Rao", "India", 1941),
    ("Jules Perrin", "France", 1959),
    ("Nora Tveit", "Norway", 1972),
    ("Marcel Aubert", "France", 1985),
)
WITHOUT_BOOKS = ("Vikram Rao", "Nora Tveit", "Marcel Aubert")

TITLES = {
    "fantasy": (
        "The Ember Crown|Song of the Salt King|The Last Lantern|A Gate of Thorns|"
        "The Winter Orchard|Children of the Tide|The Silver Loom|The Red Moon|"
        "The Hollow Mountain|Daughter of Ash|The Paper Dragon"
    ),
    "mystery": (
        "The Locked Garden|Murder at Platform Nine|The Missing Violin|A Quiet Alibi|The Third Key|"
        "Shadows on Mill Lane|The Harbour Light|Death of a Gardener|The Silent Tenant|"
        "The Borrowed Coat"
    ),
    "history": (
        "Roads of the Empire|The Silk Merchants|A Century of Steam|The Fall of Two Kings|"
        "Letters from the Front|Bread and Iron|The Great Frost|Ships of the North|The Printing Age"
    ),
    "romance": (
        "A Summer in Lisbon|Two Letters Home|The Dance Teacher|Love by the River|Second Spring|"
        "The Wedding Baker|Under the Lemon Trees|Waiting for Clara"
    ),
    "travel": (
        "Across the Steppe|Slow Trains South|The Island Road|Walking the Coast|Nine Cities|"
        "A Night in the Desert|North by Bicycle"
    ),
    "science": (
        "The Curious Atom|Life Under the Ice|How Bridges Stand|The Language of Bees|"
        "Maps of the Brain|A Short Walk to Mars"
    ),
    "poetry": "Small Winds|Blue Hour|Songs for a River|The Weight of Rain|Stone and Feather",
    "crime": "Cold Money|The Dockside Files|No Witness|The Glass Alley",
}
PAGE_RANGE = {"poetry": (64, 160), "fantasy": (310, 780), "history": (240, 690)}
CITIES = ("Leeds", "York", "Bath", "Oxford", "Bristol", "Derby")
MEMBERS = 42
LOANS = 150


def _books(dice: Dice) -> list[tuple[object, ...]]:
    """Return the books; page counts differ from book to book."""
    writers = [n for n, author in enumerate(AUTHORS, 1) if author[0] not in WITHOUT_BOOKS]
    prolific = writers + writers[::2] + writers[::3] + writers[::5]
    used: set[int] = set()
    books: list[tuple[object, ...]] = []
    for genre, titles in TITLES.items():
        for title in titles.split("|"):
            author = dice.pick(prolific)
            year = dice.between(max(1952, AUTHORS[author - 1][2] + 23), 2022)
            pages = dice.between(*PAGE_RANGE.get(genre, (120, 540)))
            while pages in used:
                pages += 1
            used.add(pages)
            books.append((title, author, genre, year, pages))
    return [(number, *book) for number, book in enumerate(dice.shuffled(books), 1)]


def _members(dice: Dice) -> list[tuple[object, ...]]:
    """Return the members; some cities have more of them than others."""
    weights = [city for place, city in enumerate(CITIES) for _ in range(7 - place)]
    joined: list[str] = []
    while len(joined) < MEMBERS:
        day = iso_date(dice, "2017-02-01", "2022-11-30")
        if day not in joined:
            joined.append(day)
    return [
        (number, name, dice.pick(weights), joined[number - 1])
        for number, name in enumerate(full_names(dice, MEMBERS), 1)
    ]


def _loans(dice: Dice, members: list[tuple[object, ...]], books: int) -> list[tuple[object, ...]]:
    """Return the loans in order of their day; late ones are not yet returned."""
    readers = [member for member in members if member[0] not in (7, 19, 33)]
    readers += readers[::3] + readers[::4] + readers[::4]
    shelf = [number for number in range(1, books + 1) if number % 12 != 5]
    shelf += shelf[::3] + shelf[::5] + shelf[::5]
    loans = []
    for _ in range(LOANS):
        member = dice.pick(readers)
        day = iso_date(dice, max("2021-01-04", days_later(str(member[3]), 1)), "2023-12-18")
        kept = days_later(day, dice.between(4, 42))
        open_still = kept > "2023-12-20" or dice.below(20) == 0
        loans.append((day, dice.pick(shelf), member[0], None if open_still else kept))
    loans.sort(key=lambda loan: (loan[0], loan[1], str(loan[2])))
    return [
        (number, book, member, day, returned)
        for number, (day, book, member, returned) in enumerate(loans, 1)
    ]


def _rows() -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of all tables."""
    dice = Dice("library rows")
    books, members = _books(dice), _members(dice)
    return {
        "author": [(number, *author) for number, author in enumerate(AUTHORS, 1)],
        "book": books,
        "member": members,
        "loan": _loans(dice, members, len(books)),
    }


BOOK_AUTHOR = "JOIN author ON book.author_id = author.id"
LOAN_BOOK = "JOIN book ON loan.book_id = book.id"
LOAN_MEMBER = "JOIN member ON loan.member_id = member.id"


def _pools(rows: dict[str, list[tuple[object, ...]]]) -> Pools:
    """Return the values that questions may name."""
    dice = Dice("library values")
    return {
        "genre": values(*TITLES),
        "country": values("France", "Japan", "Ireland", "Canada", "Brazil", "Norway", "India"),
        "city": values(*CITIES),
        "title": values(*dice.shuffled(str(row[1]) for row in rows["book"])),
        "author": values(*dice.shuffled(str(row[1]) for row in rows["author"])),
        "member": values(*dice.shuffled(str(row[1]) for row in rows["member"])),
        "loanid": values(*dice.shuffled(str(row[0]) for row in rows["loan"])),
        "year": values(1975, 1980, 1985, 1990, 1992, 1995, 1998, 2000, 2003, 2005, 2008, 2010),
        "inyear": values(*sorted({str(row[4]) for row in rows["book"]})),
        "byear": values(1935, 1940, 1945, 1950, 1953, 1960, 1965, 1970, 1975),
        "bornin": values(*(author[2] for author in AUTHORS)),
        "pages": values(150, 180, 200, 220, 250, 280, 300, 320, 350, 400, 450, 500, 600),
        "yspan": spans((1970, 1985), (1980, 1989), (1985, 1995), (1990, 1999), (1995, 2005)),
        "pspan": spans((100, 200), (150, 250), (200, 300), (300, 400), (350, 500), (400, 600)),
        "bspan": spans((1930, 1945), (1940, 1949), (1950, 1959), (1955, 1970), (1960, 1980)),
        "dspan": spans(("2021-01-01", "2021-06-30"), ("2022-03-01", "2022-05-31")),
        "jspan": spans(("2018-01-01", "2019-12-31"), ("2020-01-01", "2020-12-31")),
        "tstart": values("S", "W", "L", "N", "The S", "The L", "The B"),
        "tword": values("River", "Letters", "Garden", "King", "Two"),
        "letter": values("A", "B", "E", "G", "H", "J", "L", "M", "N", "S"),
        "last": values("Khan", "Turner", "Lewis", "Clark", "Shah", "Morris", "Jones", "Hart"),
        "jyear": values(2017, 2018, 2019, 2020, 2021, 2022),
        "jdate": values("2018-06-01", "2019-01-01", "2020-03-15", "2021-01-01", "2021-09-01"),
        "lyear": values(2021, 2022, 2023),
        "lmonth": months(
            "2021-05", "2021-11", "2022-02", "2022-06", "2022-10", "2023-01", "2023-04", "2023-09"
        ),
        "ldate": values("2021-07-01", "2022-01-15", "2022-08-01", "2023-03-01", "2023-10-01"),
        "ayear": values(1990, 2000, 2010, 2015, 2020),
    }


AUTHOR = Entity(
    noun("author", "author", "authors"),
    cols=(
        noun("author.name", "name", "names"),
        noun("author.name, author.country", "name and country", "names and countries"),
        noun("author.name, author.born", "name and birth year", "names and birth years"),
    ),
    nps=(
        np("eq", "author.country = '{country}'", "~ from {country}"),
        np("cmp", "author.born > {byear}", "~ born after {byear}"),
        np("cmp", "author.born < {byear}", "~ born before {byear}"),
        np("cmp", "author.country != '{country}'", "~ not from {country}"),
        np("between", "author.born BETWEEN {bspan}", "~ born {bspan}"),
        np(
            "like",
            "author.name LIKE '{letter}%'",
            "~ whose name starts with the letter {letter}|"
            "~ whose names start with the letter {letter}",
        ),
        np("in", "author.country IN ('{country}', '{country2}')", "~ from {country} or {country2}"),
        np(
            "and",
            "author.country = '{country}' AND author.born > {byear}",
            "~ from {country} born after {byear}",
            "~ from {country} with a birth year after {byear}",
        ),
        np(
            "or",
            "author.country = '{country}' OR author.born < {byear}",
            "~ from {country} or born before {byear}",
        ),
        np(
            "scalar",
            "author.born < (SELECT author.born FROM author WHERE author.name = '{author}')",
            "~ born before {author}",
            "~ older than {author}",
        ),
        np(
            "sub",
            "author.id IN (SELECT book.author_id FROM book WHERE book.genre = '{genre}')",
            "~ with at least one {genre} book",
        ),
        np(
            "sub",
            "author.id IN (SELECT book.author_id FROM book WHERE book.pages > {pages})",
            "~ with a book of more than {pages} pages",
        ),
        np(
            "not_in",
            "author.id NOT IN (SELECT book.author_id FROM book)",
            "~ without any book in the library",
        ),
        np(
            "not_in",
            "author.id NOT IN (SELECT book.author_id FROM book WHERE book.genre = '{genre}')",
            "~ without any {genre} book",
            "~ with no {genre} book",
        ),
        np(
            "exists",
            "EXISTS (SELECT 1 FROM book WHERE book.author_id = author.id AND book.year > {year})",
            "~ with a book published after {year}",
        ),
    ),
    pools={
        "attr": (
            phrase("author.country", "country"),
            phrase("author.born", "birth year", "year of birth"),
        ),
        "who": (
            phrase("author WHERE author.name = '{author}'", "the author {author}", "{author}"),
        ),
        "agg": (
            phrase("MIN(author.born)", "earliest birth year"),
            phrase("MAX(author.born)", "latest birth year"),
        ),
        "dcol": (noun("author.country", "country", "countries"),),
        "order": (
            phrase("author.name", "in alphabetical order of name", "sorted by name from A to Z"),
            *sort_keys("author.born", "birth year", "oldest first", "youngest first"),
        ),
        "sup": (
            phrase("author.born", "# oldest ~", "# ~ born first"),
            phrase("author.born DESC", "# youngest ~", "# ~ born last"),
        ),
        "grp": (noun("author.country", "country", "countries"),),
    },
)

BOOK = Entity(
    noun("book", "book", "books"),
    cols=(
        noun("book.title", "title", "titles"),
        noun("book.title, book.year", "title and year", "titles and years"),
        noun("book.title, book.pages", "title and page count", "titles and page counts"),
        noun("book.title, book.genre", "title and genre", "titles and genres"),
        noun(
            "book.title, book.genre, book.year",
            "title, genre and year",
            "titles, genres and years",
        ),
    ),
    nps=(
        np("eq", "book.genre = '{genre}'", "{genre} ~", "~ of the genre {genre}"),
        np("eq", "book.year = {inyear}", "~ published in {inyear}", "~ from the year {inyear}"),
        np("cmp", "book.year > {year}", "~ published after {year}"),
        np("cmp", "book.year < {year}", "~ published before {year}"),
        np("cmp", "book.pages > {pages}", "~ with more than {pages} pages"),
        np("cmp", "book.pages < {pages}", "~ with fewer than {pages} pages"),
        np("cmp", "book.pages >= {pages}", "~ with at least {pages} pages"),
        np("between", "book.year BETWEEN {yspan}", "~ published {yspan}"),
        np("between", "book.pages BETWEEN {pspan}", "~ with a page count {pspan}"),
        np(
            "like",
            "book.title LIKE '{tstart}%'",
            "~ whose title starts with '{tstart}'|~ whose titles start with '{tstart}'",
        ),
        np(
            "like",
            "book.title LIKE '%{tword}%'",
            "~ whose title contains '{tword}'|~ whose titles contain '{tword}'",
        ),
        np("in", "book.genre IN ('{genre}', '{genre2}')", "{genre} or {genre2} ~"),
        np(
            "and",
            "book.genre = '{genre}' AND book.year > {year}",
            "{genre} ~ published after {year}",
        ),
        np(
            "and",
            "book.genre = '{genre}' AND book.pages < {pages}",
            "{genre} ~ with fewer than {pages} pages",
        ),
        np(
            "and",
            "book.year < {year} AND book.pages > {pages}",
            "~ published before {year} with more than {pages} pages",
        ),
        np(
            "or",
            "book.year > {year} OR book.pages > {pages}",
            "~ published after {year} or with more than {pages} pages",
        ),
        np(
            "scalar",
            "book.pages > (SELECT AVG(book.pages) FROM book)",
            "~ with more pages than the average book",
        ),
        np(
            "scalar",
            "book.pages > (SELECT AVG(book.pages) FROM book WHERE book.genre = '{genre}')",
            "~ with more pages than the average {genre} book",
        ),
        np(
            "scalar",
            "book.pages < (SELECT MIN(book.pages) FROM book WHERE book.genre = '{genre}')",
            "~ with fewer pages than the shortest {genre} book",
        ),
        np(
            "scalar",
            "book.year > (SELECT book.year FROM book WHERE book.title = '{title}')",
            "~ published later than '{title}'",
        ),
        np(
            "sub",
            "book.id IN (SELECT loan.book_id FROM loan WHERE strftime('%Y', loan.day) = '{lyear}')",
            "~ borrowed in {lyear}",
        ),
        np(
            "sub",
            "book.id IN (SELECT loan.book_id FROM loan WHERE loan.returned IS NULL)",
            "~ with a loan not yet returned",
        ),
        np(
            "not_in",
            "book.id NOT IN (SELECT loan.book_id FROM loan)",
            "~ never borrowed",
            "~ without any loan",
        ),
        np(
            "exists",
            "EXISTS (SELECT 1 FROM loan WHERE loan.book_id = book.id AND loan.day > '{ldate}')",
            "~ borrowed after {ldate}",
        ),
        np(
            "exists",
            "NOT EXISTS (SELECT 1 FROM loan WHERE loan.book_id = book.id AND loan.day > '{ldate}')",
            "~ not borrowed after {ldate}",
        ),
        np(
            "join",
            "author.name = '{author}'",
            "~ by {author}",
            "~ written by {author}",
            join=BOOK_AUTHOR,
        ),
        np(
            "join",
            "author.country = '{country}'",
            "~ by an author from {country}|~ by authors from {country}",
            join=BOOK_AUTHOR,
        ),
        np(
            "join",
            "author.born > {byear}",
            "~ by an author born after {byear}|~ by authors born after {byear}",
            join=BOOK_AUTHOR,
        ),
    ),
    pools={
        "attr": (
            phrase("book.genre", "genre"),
            phrase("book.year", "year", "publication year"),
            phrase("book.pages", "page count", "number of pages"),
        ),
        "who": (phrase("book WHERE book.title = '{title}'", "the book '{title}'"),),
        "agg": (
            phrase("AVG(book.pages)", "average page count", "mean number of pages"),
            phrase("MAX(book.pages)", "highest page count", "largest number of pages"),
            phrase("MIN(book.pages)", "lowest page count", "smallest number of pages"),
            phrase("SUM(book.pages)", "total number of pages"),
            phrase("MIN(book.year)", "earliest publication year"),
            phrase("MAX(book.year)", "latest publication year"),
            phrase("MIN(book.pages), MAX(book.pages)", "lowest and highest page count"),
        ),
        "dcol": (
            noun("book.genre", "genre", "genres"),
            noun("book.year", "publication year", "publication years"),
        ),
        "order": (
            phrase("book.title", "in alphabetical order of title", "sorted by title from A to Z"),
            *sort_keys("book.pages", "page count", "shortest first", "longest first"),
            *sort_keys("book.year", "year", "oldest first", "newest first"),
        ),
        "sup": (
            phrase("book.pages DESC", "# longest ~", "# ~ with the most pages"),
            phrase("book.pages", "# shortest ~", "# ~ with the fewest pages"),
            phrase("book.year", "# oldest ~"),
            phrase("book.year DESC", "# newest ~", "# most recent ~"),
        ),
        "grp": (noun("book.genre", "genre", "genres"),),
        "hagg": (phrase("AVG(book.pages)", "average page count"),),
        "level": values(200, 250, 300, 350, 400),
    },
)

MEMBER = Entity(
    noun("member", "member", "members"),
    cols=(
        noun("member.name", "name", "names"),
        noun("member.name, member.city", "name and city", "names and cities"),
        noun("member.name, member.joined", "name and joining date", "names and joining dates"),
    ),
    nps=(
        np("eq", "member.city = '{city}'", "~ from {city}", "~ living in {city}"),
        np("cmp", "member.city != '{city}'", "~ not from {city}", "~ living outside {city}"),
        np("like", "member.name LIKE '% {last}'", "~ with the last name {last}"),
        np(
            "like",
            "member.name LIKE '{letter}%'",
            "~ whose name starts with the letter {letter}|"
            "~ whose names start with the letter {letter}",
        ),
        np(
            "in",
            "member.city IN ('{city}', '{city2}', '{city3}')",
            "~ from {city}, {city2} or {city3}",
        ),
        np("year", "strftime('%Y', member.joined) = '{jyear}'", "~ who joined in {jyear}"),
        np("date", "member.joined > '{jdate}'", "~ who joined after {jdate}"),
        np("date", "member.joined < '{jdate}'", "~ who joined before {jdate}"),
        np("between", "member.joined BETWEEN {jspan}", "~ who joined {jspan}"),
        np(
            "and",
            "member.city = '{city}' AND member.joined > '{jdate}'",
            "~ from {city} who joined after {jdate}",
        ),
        np(
            "or",
            "member.city = '{city}' OR member.joined > '{jdate}'",
            "~ who lives in {city} or joined after {jdate}|"
            "~ who live in {city} or joined after {jdate}",
        ),
        np(
            "scalar",
            "member.joined < (SELECT member.joined FROM member WHERE member.name = '{member}')",
            "~ who joined earlier than {member}",
        ),
        np(
            "sub",
            "member.id IN (SELECT loan.member_id FROM loan WHERE loan.returned IS NULL)",
            "~ with a loan not yet returned",
        ),
        np(
            "sub",
            "member.id IN (SELECT loan.member_id FROM loan "
            "WHERE strftime('%Y-%m', loan.day) = '{lmonth}')",
            "~ with a loan in {lmonth}",
            "~ who borrowed a book in {lmonth}",
        ),
        np(
            "not_in",
            "member.id NOT IN (SELECT loan.member_id FROM loan)",
            "~ without any loan",
            "~ who never borrowed a book",
        ),
        np(
            "not_in",
            "member.id NOT IN (SELECT loan.member_id FROM loan "
            "WHERE strftime('%Y', loan.day) = '{lyear}')",
            "~ without a loan in {lyear}",
        ),
        np(
            "exists",
            "EXISTS (SELECT 1 FROM loan WHERE loan.member_id = member.id AND loan.day > '{ldate}')",
            "~ with a loan after {ldate}",
        ),
    ),
    pools={
        "attr": (phrase("member.city", "city"), phrase("member.joined", "joining date")),
        "who": (phrase("member WHERE member.name = '{member}'", "the member {member}"),),
        "agg": (
            phrase("MIN(member.joined)", "earliest joining date"),
            phrase("MAX(member.joined)", "latest joining date"),
        ),
        "dcol": (noun("member.city", "home city", "home cities"),),
        "order": (
            phrase("member.name", "in alphabetical order of name", "sorted by name from A to Z"),
            *sort_keys(
                "member.joined", "joining date", "earliest joiners first", "latest joiners first"
            ),
        ),
        "sup": (
            phrase("member.joined", "# ~ who joined first"),
            phrase("member.joined DESC", "# newest ~", "# ~ who joined last"),
        ),
        "grp": (
            noun("member.city", "city", "cities"),
            noun("strftime('%Y', member.joined)", "joining year", "joining years"),
        ),
    },
)

LOAN = Entity(
    noun("loan", "loan", "loans"),
    cols=(
        noun("loan.id, loan.day", "id and date", "ids and dates"),
        noun("loan.id", "id", "ids"),
    ),
    nps=(
        np("null", "loan.returned IS NULL", "~ not yet returned", "~ without a return date"),
        np("null", "loan.returned IS NOT NULL", "~ already returned", "~ with a return date"),
        np("year", "strftime('%Y-%m', loan.day) = '{lmonth}'", "~ made in {lmonth}"),
        np("year", "strftime('%Y', loan.day) = '{lyear}'", "~ made in {lyear}"),
        np("date", "loan.day > '{ldate}'", "~ made after {ldate}"),
        np("null", "loan.returned < '{ldate}'", "~ returned before {ldate}"),
        np("between", "loan.day BETWEEN {dspan}", "~ made {dspan}"),
        np(
            "and",
            "loan.day < '{ldate}' AND loan.returned IS NULL",
            "~ made before {ldate} and not yet returned",
        ),
        np("join", "member.name = '{member}'", "~ made by {member}", join=LOAN_MEMBER),
        np(
            "join",
            "member.city = '{city}'",
            "~ made by a member from {city}|~ made by members from {city}",
            join=LOAN_MEMBER,
        ),
        np("join", "book.title = '{title}'", "~ of the book '{title}'", join=LOAN_BOOK),
        np(
            "join",
            "book.genre = '{genre}'",
            "~ of a {genre} book|~ of {genre} books",
            join=LOAN_BOOK,
        ),
        np(
            "join3",
            "author.country = '{country}'",
            "~ of a book by an author from {country}|~ of books by authors from {country}",
            join=f"{LOAN_BOOK} {BOOK_AUTHOR}",
        ),
        np(
            "join3",
            "author.name = '{author}'",
            "~ of a book by {author}|~ of books by {author}",
            "~ of a book written by {author}|~ of books written by {author}",
            join=f"{LOAN_BOOK} {BOOK_AUTHOR}",
        ),
        np(
            "join3",
            "book.genre = '{genre}' AND member.city = '{city}'",
            "~ of a {genre} book by a member from {city}|~ of {genre} books by members from {city}",
            join=f"{LOAN_BOOK} {LOAN_MEMBER}",
        ),
    ),
    pools={
        "attr": (phrase("loan.day", "date"), phrase("loan.returned", "return date")),
        "who": (phrase("loan WHERE loan.id = {loanid}", "the loan with id {loanid}"),),
        "agg": (
            phrase("MIN(loan.day)", "earliest date"),
            phrase("MAX(loan.day)", "latest date"),
        ),
        "grp": (noun("strftime('%Y', loan.day)", "year", "years"),),
    },
    heads=("list", "lookup", "count", "agg", "group_count", "having_count", "group_most"),
)

BOOK_WITH_AUTHOR = Entity(
    noun(f"book {BOOK_AUTHOR}", "book", "books"),
    cols=(
        noun("book.title, author.name", "title and author name", "titles and author names"),
        noun(
            "book.title, author.country",
            "title and author country",
            "titles and author countries",
        ),
    ),
    nps=(
        np("jcols", "book.genre = '{genre}'", "{genre} ~", "~ of the genre {genre}"),
        np("jcols", "book.year > {year}", "~ published after {year}"),
        np("jcols", "book.pages < {pages}", "~ with fewer than {pages} pages"),
        np(
            "jcols",
            "author.country = '{country}'",
            "~ by an author from {country}|~ by authors from {country}",
        ),
    ),
    pools={
        "attr": (
            phrase("author.name", "author name", "name of the author"),
            phrase("author.country", "author country", "country of the author"),
        ),
        "who": (
            phrase(f"book {BOOK_AUTHOR} WHERE book.title = '{{title}}'", "the book '{title}'"),
        ),
        "agg": (phrase("AVG(book.pages)", "average page count"),),
        "grp": (noun("author.country", "author country", "author countries"),),
    },
    heads=("list", "lookup", "group_count", "group_agg", "group_most"),
)

LOAN_WITH_BOOK = Entity(
    noun(f"loan {LOAN_BOOK}", "loan", "loans"),
    cols=(noun("book.title, loan.day", "book title and date", "book titles and dates"),),
    nps=(
        np("jcols", "loan.returned IS NULL", "~ not yet returned"),
        np("jcols", "strftime('%Y-%m', loan.day) = '{lmonth}'", "~ made in {lmonth}"),
        np("jcols", "book.genre = '{genre}'", "~ of a {genre} book|~ of {genre} books"),
    ),
    pools={"grp": (noun("book.genre", "book genre", "book genres"),)},
    heads=("list", "group_count", "having_count", "group_most"),
)

LOAN_WITH_MEMBER = Entity(
    noun(f"loan {LOAN_MEMBER}", "loan", "loans"),
    cols=(noun("member.name, loan.day", "member name and date", "member names and dates"),),
    nps=(
        np("jcols", "loan.day > '{ldate}'", "~ made after {ldate}"),
        np(
            "jcols",
            "member.city = '{city}'",
            "~ made by a member from {city}|~ made by members from {city}",
        ),
    ),
    pools={"grp": (noun("member.city", "member city", "member cities"),)},
    heads=("list", "group_count", "having_count", "group_most"),
)

LOAN_WITH_BOTH = Entity(
    noun(f"loan {LOAN_BOOK} {LOAN_MEMBER}", "loan", "loans"),
    cols=(
        noun(
            "member.name, book.title", "member name and book title", "member names and book titles"
        ),
        noun(
            "book.title, member.name, loan.day",
            "book title, member name and date",
            "book titles, member names and dates",
        ),
    ),
    nps=(
        np("jcols3", "loan.returned IS NULL", "~ not yet returned"),
        np("jcols3", "strftime('%Y-%m', loan.day) = '{lmonth}'", "~ made in {lmonth}"),
        np("jcols3", "book.genre = '{genre}'", "~ of a {genre} book|~ of {genre} books"),
        np(
            "jcols3",
            "member.city = '{city}'",
            "~ made by a member from {city}|~ made by members from {city}",
        ),
    ),
    heads=("list",),
)

PARENTS: tuple[Pools, ...] = (
    {
        "parent": (noun("author", "author", "authors"),),
        "kid": (noun("book.id", "book", "books"),),
        "par": (
            phrase("", "~"),
            phrase(" WHERE author.country = '{country}'", "~ from {country}"),
            phrase(" WHERE author.born > {byear}", "~ born after {byear}"),
        ),
        "pname": (noun("author.name", "name", "names"),),
        "pkey": (phrase("author.id"),),
        "joined": (phrase(f"book {BOOK_AUTHOR}"),),
        "left": (phrase("author LEFT JOIN book ON book.author_id = author.id"),),
        "kagg": (
            phrase("COUNT(*)", "number of books", "book count"),
            phrase("AVG(book.pages)", "average page count of the books"),
            phrase("MAX(book.year)", "year of the latest book"),
        ),
        "rank": (
            phrase("COUNT(*)", "the most books", "the highest number of books"),
            phrase("SUM(book.pages)", "the highest total page count"),
        ),
        "k": values(2, 3, 4),
    },
    {
        "parent": (noun("member", "member", "members"),),
        "kid": (noun("loan.id", "loan", "loans"),),
        "par": (
            phrase("", "~"),
            phrase(" WHERE member.city = '{city}'", "~ from {city}"),
        ),
        "pname": (noun("member.name", "name", "names"),),
        "pkey": (phrase("member.id"),),
        "joined": (phrase(f"loan {LOAN_MEMBER}"),),
        "left": (phrase("member LEFT JOIN loan ON loan.member_id = member.id"),),
        "kagg": (
            phrase("COUNT(*)", "number of loans", "loan count"),
            phrase("MAX(loan.day)", "date of the latest loan"),
        ),
        "rank": (phrase("COUNT(*)", "the most loans", "the highest number of loans"),),
        "k": values(3, 4, 5, 6, 7),
    },
    {
        "parent": (noun("book", "book", "books"),),
        "kid": (noun("loan.id", "loan", "loans"),),
        "par": (
            phrase("", "~"),
            phrase(" WHERE book.genre = '{genre}'", "{genre} ~"),
            phrase(" WHERE book.year > {year}", "~ published after {year}"),
        ),
        "pname": (noun("book.title", "title", "titles"),),
        "pkey": (phrase("book.id"),),
        "joined": (phrase(f"loan {LOAN_BOOK}"),),
        "left": (phrase("book LEFT JOIN loan ON loan.book_id = book.id"),),
        "kagg": (
            phrase("COUNT(*)", "number of loans", "loan count"),
            phrase("MIN(loan.day)", "date of the first loan"),
        ),
        "rank": (phrase("COUNT(*)", "the most loans", "the highest number of loans"),),
        "k": values(2, 3, 4, 5),
    },
)

FAMILIES = (
    Family(
        "readers_of_genre",
        "join_distinct",
        f"SELECT DISTINCT member.name FROM loan {LOAN_MEMBER} {LOAN_BOOK} "
        "WHERE book.genre = '{genre}'",
        (
            "Which different members borrowed {genre} books? Give their names.",
            "List the distinct names of the members who borrowed a {genre} book.",
            "Show the name of every member who took out a {genre} book, each name once.",
            "Who has borrowed {genre} books? List every member name only once.",
        ),
        (
            "Give the names, without duplicates, of the members with a loan of a {genre} book.",
            "Return each member name once if the member borrowed some {genre} book.",
        ),
        (3, 1),
    ),
    Family(
        "books_read_in_city",
        "join_distinct",
        f"SELECT DISTINCT book.title FROM loan {LOAN_BOOK} {LOAN_MEMBER} "
        "WHERE member.city = '{city}'",
        (
            "Which different books were borrowed by members from {city}? Give the titles.",
            "List the distinct titles of the books that members from {city} borrowed.",
            "Show every book title once that a member from {city} took out.",
        ),
        ("Return, without duplicates, the titles of the books lent to members from {city}.",),
        (3, 0),
    ),
    Family(
        "age_in_year",
        "arithmetic",
        "SELECT author.name, {ayear} - author.born FROM author WHERE author.country = '{country}'",
        (
            "How old did the authors from {country} turn in {ayear}? Show the name and the age.",
            "Show the name and the age reached in {ayear} of every author from {country}.",
            "Give the name of each author from {country} and the age each one reached in {ayear}.",
            "List the names of the authors from {country} with the age each of them reached in "
            "{ayear}.",
        ),
        (
            "For the authors from {country}, return the name and how old each one became in "
            "{ayear}.",
        ),
        (3, 1),
    ),
    Family(
        "days_out",
        "arithmetic",
        "SELECT loan.id, julianday(loan.returned) - julianday(loan.day) FROM loan "
        "WHERE strftime('%Y-%m', loan.returned) = '{lmonth}'",
        (
            "For each loan returned in {lmonth}, show the id and the number of days it lasted.",
            "How many days did each loan returned in {lmonth} last? Show the id and the days.",
            "Give the id of every loan returned in {lmonth} and how many days the book was out.",
        ),
        ("Take the loans returned in {lmonth} and return the id and the length in days of each.",),
        (2, 0),
    ),
)

COMBOS = (
    Combo(
        "How long, on average, are the fantasy books by authors from Canada? "
        "Give the average page count.",
        f"SELECT AVG(book.pages) FROM book {BOOK_AUTHOR} "
        "WHERE book.genre = 'fantasy' AND author.country = 'Canada'",
    ),
    Combo(
        "How many members from York or Bath joined before 2020-03-15?",
        "SELECT COUNT(*) FROM member WHERE city IN ('York', 'Bath') AND joined < '2020-03-15'",
    ),
    Combo(
        "Of the books never borrowed, which three are the longest? Give title and page count.",
        "SELECT title, pages FROM book WHERE id NOT IN (SELECT book_id FROM loan) "
        "ORDER BY pages DESC LIMIT 3",
    ),
    Combo(
        "Which author country has the most books with more than 400 pages?",
        f"SELECT author.country FROM book {BOOK_AUTHOR} WHERE book.pages > 400 "
        "GROUP BY author.country ORDER BY COUNT(*) DESC LIMIT 1",
    ),
    Combo(
        "How many different members borrowed a history book in 2022?",
        f"SELECT COUNT(DISTINCT loan.member_id) FROM loan {LOAN_BOOK} "
        "WHERE book.genre = 'history' AND strftime('%Y', loan.day) = '2022'",
    ),
    Combo(
        "List the title and year of the mystery books by authors from Canada, oldest first.",
        f"SELECT book.title, book.year FROM book {BOOK_AUTHOR} "
        "WHERE book.genre = 'mystery' AND author.country = 'Canada' ORDER BY book.year",
    ),
    Combo(
        "Which members from Leeds have a loan that is not yet returned? Give their names.",
        "SELECT name FROM member WHERE city = 'Leeds' "
        "AND id IN (SELECT member_id FROM loan WHERE returned IS NULL)",
    ),
)


def domain() -> Domain:
    """Return the library with its rows and its vocabulary."""
    rows = _rows()
    return Domain(
        "library",
        SCHEMA,
        rows,
        _pools(rows),
        (
            AUTHOR,
            BOOK,
            MEMBER,
            LOAN,
            BOOK_WITH_AUTHOR,
            LOAN_WITH_BOOK,
            LOAN_WITH_MEMBER,
            LOAN_WITH_BOTH,
        ),
        PARENTS,
        FAMILIES,
        COMBOS,
    )
