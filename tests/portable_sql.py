"""Holds every query of the package inside the portable subset: `python -m tests.portable_sql`.

A query runs verbatim on DuckDB, Spark and ClickHouse only where all of them read it alike, so what is allowed is listed
and the rest refused. What parses alike and means something else (where NULL is sorted, how text becomes a number) no
linter sees: that is what running the queries on every engine is for. The subset: docs/architecture.md.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokens import Token, TokenType

from analytics.engines.prelude import FUNCTIONS as PRELUDE

ROOT = Path(__file__).resolve().parents[1]

# Functions that every engine has under this name and with this meaning; the prelude brings the others.
SHARED_FUNCTIONS = frozenset(
    {
        *("count", "sum", "min", "max", "row_number"),
        *("coalesce", "least", "greatest", "round", "lower", "substr", "length"),
        # Not ClickHouse's: commit messages are read by DuckDB and Spark alone.
        "regexp_extract_all",
    }
)
PRELUDE_FUNCTIONS = frozenset(re.findall(r"MACRO (\w+)\(", " ".join(PRELUDE["duckdb"])))
FUNCTIONS = SHARED_FUNCTIONS | PRELUDE_FUNCTIONS

# Spark wants a length of VARCHAR, and ClickHouse knows neither STRING nor TEXT: this spelling is everybody's.
TYPES = frozenset({"String", "BIGINT", "DOUBLE", "DATE", "TIMESTAMP", "BOOLEAN"})

# Whatever is not here is refused.
NODES: tuple[type[exp.Expression], ...] = (
    *(exp.Select, exp.Union, exp.Subquery, exp.With, exp.CTE, exp.From, exp.Join, exp.Table, exp.TableAlias),
    *(exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Distinct, exp.Window),
    *(exp.Alias, exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Boolean, exp.Paren, exp.Star),
    *(exp.Case, exp.If, exp.And, exp.Or, exp.Not, exp.Is, exp.In, exp.Between),
    *(exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE),
    *(exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Neg, exp.DPipe, exp.Cast, exp.DataType),
)

PRELUDE_IT = "add it to every engine's prelude if all can do the same (engines/prelude.py), or leave it to Python"

# What to write instead, where somebody is likely to want it.
INSTEAD: dict[type[exp.Expression], tuple[str, str]] = {
    exp.Qualify: ("QUALIFY", "compute the window in a subquery and filter outside of it"),
    exp.Filter: ("FILTER", "aggregate a CASE: sum(CASE WHEN … THEN 1 ELSE 0 END)"),
    exp.Lambda: ("a lambda", "let the engine unnest the list (create_unnested), or add a function to the prelude"),
    exp.Explode: ("unnest", "read a view that the engine makes (create_unnested)"),
    exp.Unnest: ("unnest", "read a view that the engine makes (create_unnested)"),
    exp.Lateral: ("LATERAL", "read a view that the engine makes (create_unnested)"),
    exp.NullSafeEQ: ("IS NOT DISTINCT FROM", "compare coalesce('=' || x, '') on both sides"),
    exp.NullSafeNEQ: ("IS DISTINCT FROM", "compare coalesce('=' || x, '') on both sides"),
    exp.IntDiv: ("//", "divide, and leave the rounding to Python"),
    exp.Mod: ("%", "leave it to Python, or add a function to the prelude"),
    exp.DateTrunc: ("date_trunc", "join the calendar on local_day(…)"),
    exp.TimestampTrunc: ("date_trunc", "join the calendar on local_day(…)"),
    exp.Extract: ("extract", "join the calendar on local_day(…)"),
    exp.ArgMin: ("arg_min", "number the rows (row_number) in a subquery and keep the first"),
    exp.ArgMax: ("arg_max", "number the rows (row_number) in a subquery and keep the first"),
    exp.Interval: ("an interval", "count in microseconds with us_between(start, end)"),
    exp.TryCast: ("TRY_CAST", "CAST what was checked before it came into the lake"),
    exp.Bracket: ("[…]", "nth(list, i) of the prelude"),
    exp.Array: ("a list", "join a small table (create_values)"),
    exp.Struct: ("a struct", "join the table that has it"),
    exp.ByteString: ("E'…'", "write the text itself; nothing is escaped"),
    exp.Placeholder: ("a parameter", "join a small table (create_values), or `params`"),
    exp.Parameter: ("a parameter", "join a small table (create_values), or `params`"),
    exp.Limit: ("LIMIT", "number the rows (row_number) in a subquery and keep the first"),
    exp.Except: ("EXCEPT", "LEFT JOIN … WHERE … IS NULL"),
    exp.Intersect: ("INTERSECT", "JOIN"),
    exp.Values: ("VALUES", "join a small table (create_values)"),
    exp.Exists: ("EXISTS", "LEFT JOIN a SELECT DISTINCT and ask whether it was found"),
    exp.Like: ("LIKE", "match names in Python, and join them as a small table (create_values)"),
    exp.Pivot: ("PIVOT", "aggregate a CASE for each column"),
    exp.WindowSpec: ("a frame", "leave it out: up to the current row and its equals is what every engine means"),
    exp.IgnoreNulls: ("IGNORE NULLS", "the running max or min of a CASE passes over NULL"),
    exp.SetItem: ("SET", "let the engine's session be set up by its own file"),
}


@dataclass(frozen=True)
class Problem:
    """Something outside the subset: where it stands, what it is, and what to write instead."""

    file: str
    line: int
    what: str
    instead: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what} is outside the portable subset; {self.instead}"


def problems(text: str, file: str = "query") -> list[Problem]:
    """Everything in a query that not every engine reads alike, by line."""
    found: list[Problem] = []

    def refuse(line: int, what: str, instead: str) -> None:
        found.append(Problem(file, line, what, instead))

    try:
        tokens = sqlglot.tokenize(text, read="duckdb")
        statements = sqlglot.parse(text, read="duckdb")
    except (ParseError, TokenError) as error:
        lines = [part["line"] for part in getattr(error, "errors", []) if part.get("line")]
        refuse(lines[0] if lines else 1, "this", "it cannot be parsed at all; look for a bracket or a comma")
        return found
    for line, what, instead in _spellings(tokens):
        refuse(line, what, instead)
    if len(statements) != 1 or not isinstance(statements[0], exp.Select | exp.Union):
        refuse(1, "anything but one SELECT", "give each table a file of its own; Python says in which order")
    for statement in statements:
        if isinstance(statement, exp.Expression):
            for node, what, instead in _nodes(statement):
                refuse(_line(node), what, instead)
    return sorted(set(found), key=lambda problem: (problem.line, problem.what))


def _spellings(tokens: list[Token]) -> Iterator[tuple[int, str, str]]:
    """What a parser reads alike but engines do not."""
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        if token.token_type == TokenType.DCOLON:
            yield token.line, "::", f"CAST(… AS {' | '.join(sorted(TYPES))})"
        elif token.token_type == TokenType.IDENTIFIER:
            yield (
                token.line,
                f'"{token.text}"',
                "a qualified name needs no quotes (results.at); Spark reads a text here",
            )
        elif token.token_type == TokenType.NUMBER and "." in token.text and "e" not in token.text.lower():
            yield token.line, token.text, f"Spark reads a decimal; write {token.text}e0"
        elif _calls(token, after) and token.text.lower() not in FUNCTIONS:
            yield token.line, f"{token.text}()", PRELUDE_IT
        elif token.token_type == TokenType.SEMICOLON:
            yield token.line, ";", "a file holds one query, and engines put it into another"
        elif (
            before is not None
            and after is not None
            and before.token_type == TokenType.ALIAS
            and after.token_type == TokenType.R_PAREN
            and token.text.lower() in {"string", "text", "varchar", "char", "float", "real", "int", "integer"}
            and token.text not in TYPES
        ):
            yield token.line, token.text, f"CAST(… AS {' | '.join(sorted(TYPES))}), spelt so"


def _calls(token: Token, after: Token | None) -> bool:
    called = after is not None and after.token_type == TokenType.L_PAREN
    return called and token.token_type == TokenType.VAR and token.text.lower() != "cast"


def _nodes(statement: exp.Expression) -> Iterator[tuple[exp.Expression, str, str]]:
    for node in statement.walk():
        if type(node) in INSTEAD:
            yield node, *INSTEAD[type(node)]
        elif isinstance(node, exp.Func) and not isinstance(node, NODES):
            names = _names(node)
            if not names & FUNCTIONS:
                yield node, f"{min(names)}()", PRELUDE_IT
        elif not isinstance(node, NODES) and not isinstance(node, exp.Func):
            yield node, type(node).__name__.upper(), "look for a plainer way; CONTRIBUTING.md lists what is allowed"
        yield from _uses(node)
    yield from _repeated(statement)


def _uses(node: exp.Expression) -> Iterator[tuple[exp.Expression, str, str]]:
    """What is wrong with the use of a node that is allowed in itself."""
    match node:
        case exp.Select():
            for column in node.expressions:
                if isinstance(column, exp.Star) or (isinstance(column, exp.Column) and column.is_star):
                    yield column, "SELECT *", "name the columns: engines order and name them differently"
                elif not isinstance(column, exp.Alias) and not (isinstance(column, exp.Column) and not column.table):
                    yield column, f"{column.sql()} without a name", "add AS: ClickHouse keeps the table's name in front"
            if isinstance(node.args.get("distinct"), exp.Distinct) and node.args["distinct"].args.get("on"):
                yield node, "DISTINCT ON", "number the rows (row_number) in a subquery and keep the first"
        case exp.Union():
            if node.args.get("distinct"):
                yield node, "UNION", "UNION ALL inside a SELECT DISTINCT"
            if node.args.get("by_name"):
                yield node, "BY NAME", "name the columns of each part in the same order"
            left, right = (side.named_selects for side in (node.this, node.expression))
            if not node.args.get("by_name") and left != right:
                yield node.expression, "a part with other names", "name the columns of each part alike, in one order"
        case exp.Join():
            yield from _join(node)
        case exp.Group():
            if node.args.get("all"):
                yield node, "GROUP BY ALL", "name the columns"
            if any(isinstance(key, exp.Literal) for key in node.expressions):
                yield node, "GROUP BY a number", "name the columns"
        case exp.In():
            if node.args.get("query") or node.args.get("unnest"):
                yield node, "IN (SELECT …)", "LEFT JOIN it and ask whether it was found: engines differ about NULL"
        case exp.Cast():
            if _type(node.to) not in TYPES:
                yield node, f"CAST AS {node.to.sql('duckdb')}", f"one of {', '.join(sorted(TYPES))}"
        case exp.If() if not isinstance(node.parent, exp.Case):
            yield node, "if()", "CASE WHEN"
        case exp.Star():
            if not isinstance(node.parent, exp.Count | exp.Select | exp.Column):
                yield node, "*", "name the columns"
        case exp.Table():
            if node.db:
                yield node, f"{node.db}.{node.name}", "a table's bare name; the engine knows where it is"
            if not isinstance(node.this, exp.Identifier) or node.this.quoted:
                yield node, node.sql(), "a table or view by its name; the engine knows where it is"


def _join(join: exp.Join) -> Iterator[tuple[exp.Expression, str, str]]:
    kind = " ".join(word for word in (join.method, join.side, join.kind) if word)
    if kind == "ASOF" or join.method == "ASOF":
        yield join, "ASOF", "order both together and take the running max or min (sql/budget_points.sql)"
    elif kind.endswith(("ANTI", "SEMI")):
        yield join, f"{kind} JOIN", "LEFT JOIN … WHERE … IS NULL, or JOIN a SELECT DISTINCT"
    elif kind not in ("", "INNER", "LEFT", "LEFT OUTER", "CROSS"):
        yield join, f"{kind} JOIN", "JOIN, LEFT JOIN or CROSS JOIN"
    elif join.args.get("using"):
        yield join, "USING", "ON, with both names: engines differ about which column is meant afterwards"
    elif not kind and not join.args.get("on"):
        yield join, "a comma between tables", "CROSS JOIN"
    if join.args.get("on") is not None and kind == "LEFT" and not _pairs(join):
        yield join, "LEFT JOIN without an equality", "ClickHouse needs one; filter an inner join instead"


def _pairs(join: exp.Join) -> bool:
    """Whether the condition says that something of one side equals something of the other."""
    own = join.this.alias_or_name
    for equal in join.args["on"].find_all(exp.EQ):
        sides = [{column.table for column in side.find_all(exp.Column)} for side in (equal.this, equal.expression)]
        if {own} in sides and any(side and own not in side for side in sides):
            return True
    return False


def _repeated(statement: exp.Expression) -> Iterator[tuple[exp.Expression, str, str]]:
    """CTEs that are read more than once: DuckDB 2.0 keeps a wide one without bound."""
    read = Counter(table.name for table in statement.find_all(exp.Table))
    for cte in statement.find_all(exp.CTE):
        if read[cte.alias] > 1:
            yield cte, f"{cte.alias} read {read[cte.alias]} times", "give it a file, so that it becomes a table"
        elif read[cte.alias] == 0:
            yield cte, f"{cte.alias} read by nobody", "remove it"
    for with_ in statement.find_all(exp.With):
        if with_.recursive:
            yield with_, "RECURSIVE", "a graph is Python's: derive it once per service"


def _type(kind: exp.DataType) -> str:
    name = kind.sql("duckdb")
    return "String" if name == "TEXT" else name


def _names(node: exp.Func) -> set[str]:
    """Every name of a function that is parsed alike; which one was written is for `_spellings` to see."""
    if isinstance(node, exp.Anonymous):
        return {str(node.this).lower()}
    # The parser knows Spark's name by DuckDB's own alone.
    return {name.lower() for name in node.sql_names()} | ({"sort_array"} if isinstance(node, exp.ArraySort) else set())


def _line(node: exp.Expression) -> int:
    """The line of a node, or of the first thing in it that has one."""
    for part in node.walk(bfs=False):
        if "line" in part.meta:
            return int(part.meta["line"])
    return 1


def query_files(root: Path = ROOT) -> list[Path]:
    """Every query of the package."""
    return sorted((root / "analytics").rglob("*.sql"))


def main(files: Iterable[Path]) -> int:
    """Print what is outside the subset; 1 where there is something."""
    found = [
        problem
        for file in files
        for problem in problems(file.read_text(encoding="utf-8"), str(file.resolve().relative_to(ROOT)))
    ]
    sys.stdout.writelines(f"{problem}\n" for problem in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]] or query_files()))
