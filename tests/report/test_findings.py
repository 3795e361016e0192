"""What we learned: numbers and verdicts follow from the results, whatever they are."""

from lib.report.findings import FINDINGS, Fields, findings
from lib.report.tables import by_run
from tests.support.made_results import result

RESULTS = [
    result("zero_shot", transfer=40),
    *(result("finetune", seed, transfer=30, last=35 + seed, forgetting=60) for seed in range(3)),
    *(result("moe_adapters", seed, transfer=39, last=75 + seed, forgetting=2) for seed in range(3)),
]


def test_fields_are_means_intervals_and_differences_over_the_seeds_of_the_order() -> None:
    fields = Fields(by_run([*RESULTS, result("finetune", 3, order="II", last=0)], "I"))
    assert fields["finetune last"] == "36.0 ± 2.5"  # t(0.975, 2) / sqrt(3) = 2.48
    assert fields["moe_adapters last oracle"] == "78.0 ± 2.5"
    assert fields["zero_shot transfer - moe_adapters transfer"] == "1.0"


def test_a_finding_whose_runs_are_missing_is_left_out() -> None:
    assert list(findings(RESULTS, "I"))[:2] == list(FINDINGS)[:2]
    assert "Is it the freezing?" not in findings(RESULTS, "I")
    assert findings(RESULTS, "II") == {}


def test_a_verdict_turns_with_the_numbers() -> None:
    assert "claim holds" in findings(RESULTS, "I")["Are old tasks kept?"]
    for last in (20, 37):  # worse; better, but within the intervals
        worse = [*RESULTS[:4], *(result("moe_adapters", seed, last=last + seed) for seed in range(3))]
        assert "not hold" in findings(worse, "I")["Are old tasks kept?"]
