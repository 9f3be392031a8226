"""Nothing that a model, a prompt or a file's name says can run in the page, load anything, or restyle it."""

import json

import numpy as np
import pytest
from etils import epath

from lrm_align import report as reports
from lrm_align.pages import run as runs
from lrm_align.pages import safe
from lrm_align.traces import write_shard
from tests.pages import attacks, browser, made

# All elements that the page is made of.
KNOWN = (
    "html head meta title style body header h1 p nav a main h2 h3 h4 h5 small div span table thead tbody tr th td b "
)
KNOWN += "figure figcaption img details summary pre kbd section input label select option button article script i svg "
KNOWN += "line polyline circle"
INJECTED = "</div><script>window.pwned=1</script>"
# Goes through all traces as a person does. Of each: what is on show, where the parts of the page are, and how many of
# them something lies over: a click on a part must hit what is in it.
WALK = """(async () => {
    const parts = ['.bar', '#list', '#left', '#status'], out = [];
    const count = parseInt(document.getElementById('count').textContent);
    for (let i = 0; i < count; i++) {
        await new Promise(done => setTimeout(done, 0));
        const boxes = parts.map(name => document.querySelector(name));
        const places = boxes.map(box => box.getBoundingClientRect());
        const style = boxes.map(box => getComputedStyle(box).color + getComputedStyle(box).display);
        const hit = places.map(({x, y}) => document.elementFromPoint(x + 6, y + 6));
        out.push([
            document.querySelector('#left .facts').textContent, document.querySelector('#left .tokens').textContent,
            JSON.stringify([places, style]), boxes.filter((box, at) => !box.contains(hit[at])).length]);
        document.getElementById('list').dispatchEvent(new KeyboardEvent('keydown', {key: 'j', bubbles: true}));
    }
    return out;
})()"""


def attack(token, text, **fields):
    """A trace in which a text is one token, then many, and in which markup was injected."""
    found = made.trace(text, text if isinstance(text, str) else "bytes", injected=INJECTED, **fields)
    logps = np.concatenate([[-1.0], found.sampler_logp])
    ids, source = [token, *found.completion_ids.tolist()], [1, *found.source.tolist()]
    return found.replace(completion_ids=ids, source=source, sampler_logp=logps, model_logp=None)


