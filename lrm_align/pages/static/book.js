// The data of the page. Nothing in it is ever parsed as HTML: text reaches the document through text nodes alone.
const book = JSON.parse(document.getElementById("book").textContent);
const NO_LOGP = 255;
const FINEST = 16;

function bytes(packed) {
  const raw = atob(packed);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

// Numbers of the units of a trace.
function units(trace) {
  const packed = bytes(trace.u);
  return book.wide ? new Uint32Array(packed.buffer) : new Uint16Array(packed.buffer);
}

// -logp of each unit in sixteenths of a nat; null where nobody recorded them.
function logps(trace) {
  return trace.l ? bytes(trace.l) : null;
}

function textOf(trace) {
  const numbers = units(trace);
  const parts = new Array(numbers.length);
  for (let i = 0; i < numbers.length; i++) parts[i] = book.vocabulary[numbers[i]];
  return parts.join("");
}

// Everything of a trace that a search looks at, in lower case; made once, when first needed.
function haystack(trace) {
  trace.hay ??= `${trace.i}\n${trace.p}\n${textOf(trace)}`.toLowerCase();
  return trace.hay;
}

const shelfOf = (trace) => book.shelves[trace.h];

function title(trace) {
  const shelf = shelfOf(trace);
  return [shelf.method, shelf.stage.replaceAll("_", " "), shelf.set].filter(Boolean).join(" · ");
}

const size = (trace) => `${trace.k} ${trace.w ? "words" : "tokens"}`;

function holds(trace, source) {
  return trace.x.some(([one, count]) => count > 0 && book.sources[one] === source);
}

// Mean log-probability of the units that the model drew; null where unknown.
function meanLogp(trace) {
  if (trace.mean === undefined) {
    const found = logps(trace);
    let sum = 0, count = 0;
    for (const one of found ?? []) if (one !== NO_LOGP) { sum -= one / FINEST; count++; }
    trace.mean = count ? sum / count : null;
  }
  return trace.mean;
}

// Other answers to the same prompt.
const answers = new Map();
for (const trace of book.traces) {
  const key = `${trace.i}`;
  if (!answers.has(key)) answers.set(key, []);
  answers.get(key).push(trace);
}
const others = (trace) => answers.get(`${trace.i}`).filter((one) => one !== trace);
