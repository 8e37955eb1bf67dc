// The sliders, the numbers they stand for, and the charts of one question's cost.
const SYSTEMS = [["fid", "FiD"], ["lumen", "LUMEN"], ["glimmer", "GLIMMER"]];
// Colours that differ also for people who see fewer of them; tests/costs/test_page.py measures it.
const STAGES = {question: ["question", "#5c2a00"], encoder: ["encoder", "#88ccee"], live: ["live encoder", "#f0e442"],
  live_a: ["live-A", "#009e73"], score: ["score", "#000000"], live_b: ["live-B", "#dddddd"],
  cross: ["cross keys and values", "#332288"], decoder: ["decoder", "#999933"], head: ["logits", "#aa4499"]};
const MONTHLY = {answering: ["answering", "#0072b2"], search: ["search", "#56b4e9"], storage: ["storage", "#e69f00"],
  encoding: ["encoding", "#000000"]};
const SLIDERS = {k: ["k, passages retrieved", 1, 100], m: ["m, passages selected", 1, 100],
  live: ["alpha, live proportion", 0, 24], live_a: ["beta, rerank proportion", 0, 24],
  n_q: ["n_q, tokens of the question", 1, 128], n_p: ["n_p, tokens of a passage", 16, 1024],
  n_t: ["n_t, decoder steps", 1, 256], batch: ["batch, questions at once", 1, 128]};
const gcd = (a, b) => b ? gcd(b, a % b) : a;
const ratio = (a, b) => a === 0 || b === 0 ? "0" : b === gcd(a, b) ? `${a / b}` : `${a / gcd(a, b)}/${b / gcd(a, b)}`;
const value = text => text.split("/").map(Number).reduce((a, b) => a / b);
const unit = (x, units, step) => { let i = 0; while (x >= step && i + 1 < units.length) { x /= step; i++; }
  return `${x >= 100 ? x.toFixed(0) : x.toPrecision(3)} ${units[i]}`; };
const macs = x => x === 0 ? "0" : unit(x, ["MACs", "kMACs", "MMACs", "GMACs", "TMACs", "PMACs", "EMACs"], 1000);
const bytes = x => unit(x, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 1024);
const ms = x => `${number(1e3 * x)} ms`;
const number = (x, digits = 4) => x >= 10 ** (digits - 1) ? Math.round(x).toLocaleString("en") : String(Number(x.toPrecision(digits)));
const large = x => x >= 1e9 ? `${number(x / 1e9, 3)} billion` : x >= 1e6 ? `${number(x / 1e6, 3)} million` : number(x, 3);
const duration = m => m >= 1 ? `${number(m, 3)} months` : m * DATA.hours >= 48 ? `${number(m * DATA.hours / 24, 3)} days` : `${number(m * DATA.hours, 3)} hours`;
const $ = id => document.getElementById(id);

// Numbers of a service: title, start, whether it may be empty, the largest.
const FIELDS = {rate: ["questions a second", 100, false, 1e9], passages: ["passages of the corpus", 21e6, false, 1e12],
  bound: ["latency at most, ms (empty: any)", "", true, 1e9], devices: ["accelerators of a group", 1, false, 1024],
  arithmetic: ["share of the peak that is reached", DATA.efficiency.arithmetic, false, 1],
  reads: ["share of the bandwidth that is reached", DATA.efficiency.bandwidth, false, 1],
  months: ["months between two encodings", 12, false, 1e4],
  price: ["price of an accelerator and hour (empty: count hours)", "", true, 1e9],
  storage_price: ["price of a TiB and month (empty: none)", "", true, 1e9]};
const OWN = {own_tflops: ["own: peak, TFLOP/s", 100, false, 1e9], own_bandwidth: ["own: bandwidth, GB/s", 1000, false, 1e9],
  own_memory: ["own: memory, GB", 24, false, 1e9], own_link: ["own: link to the others, GB/s", 32, false, 1e9]};
const CHOICES = ["size", "dtype", "hardware", "store", "place"];
const IDS = ["size", ...Object.keys(SLIDERS), ...CHOICES.slice(1), ...Object.keys(FIELDS), ...Object.keys(OWN)];

