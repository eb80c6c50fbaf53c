"""How a result was made: read from results.json, shortened, and damage is named."""

import pytest

from stmtrain.errors import DataError
from stmtrain.report.run_record import facts_of, read_run


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, "\ufffe"])
def test_a_damaged_results_json_is_named(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataError, match=r"results\.json: expected the output of stm eval"):
        read_run(tmp_path)


def test_strange_facts_are_shortened():
    run = {"protocol": {"a": {"b": {"c": {"d": {"e": 1}}}}}, "x": "y" * 999, "scores": 5}
    facts = facts_of(run | {str(i): i for i in range(200)})
    assert len(facts) == 120
    assert facts["a b c d"] == "{'e': 1}"
    assert len(facts["x"]) == 200
