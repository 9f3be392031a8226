// One trace in full: facts, curves, and its tokens, each a span that knows what it is.
const AT_ONCE = 1500; // spans made before the page is shown; the rest follow in idle time
const SVG = "http:" + "//www.w3.org/2000/svg";
const SHADES = [0.1, 0.4, 0.9, 1.6, 2.5, 4, 6]; // nats, of the eight colours

function shade(byte) {
  const nats = byte / FINEST;
  let at = 0;
  while (at < SHADES.length && nats > SHADES[at]) at++;
  return at;
}

function svg(name, values) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
  return made;
}

// A score along a trace: dots in the order of the tokens, red below zero, grey where the judge could not say.
function curve(name, points, count) {
  const box = element("div");
  const known = points.map(([, value]) => value).filter((value) => value !== null);
  const low = Math.min(-1, ...known), high = Math.max(1, ...known);
  const x = (unit) => 6 + (588 * unit) / Math.max(count, 1);
  const y = (value) => 66 - (60 * (value - low)) / (high - low);
  const drawn = svg("svg", { class: "curve", viewBox: "0 0 600 72", preserveAspectRatio: "none", role: "img" });
  drawn.setAttribute("aria-label", `${name}: ${known.join(", ")}`);
  drawn.append(svg("line", { class: "zero", x1: 0, x2: 600, y1: y(0), y2: y(0) }));
  const line = points.filter(([, value]) => value !== null).map(([unit, value]) => `${x(unit)},${y(value)}`);
  drawn.append(svg("polyline", { class: "path", points: line.join(" ") }));
  for (const [unit, value] of points) {
    const kind = value === null ? "none" : value < 0 ? "low" : "high";
    drawn.append(svg("circle", { class: kind, cx: x(unit), cy: y(value ?? 0), r: 4, "data-unit": unit }));
  }
  box.append(element("h5", "", `${name} along the trace: ${known.map((one) => one.toFixed(2)).join(", ")}`), drawn);
  return box;
}

class Pane {
  constructor(box) {
    this.box = box;
    this.turn = 0;
  }

  show(trace, heading) {
    const turn = ++this.turn;
    this.trace = trace;
    this.box.replaceChildren();
    if (!trace) {
      this.box.append(element("p", "soft", "No trace fits the filters."));
      return;
    }
    const head = this.box.appendChild(element("h4", "", title(trace)));
    head.prepend(chip(trace));
    this.box.append(element("p", "facts", this.facts(trace, heading)));
    for (const [name, points] of trace.c) this.box.append(curve(name, points, units(trace).length));
    if (trace.p) this.box.append(element("h5", "", "asked"), element("div", "say", trace.p));
    this.box.append(element("h5", "", "trace"));
    this.tokens = this.box.appendChild(element("div", "tokens"));
    this.tokens.dir = "auto";
    this.fill(turn, trace);
  }

  facts(trace, heading) {
    const mean = meanLogp(trace);
    const scores = Object.entries(trace.s).map(([name, value]) => `${name} ${value}`);
    return [
      heading, trace.i, `sample ${trace.n}`, size(trace), `ended by ${trace.e}`,
      trace.t.filter(Boolean).join(", "), mean === null ? "" : `mean log-prob ${mean.toFixed(2)}`, ...scores,
    ].filter(Boolean).join(" · ");
  }

  fill(turn, trace) {
    const numbers = units(trace), known = logps(trace);
    const sources = new Uint8Array(numbers.length);
    let at = 0;
    for (const [source, count] of trace.x) { sources.fill(source, at, at + count); at += count; }
    const add = (from) => {
      if (turn !== this.turn) return; // another trace was chosen meanwhile
      const part = document.createDocumentFragment();
      const until = Math.min(from + AT_ONCE, numbers.length);
      for (let i = from; i < until; i++) {
        const span = document.createElement("i");
        const shown = known && known[i] !== NO_LOGP ? ` q${shade(known[i])}` : "";
        span.className = `s${sources[i]}${shown}`;
        span.textContent = book.vocabulary[numbers[i]];
        span.unit = i;
        span.logp = shown ? -known[i] / FINEST : null;
        part.append(span);
      }
      this.tokens.append(part);
      if (until < numbers.length) setTimeout(add, 0, until);
      else this.onFilled?.();
    };
    add(0);
  }
}
