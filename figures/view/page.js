"use strict";
// Data in, maps out. Nothing is loaded: all arrays are in the element `data`, compressed, and are opened image by
// image. `draw` paints everything from `state`; whatever changes `state` asks for it by `refresh`.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

const state = {
  image: 0, layer: 0, head: "mean", patch: 0, held: false, direction: "from", contrast: "root", over: "attention",
  opacity: 0.6, purify: "norm", onlyClass: null, detectors: [],
};
let shown = null; // the image that is open, with its arrays
let waiting = false;

// ---------------------------------------------------------------------------------------------------- opening arrays

const KINDS = { u1: Uint8Array, u2: Uint16Array, f4: Float32Array };

async function bytesOf(text) {
  const raw = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

async function arrayOf(packed) {
  return { shape: packed.shape, values: new KINDS[packed.type](await bytesOf(packed.data)) };
}

// Rows of one byte a value between the row's smallest and largest value; with the law `square` levels lie as squares.
async function rowsOf(packed) {
  if (!packed) return null;
  const content = await bytesOf(packed.data);
  const length = packed.shape.at(-1);
  const count = packed.shape.slice(0, -1).reduce((product, side) => product * side, 1);
  const low = new Float32Array(content, 0, count);
  const high = new Float32Array(content, 4 * count, count);
  const codes = new Uint8Array(content, 8 * count);
  const square = packed.law === "square";
  const at = (row, column) => {
    const share = codes[row * length + column] / 255;
    return low[row] + (high[row] - low[row]) * (square ? share * share : share);
  };
  return { at, length, count };
}

async function open(number) {
  const packed = data.images[number];
  const image = new Image();
  image.src = packed.jpeg;
  const all = (list) => Promise.all(list.map(rowsOf));
  const names = Object.keys(packed.labels);
  const [norms, purifiedNorms, features, purifiedFeatures, mean, heads, similarity, purified, detectors, labels] =
    await Promise.all([
      arrayOf(packed.norms), arrayOf(packed.purified_norms), arrayOf(packed.features), arrayOf(packed.purified_features),
      all(packed.mean_attention), all(packed.attention), all(packed.similarity), all(packed.purified_similarity),
      Promise.all(packed.detectors.map(async (one) => ({
        ...one, scores: (await arrayOf(one.scores)).values, marked: (await arrayOf(one.marked)).values,
      }))),
      Promise.all(names.map((name) => arrayOf(packed.labels[name]))),
      image.decode(),
    ]);
  const [rows, cols] = packed.grid;
  return {
    ...packed, image, rows, cols, count: rows * cols, tokens: packed.prefix + rows * cols, norms: norms.values,
    purifiedNorms: purifiedNorms.values, features: features.values, purifiedFeatures: purifiedFeatures.values, mean, heads,
    similarity, purified, detectors, labels: names.map((name, place) => ({ name, ...labels[place] })),
  };
}

// ------------------------------------------------------------------------------------------------ values of one layer

const layerNumber = (place) => shown.layers[place];

function attentionRows(place, head) {
  if (head === "mean") return shown.mean[place] && { rows: shown.mean[place], base: 0 };
  return shown.heads[place] && { rows: shown.heads[place], base: head * shown.tokens };
}

// What a token looks at, or who looks at it: a value for each patch; null where the page does not hold it.
function attentionOf(token, place, head, direction) {
  const found = attentionRows(place, head);
  if (!found) return null;
  const { rows, base } = found;
  return Float32Array.from({ length: shown.count }, (_, patch) => {
    const other = shown.prefix + patch;
    return direction === "from" ? rows.at(base + token, other) : rows.at(base + other, token);
  });
}

const MAPS = {
  attention: (place, head = state.head) =>
    attentionOf(shown.prefix + state.patch, place, head, state.direction),
  class: (place, head = state.head) =>
    shown.class_index === null ? null : attentionOf(shown.class_index, place, head, "from"),
  similarity: (place) => {
    const rows = shown.similarity[place];
    return rows && Float32Array.from({ length: shown.count }, (_, patch) => rows.at(state.patch, patch));
  },
  norm: (place) => {
    const start = layerNumber(place) * shown.tokens + shown.prefix;
    return shown.norms.slice(start, start + shown.count);
  },
};

function purifiedMap(kind, place) {
  if (kind === "norm") return shown.purifiedNorms.slice(place * shown.count, (place + 1) * shown.count);
  const rows = shown.purified[place];
  return rows && Float32Array.from({ length: shown.count }, (_, patch) => rows.at(state.patch, patch));
}

// Which patches a detector marks: by its own rule, or above the threshold that the slider gives.
function marks(number, place) {
  const { scores, marked } = shown.detectors[number];
  const threshold = state.detectors[number].threshold;
  const start = place * shown.count;
  const found = [];
  for (let patch = 0; patch < shown.count; patch += 1) {
    const yes = threshold === null ? marked[start + patch] === 1 : scores[start + patch] > Math.fround(threshold);
    if (yes) found.push(patch);
  }
  return found;
}

function median(values) {
  const sorted = Float32Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (place - low);
}

// ------------------------------------------------------------------------------------------------------------- colors

function scaleOf(lists, kind) {
  let low = Infinity;
  let high = -Infinity;
  let least = Infinity;
  for (const list of lists) {
    for (const value of list) {
      if (value < low) low = value;
      if (value > high) high = value;
      if (value > 0 && value < least) least = value;
    }
  }
  const contrast = { similarity: "even", norm: "log" }[kind] ?? state.contrast;
  // The logarithm goes down four powers of ten at most: what lies below is one color.
  const floor = Math.max(Math.min(least, high), high * 1e-4);
  const bend = {
    even: (value) => value,
    root: (value) => Math.sqrt(Math.max(value - low, 0)),
    log: (value) => Math.log(Math.max(value, floor)),
  }[high > 0 ? contrast : "even"];
  const from = bend(low);
  const spread = bend(high) - from;
  const said = kind === "attention" || kind === "class" ? percent : number;
  return { low: said(low), high: said(high), at: (value) => (spread > 0 ? clamp((bend(value) - from) / spread, 0, 1) : 0) };
}

const mapColor = (share) => {
  const place = 3 * Math.round(share * 255);
  return data.colors.map.slice(place, place + 3);
};
const gradient = `linear-gradient(90deg, ${[0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1]
  .map((share) => `rgb(${mapColor(share).join(" ")})`).join(",")})`;

function number(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (!Number.isFinite(value)) return String(value);
  if (size >= 1e5 || size < 1e-4) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

const percent = (value) => `${number(Number((100 * value).toPrecision(2)))} %`;

// ------------------------------------------------------------------------------------------------------------- painting

const scratch = document.createElement("canvas");

// A canvas as sharp as the screen; returns its drawing context with a pixel of the page as the unit, or null if hidden.
function context(canvas, height = null) {
  const width = canvas.clientWidth;
  const tall = height ?? canvas.clientHeight;
  if (!width || !tall) return null;
  const sharp = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * sharp), Math.round(tall * sharp)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const pen = canvas.getContext("2d");
  pen.setTransform(wide / width, 0, 0, high / tall, 0, 0);
  pen.clearRect(0, 0, width, tall);
  return { pen, width, height: tall };
}

function paintPixels(pen, pixels, columns, rows, box, alpha) {
  [scratch.width, scratch.height] = [columns, rows];
  scratch.getContext("2d").putImageData(new ImageData(pixels, columns, rows), 0, 0);
  pen.save();
  pen.globalAlpha = alpha;
  pen.imageSmoothingEnabled = false;
  pen.drawImage(scratch, ...box);
  pen.restore();
}

function insetBox(width, height) {
  const [top, left, tall, wide] = shown.inset;
  return [left * width, top * height, wide * width, tall * height];
}

function paintValues(pen, values, scale, box, alpha = 1) {
  const pixels = new Uint8ClampedArray(4 * shown.count);
  for (let patch = 0; patch < shown.count; patch += 1) {
    const place = 3 * Math.round(scale.at(values[patch]) * 255);
    for (let channel = 0; channel < 3; channel += 1) pixels[4 * patch + channel] = data.colors.map[place + channel];
    pixels[4 * patch + 3] = 255;
  }
  paintPixels(pen, pixels, shown.cols, shown.rows, box, alpha);
}

function paintFeatures(pen, colors, place, box) {
  const pixels = new Uint8ClampedArray(4 * shown.count);
  for (let patch = 0; patch < shown.count; patch += 1) {
    const start = 3 * (place * shown.count + patch);
    pixels.set([colors[start], colors[start + 1], colors[start + 2], 255], 4 * patch);
  }
  paintPixels(pen, pixels, shown.cols, shown.rows, box, 1);
}

// Tinted pixels of a label map; kept, since they change only with the class that is shown alone.
function labelPixels(labels) {
  if (labels.tinted?.of !== state.onlyClass) {
    const pixels = new Uint8ClampedArray(4 * labels.values.length);
    labels.values.forEach((label, place) => {
      if (label === data.no_label || (state.onlyClass !== null && label !== state.onlyClass)) return;
      const color = shown.class_colors[label];
      for (let channel = 0; channel < 3; channel += 1) pixels[4 * place + channel] = color[channel];
      pixels[4 * place + 3] = 255;
    });
    labels.tinted = { of: state.onlyClass, pixels };
  }
  return labels.tinted.pixels;
}

function paintLabels(pen, labels, box, alpha) {
  paintPixels(pen, labelPixels(labels), labels.shape[1], labels.shape[0], box, alpha);
}

function cellOf(patch, width, height) {
  const [wide, high] = [width / shown.cols, height / shown.rows];
  return [(patch % shown.cols) * wide, Math.floor(patch / shown.cols) * high, wide, high];
}

function paintCursor(pen, width, height) {
  const [left, top, wide, high] = cellOf(state.patch, width, height);
  for (const [color, line] of [["#ffffff", 4.5], ["#000000", 2]]) {
    pen.strokeStyle = color;
    pen.lineWidth = line;
    pen.strokeRect(left, top, wide, high);
  }
}

// The sign of a detector around (0, 0), one unit in radius.
const SIGNS = ["M-1 0A1 1 0 1 0 1 0A1 1 0 1 0-1 0Z", "M-.85-.85H.85V.85H-.85Z", "M0-1L.95.75H-.95Z",
  "M0-1.1L1.1 0L0 1.1L-1.1 0Z", "M-.8-.8L.8.8M.8-.8L-.8.8", "M0-1V1M-1 0H1"];
const signOf = (place) => SIGNS[place % SIGNS.length];
const colorOf = (place) => data.colors.marks[place % data.colors.marks.length];

// Each detector has its own corner of the patch, so that signs never cover each other: pairs of detector and patches.
function paintSigns(pen, found, width, height) {
  const across = Math.ceil(Math.sqrt(found.length));
  const down = Math.ceil(found.length / across);
  found.forEach(([detector, patches], order) => {
    for (const patch of patches) {
      const [left, top, wide, high] = cellOf(patch, width, height);
      const x = left + (wide * ((order % across) + 0.5)) / across;
      const y = top + (high * (Math.floor(order / across) + 0.5)) / down;
      const radius = Math.max(2, 0.3 * Math.min(wide / across, high / down, 26));
      const path = new Path2D();
      path.addPath(new Path2D(signOf(detector)), new DOMMatrix([radius, 0, 0, radius, x, y]));
      const thin = Math.min(2, radius / 2);
      for (const [color, line] of [["#ffffff", 2.2 * thin], [colorOf(detector), 1.1 * thin]]) {
        pen.strokeStyle = color;
        pen.lineWidth = line;
        pen.lineJoin = "round";
        pen.stroke(path);
      }
    }
  });
}

function paintScale(element, scale) {
  if (!scale) {
    element.replaceChildren();
    return;
  }
  const [low, bar, high] = ["span", "i", "span"].map((tag) => document.createElement(tag));
  [low.textContent, high.textContent] = [scale.low, scale.high];
  bar.style.background = gradient;
  element.replaceChildren(low, bar, high);
}

// ------------------------------------------------------------------------------------------------------ small elements

function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(options)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

// A titled map that can be pointed at.
function card(title, kind) {
  const canvas = make("canvas", { className: "map", role: "img", "aria-label": title });
  const absent = make("div", { className: "absent", hidden: true });
  const scale = make("div", { className: "scale" });
  const figure = make("figure", {}, make("figcaption", { textContent: title }), canvas, absent, scale);
  figure.dataset.kind = kind;
  pointable(canvas);
  return { figure, canvas, absent, scale };
}

function paintCard(one, values, scale, reason) {
  one.canvas.hidden = !values;
  one.absent.hidden = Boolean(values);
  one.absent.textContent = values ? "" : reason;
  paintScale(one.scale, values && scale);
  const found = values && context(one.canvas);
  if (!found) return;
  paintValues(found.pen, values, scale, [0, 0, found.width, found.height]);
  paintCursor(found.pen, found.width, found.height);
}

function pointable(canvas) {
  const patchAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const col = Math.floor(((event.clientX - box.left) / box.width) * shown.cols);
    const row = Math.floor(((event.clientY - box.top) / box.height) * shown.rows);
    return clamp(row, 0, shown.rows - 1) * shown.cols + clamp(col, 0, shown.cols - 1);
  };
  canvas.addEventListener("pointermove", (event) => {
    if (state.held || event.pointerType === "touch") return;
    goTo(patchAt(event));
  });
  canvas.addEventListener("click", (event) => {
    const patch = patchAt(event);
    state.held = !(state.held && patch === state.patch);
    goTo(patch);
    refresh();
  });
}

