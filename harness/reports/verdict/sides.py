"""Two sides of runs become cases with a status; nothing is passed over silently."""

from __future__ import annotations

import difflib
import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ReportError
from harness.reports.journal import INVALID
from harness.reports.verdict.model import CaseVerdict
from harness.reports.verdict.reading import machine_reasons

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.reports.verdict.metrics import CaseRun
    from harness.reports.verdict.model import CaseStatus
    from harness.reports.verdict.reading import Run

# Names this alike are taken for one case under two names; it is only a hint.
_RENAME_RATIO = 0.6
# More pairs of names than this are another suite, not renamed cases.
_RENAME_PAIRS_MAX = 2_500


@dataclass(frozen=True, kw_only=True, slots=True)
class Matched:
    """One case with all its comparable runs, still to be judged.

    Attributes:
        baseline: Its runs, in the order they were made; None where one lacks it.
        contender: The same of the contender.
        notes: Runs of it that were left out, a sentence each.
    """

    baseline: tuple[CaseRun | None, ...]
    contender: tuple[CaseRun | None, ...]
    notes: tuple[str, ...] = ()

    @property
    def sample(self) -> CaseRun:
        """One of its runs, the contender's first: facts and kind agree in all."""
        return next(run for run in (*self.contender, *self.baseline) if run)


def check_sides(
    baseline: Sequence[Run], contender: Sequence[Run], *, across: bool = True
) -> None:
    """Refuse sides that must not be compared at all.

    Args:
        baseline: Runs of the baseline.
        contender: Runs of the contender.
        across: Whether the sides must agree with each other too. Those of an A/B
            experiment differ on purpose.

    Raises:
        ReportError: If a side is empty, a run is counted twice, or two runs were
            made on different machines or with different sizes.
    """
    for side, runs in (("baseline", baseline), ("contender", contender)):
        if not runs:
            msg = f"nothing to compare: the {side} names no report"
            raise ReportError(msg)
    seen: dict[str, Run] = {}
    for run in (*baseline, *contender):
        if run.digest and run.digest in seen:
            twin = seen[run.digest].about
            msg = (
                f"{run.about.path or run.about.label} is the same run as "
                f"{twin.path or twin.label}: counted twice it would look like evidence"
            )
            raise ReportError(msg)
        seen[run.digest] = run
    groups = [[*baseline, *contender]] if across else [list(baseline), list(contender)]
    for runs in groups:
        for run in runs:
            reasons = machine_reasons(runs[0], run)
            if reasons:
                msg = (
                    f"reports are not comparable: {runs[0].about.label} and "
                    f"{run.about.label}: {'; '.join(reasons)}"
                )
                raise ReportError(msg)


def in_pairs(
    baseline: Sequence[Run], contender: Sequence[Run]
) -> tuple[list[Run], list[Run]] | None:
    """Return both sides in the order of their pairs, if they were made in pairs.

    Pairs of which one run is not there are left out; None unless every run belongs
    to one experiment, each side to one side of it.
    """
    places = [run.pair for run in (*baseline, *contender)]
    if not all(places) or len({place.experiment for place in places if place}) > 1:
        return None
    old = {run.pair.index: run for run in baseline if run.pair and run.pair.side == "A"}
    new = {
        run.pair.index: run for run in contender if run.pair and run.pair.side == "B"
    }
    if len(old) < len(baseline) or len(new) < len(contender):
        return None
    both = sorted(old.keys() & new.keys())
    return ([old[i] for i in both], [new[i] for i in both]) if both else None


def made_in_blocks(baseline: Sequence[Run], contender: Sequence[Run]) -> bool:
    """Whether one side was made after the other rather than between its runs.

    With times unknown it is assumed: that costs a little power and no truth.
    """
    moments = []
    for side, runs in enumerate((baseline, contender)):
        for run in runs:
            if run.about.started_at is None:
                return True
            moments.append((run.about.started_at, side))
    order = [side for _, side in sorted(moments)]
    turns = sum(a != b for a, b in itertools.pairwise(order))
    return turns < min(len(baseline), len(contender)) / 2


def differences(baseline: Sequence[Run], contender: Sequence[Run]) -> list[str]:
    """Name what the sides of an A/B experiment differ in, each difference once."""
    found = dict.fromkeys(machine_reasons(baseline[0], contender[0]))
    for name in baseline[0].cases:
        old, new = _sample(name, baseline), _sample(name, contender)
        if old and new:
            found |= dict.fromkeys(_differing(old, new))
    return list(found)


def match_cases(
    baseline: Sequence[Run], contender: Sequence[Run], *, across: bool = True
) -> tuple[dict[str, Matched], list[CaseVerdict]]:
    """Match the cases of two sides by node id.

    Args:
        baseline: Runs of the baseline.
        contender: Runs of the contender.
        across: Whether facts must agree between the sides too, not only within.

    Returns:
        The cases that can be judged, and those with a status instead.
    """
    matched: dict[str, Matched] = {}
    settled: list[CaseVerdict] = []
    old_names = dict.fromkeys(name for run in baseline for name in run.cases)
    new_names = dict.fromkeys(name for run in contender for name in run.cases)
    failures = {
        name: _failure(name, contender)
        for name in {name for run in contender for name in run.failed}
    }
    for name in {**old_names, **new_names, **failures}:
        failure = failures.get(name)
        sample = _sample(name, contender) or _sample(name, baseline)
        if failure and (failure[0] == "failed" or name not in new_names):
            settled.append(_settled(name, sample, *failure))
        elif name not in new_names:
            settled.append(_settled(name, sample, "missing", ()))
        elif name not in old_names:
            failed = _failure(name, baseline)
            reasons = failed[1] if failed else ()
            why = tuple(f"in the baseline: {reason}" for reason in reasons)
            settled.append(_settled(name, sample, "new", why))
        else:
            case = Matched(
                baseline=tuple(run.cases.get(name) for run in baseline),
                contender=tuple(run.cases.get(name) for run in contender),
                notes=failure[1] if failure else (),
            )
            reasons = _why_not_comparable(
                name, case, (*baseline, *contender), across=across
            )
            if reasons:
                settled.append(_settled(name, sample, "not comparable", reasons))
            else:
                matched[name] = case
    return matched, _with_renames(settled, baseline=baseline, contender=contender)