function build() {
  const select = (id, title, choices) => `<label for="${id}">${title}<select id="${id}">` +
    choices.map(([v, t]) => `<option value="${v}">${t}</option>`).join("") + "</select></label>";
  const field = ([id, [title, start]]) => `<label for="${id}" id="${id}_label">${title}` +
    `<input type="number" id="${id}" value="${start}" min="0" step="any"></label>`;
  const slider = ([id, [title, low, high]]) => `<label for="${id}">${title}<output id="${id}_text" for="${id}"></output>` +
    `<input type="range" id="${id}" min="${low}" max="${high}" step="1"></label>`;
  $("form").innerHTML = select("size", "model", Object.keys(DATA.sizes).map(n => [n, n.includes("t5") ? n : `T5.1.1-${n}`])) +
    Object.entries(SLIDERS).map(slider).join("") +
    select("dtype", "numbers stored and computed in", Object.keys(DATA.widths).map(n => [n, n])) +
    select("hardware", "hardware", [...Object.entries(DATA.hardware).map(([n, h]) => [n, h.name]), ["own", "your own"]]) +
    Object.entries(OWN).map(field).join("");
  $("service").innerHTML = Object.entries(FIELDS).map(field).join("") +
    select("store", "memory stored in", Object.keys(DATA.widths).map(n => [n, n])) +
    select("place", "where it lies", Object.entries(DATA.stores).map(([n, p]) => [n, p.name]));
  $("store").value = "bfloat16"; $("place").value = "nvme";
  const start = DATA.start, shapes = DATA.sizes[start.size];
  $("size").value = start.size; $("dtype").value = "bfloat16"; $("hardware").value = "h100";
  $("live").max = $("live_a").max = shapes.L;
  const live = Math.round(value(DATA.alpha) * shapes.L);
  const first = {...start, live, live_a: Math.round(value(DATA.beta) * live)};
  for (const id in SLIDERS) $(id).value = first[id];
  $("assumption").textContent = DATA.assumption;
  restore();
  for (const form of ["form", "service"]) $(form).addEventListener("input", () => { draw(); keep(); });
  addEventListener("hashchange", () => { restore(); draw(); });
  addEventListener("resize", draw);
  draw();
}

// The state is in the address after #, in every control's own name, so that a link shows what its sender saw.
function keep() {
  const state = new URLSearchParams(IDS.map(id => [id, $(id).value]));
  try { history.replaceState(null, "", `#${state}`); } catch { /* a page inside another one has no address */ }
}

function restore() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const id of IDS) {
    if (!state.has(id)) continue;
    const choices = CHOICES.includes(id) ? [...$(id).options].map(o => o.value) : null;
    if (choices ? choices.includes(state.get(id)) : true) $(id).value = state.get(id);
    limits();
  }
}

function limits() {  // a slider's upper end follows from the others, so that no combination is impossible
  $("m").max = $("k").value; $("live").max = DATA.sizes[$("size").value].L; $("live_a").max = $("live").value;
}

function setting() {
  limits();
  const dtype = $("dtype").value, own = $("hardware").value === "own", s = {...DATA.sizes[$("size").value], wrong: []};
  for (const id in SLIDERS) s[id] = Number($(id).value);
  const read = ([id, [title, , empty, most]]) => {
    const text = $(id).value.trim(), x = Number(text);
    if (!(text === "" ? empty : x > 0 && x <= most && (Number.isInteger(x) || !["devices", "passages"].includes(id)))) s.wrong.push(title);
    return text === "" ? null : x;
  };
  for (const id in OWN) $(`${id}_label`).classList.toggle("hidden", !own);
  const f = Object.fromEntries(Object.entries({...FIELDS, ...(own ? OWN : {})}).map(entry => [entry[0], read(entry)]));
  const h = own ? {name: "your own", flops: {[dtype]: f.own_tflops * 1e12}, bandwidth: f.own_bandwidth * 1e9,
    memory: f.own_memory * 1e9, link: f.own_link * 1e9} : DATA.hardware[$("hardware").value];
  const place = DATA.stores[$("place").value];
  return Object.assign(s, {rate: f.rate, passages: f.passages, bound: f.bound === null ? null : f.bound / 1e3, devices: f.devices, months: f.months,
    name: h.name, flops: h.flops[dtype] * f.arithmetic, bandwidth: h.bandwidth * f.reads, memory: h.memory, link: h.link,
    width: DATA.widths[dtype], stored: DATA.widths[$("store").value], scale: DATA.scales[$("store").value],
    money: f.price !== null, price: f.price ?? 1, storage_price: f.price === null ? 0 : f.storage_price ?? 0,
    unit_bandwidth: place.bandwidth, capacity: place.capacity || 1e30, place: place.name});
}

