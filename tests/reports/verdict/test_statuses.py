"""Whatever cannot be judged has a status of its own, and hostile files an error."""

from __future__ import annotations

import json

import pytest

from harness.reports.verdict.judge import compare_runs
from harness.reports.verdict.reading import read_run

A, B, C = "test_read", "test_write", "test_scan"


@pytest.fixture
def sides(make_side):
    old, new = make_side("old"), make_side("new")
    new.now = new.now.replace(minute=2)
    return old, new


def compared(old_paths, new_paths):
    return compare_runs(
        [read_run(path) for path in old_paths], [read_run(path) for path in new_paths]
    )


def status_of(comparison, name):
    return next(case for case in comparison.cases if case.name == name)


def test_missing_and_new_cases_are_named_and_a_missing_one_fails(sides):
    old, new = sides
    comparison = compared(
        [old.noisy([A, B]) for _ in range(4)], [new.noisy([A, C]) for _ in range(4)]
    )
    assert status_of(comparison, B).status == "missing"
    assert status_of(comparison, C).status == "new"
    assert comparison.exit_code() == 1
    assert comparison.exit_code(allow_missing=True) == 0


def test_a_renamed_case_is_guessed_named_and_not_judged(sides):
    old, new = sides
    comparison = compared(
        [old.noisy([A, "test_checkout_idle"]) for _ in range(4)],
        [
            new.noisy(
                [A, "test_checkout_from_idle"],
                planted={"test_checkout_from_idle": {"*": 5.0}},
            )
            for _ in range(4)
        ],
    )
    case = status_of(comparison, "test_checkout_idle")
    assert case.status == "renamed"
    assert case.renamed_to.endswith("test_checkout_from_idle")
    assert status_of(comparison, "test_checkout_from_idle").status == "new"
    assert comparison.exit_code() == 1


def test_a_case_that_failed_in_one_run_of_the_contender_failed(sides):
    old, new = sides
    full = f"benchmarks/test_x.py::{B}"
    comparison = compared(
        [old.noisy([A, B]) for _ in range(4)],
        [new.noisy([A, B]) for _ in range(3)]
        + [new.noisy([A], failed={full: "failed in call"})],
    )
    case = status_of(comparison, B)
    assert case.status == "failed"
    assert case.reasons == ("1 of 4 runs: failed in call",)
    assert comparison.exit_code() == 1


def test_an_invalid_run_is_left_out_and_named_and_the_others_are_judged(sides):
    old, new = sides
    full = f"benchmarks/test_x.py::{B}"
    comparison = compared(
        [old.noisy([A, B]) for _ in range(4)],
        [new.noisy([A, B]) for _ in range(3)]
        + [new.noisy([A], failed={full: "invalid: the generator was busy"})],
    )
    case = status_of(comparison, B)
    assert case.metrics[0].contender_runs == 3
    assert case.reasons == ("1 of 4 runs: the generator was busy",)


def test_a_case_invalid_in_every_run_is_invalid_and_only_strict_fails(sides):
    old, new = sides
    full = f"benchmarks/test_x.py::{B}"
    comparison = compared(
        [old.noisy([A, B])], [new.noisy([A], failed={full: "invalid: too late"})]
    )
    assert status_of(comparison, B).status == "invalid"
    assert comparison.exit_code() == 0
    assert comparison.exit_code(strict=True) == 3


def test_other_facts_are_another_experiment_even_in_one_run_of_many(sides):
    old, new = sides
    odd = new.record(A, "series", facts={"postgres_version": "16.2"})
    comparison = compared(
        [old.noisy([A], kind="series") for _ in range(4)],
        [new.noisy([A], kind="series") for _ in range(3)] + [new.save([odd])],
    )
    case = status_of(comparison, A)
    assert case.status == "not comparable"
    assert "postgres_version: '17.10' against '16.2' in 0004" in case.reasons
    assert comparison.exit_code() == 2


