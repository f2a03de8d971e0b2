r"""Scripts are read as pgbench reads them, and what is not understood is refused."""

from __future__ import annotations

import pickle
import random
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from harness.errors import ConfigError
from harness.load import run_closed_loop
from harness.postgres.connect import connect
from harness.postgres.pgbench_script import (
    Set,
    Sleep,
    Statement,
    parse_script,
    read_script,
)
from harness.postgres.workloads import Held, ScriptWorkload, Witness

DRAWS = 50_000
P_MIN = 0.001

# The text of pgbench's built-in TPC-B-like script.
TPCB = r"""
\set aid random(1, 100000 * :scale)
\set bid random(1, 1 * :scale)
\set tid random(1, 10 * :scale)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)
    VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
"""


def value_of(expression, *, seed=1, **variables):
    script = parse_script(f"\\set x {expression}\nSELECT :x;")
    return script.steps[0].evaluate(variables, random.Random(seed))


def test_builtin_script_is_understood():
    script = parse_script(TPCB)

    assert [type(step) for step in script.steps] == [Set] * 4 + [Statement] * 7
    assert script.variables == {"scale"}
    insert = script.steps[-2]
    assert insert.names == ("tid", "bid", "aid", "delta")
    assert insert.query.startswith("INSERT INTO pgbench_history (tid, bid, aid, ")
    assert insert.query.endswith("VALUES (%s, %s, %s, %s, CURRENT_TIMESTAMP)")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-7 / 2", -3),
        ("-7 % 3", -1),
        ("7 / -2", -3),
        ("7.0 / 2", 3.5),
        ("100000 * :scale", 300_000),
        ("- :scale", -3),
        ("abs(-4) + least(3, 1, 2) + greatest(1, 2)", 7),
        ("mod(-7, 3)", -1),
        ("int(2.9)", 2),
        ("double(2)", 2.0),
        ("sqrt(16)", 4.0),
    ],
)
def test_arithmetic_is_pgbenchs(expression, value):
    found = value_of(expression, scale=3)

    assert found == value
    assert type(found) is type(value)


def drawn(expression):
    script = parse_script(f"\\set x {expression}\nSELECT :x;")
    source = random.Random(3)
    return [script.steps[0].evaluate({}, source) for _ in range(DRAWS)]


def p_value(values, probabilities):
    counts = Counter(values)
    assert set(counts) <= set(probabilities)
    observed = [counts[key] for key in probabilities]
    expected = np.array(list(probabilities.values()))
    return stats.chisquare(observed, expected / expected.sum() * DRAWS).pvalue


def test_random_is_uniform_with_both_bounds():
    assert p_value(drawn("random(3, 12)"), dict.fromkeys(range(3, 13), 1)) > P_MIN


def test_random_zipfian_is_zipfs_law():
    law = {rank: rank**-1.5 for rank in range(1, 51)}
    assert p_value(drawn("random_zipfian(1, 50, 1.5)"), law) > P_MIN


def test_random_exponential_is_pgbenchs():
    """Interval i of n gets exp(-p (i - 1) / n) - exp(-p i / n)."""
    law = {i: np.exp(-3 * (i - 1) / 10) - np.exp(-3 * i / 10) for i in range(1, 11)}
    assert p_value(drawn("random_exponential(1, 10, 3.0)"), law) > P_MIN


def test_random_gaussian_is_pgbenchs():
    """The bell is cut at the parameter, in standard deviations."""
    borders = stats.norm.cdf(np.linspace(-2.5, 2.5, 11))
    law = dict(zip(range(1, 11), np.diff(borders), strict=True))
    assert p_value(drawn("random_gaussian(1, 10, 2.5)"), law) > P_MIN


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (r"\sleep 5 ms", 0.005),
        (r"\sleep 20 us", 0.00002),
        (r"\sleep 2", 2.0),
        (r"\sleep :x ms", 0.007),
    ],
)
def test_sleep_has_pgbenchs_units(line, seconds):
    step = parse_script(f"\\set x 7\n{line}\nSELECT 1;").steps[1]

    assert isinstance(step, Sleep)
    assert step.evaluate({"x": 7}, random.Random()) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("sql", "query", "names"),
    [
        ("SELECT :a::text, 1::int;", "SELECT %s::text, 1::int", ("a",)),
        ("SELECT ':a', \":a\", :b;", "SELECT ':a', \":a\", %s", ("b",)),
        ("SELECT 'it''s; :a', :b;", "SELECT 'it''s; :a', %s", ("b",)),
        ("SELECT 7 % :a;", "SELECT 7 %% %s", ("a",)),
        ("SELECT 7 % 2;", "SELECT 7 % 2", ()),
        ("SELECT 'x%' LIKE :a;", "SELECT 'x%%' LIKE %s", ("a",)),
        ("SELECT $q$; :a$q$, :b;", "SELECT $q$; :a$q$, %s", ("b",)),
        ("SELECT 1 /* ; :a */ + :b;", "SELECT 1 /* ; :a */ + %s", ("b",)),
        ("SELECT 1", "SELECT 1", ()),
    ],
)
def test_variables_become_parameters(sql, query, names):
    step = parse_script("\\set a 1\n\\set b 2\n" + sql).steps[2]

    assert (step.query, step.names) == (query, names)