// ------------------------------------------------------------------------------------------------------------- controls

function goTo(patch) {
  if (patch === state.patch) return;
  state.patch = patch;
  refresh();
}

function setLayer(place) {
  state.layer = clamp(place, 0, shown.layers.length - 1);
  refresh();
}

const headsHeld = () => shown.heads.some(Boolean);
const headCount = () => {
  const rows = shown.heads.find(Boolean);
  return rows ? rows.count / shown.tokens : 0;
};

function setHead(head) {
  state.head = head;
  refresh();
}

function refresh() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (shown) draw();
  });
}

const layerCards = {
  attention: card("attention of the patch", "attention"),
  class: card("attention of the class token", "class"),
  similarity: card("similarity to the patch", "similarity"),
  norm: card("norm", "norm"),
};
const purifyCards = { before: card("before", "before"), after: card("after", "after") };
let headButtons = [];
let layerButtons = [];
let labelCards = [];
let detectorRows = [];

function stripButton(text, label, press) {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const button = make("button", { type: "button", "aria-label": label, "aria-pressed": "false" }, canvas, text);
  button.addEventListener("click", press);
  return { button, canvas };
}

const svg = (tag, options, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(options)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

function detectorRow(one, place) {
  const sign = svg("svg", { viewBox: "-1.6 -1.6 3.2 3.2", width: 20, height: 20, "aria-hidden": "true" },
    svg("path", { d: signOf(place), fill: "none", stroke: colorOf(place), "stroke-width": 0.45 }));
  const box = make("input", { type: "checkbox", checked: state.detectors[place].on });
  const name = make("label", { className: "name" }, box, sign, one.spec);
  name.title = one.published;
  const histogram = make("canvas", { "aria-hidden": "true" });
  const slider = make("input", { type: "range", min: 0, max: 1000, "aria-label": `threshold of ${one.spec}` });
  const said = make("span");
  const reset = make("button", { type: "button", textContent: "own rule", "aria-label": `own rule of ${one.spec}` });
  const timeline = make("canvas", { role: "img" });
  const row = make("div", { className: "detector" }, name,
    make("div", { className: "axis" }, histogram, slider, make("div", { className: "said" }, said, " ", reset)),
    make("div", { className: "timeline" }, timeline, "marked, by layer"));
  row.dataset.detector = one.spec;
  box.addEventListener("change", () => {
    state.detectors[place].on = box.checked;
    refresh();
  });
  slider.addEventListener("input", () => {
    state.detectors[place].threshold = axisOf(place).value(Number(slider.value) / 1000);
    refresh();
  });
  reset.addEventListener("click", () => {
    state.detectors[place].threshold = null;
    refresh();
  });
  timeline.addEventListener("click", (event) => {
    const across = (event.clientX - timeline.getBoundingClientRect().left) / timeline.clientWidth;
    setLayer(Math.floor(across * shown.layers.length));
  });
  return { row, box, slider, said, reset, histogram, timeline };
}

// The axis of a detector's slider at this layer: from the least score to the largest, with its thresholds inside, and
// a little room above. Logarithmic where it spans more than 20 times.
function axisOf(place) {
  const { scores, threshold } = shown.detectors[place];
  const own = state.detectors[place].threshold;
  const here = scores.subarray(state.layer * shown.count, (state.layer + 1) * shown.count);
  let [low, high] = [Infinity, -Infinity];
  for (const value of [...here, ...[threshold, own].filter((one) => one !== null)]) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const log = low > 0 && high / low > 20;
  const [from, to] = log ? [Math.log(low), Math.log(high)] : [low, high];
  const room = 0.04 * (to - from || 1);
  const [start, spread] = [from - room, to - from + 2 * room];
  return {
    here,
    share: (value) => clamp(((log ? Math.log(value) : value) - start) / spread, 0, 1),
    value: (across) => (log ? Math.exp(start + across * spread) : start + across * spread),
  };
}

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const THUMB = 8; // half a slider's thumb: where its middle is at either end

function drawDetector(place) {
  const one = detectorRows[place];
  const { threshold, spec } = shown.detectors[place];
  const own = state.detectors[place].threshold;
  const axis = axisOf(place);
  const counts = shown.layers.map((_, layer) => marks(place, layer).length);
  const now = own ?? threshold;
  one.box.checked = state.detectors[place].on;
  if (document.activeElement !== one.slider || own === null) {
    one.slider.value = now === null ? 1000 : Math.round(1000 * axis.share(now));
  }
  const rule = own !== null ? `above ${number(own)}` : threshold !== null ? `above ${number(threshold)}, its own` : "its own rule";
  one.said.textContent = `${counts[state.layer]} of ${shown.count} patches · ${rule}`;
  one.slider.setAttribute("aria-valuetext", one.said.textContent);
  one.reset.hidden = own === null;

  const bars = context(one.histogram);
  if (bars) {
    const { pen, width, height } = bars;
    const inner = width - 2 * THUMB;
    const slots = Math.max(12, Math.floor(inner / 5));
    const heights = { below: new Array(slots).fill(0), above: new Array(slots).fill(0) };
    const marked = new Set(marks(place, state.layer));
    axis.here.forEach((score, patch) => {
      const slot = Math.min(slots - 1, Math.floor(axis.share(score) * slots));
      heights[marked.has(patch) ? "above" : "below"][slot] += 1;
    });
    const most = Math.max(...heights.below.map((count, slot) => count + heights.above[slot]), 1);
    // Square roots: a single outlier stays visible beside hundreds of ordinary patches.
    const tall = (count) => (height - 2) * Math.sqrt(count / most);
    for (let slot = 0; slot < slots; slot += 1) {
      const [below, all] = [heights.below[slot], heights.below[slot] + heights.above[slot]];
      const left = THUMB + (slot * inner) / slots;
      const wide = Math.max(1, inner / slots - 1);
      pen.fillStyle = colorOf(place);
      if (all > below) pen.fillRect(left, height - tall(all), wide, tall(all));
      pen.fillStyle = ink("--gray");
      if (below) pen.fillRect(left, height - tall(below), wide, tall(below));
    }
    if (threshold !== null) {
      const x = THUMB + axis.share(threshold) * inner;
      pen.strokeStyle = ink("--ink");
      pen.setLineDash([3, 3]);
      pen.beginPath();
      pen.moveTo(x, 0);
      pen.lineTo(x, height);
      pen.stroke();
      pen.setLineDash([]);
    }
  }
  const line = context(one.timeline);
  one.timeline.setAttribute("aria-label",
    `${spec} marks, by layer: ${counts.map((count, layer) => `${layerNumber(layer)}: ${count}`).join(", ")}`);
  if (line) {
    const { pen, width, height } = line;
    const most = Math.max(...counts, 1);
    counts.forEach((count, layer) => {
      const left = (layer * width) / counts.length;
      const wide = width / counts.length;
      if (layer === state.layer) {
        pen.fillStyle = ink("--fill");
        pen.fillRect(left, 0, wide, height);
      }
      pen.fillStyle = count ? colorOf(place) : ink("--gray");
      const tall = Math.max(1, (height - 2) * (count / most));
      pen.fillRect(left + 1, height - tall, Math.max(1, wide - 2), tall);
    });
  }
}

// ------------------------------------------------------------------------------------------------------------- drawing

const OVER = { none: "nothing", attention: "attention", class: "class token's attention", similarity: "similarity", norm: "norm" };

function draw() {
  const place = state.layer;
  $("layer").value = place;
  $("layer").setAttribute("aria-valuetext", `layer ${layerNumber(place)}`);
  $("layer-said").textContent = `${layerNumber(place)} of ${shown.layers.at(-1)}`;
  $("head").value = state.head;
  $("over").value = state.over;
  drawStage();
  drawLayer();
  drawStrips();
  drawNorms();
  shown.detectors.forEach((_, detector) => drawDetector(detector));
  drawMending();
  drawLabels();
  drawReadout();
}

function drawStage() {
  const found = context($("map"));
  if (!found) return;
  const { pen, width, height } = found;
  pen.fillStyle = "#7f7f7f";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(shown.image, ...insetBox(width, height));
  let scale = null;
  const labels = shown.labels.find((one) => `labels ${one.name}` === state.over);
  if (labels) {
    paintLabels(pen, labels, insetBox(width, height), state.opacity);
  } else if (state.over !== "none") {
    const values = MAPS[state.over](state.layer);
    scale = values && scaleOf([values], state.over);
    if (values) paintValues(pen, values, scale, [0, 0, width, height], state.opacity);
  }
  paintScale($("map-scale"), scale);
  const on = shown.detectors.map((_, place) => place).filter((place) => state.detectors[place].on);
  paintSigns(pen, on.map((place) => [place, marks(place, state.layer)]), width, height);
  paintCursor(pen, width, height);
}

const SMALL = "left out, so that the page stays small";

function drawLayer() {
  $("layer-title").textContent = `At layer ${layerNumber(state.layer)}`;
  for (const [kind, one] of Object.entries(layerCards)) {
    const values = MAPS[kind](state.layer);
    const reason = kind === "class" && shown.class_index === null ? "this model has no class token" : SMALL;
    paintCard(one, values, values && scaleOf([values], kind), reason);
  }
  layerCards.attention.figure.firstChild.textContent =
    `${state.direction === "from" ? "patch looks at" : "who looks at the patch"} · ${headName(state.head, "mean")}`;
  layerCards.class.figure.firstChild.textContent = `class token looks at · ${headName(state.head, "mean")}`;
}

const headName = (head, mean = "mean of heads") => (head === "mean" ? mean : `head ${head}`);

function drawStrips() {
  const paint = ({ button, canvas }, values, pressed) => {
    button.setAttribute("aria-pressed", String(pressed));
    button.disabled = !values;
    const found = context(canvas);
    if (!found || !values) return;
    paintValues(found.pen, values, scaleOf([values], "attention"), [0, 0, found.width, found.height]);
    paintCursor(found.pen, found.width, found.height);
  };
  headButtons.forEach((one) => paint(one, MAPS.attention(state.layer, one.head), one.head === state.head));
  layerButtons.forEach((one, place) => paint(one, MAPS.attention(place), place === state.layer));
  $("heads-title").textContent = `Attention in every head of layer ${layerNumber(state.layer)}`;
  $("layers-title").textContent = `Attention in every layer, ${headName(state.head)}`;
}

function normTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const step of [1, 2, 5]) ticks.push(step * 10 ** power);
  }
  const inside = ticks.filter((tick) => tick >= low && tick <= high);
  if (inside.length < 2) return [0.1, 0.5, 0.9].map((across) => Number((low * (high / low) ** across).toPrecision(2)));
  return inside.length > 6 ? inside.filter((tick) => /^1/.test(tick.toExponential())) : inside;
}