def test_no_case_is_missing_from_a_run_that_was_cut_short(sides):
    old, new = sides
    comparison = compared([old.noisy([A, B])], [new.noisy([A], complete=False)])
    assert status_of(comparison, B).status == "missing"
    assert comparison.exit_code() == 0
    assert any("cut short" in note for note in comparison.notes)


def edited(path, edit):
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("value", "named"),
    [(0.0, "not above 0"), (-1.0, "not above 0")],
    ids=["zero", "negative"],
)
def test_an_impossible_duration_is_not_compared(sides, value, named):
    old, new = sides

    def edit(document):
        document["benchmarks"][0]["stats"]["p50"] = value

    comparison = compared([old.noisy([A])], [edited(new.noisy([A]), edit)])
    case = status_of(comparison, A)
    assert case.status == "not comparable"
    assert named in case.reasons[0]


def test_a_case_recorded_twice_in_one_report_is_not_compared(sides):
    old, new = sides
    twice = [new.record(A), new.record(A, scale={"*": 3.0}), new.record(B)]
    comparison = compared([old.noisy([A, B])], [new.save(twice)])
    assert status_of(comparison, A).reasons == ("recorded more than once in 0001",)
    assert status_of(comparison, B).metrics


HOSTILE = {
    "cut short": (lambda text: text[: len(text) // 2], "not JSON"),
    "empty": (lambda _: "", "not JSON"),
    "not a number": (
        lambda text: text.replace('"complete": true', '"complete": NaN'),
        "NaN is not allowed",
    ),
    "infinite": (
        lambda text: text.replace('"cpu_count": 2', '"cpu_count": 1e999'),
        "1e999 is not allowed",
    ),
    "newer": (
        lambda text: text.replace('"schema_version": 2', '"schema_version": 99'),
        "schema version 99",
    ),
    "nested": (lambda _: "[" * 100_000, "nested too deeply"),
    "text for a number": (
        lambda text: text.replace('"rounds": 500', '"rounds": "many"'),
        "stats.rounds",
    ),
    "bad time": (
        lambda text: text.replace("2026-01-01T", "yesterday "),
        "damaged",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_damaged_report_is_one_clear_error_and_never_a_verdict(
    compare, make_side, kind
):
    damage, named = HOSTILE[kind]
    good, bad = make_side("old").noisy([A]), make_side("new").noisy([A])
    text = bad.read_text()
    assert damage(text) != text
    bad.write_text(damage(text))
    done = compare(good, "--", bad)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("lakegauge: report ")
    assert named in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_gigabyte_of_parameters_is_refused_without_being_read(compare, make_side):
    good, bad = make_side("old").noisy([A]), make_side("new").noisy([A])
    with bad.open("r+b") as file:
        file.truncate(1_000_000_000)  # sparse: takes no space
    done = compare(good, "--", bad)
    assert done.returncode == 2
    assert "1,000,000,000 bytes" in done.stderr


def test_an_older_report_can_still_be_compared(compare, make_side):
    old = make_side("old")
    path = old.noisy([A], schema_version=1)
    done = compare(path, "--", make_side("new", seed=9).noisy([A]))
    assert done.returncode == 0, done.stderr


def test_a_name_that_is_a_script_is_text_in_every_form(compare, make_side, tmp_path):
    name = "test_<script>alert(1)</script>\x1b[2J|`*_=cmd"
    sides = [make_side("old"), make_side("new")]
    sides[1].now = sides[1].now.replace(minute=2)
    files = [tmp_path / f"out.{form}" for form in ("md", "xml", "csv", "json")]
    paths = [[side.save([side.record(name)]) for _ in range(2)] for side in sides]
    done = compare(*paths[0], "--", *paths[1], *(f"--output={file}" for file in files))
    assert done.returncode == 0, done.stderr
    markdown, xml, table, document = (file.read_text() for file in files)
    for text in (done.stdout, markdown, xml, table, document):
        assert "\x1b" not in text
    for text in (markdown, xml):
        assert "<script" not in text
        assert "&lt;script" in text
    assert "|`" not in markdown
    assert json.loads(document)["cases"][0]["name"].startswith("test_<script>")
