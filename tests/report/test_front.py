"""The report's first screen: every claim has its place, numbers are those of results, no data ends the script."""

import json

import pandas as pd

from lib.report import claims, front
from tests.support.made_results import result


def test_every_claim_belongs_to_one_finding() -> None:
    for claim in claims.CLAIMS:
        assert sum(claim.text.startswith(finding.claims) for finding in front.FINDINGS) == 1, claim.text


def test_the_lines_of_a_finding_are_those_of_its_claims() -> None:
    judged = claims.table([result("moe_adapters", seed, union=3) for seed in range(3)])
    lines = front.of_finding(judged, front.FINDINGS[1])
    assert lines["claim"].str.startswith(("Zero-shot", "DDAS")).all()
    assert len(lines) == 3


def test_the_sentence_counts_verdicts_under_union_labels() -> None:
    judged = pd.DataFrame({"union labels": [claims.HOLDS, claims.FAILS, claims.FAILS, claims.OPEN]})
    sentence = front.in_a_sentence(judged)
    assert sentence.endswith("1 holds, 2 do not hold, 1 is not told apart.")
    assert "4 claims" in sentence


def test_numbers_are_paired_differences_among_all_classes() -> None:
    ours = [result("moe_adapters", seed, more=seed, union=2) for seed in range(3)]
    theirs = [result("rail_primal", seed, more=seed - 5 - 0.1 * seed, union=0) for seed in range(3)]
    shown = dict((text, value) for value, text in front.numbers([*ours, *theirs]))
    last = next(text for text in shown if "RAIL" in text)
    assert shown[last].startswith("+3.1")  # 5 points and a little, less the 2 that union labels cost
    assert last.endswith("(n = 3)")
    assert not any("untouched CLIP" in text for text in shown)  # there is no zero-shot run


def test_what_the_script_draws_has_the_first_seed_and_cannot_end_it() -> None:
    experts = {"image": {"0": {"counts": [[1, 2], [3, 4], [5, 6]], "froze": []}}, "text": {}}
    runs = [result("moe_adapters", seed, routed={"sample": [[[1, 0]]]}, experts=experts) for seed in (1, 0)]
    runs[1]["tasks"] = ["</script>", "green", "blue"]
    runs += [result("finetune", routed={}), result("lwf", routed={})]
    text = front.played(runs, "I")
    drawn = json.loads(text)
    assert "</" not in text
    assert list(drawn) == ["continual fine-tuning", "MoE-Adapters (the method)"]
    method = drawn["MoE-Adapters (the method)"]
    assert (method["seed"], method["tasks"][0]) == (0, "</script>")
    assert method["experts"] == {"0": [[1, 2], [3, 4], [5, 6]]}
    assert method["matrix"]["own"] == runs[1]["accuracy"]["sample"]
    assert method["matrix"]["union"] is None