def hostile_run(workdir, texts):
    """A run in which every string is an attack."""
    nasty = "<img src=x onerror=window.pwned=1>\"'&\u202e"
    counts = dict.fromkeys(attacks.UNICODE[:6], 3)
    report = made.report(
        title=nasty,
        config=attacks.SCRIPTS[1],
        model=attacks.ATTRIBUTES[0],
        traces={"kept": counts, "dropped": {f"{text}!": 1 for text in attacks.ALL[:9]}},
        examples=[{"title": text, "before": text, text: text} for text in attacks.ALL],
    )
    report["after"][f"{attacks.SCRIPTS[0]}_rate"] = 0.5
    report["after"]["counts"][f"{attacks.SCRIPTS[0]}_rate"] = 100
    made.finished(workdir, report)
    name = "<img src=x onerror=window.pwned=1>"  # of a directory
    tokenizer = made.tokenizer([text for text in texts if isinstance(text, str)])
    tokenizer.save(str(workdir / f"export-{made.FINGERPRINT}" / "model" / "tokenizer.json"))
    traces = [
        attack(
            tokenizer.token_to_id(text) if isinstance(text, str) else 0,
            text,
            prompt_id=f"{i} {text!r:.400}",
            tags=(str(text)[:500], "x"),
            scores={str(text)[:500]: {"value": 0.5}},
            meta={"prompt": str(text), "x": {str(text)[:200]: [[0, 0.5], [2, -0.5]]}},
        )
        for i, text in enumerate(texts)
    ]
    place = made.stage(workdir, name)
    write_shard(place / f"{name}'\"", "traces-00000", traces, "x")
    rows = [{"id": trace.prompt_id, "verdict": str(text)} for trace, text in zip(traces, texts)]
    (place / f"{name}'\".verdicts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = ("prompt_id", "label", "prompt", "text", "stop_reason")
    texts = [*attacks.ALL, "\ud800 half"]
    scored = {text: {"step": 0, "reward": 1.0, "scores": {text: {"value": 1.0}}} for text in texts}
    rollouts = [{**row, **dict.fromkeys(fields, text)} for text, row in scored.items()]
    place = made.stage(workdir, "reinforce", {})
    (place / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rollouts))
    metrics = [{"step": i, **{f"kl/{text}": i for text in attacks.ALL[:3]}} for i in range(3)]
    (made.stage(workdir, "train", {}) / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return traces


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """One browser for all."""
    with browser.opened(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    texts = [*attacks.ALL, *attacks.BYTES]
    workdir = tmp_path_factory.mktemp("hostile") / "a <b onclick=window.pwned=1>"
    traces = hostile_run(workdir, texts)
    other = made.finished(tmp_path_factory.mktemp("other") / "run")
    both = [epath.Path(workdir), epath.Path(other)]
    found = [runs.read(directory, name) for directory, name in zip(both, runs.names(both))]
    return reports.write_page(epath.Path(workdir.parent / "out"), found), traces, texts


def test_the_text_of_the_page_names_no_host_and_closes_no_element(page_file):
    page = page_file[0].read_text()
    assert page.count("<script") == 2 and page.count("</script") == 2 and page.count("<style") == 1
    outside = page[: page.index('<script type="application/json"')]
    assert "http" not in outside.replace("http-equiv", "").replace("http://attacker.test", "")
    assert "<img src=x" not in outside and "\u202e" not in page and "\u2028" not in page


def test_nothing_runs_and_nothing_is_restyled(page, page_file, tmp_path):
    path, traces, texts = page_file
    page.events.clear()
    page.open(path)
    page.wait("document.getElementById('reader').dataset.settled")
    page.run("document.getElementById('reader').scrollIntoView()")
    odd = set(page.run("[...new Set([...document.all].map(one => one.localName))]")) - set(KNOWN.split())
    assert not odd, odd
    page.press("b")  # one pane: two have other widths
    keys = page.run("JSON.stringify(Object.keys(window))")
    seen = page.run(WALK)
    assert len(seen) > 2 * len(traces) and {covered for *_, covered in seen} == {0}
    assert len({frame for _, _, frame, _ in seen}) == 1, "nothing moved or changed its colour"
    said = {facts.split(" · ")[0]: tokens for facts, tokens, _, _ in seen}
    for trace, text in zip(traces, texts):
        if isinstance(text, str) and text not in attacks.UNICODE:
            found = said[safe.shown(trace.prompt_id).split(" · ")[0]]
            assert found == safe.shown(text * 3 + INJECTED), "shown as it was written"
    for key in "bcg":  # two panes, the other colours, from the top
        page.press(key)
    page.run(WALK)
    assert page.run("typeof window.pwned") == "undefined"
    assert page.run("JSON.stringify(Object.keys(window))") == keys, "no element became a global"
    events = "[...document.all].flatMap(one => one.getAttributeNames()).filter(name => name.startsWith('on'))"
    assert page.run(events) == []
    assert page.run("[...document.querySelectorAll('a')].every(one => one.getAttribute('href')[0] === '#')")
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.run("({}).polluted === undefined && Object.keys(Object.prototype).length === 0")
    loaded = [event["request"]["url"][:60] for event in page.seen("Network.requestWillBeSent")]
    assert all(url.startswith(("file:", "data:image/svg+xml;base64,", "about:")) for url in loaded), loaded
    assert sum(url.startswith("file:") for url in loaded) == 1
    assert not page.seen("Page.javascriptDialogOpening", "Runtime.exceptionThrown", "Page.windowOpen")
    assert not page.seen("Audits.issueAdded", "Log.entryAdded"), "nothing even tried"
    page.run("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert page.run("document.querySelectorAll('details pre').length") == 2 * len(attacks.ALL)
    page.screenshot(tmp_path / "hostile.png")


def test_the_policy_would_stop_what_slipped_through(page, page_file):
    page.events.clear()
    page.open(page_file[0])
    page.run("try { document.body.innerHTML = '<p>' } catch (error) { window.caught = error.name }")
    assert page.run("window.caught") == "TypeError"
    page.run("""{ const one = document.createElement('p'); one.setAttribute('style', 'color: rgb(1, 2, 3)');
        document.body.append(one); window.styled = getComputedStyle(one).color }""")
    assert page.run("window.styled") != "rgb(1, 2, 3)"
    page.run("""{ const one = document.createElement('img'); one.src = 'http://attacker.test/pixel';
        document.body.append(one) }""")
    page.run("fetch('http://attacker.test/').catch(error => { window.refused = true })")
    page.wait("window.refused")
    assert page.seen("Audits.issueAdded", "Log.entryAdded")
