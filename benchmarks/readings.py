"""`python -m benchmarks.readings`: how often readings cry wolf, and whether they find what changed; both rates printed.

Two quarters of an organisation of 200 services are simulated again and again with a seed, and read as `measure` reads
them: the same tests, families and correction, over eight measures at once. In the first rounds nothing has changed; in
the others the lead times of ten services are 30 % longer. Source: reports.md section 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analytics.comparisons import (
    Comparison,
    Direction,
    compare_proportions_array,
    compare_quantile,
    compare_rates,
    compare_samples,
)
from analytics.metrics.readings import STANDS_OUT, Family, read_families

SERVICES = 200
MEASURES = 8
SHIFTED = 10
SHIFT = 1.3
DAYS = 90
Array = npt.NDArray[np.float64]


@dataclass
class Rates:
    """What came of many rounds: of those where nothing had changed and of those where ten services had."""

    unchanged_rounds: int = 0
    rounds_that_cried_wolf: int = 0
    words_that_cried_wolf: int = 0
    shifted_rounds: int = 0
    found: int = 0
    flagged: int = 0

    @property
    def false_alarms(self) -> float:
        """The share of unchanged rounds in which any reading of any service and measure says that something changed."""
        return self.rounds_that_cried_wolf / self.unchanged_rounds

    @property
    def power(self) -> float:
        """The share of shifted services whose lead time is read as worse."""
        return self.found / (SHIFTED * self.shifted_rounds)

    @property
    def wrong_discoveries(self) -> float:
        """Of the services whose lead time is read as changed, the share that had not changed."""
        return (self.flagged - self.found) / max(self.flagged, 1)


def simulate(seed: int, unchanged: int, shifted: int) -> Rates:
    """Read so many rounds of either kind."""
    random = np.random.default_rng(seed)
    rates = Rates()
    for _ in range(unchanged):
        words = read_families(_families(random, shift=1.0), MEASURES * SERVICES)
        alarms = [word for word in words if word in STANDS_OUT]
        rates.unchanged_rounds += 1
        rates.rounds_that_cried_wolf += bool(alarms)
        rates.words_that_cried_wolf += len(alarms)
    for _ in range(shifted):
        families = _families(random, shift=SHIFT)
        lead = read_families(families, MEASURES * SERVICES)[families[0].rows].tolist()
        rates.shifted_rounds += 1
        rates.found += sum(lead[service] == "worse" for service in range(SHIFTED))
        rates.flagged += sum(word in STANDS_OUT for word in lead)
    return rates


def _families(random: np.random.Generator, shift: float) -> list[Family]:
    """Two quarters of every service: lead times, deployments, failures, runs, flakes, durations."""
    # Two to four deployments a day; a shift of 30 % cannot be told from chance in much fewer.
    deployments = random.integers(200, 400, SERVICES)
    runs = random.integers(100, 900, SERVICES)
    family: dict[str, list[Comparison | None]] = {"lead": [], "lead_p75": [], "lead_all": [], "frequency": []}
    for service in range(SERVICES):
        n = int(deployments[service])
        middle, spread = random.uniform(1, 5), 0.5
        quarters = [random.lognormal(middle, spread, n), random.lognormal(middle, spread, n)]
        if service < SHIFTED:
            quarters[1] = quarters[1] * shift
        family["lead"].append(compare_samples(*quarters))
        family["lead_p75"].append(compare_quantile(quarters[0], quarters[1], 0.75))
        # The series of all commits holds the people's and some bots' beside them.
        bots = [random.lognormal(middle, spread, n // 10) for _ in range(2)]
        family["lead_all"].append(compare_samples(*(np.concatenate(pair) for pair in zip(quarters, bots, strict=True))))
        counts = random.poisson(n, 2)
        family["frequency"].append(compare_rates(int(counts[0]), DAYS, int(counts[1]), DAYS))
    failing, passing, flaky = (
        random.uniform(low, high, SERVICES) for low, high in ((0.02, 0.3), (0.7, 0.99), (0, 0.2))
    )
    family["failures"] = _proportions(random, deployments, failing)
    family["changes_only"] = _proportions(random, deployments * 9 // 10, failing)
    family["success"] = _proportions(random, runs, passing)
    family["flakes"] = _proportions(random, runs, flaky)
    better: dict[str, Direction] = {"frequency": "higher", "success": "higher"}
    return [
        Family(
            name,
            "service",
            "2026-Q1",
            np.arange(number * SERVICES, (number + 1) * SERVICES),
            np.array([np.nan if one is None or one.p_value is None else one.p_value for one in comparisons]),
            np.array([0 if one is None else one.direction for one in comparisons]),
            better.get(name, "lower"),
        )
        for number, (name, comparisons) in enumerate(family.items())
    ]


def _proportions(random: np.random.Generator, trials: npt.NDArray[np.int64], share: Array) -> list[Comparison | None]:
    before, after = random.binomial(trials, share), random.binomial(trials, share)
    found: Sequence[Comparison] = compare_proportions_array(before, trials, after, trials)
    return list(found)


def main() -> None:
    """Simulate, and print both rates."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readings", description=__doc__)
    parser.add_argument("--unchanged", type=int, default=200)
    parser.add_argument("--shifted", type=int, default=20)
    parser.add_argument("--seed", type=int, default=2026)
    chosen = parser.parse_args()
    rates = simulate(chosen.seed, chosen.unchanged, chosen.shifted)
    rounds = f"{rates.rounds_that_cried_wolf} of {rates.unchanged_rounds} rounds"
    print(
        f"nothing changed: {rounds} of {SERVICES} services and {MEASURES} measures say that anything did "
        f"({rates.false_alarms:.1%}; {rates.words_that_cried_wolf} readings)"
    )
    print(
        f"{SHIFTED} services {SHIFT - 1:.0%} slower: {rates.power:.1%} of them are found; of what is read as changed "
        f"{rates.wrong_discoveries:.1%} had not"
    )


if __name__ == "__main__":
    main()
