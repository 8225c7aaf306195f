"""`make mutate`: changes the project in some hundred places, one at a time, and counts what no test notices.

First all tests of the settings run once, unchanged, and it's noted which of them run which lines. A mutant is then
tested by those that run its statement, the quickest first, until one fails. A statement that no test runs in the
tests' own process may be run by a site's process, so it's given all tests of its module; so is what runs at import.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutation.crew import Crew, Json
from tests.mutation.mutants import Candidates, Mutant
from tests.mutation.report import Result, print_report, write_report
from tests.mutation.settings import Settings, load_accepted, load_settings

BASELINE_S = 1800.0
SLOWER = 5.0


def main() -> int:
    """Run the sample, or the part of it that belongs to one module; 1 where too many mutants survive."""
    settings = load_settings()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--only", default="", help="one module of settings.toml", choices=("", *settings.tests)
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that workers and their copies are cleared away
    root, accepted = Path.cwd(), load_accepted()
    mutants = draw(root, settings, chosen.only)
    with tempfile.TemporaryDirectory(prefix="mutation-") as home:
        results = try_out(mutants, root, Path(home), settings, chosen.workers)
    if not chosen.only:
        write_report(results, accepted, settings)
    return print_report(results, accepted, settings)


def draw(root: Path, settings: Settings, only: str = "") -> list[Mutant]:
    """The sample: each module has its share by the number of places that can be changed."""
    found = {m: Candidates(m, (root / m).read_text("utf-8"), settings) for m in settings.tests}
    total = sum(len(candidates) for candidates in found.values())
    sample = []
    for module, candidates in found.items():
        if only in ("", module):
            share = math.ceil(settings.mutants * len(candidates) / total)
            sample += candidates.sample(max(settings.least, share))
    return sample


def try_out(mutants: list[Mutant], root: Path, home: Path, settings: Settings, workers: int) -> list[Result]:
    """Run the tests without a change, then with each mutant, in copies of the project under `home`."""
    results = []
    with Crew(root, home, settings.warm, workers) as crew:
        baseline = Baseline.run(crew, root, sorted({mutant.module for mutant in mutants}), settings)
        jobs = [baseline.job(mutant, settings.spare_s) for mutant in mutants]
        for mutant, answer in zip(mutants, crew.answers(jobs), strict=True):
            results.append(Result(mutant, _outcome(answer["status"]), answer["seconds"]))
            _say(f"{len(results)}/{len(mutants)} {results[-1].outcome} {mutant.module}:{mutant.line}")
    return results


@dataclass
class Baseline:
    """What the tests without a change have shown.

    of_module : the tests of each module by the settings.
    fixtures : the fixtures that each test asks for.
    seconds : the time of each test and of each fixture.
    lines : the tests that run a line of a module.
    """

    of_module: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    fixtures: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    lines: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def run(cls, crew: Crew, root: Path, modules: list[str], settings: Settings) -> Baseline:
        """Run every test file of the modules once; raises where one fails."""
        files = {module: _files(root, settings.tests[module]) for module in modules}
        wanted = sorted(set().union(*files.values()))
        jobs = [{"tests": [file], "reach": modules, "timeout_s": BASELINE_S} for file in wanted]
        baseline = cls()
        for file, answer in zip(wanted, crew.answers(jobs), strict=True):
            if answer["status"] != 0:
                raise SystemExit(f"{file} fails without any change:\n{answer['output']}")
            _say(f"{file}: {len(answer['reach']['fixtures'])} tests, {answer['seconds']} s")
            baseline._add(answer["reach"], [module for module in modules if file in files[module]])
        return baseline

    def _add(self, reach: Json, modules: list[str]) -> None:
        self.fixtures |= reach["fixtures"]
        for name, seconds in reach["seconds"].items():
            self.seconds[name] = max(self.seconds[name], seconds)
        for module in modules:
            self.of_module[module] += reach["fixtures"]
            for line, tests in reach["lines"][module].items():
                self.lines[module, int(line)] |= set(tests)

    def job(self, mutant: Mutant, spare_s: float) -> Json:
        """A mutant with the tests that must notice it, the quickest first."""
        reached = set().union(*(self.lines[mutant.module, line] for line in mutant.lines))
        tests = sorted(
            reached or self.of_module[mutant.module], key=lambda test: (self._cost_s([test]), test)
        )
        timeout_s = spare_s + SLOWER * self._cost_s(tests)
        return {"module": mutant.module, "source": mutant.source, "tests": tests, "timeout_s": timeout_s}

    def _cost_s(self, tests: list[str]) -> float:
        shared = set().union(*(self.fixtures[test] for test in tests))
        return sum(self.seconds[name] for name in (*tests, *shared))


def _files(root: Path, paths: tuple[str, ...]) -> set[str]:
    found: set[Path] = set()
    for path in paths:
        found |= set((root / path).rglob("test_*.py")) if (root / path).is_dir() else {root / path}
    return {str(path.relative_to(root)) for path in found}


def _outcome(status: int | None) -> str:
    return "timed out" if status is None else "killed" if status else "survived"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
