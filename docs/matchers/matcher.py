"""What the scopes of a tenmint token allow, in Python 3.11 and its standard library alone.

Copy this file. Verify the token first, then ask `allows`: nothing here looks at a signature.
"""

import re
from typing import NamedTuple

PLAIN = "A-Za-z0-9._~:@=-"
# an escape of a byte that stands for itself would be a second spelling of it
ESCAPE = "|".join(f"{byte:02X}" for byte in range(256) if not re.match(f"[{PLAIN}]", chr(byte)))
LITERAL = re.compile(f"(?:[{PLAIN}]|%(?:{ESCAPE})){{1,128}}")
NAME = re.compile("[a-z][a-z0-9._-]{0,63}")
NEEDS_FILTER = {"read", "write", "admin", "*"}

# The segments of a path, each a literal or a wildcard. A resource is one without wildcards.
Filter = tuple[str, ...]


class Scope(NamedTuple):
    action: str
    filter: Filter


def allows(claims: dict, org: str, action: str, *segments: str) -> bool:
    """Whether verified claims allow this action on the resource of these raw segments.

    `org` is the organization whose data this is, as the API knows it, never as the token says it.
    What is not canonical is a ValueError.
    """
    scopes = parse_scopes(claims["scope"])
    return claims["org"] == org and matches(scopes, action, resource(*segments))


def matches(scopes: list[Scope], action: str, resource: str) -> bool:
    """Whether one of the scopes allows this action on this resource, as `resource` made it."""
    path = tuple(resource.split("/"))
    return any(s.action in ("*", action) and includes(s.filter, path) for s in scopes)


def resource(*segments: str) -> str:
    """The resource of raw segments. Never cut one out of a URL: routers decode, this does not."""
    if not segments or not {"", ".", ".."}.isdisjoint(segments):
        raise ValueError("a resource has segments, none of them empty, `.` or `..`")
    return "/".join(map(encode, segments))


def encode(segment: str) -> str:
    texts = ((chr(byte), f"%{byte:02X}") for byte in segment.encode())
    return "".join(plain if re.match(f"[{PLAIN}]", plain) else escape for plain, escape in texts)


def parse_scopes(text: str) -> list[Scope]:
    """The scopes of a scope string. One bad scope spoils all."""
    tokens = text.split(" ")
    if len(text) > 4096 or len(tokens) > 64:
        raise ValueError("a scope string has at most 64 scopes and 4096 bytes")
    return [parse_scope(token) for token in tokens]


def parse_scope(token: str) -> Scope:
    action, colon, path = token.partition(":")
    if action != "*" and not NAME.fullmatch(action):
        raise ValueError(f"no action: {token!r}")
    if not colon and action in NEEDS_FILTER:
        raise ValueError(f"no filter: {token!r}")
    return Scope(action, parse_filter(path if colon else "*"))


def parse_filter(text: str) -> Filter:
    """The segments of a filter. What is not canonical is refused, never repaired."""
    segments = text.split("/")
    if len(text) > 512 or len(segments) > 16:
        raise ValueError("a filter has at most 16 segments and 512 bytes")
    for at, segment in enumerate(segments, 1):
        wildcard = segment == "*" or segment == "?" and at == len(segments)
        # `fullmatch`, since `$` would let a line feed pass
        if not wildcard and (segment in (".", "..") or not LITERAL.fullmatch(segment)):
            raise ValueError(f"segment {at} of {text!r} is not canonical")
    return tuple(segments)


def includes(wide: Filter, narrow: Filter) -> bool:
    """Whether every resource of `narrow` is one of `wide`; a resource is a filter too."""
    same = len(narrow) == len(wide) and narrow[-1] != "*"
    fits = len(narrow) >= len(wide) if wide[-1] == "*" else same
    return fits and all(w in ("*", "?") or w == n for w, n in zip(wide, narrow))


def covers(held: list[Scope], asked: Scope) -> bool:
    """Whether the scopes together allow all that `asked` does. Exact; no API needs it to check."""
    filters = [s.filter for s in held if s.action in ("*", asked.action)]
    longest = max(map(len, filters), default=0)
    return all(any(includes(f, part) for f in filters) for part in parts(asked.filter, longest))


def parts(path: Filter, longest: int) -> list[Filter]:
    """`a/*` by the number of segments: `a/?`, `a/*/?` and so on, then all that are longer.

    A wildcard takes literals that no filter names, so filters cover a part together only if one of
    them does alone.
    """
    if path[-1] != "*":
        return [path]
    stars = [("*",) * more for more in range(max(longest - len(path) + 1, 1))]
    return [path[:-1] + star + ("?",) for star in stars[:-1]] + [path[:-1] + stars[-1] + ("*",)]


def intersect(a: Filter, b: Filter) -> Filter | None:
    """The resources that both filters select: one filter, to push into a query, or none."""
    length = max(len(a), len(b))
    if any(len(path) < length and path[-1] != "*" for path in (a, b)):
        return None
    pairs = zip(*(path + ("*",) * (length - len(path)) for path in (a, b)))
    both = [y if x in ("*", "?") else x for x, y in pairs if x == y or {x, y} & {"*", "?"}]
    if len(both) < length:
        return None
    if both[-1] in ("*", "?"):
        both[-1] = "*" if a[-1] == b[-1] == "*" else "?"
    return tuple(both)