def _failure(
    name: str, runs: Sequence[Run]
) -> tuple[CaseStatus, tuple[str, ...]] | None:
    """Return the status of a case that did not pass in every run, with the outcomes.

    One failed run of many is a failure: it may be the slow one. An invalid one is a
    busy machine's doing; the others still count.
    """
    outcomes: defaultdict[str, list[str]] = defaultdict(list)
    for run in runs:
        if name in run.failed and name not in run.cases:
            outcomes[run.failed[name]].append(run.about.label)
    if not outcomes:
        return None
    status: CaseStatus = (
        "invalid" if all(o.startswith(INVALID) for o in outcomes) else "failed"
    )
    reasons = []
    for outcome, labels in outcomes.items():
        where = f"{len(labels)} of {len(runs)} runs: " if len(runs) > 1 else ""
        reasons.append(where + outcome.removeprefix(INVALID))
    return status, tuple(reasons)


def _sample(name: str, runs: Sequence[Run]) -> CaseRun | None:
    return next((run.cases[name] for run in runs if name in run.cases), None)


def _settled(
    name: str, sample: CaseRun | None, status: CaseStatus, reasons: tuple[str, ...]
) -> CaseVerdict:
    return CaseVerdict(
        fullname=name,
        name=sample.name if sample else name.rpartition("::")[2],
        group=sample.group if sample else "",
        kind=sample.kind if sample else "",
        measure=sample.measure if sample else "",
        status=status,
        reasons=reasons,
    )


def _why_not_comparable(
    name: str, case: Matched, runs: Sequence[Run], *, across: bool
) -> tuple[str, ...]:
    """Name what makes the runs of one case different experiments, or unusable."""
    reasons = [
        f"recorded more than once in {run.about.label}"
        for run in runs
        if name in run.repeated
    ]
    measured = [*case.baseline, *case.contender]
    found = [
        (case_run, run.about.label)
        for case_run, run in zip(measured, runs, strict=True)
        if case_run is not None
    ]
    reasons += [
        f"{case_run.problem} in {label}"
        for case_run, label in found
        if case_run.problem
    ]
    size = len([run for run in case.baseline if run is not None])
    for group in [found] if across else [found[:size], found[size:]]:
        for case_run, label in group[1:]:
            differing = _differing(group[0][0], case_run)
            if differing:
                # One run that differs says it all; the others often repeat it.
                reasons += [f"{text} in {label}" for text in differing]
                break
    return tuple(reasons)


def _differing(old: CaseRun, new: CaseRun) -> list[str]:
    facts = sorted(old.facts.keys() | new.facts.keys())
    pairs = [
        ("kind", old.kind, new.kind),
        ("measure", old.measure, new.measure),
        *((fact, old.facts.get(fact), new.facts.get(fact)) for fact in facts),
    ]
    return [f"{key}: {was!r} against {now!r}" for key, was, now in pairs if was != now]


def _with_renames(
    settled: list[CaseVerdict], *, baseline: Sequence[Run], contender: Sequence[Run]
) -> list[CaseVerdict]:
    """Mark a missing case that came back under another name.

    It stays unjudged: a name is a guess, and a verdict is not made from guesses.
    """
    missing = [case for case in settled if case.status == "missing"]
    new = [case for case in settled if case.status == "new" and not case.reasons]
    candidates = []
    if len(missing) * len(new) > _RENAME_PAIRS_MAX:
        return settled
    for gone in missing:
        old = _sample(gone.fullname, baseline)
        for come in new:
            now = _sample(come.fullname, contender)
            if old and now and _same_subject(old, now):
                # The prefix that all share is no sign of likeness.
                before = gone.name.removeprefix("test_")
                after = come.name.removeprefix("test_")
                likeness = difflib.SequenceMatcher(None, before, after).ratio()
                candidates.append((likeness, gone.fullname, come.fullname))
    renamed: dict[str, str] = {}
    for likeness, gone_name, come_name in sorted(candidates, reverse=True):
        free = gone_name not in renamed and come_name not in renamed.values()
        if free and likeness >= _RENAME_RATIO:
            renamed[gone_name] = come_name
    return [
        CaseVerdict(
            fullname=case.fullname,
            name=case.name,
            group=case.group,
            kind=case.kind,
            measure=case.measure,
            status="renamed",
            reasons=(f"probably now {renamed[case.fullname]}",),
            renamed_to=renamed[case.fullname],
        )
        if case.status == "missing" and case.fullname in renamed
        else case
        for case in settled
    ]


def _same_subject(old: CaseRun, new: CaseRun) -> bool:
    return (old.group, old.kind, old.measure, old.facts) == (
        new.group,
        new.kind,
        new.measure,
        new.facts,
    )
