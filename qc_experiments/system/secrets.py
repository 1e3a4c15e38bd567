"""Keep passwords, tokens and keys out of all that is written, sent or shown.

`redacted` is the one place that knows what a secret looks like: the password in a URL, an option of a
URL or of a connection that is called so, a token by its known beginning, and whatever an environment
variable holds whose name says that it is secret. Records, logs, messages and trackers go through it.

What the command line gives reaches Hydra's own records, a launcher's job files and W&B's metadata as
well, which none of our code writes. So `in_environment` takes secrets out of it before Hydra sees it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
VARIABLE = "QC_SECRET_{}"
"""Environment variables in which a command line's secrets reach the config, and other processes."""
SHORTEST = 6
"""A variable's value with fewer characters is no secret that could be told from the text around it."""

_NAMES = r"passw(?:or)?d|passphrase|passwd|secret|credential|token(?!iz)|api_?key"
SECRET_VARIABLE = re.compile(
    rf"(?i)(?:{_NAMES}|(?:^|_)(?:keys?|pass|pw|pwd|auth)(?:_|\d|$)|(?:key|pass|pw|pwd)\d*$)"
)
NO_SECRET_VARIABLE = re.compile(r"(?i)^(?:old)?pwd$|(?:path|file|dir|sock)$")

_NEXT_URL = r"""["']?\s*,\s*["']?[\w+.-]+://"""
"""Where the next one of several URLs begins, which a greedy search for @ must not pass."""
PATTERNS = (
    # A password as SQLAlchemy and libpq read it, up to the last @, or with blanks to the first; no host
    # begins with a blank, but in a sentence one may be missing.
    re.compile(
        rf"(?P<head>\b[A-Za-z][\w+.-]*://[^\s:/@]*:)"
        rf"(?P<secret>(?:(?!{_NEXT_URL})\S)+(?=@(?!\s))"
        rf"|(?!\d{{1,5}}(?:[/?\s]|$))@*(?:[^\n@]|@(?=\s))+(?=@(?!\s))|(?:(?!{_NEXT_URL})\S)+)(?=@)"
    ),
    re.compile(r"(?P<head>\bhttps?://)(?P<secret>[^\s:/@]+)(?=@)"),
    # The same where the scheme is mistyped or missing.
    re.compile(
        rf"(?P<head>(?<![\w.+%@{{-])[\w.+%-]+:)(?P<secret>(?!//)(?:(?!{_NEXT_URL})\S)+)(?=@)"
    ),
    re.compile(
        rf"(?i)(?P<head>[?&;](?:[\w.-]*(?:{_NAMES})[\w.-]*|pass|pwd|key)=)"
        rf"""(?P<secret>(?:(?!{_NEXT_URL}|["'](?:[\s,\]]|$))[^\s&#])+)"""
    ),
    re.compile(r"(?i)(?P<head>\b(?:ssl)?password\s*=\s*)(?P<secret>'[^']+'|[^\s'\"&,]+)"),
    re.compile(
        r"(?P<head>\b)(?P<secret>(?:hf|gh[opsru]|github_pat|glpat|wandb_v1)[_-]\w{16,}"
        r"|sk-(?:proj-)?[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16})"
    ),
)
SECRET_SETTING = re.compile(r"\A\+{0,2}hydra\.job\.env_set\.(?P<name>\w+)=(?P<secret>.+)\Z", re.S)
"""Hydra's setting for an environment variable of its jobs."""


def redacted(text: str) -> str:
    """A text with a mask in the place of each secret."""
    return _redacted(text, _values())


def redacted_tree(value: Any) -> Any:
    """The same for each text in a tree of dicts and lists; keys and numbers stay."""
    return _redacted(value, _values())


def _redacted(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, str):
        for pattern in PATTERNS:
            value = pattern.sub(rf"\g<head>{MASK}", value)
        for secret in secrets:
            value = value.replace(secret, MASK)
    elif isinstance(value, Mapping):
        return {key: _redacted(item, secrets) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        return [_redacted(item, secrets) for item in value]
    return value


def place_of_secret(value: Any, key: str = "") -> str | None:
    """The dotted key of the first text that holds a secret itself, not by an interpolation; else None."""
    if isinstance(value, str):
        found = (one for pattern in PATTERNS for one in pattern.finditer(value))
        literal = any("${" not in one["secret"] for one in found)
        return key if literal or any(secret in value for secret in _values()) else None
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    items = value.items() if isinstance(value, Mapping) else ()
    places = (place_of_secret(item, f"{key}.{name}".lstrip(".")) for name, item in items)
    return next((place for place in places if place is not None), None)


def _values() -> list[str]:
    """What secret environment variables hold, as it may be written, the longest first."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if len(value) < SHORTEST or not SECRET_VARIABLE.search(name):
            continue
        if not NO_SECRET_VARIABLE.search(name):
            found |= {value, unquote(value), quote(value, safe=""), quote_plus(value)}
    return sorted((one for one in found if len(one) >= SHORTEST), key=len, reverse=True)


@contextmanager
def in_environment(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Overrides without their secrets, which stand in environment variables as long as they are used.

    In their place is ``${oc.env:QC_SECRET_1}`` and its like, which Hydra puts in again where it composes.
    """
    variables: list[str] = []
    known = _values()

    def hidden(secret: str, quoted: bool) -> str:
        if "${" in secret:
            return secret  # it comes from elsewhere already
        variables.append(VARIABLE.format(len(variables) + 1))
        # What Hydra's grammar would have unescaped.
        escaped = r"\\([\"'])" if quoted else r"\\([\\()\[\]{}:=, \t])"
        os.environ[variables[-1]] = re.sub(escaped, r"\1", secret)
        return f"${{oc.env:{variables[-1]}}}"

    def without(override: str) -> str:
        quoted = bool(re.search(r"=\s*[\"']", override))
        setting = SECRET_SETTING.match(override)
        if setting and SECRET_VARIABLE.search(setting["name"]):
            value = setting["secret"].strip("\"'")
            return override[: setting.start("secret")] + hidden(value, quoted)
        for pattern in PATTERNS:
            override = pattern.sub(lambda m: m["head"] + hidden(m["secret"], quoted), override)
        for value in known:  # what a shell has put in, say
            if value in override:
                override = override.replace(value, hidden(value, quoted))
        return override

    kept = {name: value for name, value in os.environ.items() if name.startswith("QC_SECRET_")}
    try:
        yield [without(override) for override in overrides]
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(kept)
