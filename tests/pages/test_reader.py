"""The trace reader in a real browser: search, filters, colours, curves, answers side by side, keys, 5,000 traces."""

import numpy as np
import pytest
from etils import epath

from lrm_align import report as reports
from lrm_align.pages import page as pages
from lrm_align.pages.book import Book, _packed
from lrm_align.pages.run import Part, Run
from tests.pages import browser, made

COUNT, TOKENS = 5_000, 300
SETTLED = "document.getElementById('reader').dataset.settled"


def text(selector):
    return f"document.querySelector('{selector}').textContent"


def choose(page, name, value):
    """A choice in one of the bar's lists."""
    before = page.run(SETTLED)
    page.run(f"{{ const one = document.getElementById('{name}'); one.value = {value!r}; "
             "one.dispatchEvent(new Event('change')) }")  # fmt: skip
    page.wait(f"{SETTLED} !== '{before}'")


def search(page, words):
    before = page.run(SETTLED)
    page.press("/")
    assert page.run("document.activeElement.id") == "search"
    page.type(words)
    page.wait(f"{SETTLED} !== '{before}'")
    page.press("Enter")
    assert page.run("document.activeElement.id") == "list"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """One browser for all."""
    with browser.opened(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    workdir = made.finished(tmp_path_factory.mktemp("small") / "run")
    return reports.write_page(epath.Path(workdir), [reports.runs_.read(epath.Path(workdir))])


def test_a_person_reads_a_run(page, small):
    page.events.clear()
    page.open(small)
    page.wait(SETTLED)
    page.run("document.getElementById('reader').scrollIntoView()")
    assert page.run(text("#count")) == "13 of 13 traces"
    assert page.run("document.getElementById('filter-method').closest('label').hidden"), "there is one method alone"

    # Two models' answers to one prompt, side by side.
    assert "before · attack" in page.run(text("#left h4")) and "after · attack" in page.run(text("#right h4"))
    assert "First melt it. 0" in page.run(text("#left .tokens")) and "Sorry, no. 0" in page.run(text("#right .tokens"))
    page.press("j")
    assert "First melt it. 1" in page.run(text("#left .tokens")) and "Sorry, no. 1" in page.run(text("#right .tokens"))
    page.press("ArrowUp")
    page.press("G")
    assert "sample" in page.run(text("#left h4"))
    page.press("g")
    page.press("b")
    assert page.run("document.getElementById('right').hidden")
    page.press("b")

    # Filters and orders.
    choose(page, "filter-verdict", "refuse")
    assert page.run(text("#count")) == "4 of 13 traces"
    choose(page, "filter-verdict", "")
    choose(page, "filter-tag", "benign")
    assert page.run(text("#count")) == "1 of 13 traces" and "reward 1" in page.run(text("#left .facts"))
    page.run("document.getElementById('clear').click()")
    page.wait(f"{text('#count')} === '13 of 13 traces'")
    choose(page, "order", "shortest")
    assert page.run("Number(document.querySelector('.row .what').textContent.match(/(\\d+) words/)[1])") == 4
    choose(page, "order", "as they lie")

    # Sources, log-probs, and the guard's score along the trace.
    choose(page, "filter-holds", "injected")
    assert page.run(text("#count")) == "4 of 13 traces"
    injected = "[...document.querySelectorAll('#left .s2')].map(one => one.textContent).join('')"
    assert page.run(injected) == " Wait." and page.run("document.querySelectorAll('#left .s2[class*=q]').length") == 0
    assert "intervention scores" in page.run(text("#left h5")) and "-0.50, 0.75" in page.run(text("#left h5"))
    assert page.run("document.querySelectorAll('#left .curve circle').length") == 3
    page.run("document.querySelector('#left circle.low').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert page.run(text("#left i.mark")) == " ", "two tokens of the completion had been written"
    colour = "getComputedStyle(document.querySelector('#left .tokens .q7')).backgroundColor"
    plain = page.run(colour)
    page.press("c")
    assert page.run("document.getElementById('colour').value") == "logp" and page.run(colour) != plain
    page.run("document.querySelector('#left .tokens .q7').dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))")
    assert "sampled" in page.run(text("#status")) and "log-prob -7.00, p 0.001" in page.run(text("#status"))

    # A search looks at everything, and marks what it found across tokens.
    page.run("document.getElementById('clear').click()")
    page.wait(f"{text('#count')} === '13 of 13 traces'")
    search(page, "sorry 2")
    assert page.run(text("#count")) == "1 of 13 traces" and "Sorry, no. 2" in page.run(text("#left .tokens"))
    assert page.run("CSS.highlights.get('found').size") >= 2
    page.press("Escape")
    page.wait(f"{text('#count')} === '13 of 13 traces'")
    search(page, "nowhere to be found")
    assert page.run(text("#left")) == "No trace fits the filters."
    page.press("?")
    assert not page.run("document.getElementById('help').hidden")
    assert not page.seen("Runtime.exceptionThrown", "Audits.issueAdded", "Log.entryAdded")


def many():
    """5,000 traces of 300 tokens, of ten sets."""
    rng = np.random.default_rng(0)
    words = [f" word{i}" for i in range(20_000)]
    entries = []
    said = TOKENS - 40
    for i in range(COUNT):
        entries.append(
            {
                "h": i % 10, "i": f"p{i // 2}", "n": 0, "p": f"prompt {i}", "t": ["harmful"], "e": "stop", "k": said,
                "u": _packed(rng.integers(0, len(words), TOKENS).astype(np.uint16)),
                "x": [[0, 40], [1, said]],
                "l": _packed(rng.integers(0, 255, TOKENS).astype(np.uint8)),
                "c": [], "v": "keep", "s": {"guard": i / COUNT},
            }
        )  # fmt: skip
    shelves = [{"method": f"m{i}", "stage": "after", "set": "attack"} for i in range(10)]
    sources = ["prompt", "sampled", "injected", "tool"]
    data = {"sources": sources, "shelves": shelves, "wide": False, "vocabulary": words, "traces": entries}
    return Book(data, COUNT, COUNT)


def test_five_thousand_traces_do_not_stutter(page, tmp_path):
    run = Run("run", epath.Path("."), made.report(), {}, [Part("", {})])
    (tmp_path / "report.html").write_text(pages.render([run], "", many()))
    page.events.clear()
    page.open(tmp_path / "report.html")
    page.wait(SETTLED)
    page.run("document.getElementById('reader').scrollIntoView()")
    assert page.run(text("#count")) == "5000 of 5000 traces"
    page.run("""window.timed = (count, act) => { const took = []; for (let i = 0; i < count; i++) {
        const from = performance.now(); act(i); document.body.offsetHeight; took.push(performance.now() - from) }
        return took.sort((a, b) => a - b)[count >> 1] }""")
    key = "dispatchEvent(new KeyboardEvent('keydown', {key: 'j', bubbles: true}))"
    moved = page.run(f"timed(60, () => document.getElementById('list').{key})")
    list_ = "document.getElementById('list')"
    jumped = page.run(f"timed(60, i => {{ {list_}.scrollTop = i * 4000; {list_}.dispatchEvent(new Event('scroll')) }})")
    assert moved < 50 and jumped < 50, (moved, jumped)
    page.wait("document.querySelectorAll('.row').length > 0")
    assert page.run("document.querySelectorAll('.row').length") < 60, "rows out of sight are not in the document"
    page.run("""window.longest = 0; new PerformanceObserver(found => { for (const one of found.getEntries())
        window.longest = Math.max(window.longest, one.duration) }).observe({entryTypes: ['longtask']})""")
    page.run("setTimeout(() => { const until = performance.now() + 120; while (performance.now() < until); })")
    page.wait("window.longest > 100")  # a long task would be seen
    longest = []
    for words in ("word77 word12", "word123 word9", "word5"):
        page.run("window.longest = 0")
        search(page, words)
        count = page.run(text("#count"))
        assert int(count.split()[0]) > 0, (words, count)
        longest.append(page.run("window.longest"))
        page.press("Escape")
        page.wait(f"{text('#count')} === '5000 of 5000 traces'")
    # What the machine does for others at the time is no property of the page: the best of three.
    assert min(longest) < 200, longest
    page.press("End")
    assert page.run(f"{list_}.scrollTop > 0 || {list_}.scrollHeight <= {list_}.clientHeight")
    assert not page.seen("Runtime.exceptionThrown")