function labels(s) {
  for (const id in SLIDERS) $(`${id}_text`).value = s[id];
  $("live_text").value = `${ratio(s.live, s.L)}  (${s.live} of ${s.L} layers)`;
  $("live_a_text").value = `${ratio(s.live_a, s.live)}  (${s.live_a} of ${s.live})`;
}

const bar = (x, y, w, h, fill, title) =>
  `<rect x="${x}" y="${y}" width="${Math.max(w, 0)}" height="${h}" fill="${fill}"><title>${title}</title></rect>`;

const narrow = () => $("stages").clientWidth < 520;

function stages(s) {
  const total = Object.fromEntries(SYSTEMS.map(([id]) => [id, TOTAL[id](s)]));
  const most = Math.max(...Object.values(total)), used = new Set();
  const [wide, left, step, down] = narrow() ? [380, 0, 56, 18] : [560, 76, 44, 0];  // words above the bars, or beside
  let out = "";
  SYSTEMS.forEach(([id, name], row) => {
    let x = left; const y = row * step + 4 + down;
    out += `<text x="0" y="${down ? y - 6 : y + 20}">${name}</text>`;
    for (const [stage, f] of Object.entries(MACS[id])) {
      if (stage === "memory") continue;
      const cost = f(s), w = cost / most * wide; used.add(stage);
      out += bar(x, y, w, 30, STAGES[stage][1], `${STAGES[stage][0]}: ${macs(cost)}`); x += w;
    }
    const share = `${macs(total[id])}, ${(100 * total[id] / total.fid).toFixed(1)} % of FiD`;
    out += down ? `<text class="soft" x="${wide}" y="${y - 6}" text-anchor="end">${share}</text>`
      : `<text class="soft" x="${left + wide + 8}" y="${y + 20}">${share}</text>`;
  });
  $("stages").innerHTML = `<svg viewBox="0 0 ${down ? 380 : 860} ${3 * step + 4}" role="img" aria-label="cost by stage">${out}</svg>`;
  $("legend").innerHTML = Object.entries(STAGES).filter(([stage]) => used.has(stage) && stage !== "score")
    .map(([, [name, fill]]) => `<span><i style="background:${fill}"></i>${name}</span>`).join("");
}

function curve(s) {
  const top = Number($("k").max), width = 322, height = 180, left = 60, bottom = 200;
  const most = TOTAL.fid({...s, k: top}), y = x => bottom - x / most * height, x = k => left + k / top * width;
  const [name, one] = [["TMACs", 1e12], ["GMACs", 1e9], ["MMACs", 1e6], ["MACs", 1]].find(([, u]) => most >= u) || ["MACs", 1];
  let out = `<path d="M${left} ${bottom - height} V${bottom} H${left + width}" fill="none" stroke="var(--soft)"/>`;
  for (const part of [0, .5, 1]) out += `<text class="soft" x="${left - 6}" y="${y(part * most) + 4}" text-anchor="end">${number(part * most / one, 3)}</text>`;
  out += `<text class="soft" id="axis" transform="translate(14 ${bottom - height / 2}) rotate(-90)" text-anchor="middle">${name} a question</text>`;
  for (const k of [1, 25, 50, 75, 100]) out += `<text class="soft" x="${x(k)}" y="${bottom + 16}" text-anchor="middle">${k}</text>`;
  out += `<text class="soft" x="${left + width}" y="${bottom + 32}" text-anchor="end">k, passages retrieved</text>`;
  const dash = {fid: "", lumen: "7 4", glimmer: ""}, heavy = {fid: 2, lumen: 2.5, glimmer: 3.5};
  SYSTEMS.forEach(([id, name], i) => {
    const points = [];
    for (let k = id === "glimmer" ? s.m : 1; k <= top; k++) points.push(`${x(k).toFixed(1)},${y(TOTAL[id]({...s, k})).toFixed(1)}`);
    out += `<polyline points="${points.join(" ")}" fill="none" stroke="var(--${id})" stroke-width="${heavy[id]}" stroke-dasharray="${dash[id]}"/>`;
    out += `<circle cx="${x(s.k)}" cy="${y(TOTAL[id](s))}" r="5" fill="var(--${id})" stroke="var(--card)"/>`;
    out += `<line x1="${left + 12}" x2="${left + 40}" y1="${34 + 18 * i}" y2="${34 + 18 * i}" stroke="var(--${id})" stroke-width="${heavy[id]}" stroke-dasharray="${dash[id]}"/>` +
      `<text x="${left + 46}" y="${38 + 18 * i}">${name}</text>`;
  });
  $("curve").innerHTML = `<svg viewBox="0 0 400 240" role="img" aria-label="cost against k">${out}</svg>`;
}

