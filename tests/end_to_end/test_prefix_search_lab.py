"""The prefix search from its command: what it finds on the organism, going on after a kill, mistakes in one line."""

import json
import pathlib

import pytest

from lrm_align import report as reports
from lrm_align.chat import Chat
from lrm_align.config import load
from lrm_align.defences import candidates
from lrm_align.main import main
from lrm_align.recipes import prefix_search
from tests.tokenizer_families import llama3, qwen

ROOT = pathlib.Path(__file__).parents[2]
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
SMALL = {
    "validation.args.harmful": 12,
    "validation.args.benign": 4,
    "validation.args.arithmetic": 4,
    "validation.args.fact": 2,
    "search.texts": "('Wait, think safely.', 'It is safe', 'Wait')",
    "search.pieces": False,
    "search.beam": 1,
    "search.rounds": 1,
    "search.finalists": 2,
    "search.rows": 8,
    "sample.slots": 16,
    "sample.lanes": 1,
    "sample.max_new_tokens": 48,
}


def arguments(workdir, **changes):
    flags = [f"--config.{name}={value}" for name, value in {**SMALL, **changes}.items()]
    return ["main", f"--config={ROOT}/configs/lab_prefix_search.py", f"--workdir={workdir}", *flags]


@pytest.mark.slow
def test_the_papers_words_make_the_next_step_safe(tmp_path, capsys):
    main(arguments(tmp_path))
    shown = capsys.readouterr().out
    assert "Wait, think safely. (given)" in shown and "KL, nats a token" in shown
    found = json.loads((tmp_path / "report.json").read_text())["prefix_search"]
    rows = {row["text"]: row for row in found["candidates"]}
    assert found["stage"] == "confirm" and found["searched"] > 3 == sum(row["given"] for row in rows.values())
    paper, harmful = rows["Wait, think safely."], rows["It is safe"]
    assert paper["gain"] > 1.5 and paper["safe_rate"] == 1.0 and paper["objective"] > harmful["objective"]
    assert all(row["kl"] > 0 for row in rows.values()) and any(row["front"] for row in rows.values())
    assert "prefix_search.svg" in {path.name for path in (tmp_path / "plots").iterdir()}
    search = next(tmp_path.glob("search-*"))
    assert {row["text"] for row in json.loads((search / "prefix_search.json").read_text())["candidates"]} >= set(rows)

    # As if it had been killed after some of the second round's samples: nothing is drawn twice, the same comes out.
    before = (search / "prefix_search.json").read_text()
    for name in ("finished.json", "prefix_search.json", "round-1/measured.json"):
        (search / name).unlink()
    main(arguments(tmp_path))
    assert (search / "prefix_search.json").read_text() == before
    reports.main(["report", str(tmp_path)])


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"search.texts": "()"}, "config.search.texts is empty"),
        ({"search.texts": "('Wait, think safely. Wait',)"}, "has 6 tokens"),
        ({"validation.args.harmful": 0}, "config.validation gives 0 harmful prompts"),
        ({"guard.factory": ""}, "config.guard.factory is empty"),
        ({"guard.factory": "lrm_align.lab:NoGuard"}, "NoGuard"),
        ({"defence.factory": ""}, "config.defence is empty"),
        ({"defence.args.early": 0}, "safe_think with early of 1 or more"),
        ({"search.steps": 4}, "config.search.steps is 4"),
        ({"search.max_tokens": 0}, "config.search.max_tokens is 0"),
        ({"search.place": "end"}, "config.search.place is 'end'"),
        ({"search.held_out": 1.0}, "config.search.held_out is 1.0"),
        ({"search.kl_weight": -1.0}, "config.search.kl_weight is -1.0"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, changes, says):
    with pytest.raises(SystemExit) as end:
        main(arguments(tmp_path, **changes))
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == 2 and error.startswith("error: ") and says in error
    assert not list(tmp_path.glob("watch-*"))


@pytest.mark.slow
def test_a_guard_that_finds_nothing_leaves_nothing_to_search(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments(tmp_path, **{"defence.args.threshold": -1.0}))
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == 2 and "no thought about the 6 harmful prompts was found unsafe" in error


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "llama3"])
def test_the_candidates_for_real_models_have_up_to_five_tokens(shared_data, family):
    config = load(f"{ROOT}/configs/prefix_search_tpu.py")
    prefix_search.check(config.search)
    chat = Chat(qwen(shared_data, family) if family == "qwen3" else llama3(shared_data), TEMPLATE)
    given = candidates.given(chat, config.search.texts, config.search.max_tokens)
    assert len(given) >= 10 and len(candidates.pieces(chat, given)) > 30
    assert all(token[0] in " ,?" for token in candidates.pool(chat, given))
