// A list of which only the rows in sight are in the document.
const ROW = 52;
const SPARE = 6;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const GOOD = new Set(["keep", "safe", "correct", "answered"]);
const BAD = new Set(["unsafe", "wrong", "unfinished", "wrong_topic", "unscored", "thinking not closed"]);

// What is good of a harmful prompt is bad of a harmless one.
function kindOf(trace) {
  const harmless = trace.t.includes("benign");
  if (trace.v === "comply") return harmless ? " good" : " bad";
  if (trace.v === "refuse") return harmless ? " bad" : " good";
  return GOOD.has(trace.v) ? " good" : BAD.has(trace.v) ? " bad" : "";
}

const chip = (trace) => element("span", `chip${kindOf(trace)}`, trace.v);

class List {
  constructor(box, onSelect) {
    this.box = box;
    this.all = box.appendChild(element("div", "all"));
    this.rows = new Map();
    this.traces = [];
    this.at = -1;
    this.onSelect = onSelect;
    this.waiting = false;
    box.addEventListener("scroll", () => this.later(), { passive: true });
    new ResizeObserver(() => this.later()).observe(box);
    this.all.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) this.select(Number(row.dataset.at));
    });
  }

  show(traces, keep) {
    this.traces = traces;
    this.all.style.height = `${traces.length * ROW}px`;
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    const at = keep ? traces.indexOf(keep) : -1;
    this.at = -1;
    this.draw();
    if (traces.length) this.select(Math.max(at, 0));
    else this.onSelect(null);
  }

  select(at) {
    if (!this.traces.length) return;
    const next = Math.min(Math.max(at, 0), this.traces.length - 1);
    const top = next * ROW;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    const low = top + ROW - this.box.clientHeight;
    if (low > this.box.scrollTop) this.box.scrollTop = low;
    if (next === this.at) return;
    this.at = next;
    this.draw();
    this.onSelect(this.traces[next]);
  }

  get page() {
    return Math.max(1, Math.floor(this.box.clientHeight / ROW) - 1);
  }

  later() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - SPARE);
    const last = Math.min(this.traces.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW) + SPARE);
    for (const [at, row] of this.rows) if (at < first || at >= last) { row.remove(); this.rows.delete(at); }
    for (let at = first; at < last; at++) {
      let row = this.rows.get(at);
      if (!row) {
        row = this.all.appendChild(this.row(this.traces[at], at));
        this.rows.set(at, row);
      }
      row.setAttribute("aria-selected", String(at === this.at));
      if (at === this.at) this.box.setAttribute("aria-activedescendant", row.id);
    }
  }

  row(trace, at) {
    const row = element("div", "row");
    row.id = `row${at}`;
    row.dataset.at = at;
    row.setAttribute("role", "option");
    row.style.top = `${at * ROW}px`;
    const what = row.appendChild(element("div", "what"));
    what.append(chip(trace), `${title(trace)} · ${size(trace)}`);
    row.appendChild(element("div", "said", trace.p || trace.i));
    return row;
  }
}
