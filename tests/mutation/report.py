"""What a mutation run has found: a score for each module, and the mutants that nobody noticed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from tests.mutation.mutants import Mutant
from tests.mutation.settings import Accepted, Settings


@dataclass(frozen=True)
class Result:
    """A mutant and what became of it: `killed`, `timed out` (counts as killed) or `survived`."""

    mutant: Mutant
    outcome: str
    seconds: float


def score(results: list[Result]) -> float:
    """The share of mutants that a test noticed."""
    return sum(result.outcome != "survived" for result in results) / len(results)


def print_report(results: list[Result], accepted: list[Accepted], settings: Settings) -> int:
    """Print scores and survivors; 1 where the score is below the gate."""
    print(f"{'module':32}{'mutants':>8}{'killed':>8}{'timed out':>10}{'survived':>10}{'score':>8}")
    for module, group in [*_by_module(results).items(), ("all", results)]:
        count = Counter(result.outcome for result in group)
        numbers = f"{len(group):8}{count['killed']:8}{count['timed out']:10}{count['survived']:10}"
        print(f"{module:32}{numbers}{score(group):8.1%}")
    for result in survivors(results):
        mutant, reason = result.mutant, _reason(result.mutant, accepted)
        print(f"\n{mutant.module}:{mutant.line} {mutant.inside}" + (f"  read: {reason}" if reason else ""))
        print(_indented("-", mutant.was) + "\n" + _indented("+", mutant.now))
    for entry in accepted:
        if any(_is(result.mutant, entry) and result.outcome != "survived" for result in results):
            print(
                f"\naccepted.toml: killed by now, so its entry can go: {entry.module} {entry.inside} {entry.now}"
            )
    enough = score(results) >= settings.gate
    print(f"\n{'Enough' if enough else 'Too few'}: {score(results):.1%} killed, {settings.gate:.0%} wanted.")
    return 0 if enough else 1


def write_report(results: list[Result], accepted: list[Accepted], settings: Settings) -> None:
    """The same as JSON."""
    document = {
        "seed": settings.seed,
        "score": round(score(results), 4),
        "gate": settings.gate,
        "modules": {
            module: {"mutants": len(group), "score": round(score(group), 4)}
            for module, group in _by_module(results).items()
        },
        "survivors": [
            {
                "module": result.mutant.module,
                "line": result.mutant.line,
                "inside": result.mutant.inside,
                "was": result.mutant.was,
                "now": result.mutant.now,
                "read": _reason(result.mutant, accepted),
            }
            for result in survivors(results)
        ],
    }
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    settings.output.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def survivors(results: list[Result]) -> list[Result]:
    """The mutants that no test noticed."""
    return [result for result in results if result.outcome == "survived"]


def _by_module(results: list[Result]) -> dict[str, list[Result]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.mutant.module, []).append(result)
    return groups


def _reason(mutant: Mutant, accepted: list[Accepted]) -> str | None:
    return next((entry.reason for entry in accepted if _is(mutant, entry)), None)


def _is(mutant: Mutant, entry: Accepted) -> bool:
    return (mutant.module, mutant.inside, mutant.was, mutant.now) == (
        entry.module,
        entry.inside,
        entry.was,
        entry.now,
    )


def _indented(sign: str, text: str) -> str:
    return "\n".join(f"  {sign} {line}" for line in text.splitlines() or ["(nothing)"])