def test_statements_may_share_or_span_lines():
    script = parse_script("-- a remark; of no use\nSELECT 1; SELECT\n  'a\n;b';\n")

    assert [step.query for step in script.steps] == [
        "-- a remark; of no use\nSELECT 1",
        "SELECT\n  'a\n;b'",
    ]


def test_remark_before_a_meta_command_is_no_statement():
    script = parse_script("-- first\n\\set x 1\n/* then */\n\\sleep 1\nSELECT :x;")

    assert [type(step) for step in script.steps] == [Set, Sleep, Statement]


def test_meta_command_goes_on_after_a_backslash():
    assert value_of("1 + \\\n 2") == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1;\n\\if :a", r"mine.sql:2: \\if is not supported; \\set, \\sleep"),
        ("\\startpipeline\nSELECT 1;", r"mine.sql:1: \\startpipeline is not supp"),
        ("\\gset", r"mine.sql:1: \\gset is not supported"),
        ("\\set x", r"mine.sql:1: expected \\set name expression"),
        ("\\sleep soon please", r"mine.sql:1: expected \\sleep number"),
        ("\n\n\\set x 1 +", "mine.sql:3: cannot read the expression '1 \\+'"),
        ("\\set x 1 < 2", "mine.sql:1: '1 < 2' is not supported in an expression"),
        ("\\set x hash(1)", r"mine.sql:1: 'hash\(1\)' is not supported"),
        ("\\set x random(1)", r"'random\(1\)' is not supported"),
        ("\\set x __import__('os')", "is not supported in an expression"),
        ("\\set x 'text'", "is not supported in an expression"),
        ("\\set x True", "'True' is not supported"),
        ("SELECT 1\n\\set x 2\n", "mine.sql:1: the statement has no semicolon"),
        ("\\set x 2\n-- nothing\n", "mine.sql: the script has no SQL statement"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_line(text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        parse_script(text, "mine.sql")


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("random(2, 1)", "upper bound is below"),
        ("random_zipfian(1, 9, 1.0)", "must be 1.001 to 1000, got 1.0"),
        ("random_gaussian(1, 9, 1.9)", "must be >= 2.0, got 1.9"),
        ("random_exponential(1, 9, 0)", "must be > 0, got 0"),
    ],
)
def test_impossible_draw_is_an_error(expression, complaint):
    with pytest.raises(ConfigError, match=complaint):
        value_of(expression)


def test_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*nothing\.sql"):
        read_script(tmp_path / "nothing.sql")


@pytest.fixture
def counter(postgres, worker_id):
    name = f"counter_{worker_id}"
    with connect(postgres.connect_arguments()) as connection:
        connection.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, n int)")
        connection.execute(f"INSERT INTO {name} SELECT generate_series(1, 10), 0")
        yield name, connection
        connection.execute(f"DROP TABLE {name}")


@pytest.mark.parametrize("direct", [False, True], ids=["cursor", "direct"])
def test_script_runs_as_a_workload(direct, counter, postgres, tmp_path):
    name, connection = counter
    path = tmp_path / "count.sql"
    path.write_text(
        "\\set id random(1, :rows)\n\\set step 3 % 2\n"
        f"BEGIN;\nUPDATE {name} SET n = n + :step WHERE id = :id AND 7 % 2 = 1;\n"
        "\\sleep 10 us\nEND;\n"
    )
    workload = ScriptWorkload(
        Held(server=postgres),
        read_script(path),
        variables={"rows": 10},
        direct=direct,
    )
    witness = Witness(workload)
    sent = pickle.loads(pickle.dumps(workload))

    result = run_closed_loop(
        sent, workers=2, count=50, setup=sent.setup, teardown=sent.teardown
    )

    assert (result.completed, result.examples) == (50, {})
    assert witness.confirm(result).operations == 50
    total, touched = connection.execute(
        f"SELECT sum(n), count(*) FILTER (WHERE n > 0) FROM {name}"
    ).fetchone()
    assert total == 50
    assert touched > 5


@pytest.mark.parametrize("direct", [False, True], ids=["cursor", "direct"])
def test_script_that_breaks_off_leaves_no_transaction_open(direct, counter, postgres):
    name, connection = counter
    script = parse_script(
        f"BEGIN;\nUPDATE {name} SET n = n + 1 WHERE id = 1;\n"
        "\\set zero random(0, 1)\nSELECT 1 / :zero::int;\nEND;"
    )
    workload = ScriptWorkload(Held(server=postgres), script, direct=direct)

    result = run_closed_loop(
        workload, workers=1, count=40, setup=workload.setup, teardown=workload.teardown
    )

    assert set(result.errors) == {"DivisionByZero"}
    row = connection.execute(f"SELECT n FROM {name} WHERE id = 1").fetchone()
    assert row == (result.completed,)


def test_variable_without_a_value_is_refused(postgres):
    with pytest.raises(ConfigError, match="does not set: scale; give them in var"):
        ScriptWorkload(Held(server=postgres), parse_script(TPCB))
