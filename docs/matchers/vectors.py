"""Holds matcher.py against the vectors: python3 docs/matchers/vectors.py [FOLDER]"""

import json
import sys
from pathlib import Path

import matcher as m

here = Path(__file__).resolve().parent
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else here.parents[1] / "verifier" / "vectors"


def refused(call, *arguments):
    try:
        return call(*arguments)
    except ValueError:
        return None


def filters(case):
    yield refused(m.parse_filter, case["text"]) is not None, case["valid"]


def scopes(case):
    found = refused(m.parse_scopes, case["text"])
    yield found and [[s.action, "/".join(s.filter)] for s in found], case.get("scopes")


def matches(case):
    held = m.parse_scopes(case["scope"])
    for member, expected in (("allows", True), ("refuses", False)):
        for resource in case[member]:
            yield m.matches(held, case["action"], resource), expected


def covers(case):
    held = m.parse_scopes(case["held"])
    for member, expected in (("covers", True), ("refuses", False)):
        for asked in map(m.parse_scope, case[member]):
            yield m.covers(held, asked), expected
            if len(held) == 1 and held[0].action == asked.action:
                yield m.includes(held[0].filter, asked.filter), expected


def intersections(case):
    a, b = m.parse_filter(case["a"]), m.parse_filter(case["b"])
    for both in (m.intersect(a, b), m.intersect(b, a)):
        yield both and "/".join(both), case["both"]


def resources(case):
    yield refused(m.resource, *case["segments"]), case["text"]


count = failed = 0
for check in (filters, scopes, matches, covers, intersections, resources):
    for case in json.loads((folder / f"{check.__name__}.json").read_text("utf-8"))["cases"]:
        for found, expected in check(case):
            count += 1
            if found != expected:
                failed += 1
                print(f"{check.__name__}: {found!r} where {expected!r} is right: {case}")
print(f"{count} checks, {failed} failed")
sys.exit(failed > 0)