function latency(s) {
  $("latency_title").textContent = `Time of a batch of ${s.batch}, and memory on each accelerator`;
  if (!s.flops) { $("latency").innerHTML = `<p>${s.name} has no stated peak for ${$("dtype").value}; choose another.</p>`; return; }
  const all = SYSTEMS.map(([id]) => SECONDS[id](s)), most = Math.max(...all);
  let out = "";
  SYSTEMS.forEach(([id, name], row) => {
    const y = row * 64 + 4, need = DEVICE[id](s);
    out += `<text x="0" y="${y + 12}">${name}</text>` + bar(0, y + 18, all[row] / most * 390, 18, `var(--${id})`, ms(all[row]));
    out += `<text class="soft" x="390" y="${y + 12}" text-anchor="end">${bytes(need)}${need > s.memory ? ": does not fit" : ""}</text>`;
    out += `<text x="0" y="${y + 50}">${ms(all[row])} a batch, ${ms(all[row] / s.batch)} a question</text>`;
  });
  $("latency").innerHTML = `<svg viewBox="0 0 400 194" role="img" aria-label="time of a batch">${out}</svg>`;
}

const cell = (id, exact, text) => `<td data-id="${id}" data-exact="${exact}">${text}</td>`;

function tables(s) {
  const names = Object.keys(STAGES).filter(stage => SYSTEMS.some(([id]) => stage in MACS[id]));
  let out = "<tr><th>MACs (multiply-adds)</th>" + SYSTEMS.map(([, name]) => `<th>${name}</th>`).join("") + "</tr>";
  const whole = x => narrow() ? macs(x).replace("MACs", "") : x.toLocaleString("en");
  const row = (title, cells) => { out += `<tr><td>${title}</td>${cells.join("")}</tr>`; };
  for (const stage of [...names, "memory"])
    row(stage === "memory" ? "passages, offline" : STAGES[stage][0], SYSTEMS.map(([id]) => stage in MACS[id]
      ? cell(`${id}.${stage}`, MACS[id][stage](s), whole(MACS[id][stage](s))) : "<td>-</td>"));
  row("<b>per question</b>", SYSTEMS.map(([id]) => cell(`${id}.total`, TOTAL[id](s), `<b>${whole(TOTAL[id](s))}</b>`)));
  row("samples per 10<sup>12</sup> MACs", SYSTEMS.map(([id]) => cell(`${id}.samples`, 1e12 / TOTAL[id](s), (1e12 / TOTAL[id](s)).toPrecision(5))));
  if (s.flops) {
    row(`ms a batch of ${s.batch}`, SYSTEMS.map(([id]) => cell(`${id}.seconds`, SECONDS[id](s), number(1e3 * SECONDS[id](s)))));
    row("ms a question (a batch, divided)", SYSTEMS.map(([id]) => cell(`${id}.each`, SECONDS[id](s) / s.batch, number(1e3 * SECONDS[id](s) / s.batch))));
  }
  const line = TOTAL.glimmer({...s, k: 0}), slope = TOTAL.glimmer({...s, k: 1}) - line;
  row(`GLIMMER's k at the cost of this system (k = ${s.k})`, SYSTEMS.map(([id]) => {
    const k = (TOTAL[id](s) - line) / slope;
    return cell(`${id}.break_even`, k, k < s.m ? "-" : number(k)); }));
  row("weights, keys and values", SYSTEMS.map(([id]) => cell(`${id}.resident`, RESIDENT[id](s), bytes(RESIDENT[id](s)))));
  $("numbers").innerHTML = out;
  const titles = {passage: "one passage", question: `read for one question (k = ${s.k})`};
  $("storage").innerHTML = "<tr><th>memory of</th><th>size</th></tr>" + Object.entries(STORAGE).map(([id, f]) =>
    `<tr><td>${titles[id] || id}</td>${cell(`storage.${id}`, f(s), bytes(f(s)))}</tr>`).join("");
}

function draw() { const s = setting(); labels(s); stages(s); curve(s); latency(s); serving(s); tables(s); }
