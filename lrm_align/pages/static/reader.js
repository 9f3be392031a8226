// The reader: filters, search, colours, two answers side by side, and the keyboard.
const at = (name) => document.getElementById(name);
const reader = at("reader");
const ALL = "";

const filters = {
  method: (trace) => [shelfOf(trace).method],
  stage: (trace) => [shelfOf(trace).stage],
  set: (trace) => [shelfOf(trace).set],
  tag: (trace) => trace.t,
  verdict: (trace) => [trace.v],
  ended: (trace) => [trace.e],
  holds: (trace) => book.sources.slice(2).filter((source) => holds(trace, source)),
};
const orders = {
  "as they lie": null,
  longest: (trace) => -trace.k,
  shortest: (trace) => trace.k,
  "least likely": (trace) => meanLogp(trace) ?? 0,
};
for (const name of new Set(book.traces.flatMap((trace) => Object.keys(trace.s)))) {
  orders[`highest ${name}`] = (trace) => -(trace.s[name] ?? -Infinity);
  orders[`lowest ${name}`] = (trace) => trace.s[name] ?? Infinity;
}

function choose(select, names) {
  select.replaceChildren(...names.map(([value, text]) => {
    const option = element("option", "", text);
    option.value = value;
    return option;
  }));
}

for (const [name, values] of Object.entries(filters)) {
  const counts = new Map();
  for (const trace of book.traces) for (const value of new Set(values(trace))) {
    if (value) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  const options = [...counts].sort(([a], [b]) => a.localeCompare(b));
  choose(at(`filter-${name}`), [[ALL, "all"], ...options.map(([value, n]) => [value, `${value} (${n})`])]);
  at(`filter-${name}`).closest("label").hidden = counts.size < 2 && name !== "holds" || counts.size === 0;
}
choose(at("order"), Object.keys(orders).map((name) => [name, name]));

const left = new Pane(at("left")), right = new Pane(at("right"));
let beside = true;
let wanted = null; // the shelf that the reader chose to see beside

// Before anything changes: scrolling makes the browser lay out what has.
function rewind() {
  left.box.scrollTop = 0;
  right.box.scrollTop = 0;
}

const list = new List(at("list"), (trace) => {
  rewind();
  left.show(trace, "");
  compare(trace);
});
left.onFilled = right.onFilled = () => mark();

function compare(trace) {
  const found = beside && trace ? others(trace) : [];
  const best = found.find((one) => one.h === wanted)
    ?? found.find((one) => shelfOf(one).set === shelfOf(trace).set && one.h !== trace.h) ?? found[0];
  at("right").hidden = !best;
  choose(at("beside"), found.map((one, i) => [String(i), `${title(one)} · ${one.n} · ${one.v}`]));
  at("beside").closest("label").hidden = !best;
  if (best) {
    at("beside").value = String(found.indexOf(best));
    right.show(best, "");
  } else right.turn++;
}

function another(step) {
  const select = at("beside"), count = select.options.length;
  if (!count) return;
  select.selectedIndex = (select.selectedIndex + step + count) % count;
  pick();
}

function pick() {
  const chosen = others(left.trace)[Number(at("beside").value)];
  wanted = chosen.h;
  rewind();
  right.show(chosen, "");
}

// A search looks at slices of a few milliseconds, so that typing never waits for it.
let search = 0;
function refresh() {
  const turn = ++search, keep = left.trace;
  const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = Object.entries(filters).map(([name, values]) => [at(`filter-${name}`).value, values]);
  const active = chosen.filter(([value]) => value !== ALL);
  const found = [];
  const slice = (from) => {
    if (turn !== search) return;
    const until = performance.now() + 8;
    let i = from;
    for (; i < book.traces.length; i++) {
      if ((i & 31) === 0 && performance.now() > until) break;
      const trace = book.traces[i];
      if (active.every(([value, values]) => values(trace).includes(value))
        && words.every((word) => haystack(trace).includes(word))) found.push(trace);
    }
    if (i < book.traces.length) {
      at("count").textContent = `searching, ${Math.round((100 * i) / book.traces.length)} %`;
      setTimeout(slice, 0, i);
      return;
    }
    const order = orders[at("order").value];
    if (order) found.sort((a, b) => order(a) - order(b));
    at("count").textContent = `${found.length} of ${book.traces.length} traces`;
    list.show(found, keep);
    reader.dataset.settled = String(turn);
  };
  slice(0);
}

// The words of the search in the text on show, also across tokens; browsers without highlights show none.
function mark() {
  if (!globalThis.CSS?.highlights) return;
  const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const ranges = [];
  for (const pane of [left, right]) {
    if (!pane.tokens?.isConnected || !words.length) continue;
    const spans = [...pane.tokens.children];
    const starts = [];
    let text = "";
    for (const span of spans) { starts.push(text.length); text += span.textContent; }
    const low = text.toLowerCase();
    if (low.length !== text.length) continue; // a few letters change their length in lower case
    const place = (offset) => {
      let a = 0, b = starts.length - 1;
      while (a < b) { const m = (a + b + 1) >> 1; if (starts[m] <= offset) a = m; else b = m - 1; }
      return [spans[a].firstChild, offset - starts[a]];
    };
    for (const word of words) {
      for (let i = low.indexOf(word); i >= 0 && ranges.length < 2000; i = low.indexOf(word, i + word.length)) {
        const range = new Range();
        const [from, begin] = place(i), [to, end] = place(i + word.length - 1);
        if (!from || !to) continue;
        range.setStart(from, begin);
        range.setEnd(to, end + 1);
        ranges.push(range);
      }
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

function colour(name) {
  for (const pane of [at("left"), at("right")]) {
    pane.classList.toggle("by-source", name === "source");
    pane.classList.toggle("by-logp", name === "logp");
  }
  at("colour").value = name;
  at("key-source").hidden = name !== "source";
  at("key-logp").hidden = name !== "logp";
}

function point(event) {
  const span = event.target;
  if (span.unit === undefined) return;
  const source = book.sources[Number(span.className[1])];
  const logp = span.logp === null ? "no log-prob" : `log-prob ${span.logp.toFixed(2)}, p ${Math.exp(span.logp).toFixed(3)}`;
  at("status").textContent = `token ${span.unit} · ${source} · ${logp} · ${JSON.stringify(span.textContent)}`;
}

// A dot of a curve shows its place in the text.
function jump(event) {
  const unit = event.target.dataset?.unit;
  if (unit === undefined) return;
  const span = event.currentTarget.querySelector(".tokens").children[Math.max(0, Number(unit) - 1)];
  for (const old of reader.querySelectorAll("i.mark")) old.classList.remove("mark");
  span?.classList.add("mark");
  span?.scrollIntoView({ block: "center" });
}

const keys = {
  j: () => list.select(list.at + 1), ArrowDown: () => list.select(list.at + 1),
  k: () => list.select(list.at - 1), ArrowUp: () => list.select(list.at - 1),
  PageDown: () => list.select(list.at + list.page), PageUp: () => list.select(list.at - list.page),
  g: () => list.select(0), Home: () => list.select(0),
  G: () => list.select(Infinity), End: () => list.select(Infinity),
  n: () => another(1), p: () => another(-1),
  b: () => { beside = !beside; compare(left.trace); },
  c: () => colour({ source: "logp", logp: "none", none: "source" }[at("colour").value]),
  " ": () => { at("left").scrollTop += 240; at("right").scrollTop += 240; },
  "/": () => at("search").focus(),
  "?": () => { at("help").hidden = !at("help").hidden; },
  Escape: () => { at("help").hidden = true; if (at("search").value) { at("search").value = ""; refresh(); mark(); } },
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inside = event.target.closest?.("input, select");
  if (inside) {
    if (event.key === "Escape" || (event.key === "Enter" && inside.id === "search")) { inside.blur(); at("list").focus(); }
    return;
  }
  // Away from the reader the page scrolls as pages do; letters work everywhere.
  const near = reader.getBoundingClientRect().top < innerHeight / 2;
  if (!(event.key in keys) || (!near && event.key.length > 1)) return;
  if (event.key === " " && !near) return;
  event.preventDefault();
  if (!near && event.key !== "?") reader.scrollIntoView();
  keys[event.key]();
});

let typing = 0;
at("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => { refresh(); mark(); }, 120); });
for (const name of Object.keys(filters)) at(`filter-${name}`).addEventListener("change", refresh);
at("order").addEventListener("change", refresh);
at("colour").addEventListener("change", (event) => colour(event.target.value));
at("beside").addEventListener("change", pick);
at("clear").addEventListener("click", () => {
  for (const name of Object.keys(filters)) at(`filter-${name}`).value = ALL;
  at("search").value = "";
  refresh();
});
for (const pane of [at("left"), at("right")]) {
  pane.addEventListener("mouseover", point);
  pane.addEventListener("click", jump);
}
reader.hidden = book.traces.length === 0;
colour("source");
if (book.traces.length) refresh();
