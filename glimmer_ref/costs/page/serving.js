// The panel of a service: what each system needs, what a month costs, and which system is cheaper when.
// As serving.best_batch: the fewest groups, then the least latency.
function best(id, s) {
  let found = null;
  for (const batch of DATA.batches) {
    const t = {...s, batch};
    if (DEVICE[id](t) > s.memory) break;
    const [groups, waits] = [GROUPS[id](t), LATENCY[id](t)];
    if (s.bound !== null && waits > s.bound) continue;
    if (!found || groups < found.groups || (groups === found.groups && waits < found.waits)) found = {groups, waits, batch};
  }
  return found;
}

function serving(s) {
  const empty = text => { $("serving").innerHTML = $("month").innerHTML = $("month_legend").innerHTML = "";
    $("overtaking").textContent = text; };
  $("serving_title").textContent = "What a service takes";
  if (s.wrong.length) return empty(`A number above 0 is needed, of a usual size: ${s.wrong.join("; ")}.`);
  if (!s.flops) return empty(`${s.name} has no stated peak for ${$("dtype").value}; choose another.`);
  if (s.devices > 1 && !s.link) return empty(`${s.name} has no stated link; a group needs one.`);
  $("serving_title").textContent = `What ${number(s.rate)} questions/s over ${s.passages.toLocaleString("en")} passages take: ${s.money ? "money" : "accelerator-hours"} a month`;
  const plans = Object.fromEntries(SYSTEMS.map(([id]) => [id, best(id, s)]));
  const at = id => ({...s, batch: (plans[id] || {batch: 1}).batch});
  const months = Object.fromEntries(SYSTEMS.map(([id]) => [id, plans[id] && Object.fromEntries(Object.entries(MONTH[id]).map(([n, f]) => [n, f(at(id))]))]));
  const total = id => Object.values(months[id]).reduce((a, b) => a + b);
  let out = "<tr><th></th>" + SYSTEMS.map(([, name]) => `<th>${name}</th>`).join("") + "</tr>";
  const row = (title, f) => { out += `<tr><td>${title}</td>${SYSTEMS.map(([id]) => f(id)).join("")}</tr>`; };
  const planned = (title, key, f, text = number) => row(title, id => plans[id] ? cell(`${id}.${key}`, f(id), text(f(id))) : "<td>-</td>");
  const any = (title, key, f, text = number) => row(title, id => cell(`${id}.${key}`, f(id), text(f(id))));
  planned("accelerators", "accelerators", id => plans[id].groups * s.devices);
  planned("questions at once", "batch", id => plans[id].batch);
  planned("ms a batch", "batch_ms", id => 1e3 * SECONDS[id](at(id)));
  planned("ms a question (a batch, divided)", "question_ms", id => 1e3 * SECONDS[id](at(id)) / at(id).batch);
  planned("latency in ms, the batch filled", "latency_ms", id => 1e3 * plans[id].waits);
  any(`memory of each accelerator, of ${bytes(s.memory)}`, "device", id => DEVICE[id](at(id)), bytes);
  any("stored corpus (FiD: tokens)", "stored", id => STORED[id](s), bytes);
  any("GB/s read from storage", "reads", id => s.rate * READ[id](s) / 1e9);
  any(`units to hold it (${s.place})`, "held", id => UNITS[id].held(s));
  any("units for the GB/s", "fast", id => UNITS[id].fast(s));
  any("encoding once: MACs", "encoding_macs", id => ENCODING[id].macs(s), macs);
  any("encoding once: accelerator-hours", "encoding_hours", id => ENCODING[id].hours(s));
  if (s.money) any("encoding once: price", "encoding_price", id => ENCODING[id].hours(s) * s.price);
  for (const part in MONTHLY) planned(`a month: ${part}`, `month_${part}`, id => months[id][part]);
  planned("<b>a month</b>", "month", total, x => `<b>${number(x)}</b>`);
  out += `<tr><td>search: accelerators</td><td colspan="3" data-id="search.devices" data-exact="${SEARCH.devices(s)}">` +
    `${SEARCH.devices(s)}, index ${bytes(SEARCH.bytes(s))}</td></tr>`;
  $("serving").innerHTML = out;
  monthly(months, total);
  overtaking(s, plans);
}

function monthly(months, total) {
  const shown = SYSTEMS.filter(([id]) => months[id]), most = Math.max(...shown.map(([id]) => total(id)));
  let out = "";
  shown.forEach(([id, name], i) => {
    let x = 0; const y = i * 44 + 16;
    out += `<text x="0" y="${y - 4}">${name}</text><text class="soft" x="560" y="${y - 4}" text-anchor="end">${number(total(id))}</text>`;
    for (const [part, amount] of Object.entries(months[id])) {
      const w = amount / most * 560;
      out += bar(x, y, w, 20, MONTHLY[part][1], `${part}: ${number(amount)}`); x += w;
    }
  });
  $("month").innerHTML = shown.length ? `<svg viewBox="0 0 560 ${shown.length * 44}" role="img" aria-label="a month">${out}</svg>` : "";
  $("month_legend").innerHTML = Object.values(MONTHLY).map(([name, fill]) => `<span><i style="background:${fill}"></i>${name}</span>`).join("");
}

// As the report's sentences: from which corpus, rate and time on a system is cheaper.
function overtaking(s, plans) {
  const line = id => Object.fromEntries(Object.entries(LINE[id]).map(([n, f]) => [n, f({...s, batch: plans[id].batch})]));
  const names = Object.fromEntries(SYSTEMS), texts = [];
  for (const [y, x] of [["lumen", "fid"], ["glimmer", "fid"], ["glimmer", "lumen"]]) {
    if (!plans[y] || !plans[x]) { texts.push(`${names[plans[y] ? x : y]} cannot be served so: it does not fit, or is too late.`); continue; }
    const [dear, cheap] = [line(x), line(y)];
    if (dear.question <= cheap.question) { texts.push(`${names[y]} is never cheaper than ${names[x]}.`); continue; }
    if (dear.passage === cheap.passage && dear.encoding === cheap.encoding) { texts.push(`${names[y]} is always cheaper than ${names[x]}.`); continue; }
    const t = {...s};
    for (const n in dear) { t[`dear_${n}`] = dear[n]; t[`cheap_${n}`] = cheap[n]; }
    const o = Object.fromEntries(Object.entries(OVERTAKE).map(([n, f]) => [n, f(t)])), id = `${y}.${x}`;
    const mark = (n, text) => `<span data-id="${id}.${n}" data-exact="${o[n]}">${text}</span>`;
    texts.push(`${names[y]} is cheaper than ${names[x]} up to ${mark("passages", large(o.passages))} passages at this rate, from ` +
      `${mark("rate", large(o.rate))} questions/s on with this corpus, and with both ` +
      (o.months > 0 ? `if an encoding lasts at least ${mark("months", duration(o.months))}.` : mark("months", "never") + "."));
  }
  $("overtaking").innerHTML = [...new Set(texts)].join("<br>");
}