function drawNorms() {
  const width = $("norms").clientWidth;
  if (!width) return;
  const height = clamp(width * 0.45, 170, 260);
  const edge = { left: 44, right: 10, top: 10, bottom: 32 };
  const depth = shown.norms.length / shown.tokens;
  const token = (layer, number_) => shown.norms[layer * shown.tokens + number_];
  const sorted = Array.from({ length: depth }, (_, layer) => {
    const start = layer * shown.tokens + shown.prefix;
    return shown.norms.slice(start, start + shown.count).sort();
  });
  const lines = { patch: sorted.map((_, layer) => token(layer, shown.prefix + state.patch)), median: sorted.map((one) => quantile(one, 0.5)) };
  if (shown.class_index !== null) lines.class = sorted.map((_, layer) => token(layer, shown.class_index));
  const everything = [...sorted.map((one) => one[0]), ...sorted.map((one) => one.at(-1)), ...(lines.class ?? [])];
  const positive = everything.filter((value) => value > 0);
  const low = Math.min(...positive) * 0.9;
  const high = Math.max(...positive) * 1.1;
  const x = (layer) => edge.left + ((width - edge.left - edge.right) * layer) / Math.max(1, depth - 1);
  const y = (value) => edge.top + (height - edge.top - edge.bottom) *
    (1 - Math.log(Math.max(value, low) / low) / Math.log(high / low));
  const path = (values) => values.map((value, layer) => `${layer ? "L" : "M"}${x(layer).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const band = path(sorted.map((one) => quantile(one, 0.95))) +
    path(sorted.map((one) => quantile(one, 0.05))).replace("M", "L").split("L").slice(1).reverse()
      .map((point) => `L${point}`).join("") + "Z";
  const now = layerNumber(state.layer);
  const said = `norm of the patch over the layers, now ${number(lines.patch[now])} at layer ${now}; median ${number(lines.median[now])}`;
  const every = Math.ceil((depth * 22) / (width - 60));
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": said },
    ...normTicks(low, high).flatMap((tick) => [
      svg("line", { x1: edge.left, x2: width - edge.right, y1: y(tick), y2: y(tick), stroke: "var(--line)" }),
      svg("text", { x: edge.left - 6, y: y(tick) + 4, "text-anchor": "end" }, number(tick)),
    ]),
    ...Array.from({ length: depth }, (_, layer) => layer).filter((layer) => layer % every === 0).map((layer) =>
      svg("text", { x: x(layer), y: height - 17, "text-anchor": "middle" }, String(layer))),
    svg("text", { x: (edge.left + width) / 2, y: height - 3, "text-anchor": "middle" }, "layer (0 is the embedding)"),
    svg("line", { x1: x(now), x2: x(now), y1: edge.top, y2: height - edge.bottom, stroke: "var(--soft)", "stroke-width": 1.5 }),
    svg("path", { d: band, fill: "var(--accent)", opacity: 0.18 }),
    svg("path", { d: path(lines.median), fill: "none", stroke: "var(--accent)", "stroke-width": 2 }),
    ...(lines.class ? [svg("path", { d: path(lines.class), fill: "none", stroke: data.colors.lines.class, "stroke-width": 2, "stroke-dasharray": "6 4" })] : []),
    svg("path", { d: path(lines.patch), fill: "none", stroke: data.colors.lines.patch, "stroke-width": 2.5 }),
    svg("circle", { cx: x(now), cy: y(lines.patch[now]), r: 4.5, fill: data.colors.lines.patch }));
  chart.addEventListener("click", (event) => {
    const across = (event.clientX - chart.getBoundingClientRect().left - edge.left) / (width - edge.left - edge.right);
    const wanted = Math.round(across * (depth - 1));
    const nearest = shown.layers.reduce((best, layer, place) =>
      Math.abs(layer - wanted) < Math.abs(shown.layers[best] - wanted) ? place : best, 0);
    setLayer(nearest);
  });
  $("norms").replaceChildren(chart);
}

function drawMending() {
  const place = state.layer;
  const by = shown.detectors.findIndex((one) => one.spec === shown.purified_by);
  const start = place * shown.count;
  const purified = [];
  shown.detectors[by].marked.subarray(start, start + shown.count).forEach((yes, patch) => yes && purified.push(patch));
  const ring = ({ canvas }) => {
    if (!canvas.hidden && canvas.clientWidth) paintSigns(canvas.getContext("2d"), [[by, purified]], canvas.clientWidth, canvas.clientHeight);
  };
  if (state.purify === "features") {
    for (const [one, colors] of [[purifyCards.before, shown.features], [purifyCards.after, shown.purifiedFeatures]]) {
      one.canvas.hidden = false;
      one.absent.hidden = true;
      paintScale(one.scale, null);
      const found = context(one.canvas);
      if (!found) continue;
      paintFeatures(found.pen, colors, place, [0, 0, found.width, found.height]);
      paintCursor(found.pen, found.width, found.height);
    }
  } else {
    const [before, after] = [MAPS[state.purify](place), purifiedMap(state.purify, place)];
    const scale = before && scaleOf(after ? [before, after] : [before], state.purify);
    paintCard(purifyCards.before, before, scale, SMALL);
    paintCard(purifyCards.after, after, scale, SMALL);
  }
  ring(purifyCards.before);
  ring(purifyCards.after);
  const colors = state.purify === "features"
    ? " Colors are the first three principal components of the purified patches, for both maps." : " Both maps have one scale.";
  $("purify-said").textContent = `${shown.purified_by}, by its own rule, marks ${purified.length} of ${shown.count} patches at layer ` +
    `${layerNumber(place)}; ${shown.purifier} purifies them. Layers are purified one by one: later ones do not see it.${colors}`;
}

function drawLabels() {
  labelCards.forEach((one, place) => {
    const labels = shown.labels[place];
    const found = context(one.canvas);
    if (!found) return;
    const box = insetBox(found.width, found.height);
    found.pen.drawImage(shown.image, ...box);
    paintLabels(found.pen, labels, box, 0.65);
    paintCursor(found.pen, found.width, found.height);
  });
  $("classes-said").textContent = "Press a class to see it alone, and how much of the image it has.";
  for (const button of $("classes").children) {
    const alone = Number(button.dataset.label) === state.onlyClass;
    button.setAttribute("aria-pressed", String(alone));
    if (alone) $("classes-said").textContent = button.dataset.said;
  }
}

// The label in the middle of the patch that is pointed at.
function labelAt(labels) {
  const [top, left, tall, wide] = shown.inset;
  const across = ((state.patch % shown.cols) + 0.5) / shown.cols;
  const down = (Math.floor(state.patch / shown.cols) + 0.5) / shown.rows;
  const [rows, cols] = labels.shape;
  const row = Math.floor(((down - top) / tall) * rows);
  const col = Math.floor(((across - left) / wide) * cols);
  if (row < 0 || col < 0 || row >= rows || col >= cols) return null;
  const label = labels.values[row * cols + col];
  return label === data.no_label ? null : shown.classes[label];
}

function drawReadout() {
  const place = state.layer;
  const norms = MAPS.norm(place);
  const parts = [make("b", { textContent: `row ${Math.floor(state.patch / shown.cols)}, column ${state.patch % shown.cols}` })];
  parts.push(`${state.held ? " (held)" : ""} · norm ${number(norms[state.patch])}, ${number(norms[state.patch] / median(norms))} × the median`);
  const found = attentionRows(place, state.head);
  if (found && shown.prefix) {
    const token = found.base + shown.prefix + state.patch;
    let rest = 0;
    for (let other = 0; other < shown.prefix; other += 1) if (other !== shown.class_index) rest += found.rows.at(token, other);
    if (shown.class_index !== null) parts.push(` · ${percent(found.rows.at(token, shown.class_index))} of its attention goes to the class token`);
    if (rest) parts.push(` · ${percent(rest)} to registers`);
  }
  const by = shown.detectors.filter((_, number_) => state.detectors[number_].on && marks(number_, place).includes(state.patch));
  if (by.length) parts.push(" · marked by ", make("b", { textContent: by.map((one) => one.spec).join(", ") }));
  const words = shown.labels.map((labels) => [labels.name, labelAt(labels)]).filter(([, word]) => word !== null);
  if (words.length) parts.push(` · ${words.map(([name, word]) => `${name}: ${word}`).join(", ")}`);
  $("readout").replaceChildren(...parts);
  labelCards.forEach((one, number_) => {
    const word = labelAt(shown.labels[number_]);
    one.figure.firstChild.textContent = word === null ? shown.labels[number_].name : `${shown.labels[number_].name}: ${word}`;
  });
}

// -------------------------------------------------------------------------------------------------------------- set-up

function legend(color, text, dashed = false) {
  const line = svg("svg", { width: 24, height: 10, "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 24, y1: 5, y2: 5, stroke: color, "stroke-width": 3, "stroke-dasharray": dashed ? "6 4" : "none" }));
  return make("span", {}, line, text);
}

function build() {
  const shape = (canvas) => { canvas.style.aspectRatio = String(shown.aspect); };
  $("layer").max = shown.layers.length - 1;
  const heads = headsHeld() ? Array.from({ length: headCount() }, (_, head) => head) : [];
  if (!heads.includes(state.head)) state.head = "mean";
  $("head").replaceChildren(...["mean", ...heads].map((head) => make("option", { value: head, textContent: head })));
  $("head").disabled = !heads.length;
  const over = { ...OVER, ...Object.fromEntries(shown.labels.map(({ name }) => [`labels ${name}`, `labels of ${name}`])) };
  if (shown.class_index === null) delete over.class;
  if (!(state.over in over)) state.over = "attention";
  $("over").replaceChildren(...Object.entries(over).map(([value, textContent]) => make("option", { value, textContent })));

  headButtons = ["mean", ...heads].map((head) => ({ head, ...stripButton(String(head), headName(head), () => setHead(head)) }));
  $("heads").replaceChildren(...headButtons.map((one) => one.button));
  $("heads").parentElement.hidden = !heads.length;
  layerButtons = shown.layers.map((layer, place) => stripButton(String(layer), `layer ${layer}`, () => setLayer(place)));
  $("layers").replaceChildren(...layerButtons.map((one) => one.button));

  if (state.detectors.length !== shown.detectors.length) {
    state.detectors = shown.detectors.map((_, place) => ({ on: place === 0, threshold: null }));
  }
  detectorRows = shown.detectors.map(detectorRow);
  $("detectors").replaceChildren(...detectorRows.map((one) => one.row));

  const { lines } = data.colors;
  $("norms-legend").replaceChildren(legend(lines.patch, "this patch"), legend("var(--accent)", "median patch, and 5 to 95 %"),
    ...(shown.class_index === null ? [] : [legend(lines.class, "class token", true)]));

  labelCards = shown.labels.map((one) => card(one.name, `labels ${one.name}`));
  $("labels").replaceChildren(...labelCards.map((one) => one.figure));
  $("labels-section").hidden = !shown.labels.length;
  $("classes").replaceChildren(...classButtons());

  const canvases = [$("map"), ...[...headButtons, ...layerButtons].map((one) => one.canvas),
    ...[...Object.values(layerCards), ...Object.values(purifyCards), ...labelCards].map((one) => one.canvas)];
  canvases.forEach(shape);
  for (const one of [...Object.values(layerCards), ...Object.values(purifyCards)]) shape(one.absent);
  // The height is bounded by the screen; so the width must be, in the image's proportions.
  $("map").style.width = `min(100%, calc(72vh * ${shown.aspect}))`;
}

// Classes that some map shows, the largest first, with their share of the first method's map.
function classButtons() {
  const counts = shown.labels.map(({ values }) => {
    const found = new Map();
    for (const label of values) found.set(label, (found.get(label) ?? 0) + 1);
    return found;
  });
  const labels = [...new Set(counts.flatMap((one) => [...one.keys()]))].filter((label) => label !== data.no_label);
  const total = (label) => counts.reduce((sum, one) => sum + (one.get(label) ?? 0), 0);
  labels.sort((a, b) => total(b) - total(a));
  if (!labels.includes(state.onlyClass)) state.onlyClass = null;
  return labels.map((label) => {
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = `rgb(${shown.class_colors[label].join(" ")})`;
    const shares = shown.labels.map(({ name, values }, place) => `${name} ${percent((counts[place].get(label) ?? 0) / values.length)}`);
    const button = make("button", { type: "button", "aria-pressed": "false" }, swatch, shown.classes[label]);
    button.dataset.label = label;
    button.dataset.said = `${shown.classes[label]}: ${shares.join(", ")}`;
    button.addEventListener("click", () => {
      state.onlyClass = state.onlyClass === label ? null : label;
      refresh();
    });
    return button;
  });
}

async function choose(place) {
  document.documentElement.dataset.ready = "false";
  state.image = place;
  const opened = await open(place);
  if (state.image !== place) return; // another was chosen meanwhile
  const layer = shown ? layerNumber(state.layer) : null;
  shown = opened;
  const same = shown.layers.indexOf(layer);
  // At first the last layer but one: outliers are there, and it is what most methods read. A small page may lack its
  // maps; the last layer's are always there.
  const last = shown.layers.length - 1;
  state.layer = same >= 0 ? same : last > 0 && shown.mean[last - 1] ? last - 1 : last;
  state.held = false;
  state.patch = mostOutlying();
  build();
  draw();
  document.documentElement.dataset.ready = "true";
}

// The patch to begin with: the one with the largest norm.
function mostOutlying() {
  const norms = MAPS.norm(state.layer);
  return norms.reduce((best, value, patch) => (value > norms[best] ? patch : best), 0);
}

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const LAYER_KEYS = { "+": 1, "=": 1, PageUp: 1, "-": -1, "−": -1, PageDown: -1 };

function onKey(event) {
  if (!shown || event.ctrlKey || event.metaKey || event.altKey) return;
  // Sliders, lists and radio buttons have arrows and pages of their own.
  const taken = event.target instanceof Element && event.target.matches("input, select");
  if (taken && !["+", "=", "-", "[", "]", "Escape"].includes(event.key)) return;
  if (event.key in MOVES) {
    const [down, right] = MOVES[event.key];
    const row = clamp(Math.floor(state.patch / shown.cols) + down, 0, shown.rows - 1);
    const col = clamp((state.patch % shown.cols) + right, 0, shown.cols - 1);
    state.held = true;
    goTo(row * shown.cols + col);
  } else if (event.key in LAYER_KEYS) {
    setLayer(state.layer + LAYER_KEYS[event.key]);
  } else if (event.key === "[" || event.key === "]") {
    const order = headButtons.map((one) => one.head);
    const next = order.indexOf(state.head) + (event.key === "]" ? 1 : -1);
    setHead(order[(next + order.length) % order.length]);
  } else if (event.key === "Escape") {
    state.held = false;
    refresh();
  } else return;
  event.preventDefault();
}

function start() {
  $("layer-maps").append(...Object.values(layerCards).map((one) => one.figure));
  $("purify").append(...Object.values(purifyCards).map((one) => one.figure));
  pointable($("map"));
  $("image").append(...data.images.map((one, value) => make("option", { value, textContent: one.name })));
  $("chooser").hidden = data.images.length < 2;
  $("note").textContent = data.note;
  $("note").hidden = !data.note;
  $("reduced").textContent = `Left out, so that the page stays below its size: ${data.left_out.join("; ")}.`;
  $("reduced").hidden = !data.left_out.length;
  const on = (id, kind, act) => $(id).addEventListener(kind, (event) => {
    act(event.target.value);
    refresh();
  });
  on("layer", "input", (value) => setLayer(Number(value)));
  on("layer-down", "click", () => setLayer(state.layer - 1));
  on("layer-up", "click", () => setLayer(state.layer + 1));
  on("head", "change", (value) => setHead(value === "mean" ? value : Number(value)));
  on("contrast", "change", (value) => { state.contrast = value; });
  on("over", "change", (value) => { state.over = value; });
  on("opacity", "input", (value) => { state.opacity = Number(value) / 100; });
  for (const name of ["direction", "purify"]) {
    for (const button of document.getElementsByName(name)) {
      button.addEventListener("change", () => {
        state[name] = button.value;
        refresh();
      });
    }
  }
  $("image").addEventListener("change", (event) => tell(choose(Number(event.target.value))));
  document.addEventListener("keydown", onKey);
  new ResizeObserver(refresh).observe(document.body);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  // For the console: numbers of what is shown, such as view.map("attention").
  window.view = { state, map: (kind) => Array.from(MAPS[kind](state.layer)), marks: (place) => marks(place, state.layer) };
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser can't open compressed data; any of 2023 or later can");
  }
  tell(choose(0));
}

function tell(promise) {
  promise.catch((error) => {
    $("trouble").textContent = `The page can't be shown: ${error.message}.`;
    $("trouble").hidden = false;
    console.error(error);
  });
}

tell((async () => start())());
