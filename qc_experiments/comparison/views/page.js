"use strict";
// Draws the comparison from the JSON in #data. Text from runs reaches the document by text nodes only.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const figure = (run, key) => run.f[key] ?? null;
  const ACCURACY = "execution_accuracy", LOSS = "eval_loss";  // what has columns and plots of its own
  const metric = (key) => data.metrics[key];
  const metricTitle = (key) => metric(key).title + (metric(key).share ? " (%)" : metric(key).unit ? ` (${metric(key).unit})` : "");
  const metricShow = (key, one) => one === null ? "" : metric(key).share ? percent(one) : one.toFixed(4);
  const value = (run, key) => {
    const place = data.keys.indexOf(key);
    return place < 0 ? (key in data.common ? data.common[key] : null) : run.v[place];
  };
  const state = { group: 0, a: null, b: null, text: "", values: new Map(), sort: null, down: false };

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const FIRST_QUESTIONS = 10, MORE_QUESTIONS = 50;
  state.questions = FIRST_QUESTIONS;

  // ---- small tools -------------------------------------------------------------------------

  function add(parent, children) {
    for (const child of children.flat()) {
      if (child === null || child === undefined || child === false) continue;
      parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return parent;
  }
  function h(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, given] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), given);
      else if (given !== null && given !== undefined && given !== false) made.setAttribute(name, given);
    }
    return add(made, children);
  }
  function s(tag, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, given] of Object.entries(attributes || {})) {
      if (given !== null && given !== undefined) made.setAttribute(name, given);
    }
    return add(made, children);
  }
  const title = (text) => s("title", {}, text);
  const show = (one) => one === null || one === undefined ? "null"
    : typeof one === "number" ? String(Number(one.toPrecision(6))) : String(one);
  const percent = (one, digits = 1) => one === null || one === undefined ? "" : (100 * one).toFixed(digits);
  const clip = (text, most) => text.length > most ? text.slice(0, most - 1) + "…" : text;
  const lastPart = (key) => key.split(".").pop();
  const shortKey = (key) => data.says_nothing.includes(lastPart(key)) || group().swept.filter((other) => lastPart(other) === lastPart(key)).length > 1 ? key : lastPart(key);
  function large(one) {
    if (one === null) return "";
    for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (one >= size) return Number((one / size).toPrecision(3)) + " " + unit;
    }
    return String(Number(one.toPrecision(4)));
  }
  const costShow = (cost, one) => one === null ? "" : cost.unit === "GiB" ? `${(one / 2 ** 30).toFixed(2)} GiB` : cost.unit ? one.toFixed(0) : large(one);
  const pValue = (p) => p < 0.001 ? "< 0.001" : p.toFixed(3);
  function order(first, second) {
    if (typeof first === "number" && typeof second === "number") return first - second;
    return show(first).localeCompare(show(second), "en", { numeric: true });
  }
  function distinct(runs, key) {
    const found = new Map();
    for (const run of runs) found.set(JSON.stringify(value(run, key)), value(run, key));
    return [...found.values()].sort(order);
  }
  function bundle(runs, name) {
    const found = new Map();
    for (const run of runs) {
      const key = name(run);
      if (found.has(key)) found.get(key).push(run); else found.set(key, [run]);
    }
    return found;
  }
  function wilson(hits, count) {
    const z = 1.959963984540054, p = hits / count, d = 1 + z * z / count;
    const centre = (p + z * z / (2 * count)) / d;
    const half = z * Math.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / d;
    return [hits === 0 ? 0 : centre - half, hits === count ? 1 : centre + half];
  }
  // Quantiles of Student's t at 97.5 %, by degrees of freedom; beyond 30 Fisher's expansion is exact enough.
  const T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145,
    2.131, 2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042];
  const student = (freedom) => T[freedom - 1] || 1.96 + 2.372 / freedom;
  function ticks(low, high, about) {
    if (!(high > low)) return [low];
    const rough = (high - low) / Math.max(1, about), power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((f) => f * power).find((one) => one >= rough);
    const found = [];
    for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) found.push(at * step);
    return found;
  }
  const scale = (low, high, from, to) => (one) => high === low ? (from + to) / 2 : from + (one - low) / (high - low) * (to - from);
  // No axis goes below no answer or beyond all.
  function yExtent(values, pad) {
    const [low, high] = extent(values, pad);
    return yIsShare() ? [Math.max(0, low), Math.min(1, high)] : [low, high];
  }
  function extent(values, pad) {
    const low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    const more = (high - low || Math.abs(high) || 1) * pad;
    return [low - more, high + more];
  }

  // ---- what is shown -----------------------------------------------------------------------

  const group = () => data.groups[state.group];
  let cached = { runs: [], rank: new Map(), label: new Map() };  // of the chosen group; made once, for a thousand runs
  const ranked = () => cached.runs;
  const rank = (run) => cached.rank.get(run) ?? 0;
  // The metric on the charts' axes: the objective, or, where that is the loss, the accuracy if there is one.
  function yKey() {
    if (data.objective !== LOSS) return data.objective;
    return ranked().some((run) => figure(run, ACCURACY) !== null) ? ACCURACY : LOSS;
  }
  const yIsShare = () => metric(yKey()).share;
  const yTitle = () => metricTitle(yKey());
  const yShow = (one) => yIsShare() ? percent(one) + " %" : one.toFixed(3);
  const yTick = (one) => yIsShare() ? show(100 * one) : show(one);
  const y = (run) => figure(run, yKey());
  function passes(run) {
    for (const [key, wanted] of state.values) if (JSON.stringify(value(run, key)) !== wanted) return false;
    if (!state.text) return true;
    const text = [run.name, run.status, ...group().swept.map((key) => `${key}=${show(value(run, key))} ${shortKey(key)}=${show(value(run, key))}`),
      run.test ? run.test[5] : ""].join(" ").toLowerCase();
    return state.text.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }
  const shownRuns = () => ranked().filter(passes);
  function label(run) {
    if (!cached.label.has(run)) {
      const settings = group().swept.map((key) => `${shortKey(key)}=${show(value(run, key))}`).join(" ");
      cached.label.set(run, `#${rank(run)} ${settings || run.name}`);
    }
    return cached.label.get(run);
  }
  const tip = (run) => `${label(run)}\n${run.name}\n${yTitle()}: ${y(run) === null ? "not measured" : yShow(y(run))}`;
  const chosen = (run) => run === data.runs[state.a] ? "a" : run === data.runs[state.b] ? "b" : "other";
  // Filled by custom properties, so that the colours follow the browser's theme.
  const shade = (share) => `color-mix(in oklab, var(--high) ${Math.round(100 * Math.min(1, Math.max(0, share)))}%, var(--low))`;
  const lastFirst = (runs) => [...runs].sort((p, q) => (chosen(p) !== "other") - (chosen(q) !== "other"));

  function mark(kind, x, at, size, text) {
    const attributes = { class: `dot fill-${kind}` };
    const made = kind === "b" ? s("rect", { ...attributes, x: x - size, y: at - size, width: 2 * size, height: 2 * size })
      : s("circle", { ...attributes, cx: x, cy: at, r: size });
    return add(made, [title(text)]);
  }
  function draw(holder, least, height, name, paint) {
    const width = Math.max(least, Math.floor(holder.clientWidth) - 12);
    const svg = s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name });
    paint(svg, width, height);
    holder.append(svg);
  }
  const words = (x, at, text, attributes) => s("text", { x, y: at, ...attributes }, text);
  function axes(svg, box, across, down, names) {
    for (const at of across.ticks) {
      svg.append(s("line", { class: "rule", x1: across.at(at), x2: across.at(at), y1: box.top, y2: box.bottom }),
        words(across.at(at), box.bottom + 16, across.show(at), { "text-anchor": "middle", class: "soft" }));
    }
    for (const at of down.ticks) {
      svg.append(s("line", { class: "rule", x1: box.left, x2: box.right, y1: down.at(at), y2: down.at(at) }),
        words(box.left - 6, down.at(at) + 4, down.show(at), { "text-anchor": "end", class: "soft" }));
    }
    svg.append(s("path", { class: "axis", d: `M${box.left},${box.top}V${box.bottom}H${box.right}` }),
      words((box.left + box.right) / 2, box.bottom + 34, names[0], { "text-anchor": "middle" }),
      words(0, 0, names[1], { "text-anchor": "middle", transform: `translate(13,${(box.top + box.bottom) / 2}) rotate(-90)` }));
  }
  const nothing = (holder, text) => holder.replaceChildren(h("p", { class: "note" }, text));

  // ---- head, groups, filters ---------------------------------------------------------------

  function head() {
    byId("counted").textContent = `${data.counted}. Ranked by ${metric(data.objective).title}.`;
    byId("counts").replaceChildren(...Object.entries(data.counts).map(([status, count]) =>
      h("li", {}, h("b", {}, count), " " + status)));
    byId("source").textContent = `Made ${data.made} from ${data.folders.join(", ")}.`;
    byId("left-out").replaceChildren(...data.left_out.map((line) => h("li", {}, line)));
  }
  function groups() {
    const several = data.groups.length > 1;
    byId("group-title").textContent = several ? `What is ranked together: ${data.groups.length} groups, apart` : "What is ranked together";
    byId("groups").replaceChildren(...data.groups.map((one, place) => h("button", {
      type: "button", "aria-pressed": place === state.group, onclick: () => choose(place),
    }, one.name, h("small", {}, `${one.runs.length} finished` + (one.unfinished.length ? `, ${one.unfinished.length} not finished` : "")
      + (one.apart ? `; ${one.apart}` : "")))));
    byId("remarks").replaceChildren(...group().remarks.map((line) => h("li", {}, line)));
  }
  function choose(place) {
    state.group = place;
    const runs = group().runs.map((one) => data.runs[one]);
    cached = { runs, rank: new Map(runs.map((run, at) => [run, at + 1])), label: new Map() };
    state.values.clear();
    state.sort = null;
    [state.a, state.b] = [group().runs[0] ?? null, group().runs[1] ?? group().runs[0] ?? null];
    groups();
    valueFilters();
    pickers();
    redraw();
  }
  function valueFilters() {
    byId("value-filters").replaceChildren(...group().swept.flatMap((key) => {
      const values = distinct(ranked(), key);
      if (values.length < 2 || values.length > 60) return [];
      const select = h("select", { "data-key": key, onchange: (event) => {
        if (event.target.value) state.values.set(key, event.target.value); else state.values.delete(key);
        redraw();
      } }, h("option", { value: "" }, "any"), values.map((one) => h("option", { value: JSON.stringify(one) }, clip(show(one), 40))));
      return [h("label", { title: key }, shortKey(key), select)];
    }));
  }
  function pickers() {
    for (const which of ["a", "b"]) {
      const select = byId(`run-${which}`);
      select.replaceChildren(...ranked().map((run) => h("option", { value: data.runs.indexOf(run) },
        `${label(run)}${y(run) === null ? "" : ", " + yShow(y(run))}`)));
      if (state[which] !== null) select.value = state[which];
    }
  }
  function pick(which, run) {
    state[which] = data.runs.indexOf(run);
    state.questions = FIRST_QUESTIONS;
    byId(`run-${which}`).value = state[which];
    redraw();
  }

  // ---- tables ------------------------------------------------------------------------------

  function columns() {
    const test = (run, place) => run.test ? run.test[place] : null;
    const leader = (run) => run === data.runs[group().best];
    const found = [
      { name: "#", of: rank, show: (run) => group().best !== null && figure(run, data.objective) !== null ? rank(run) : "–" },
      ...group().swept.map((key) => ({ name: shortKey(key), long: key, of: (run) => value(run, key), show: (run) => clip(show(value(run, key)), 40),
        text: ranked().some((run) => typeof value(run, key) !== "number") })),
    ];
    const of = (key, name) => ({ name, of: (run) => figure(run, key), show: (run) => metricShow(key, figure(run, key)), high: metric(key).higher_is_better });
    return [...found, ...data.others.map((key) => of(key, metricTitle(key))),
      { ...of(ACCURACY, "accuracy %"), show: (run) => metricShow(ACCURACY, figure(run, ACCURACY)) || "not measured" },
      { name: "95 % interval", of: (run) => figure(run, "execution_accuracy_low"), high: true,
        show: (run) => figure(run, "execution_accuracy_low") === null ? "" : `${percent(figure(run, "execution_accuracy_low"))} to ${percent(figure(run, "execution_accuracy_high"))}` },
      { name: "leader − it", of: (run) => test(run, 0), show: (run) => run.test ? `${percent(run.test[0])} (${percent(run.test[1])} to ${percent(run.test[2])})` : "" },
      { name: "p, Holm", of: (run) => test(run, 4), show: (run) => run.test ? pValue(run.test[4]) : "" },
      { name: "leader is", text: true, of: (run) => leader(run) ? "" : test(run, 5), show: (run) => leader(run) ? "the leader" : run.test ? run.test[5] : "not tested" },
      of(LOSS, "loss"),
      ...data.costs.map((cost) => ({ name: cost.head, of: (run) => figure(run, cost.key), show: (run) => costShow(cost, figure(run, cost.key)) })),
      { name: "run", text: true, of: (run) => run.name, show: (run) => run.name, css: "name" },
    ];
  }
  function runTable() {
    const runs = shownRuns(), all = columns(), sorted = all.find((one) => one.name === state.sort);
    if (sorted) {
      runs.sort((p, q) => {
        const [first, second] = [sorted.of(p), sorted.of(q)];
        const [none, other] = [first === null || first === undefined, second === null || second === undefined];
        if (none || other) return none - other;
        return (state.down ? -1 : 1) * order(first, second);
      });
    }
    byId("shown").textContent = `${runs.length} of ${ranked().length} finished runs shown`;
    const row = (run) => {
      const kind = chosen(run);
      const button = (which) => h("button", { type: "button", class: `pick ${which}`, "aria-pressed": state[which] === data.runs.indexOf(run),
        "aria-label": `compare as ${which.toUpperCase()}: ${label(run)}`, onclick: () => pick(which, run) }, which.toUpperCase());
      return h("tr", { class: kind === "other" ? null : `is-${kind}` }, h("td", { class: "text" }, button("a"), button("b")),
        all.map((one) => h("td", { class: [one.text ? "text" : "", one.css || ""].join(" ").trim() || null, title: one.css ? run.name : null }, one.show(run))));
    };
    const top = h("tr", {}, h("th", { class: "text", scope: "col" }, "compare"), all.map((one) => h("th", {
      scope: "col", class: one.text ? "text" : null, title: one.long || null,
      "aria-sort": one === sorted ? (state.down ? "descending" : "ascending") : null,
    }, h("button", { type: "button", onclick: () => {
      state.down = state.sort === one.name ? !state.down : Boolean(one.high);
      state.sort = one.name;
      runTable();
      [...byId("runs").querySelectorAll("thead button")].find((made) => made.textContent === one.name)?.focus();
    } }, one.name))));
    if (!ranked().length) return nothing(byId("runs"), "No run of this group has finished yet.");
    byId("runs").replaceChildren(h("table", {}, h("thead", {}, top), h("tbody", {}, runs.map(row))));
  }
  function pooledTable() {
    const holder = byId("pooled"), pools = group().configurations.filter((one) => one.length > 1);
    if (!pools.length) return holder.replaceChildren();
    const mean = (runs, key) => {
      const found = runs.map((run) => figure(run, key)).filter((one) => one !== null);
      return found.length ? [found.reduce((p, q) => p + q, 0) / found.length, Math.min(...found), Math.max(...found)] : null;
    };
    const keys = group().swept.filter((key) => key !== "seed");
    const rows = group().configurations.map((places) => {
      const runs = places.map((place) => data.runs[place]), accuracy = mean(runs, ACCURACY), loss = mean(runs, LOSS);
      return h("tr", {}, keys.map((key) => h("td", {}, clip(show(value(runs[0], key)), 40))), h("td", {}, runs.length),
        h("td", {}, accuracy ? percent(accuracy[0]) : "not measured"), h("td", {}, accuracy && runs.length > 1 ? `${percent(accuracy[1])} to ${percent(accuracy[2])}` : ""),
        h("td", {}, loss ? loss[0].toFixed(4) : ""), h("td", {}, loss && runs.length > 1 ? `${loss[1].toFixed(4)} to ${loss[2].toFixed(4)}` : ""));
    });
    const heads = [...keys.map(shortKey), "seeds", "mean accuracy %", "least to most", "mean loss", "least to most"];
    holder.replaceChildren(h("h3", {}, "Seeds of one configuration, pooled"),
      h("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Configurations with their seeds pooled" },
        h("table", {}, h("thead", {}, h("tr", {}, heads.map((one) => h("th", { scope: "col" }, one)))), h("tbody", {}, rows))));
  }
  function unfinished() {
    const runs = data.unfinished.map((place) => data.runs[place]);
    byId("unfinished-section").hidden = !runs.length;
    byId("unfinished").replaceChildren(h("table", {},
      h("thead", {}, h("tr", {}, ["status", "run", "last step", "why"].map((one) => h("th", { scope: "col", class: one === "last step" ? null : "text" }, one)))),
      h("tbody", {}, runs.map((run) => h("tr", {}, h("td", { class: `text status-${run.status}` }, run.status),
        h("td", { class: "text long" }, run.name), h("td", {}, run.step ?? ""), h("td", { class: "text long" }, run.error || ""))))));
  }

  // ---- charts over runs --------------------------------------------------------------------

  const MOST_AXES = 10;
  const manySeeds = (key) => key === "seed" && distinct(ranked(), key).length > 12;
  function parallel() {
    const holder = byId("parallel"), runs = shownRuns().filter((run) => y(run) !== null);
    const every = group().swept.filter((key) => distinct(ranked(), key).length > 1 && !manySeeds(key)), keys = every.slice(0, MOST_AXES);
    for (const one of document.querySelectorAll(".y-title")) one.textContent = metric(yKey()).title;
    byId("parallel-note").textContent = "A line is a run; the darker (in dark mode: the lighter) it is, the higher it ends."
      + (every.length > keys.length ? ` The first ${MOST_AXES} of ${every.length} swept values are drawn.` : "");
    holder.replaceChildren();
    if (!runs.length || !keys.length) return nothing(holder, "There is nothing to draw: no finished runs that differ.");
    const height = 380, top = 46, bottom = height - 18;
    draw(holder, 120 + 105 * keys.length, height, `Swept values of ${runs.length} runs against ${yTitle()}`, (svg, width) => {
      const longest = Math.min(110, 7 * Math.max(...distinct(runs, keys[0]).map((one) => clip(show(one), 14).length)) + 14);
      const x = (place) => scale(0, keys.length, longest, width - 66)(place);
      const [low, high] = yExtent(runs.map(y), 0.03), end = scale(low, high, bottom, top), share = scale(low, high, 0, 1);
      const positions = keys.map((key) => {
        const values = distinct(ranked(), key);
        return new Map(values.map((one, place) => [JSON.stringify(one), values.length === 1 ? (top + bottom) / 2 : scale(0, values.length - 1, bottom - 6, top + 6)(place)]));
      });
      const opacity = runs.length > 300 ? 0.35 : runs.length > 60 ? 0.6 : 0.9;
      for (const run of [...runs].sort((p, q) => y(p) - y(q))) {
        const points = [...keys.map((key, place) => [x(place), positions[place].get(JSON.stringify(value(run, key)))]), [x(keys.length), end(y(run))]];
        let path = `M${points[0][0].toFixed(1)},${points[0][1].toFixed(1)}`;
        for (let i = 1; i < points.length; i++) {
          const [p, q] = [points[i - 1], points[i]], middle = ((p[0] + q[0]) / 2).toFixed(1);
          path += `C${middle},${p[1].toFixed(1)} ${middle},${q[1].toFixed(1)} ${q[0].toFixed(1)},${q[1].toFixed(1)}`;
        }
        const line = s("path", { class: "run", d: path, opacity, stroke: "currentColor" }, title(tip(run)));
        line.style.stroke = shade(0.15 + 0.85 * share(y(run)));
        svg.append(line);
      }
      keys.forEach((key, place) => {
        svg.append(s("line", { class: "axis", x1: x(place), x2: x(place), y1: top, y2: bottom }),
          add(words(x(place), place % 2 ? 30 : 14, clip(shortKey(key), 22), { "text-anchor": place ? "middle" : "start", ...(place ? {} : { x: 2 }) }), [title(key)]));
        const labels = [...positions[place]], step = Math.ceil(labels.length / 16);
        labels.forEach(([json, at], index) => {
          if (index % step && index !== labels.length - 1) return;
          svg.append(add(words(x(place) - 5, at + 4, clip(show(JSON.parse(json)), 14), { "text-anchor": "end", class: "halo" }), [title(`${key} = ${show(JSON.parse(json))}`)]));
        });
      });
      svg.append(s("line", { class: "axis", x1: x(keys.length), x2: x(keys.length), y1: top, y2: bottom }),
        words(width - 2, keys.length % 2 ? 30 : 14, yKey() === LOSS ? "loss" : yKey() === ACCURACY ? "accuracy, %" : clip(yTitle(), 22), { "text-anchor": "end" }));
      for (const at of ticks(low, high, 8)) svg.append(words(x(keys.length) + 6, end(at) + 4, yTick(at), {}));
    });
  }

  function effect(runs) {
    const values = runs.map(y), mean = values.reduce((p, q) => p + q, 0) / values.length, n = values.length;
    if (n === 1) {
      const count = figure(runs[0], "execution_count");
      if (!yIsShare() || !count) return { n, mean, low: mean, high: mean };
      const [low, high] = wilson(Math.round(mean * count), count);
      return { n, mean, low, high };
    }
    const spread = Math.sqrt(values.reduce((p, q) => p + (q - mean) ** 2, 0) / (n - 1));
    const half = student(n - 1) * spread / Math.sqrt(n), count = figure(runs[0], "execution_count");
    if (!yIsShare()) return { n, mean, low: mean - half, high: mean + half };
    if (!count) return { n, mean, low: Math.max(0, mean - half), high: Math.min(1, mean + half) };
    // Runs that agree say nothing of the questions, of which there are no more than one run answers.
    const [low, high] = wilson(Math.round(mean * count), count);
    return { n, mean, low: Math.max(0, Math.min(low, mean - half)), high: Math.min(1, Math.max(high, mean + half)) };
  }
  const MOST_VALUES = 24;
  // A value of which nearly every run has its own, as in a random search: a mean of one tells nothing.
  function scatter(holder, key, runs) {
    const panel = h("div", { class: "panel" }, h("h4", {}, `${key} (each run a point)`));
    holder.append(panel);
    draw(panel, 240, 260, `${key} against ${yTitle()}, each run a point`, (svg, width, height) => {
      const box = { left: 52, right: width - 16, top: 10, bottom: height - 44 };
      const values = runs.map((run) => value(run, key)), ends = extent(values, 0), log = ends[0] > 0 && ends[1] / ends[0] > 30;
      const f = log ? Math.log10 : (one) => one, [from, to] = extent(values.map(f), 0.03), at = scale(from, to, box.left, box.right);
      const [low, high] = yExtent(runs.map(y), 0.05), down = scale(low, high, box.bottom, box.top);
      axes(svg, box, { ticks: logTicks(from, to, log, width / 80), at: (one) => at(f(one)), show }, { ticks: ticks(low, high, 5), at: down, show: yTick },
        [shortKey(key) + (log ? " (log scale)" : ""), yTitle()]);
      for (const run of lastFirst(runs)) {
        const made = mark(chosen(run), at(f(value(run, key))), down(y(run)), chosen(run) === "other" ? 3 : 5, tip(run));
        if (chosen(run) === "other" && runs.length > 100) made.setAttribute("opacity", 0.5);
        svg.append(made);
      }
    });
  }
  function logTicks(from, to, log, about) {
    if (!log) return ticks(from, to, about);
    return ticks(Math.ceil(from), Math.floor(to), 10).filter(Number.isInteger).map((one) => 10 ** one);
  }
  function effects() {
    const holder = byId("effects"), runs = shownRuns().filter((run) => y(run) !== null);
    const keys = group().swept.filter((key) => distinct(runs, key).length > 1 && !manySeeds(key));
    holder.replaceChildren();
    if (!keys.length) return nothing(holder, "No swept value differs between the runs shown.");
    for (const key of keys) {
      const every = distinct(runs, key), values = every.slice(0, MOST_VALUES);
      if (every.length > MOST_VALUES && every.every((one) => typeof one === "number")) {
        scatter(holder, key, runs);
        continue;
      }
      const by = bundle(runs, (run) => JSON.stringify(value(run, key)));
      const found = values.map((one) => effect(by.get(JSON.stringify(one))));
      const panel = h("div", { class: "panel" }, h("h4", {}, key, every.length > values.length ? ` (the first ${MOST_VALUES} of ${every.length} values)` : ""));
      holder.append(panel);
      draw(panel, 240, 30 + 24 * values.length + 42, `Main effect of ${key} on ${yTitle()}`, (svg, width, height) => {
        const texts = values.map((one, place) => `${clip(show(one), 16)} (n=${found[place].n})`);
        const box = { left: Math.min(width * 0.45, 12 + 7 * Math.max(...texts.map((one) => one.length))), right: width - 14, top: 10, bottom: height - 42 };
        const [low, high] = yExtent(found.flatMap((one) => [one.low, one.high]), 0.06), at = scale(low, high, box.left, box.right);
        const marks = ticks(low, high, Math.max(2, (box.right - box.left) / 60));
        axes(svg, box, { ticks: marks, at, show: yTick }, { ticks: [], at: () => 0, show: String }, [yTitle(), ""]);
        found.forEach((one, place) => {
          const line = box.top + 14 + place * (box.bottom - box.top - 8) / values.length;
          const text = `${key} = ${show(values[place])}: mean ${yShow(one.mean)}, 95 % interval ${yShow(one.low)} to ${yShow(one.high)}, ${one.n} runs`;
          svg.append(add(words(box.left - 6, line + 4, texts[place], { "text-anchor": "end" }), [title(text)]),
            s("line", { class: "bar stroke-a", x1: at(one.low), x2: at(one.high), y1: line, y2: line }, title(text)),
            mark("a", at(one.mean), line, 5, text));
        });
      });
    }
  }

  function heatKeys() {
    const keys = group().swept.filter((key) => distinct(ranked(), key).length > 1);
    for (const [id, first] of [["heat-row", 0], ["heat-column", 1]]) {
      const select = byId(id), before = select.value;
      select.replaceChildren(...keys.map((key) => h("option", { value: key }, shortKey(key))));
      select.value = keys.includes(before) ? before : keys[first] ?? "";
    }
  }
  function heat() {
    const holder = byId("heat"), runs = shownRuns().filter((run) => y(run) !== null);
    const [row, column] = [byId("heat-row").value, byId("heat-column").value];
    holder.replaceChildren();
    if (!row || !column || row === column) return nothing(holder, "Choose two different swept values.");
    const down = distinct(runs, row).slice(0, 40), across = distinct(runs, column).slice(0, 40);
    if (!down.length) return nothing(holder, "No run is shown.");
    const by = bundle(runs, (run) => JSON.stringify([value(run, row), value(run, column)]));
    const cells = down.map((p) => across.map((q) => by.get(JSON.stringify([p, q])) ?? [])), mean = (of) => of.reduce((sum, run) => sum + y(run), 0) / of.length;
    const means = cells.flat().filter((of) => of.length).map(mean), [low, high] = extent(means, 0), share = scale(low, high, 0, 1);
    const left = Math.min(140, 24 + 7 * Math.max(...down.map((one) => clip(show(one), 16).length))) + 18;
    draw(holder, left + 62 * across.length, 44 * down.length + 62, `Mean ${yTitle()} by ${row} and ${column}`, (svg, width, height) => {
      const wide = Math.min(130, (width - left - 4) / across.length), bottom = 4 + 44 * down.length;
      down.forEach((p, i) => {
        svg.append(words(left - 6, 4 + 44 * i + 26, clip(show(p), 16), { "text-anchor": "end" }));
        across.forEach((q, j) => {
          const of = cells[i][j], text = `${row} = ${show(p)}, ${column} = ${show(q)}: `;
          const made = s("rect", { x: left + wide * j + 1, y: 5 + 44 * i, width: wide - 2, height: 42, rx: 3, fill: "#7f9ab5" },
            title(text + (of.length ? `mean ${yShow(mean(of))} of ${of.length} runs` : "no run")));
          if (!of.length) { made.style.fill = "none"; made.style.stroke = "var(--line)"; svg.append(made); return; }
          const at = share(mean(of));
          made.style.fill = shade(at);
          const texts = [words(left + wide * (j + 0.5), 24 + 44 * i, yIsShare() ? percent(mean(of)) : mean(of).toFixed(3), { "text-anchor": "middle" }),
            words(left + wide * (j + 0.5), 39 + 44 * i, `n=${of.length}`, { "text-anchor": "middle" })];
          for (const one of texts) { one.style.fill = at > (dark.matches ? 0.38 : 0.52) ? "var(--on-high)" : "var(--on-low)"; one.style.pointerEvents = "none"; one.style.fontWeight = 600; }
          svg.append(made, ...texts);
        });
      });
      across.forEach((q, j) => svg.append(words(left + wide * (j + 0.5), bottom + 16, clip(show(q), Math.floor(wide / 7)), { "text-anchor": "middle" })));
      svg.append(words(left + wide * across.length / 2, height - 10, shortKey(column), { "text-anchor": "middle" }),
        words(0, 0, shortKey(row), { "text-anchor": "middle", transform: `translate(13,${bottom / 2}) rotate(-90)` }));
    });
    holder.append(h("p", { class: "note" }, `Mean ${yTitle()} of the n runs in a cell.`));
  }

  function curves() {
    const holder = byId("curves");
    holder.replaceChildren();
    const running = group().unfinished.map((place) => data.runs[place]).filter(passes);
    // All panels stand in the grid before the first is drawn, so that each has its final width.
    const panels = [["loss", "Training loss"], ["held", "Validation loss"]].map(([key, name]) => {
      const runs = lastFirst([...shownRuns(), ...running]).filter((run) => run[key][0].length);
      const panel = h("div", { class: "panel" }, h("h4", {}, `${name} (${runs.length} run${runs.length === 1 ? "" : "s"})`));
      holder.append(panel);
      return [key, name, runs, panel];
    });
    for (const [key, name, runs, panel] of panels) {
      if (!runs.length) { panel.append(h("p", { class: "note" }, "Nothing was logged.")); continue; }
      draw(panel, 260, 300, `${name} by step`, (svg, width, height) => {
        const box = { left: 58, right: width - 12, top: 10, bottom: height - 44 };
        const [low, high] = extent(runs.flatMap((run) => run[key][1]), 0.04), steps = extent(runs.flatMap((run) => run[key][0]), 0);
        const across = scale(Math.min(0, steps[0]), steps[1], box.left, box.right), down = scale(low, high, box.bottom, box.top);
        axes(svg, box, { ticks: ticks(Math.min(0, steps[0]), steps[1], width / 90), at: across, show }, { ticks: ticks(low, high, 6), at: down, show }, ["optimizer step", metric(LOSS).unit]);
        for (const run of runs) {
          const kind = chosen(run), [x, loss] = run[key], text = `${run.status === "finished" ? label(run) : run.status}\n${run.name}`;
          const path = x.map((step, place) => `${place ? "L" : "M"}${across(step).toFixed(1)},${down(loss[place]).toFixed(1)}`).join("");
          const line = s("path", { class: `run stroke-${kind}`, d: path, opacity: kind === "other" ? (runs.length > 100 ? 0.2 : 0.5) : 1 }, title(text));
          if (kind !== "other") line.style.strokeWidth = 2.5;
          if (kind === "b") line.setAttribute("stroke-dasharray", "7 3");
          svg.append(line);
          if (kind !== "other" || (x.length === 1 && runs.length < 200)) x.forEach((step, place) => {
            if (x.length < 25) svg.append(mark(kind, across(step), down(loss[place]), 3.5, `${text}\nstep ${step}: ${loss[place]}`));
          });
        }
      });
    }
  }

  function cost() {
    const holder = byId("cost"), key = byId("cost-key").value, { title: costTitle, unit } = data.costs.find((cost) => cost.key === key), gib = unit === "GiB" ? 2 ** 30 : 1;
    const price = (run) => figure(run, key) / gib;
    const runs = lastFirst(shownRuns()).filter((run) => y(run) !== null && figure(run, key) !== null && figure(run, key) > 0);
    holder.replaceChildren();
    if (!runs.length) return nothing(holder, "No run shown has both figures.");
    const best = metric(yKey()).higher_is_better ? 1 : -1;
    let top = -Infinity;
    const front = [...runs].sort((p, q) => price(p) - price(q) || best * (y(q) - y(p))).filter((run) => {
      const better = best * y(run) > top;
      if (better) top = best * y(run);
      return better;
    });
    draw(holder, 280, 360, `${costTitle} against ${yTitle()}`, (svg, width, height) => {
      const box = { left: 58, right: width - 16, top: 16, bottom: height - 44 };
      const prices = runs.map(price), wide = extent(prices, 0), log = wide[1] / wide[0] > 30;
      const f = log ? Math.log10 : (one) => one, [from, to] = extent(prices.map(f), 0.05), at = scale(from, to, box.left, box.right);
      const [low, high] = yExtent(runs.map(y), 0.08), down = scale(low, high, box.bottom, box.top);
      const marks = logTicks(from, to, log, width / 100);
      axes(svg, box, { ticks: marks, at: (one) => at(f(one)), show: new Set(marks.map(large)).size === marks.length ? large : show }, { ticks: ticks(low, high, 6), at: down, show: yTick },
        [costTitle + (log ? " (log scale)" : ""), yTitle()]);
      const path = front.map((run, place) => place ? `H${at(f(price(run))).toFixed(1)}V${down(y(run)).toFixed(1)}` : `M${at(f(price(run))).toFixed(1)},${down(y(run)).toFixed(1)}`).join("");
      svg.append(s("path", { class: "axis", d: path + `H${box.right}`, "stroke-dasharray": "5 4" }));
      for (const run of runs) {
        const kind = chosen(run), on = front.includes(run);
        const made = mark(kind, at(f(price(run))), down(y(run)), kind === "other" ? (on ? 5 : 3.5) : 6, `${tip(run)}\n${costTitle}: ${large(price(run))}${on ? "\non the Pareto front" : ""}`);
        if (kind === "other" && !on && runs.length > 100) made.setAttribute("opacity", 0.5);
        svg.append(made);
      }
      let last = -Infinity;
      for (const run of front) {
        const x = at(f(price(run)));
        if (x - last < 26) continue;  // a number over a number tells nothing
        last = x;
        svg.append(words(x, down(y(run)) - 9, `#${rank(run)}`, { "text-anchor": "middle", class: "halo" }));
      }
    });
  }

  // ---- two runs ----------------------------------------------------------------------------

  function legends() {
    const [a, b] = [data.runs[state.a], data.runs[state.b]];
    for (const holder of document.querySelectorAll("[data-legend]")) {
      holder.replaceChildren(...[["a", a, "●"], ["b", b, "■"]].filter((one) => one[1]).map(([kind, run, sign]) =>
        h("span", {}, h("span", { class: `mark ${kind}` }, `${sign} ${kind.toUpperCase()}`), " ", label(run))));
    }
  }
  function kinds() {
    const holder = byId("kinds"), pair = [data.runs[state.a], data.runs[state.b]];
    holder.replaceChildren();
    if (!pair[0] || !pair[1]) return nothing(holder, "There are no two finished runs.");
    const levels = ["easy", "medium", "hard", "extra", "unknown"];
    const panels = [["hard", "By hardness of the gold query"], ["db", "By database"]].map(([key, name]) => {
      const names = [...new Set(pair.flatMap((run) => Object.keys(run[key])))];
      names.sort((p, q) => key === "hard" ? levels.indexOf(p) - levels.indexOf(q) : order(p, q));
      const panel = h("div", { class: "panel" }, h("h4", {}, name));
      holder.append(panel);
      return [key, name, names, panel];
    });
    for (const [key, name, names, panel] of panels) {
      if (!names.length) { panel.append(h("p", { class: "note" }, "The runs do not record it.")); continue; }
      draw(panel, 240, 34 * names.length + 60, name, (svg, width, height) => {
        const texts = names.map((one) => `${clip(one, 18)} (${Math.max(...pair.map((run) => run[key][one]?.[1] ?? 0))})`);
        const box = { left: Math.min(width * 0.5, 12 + 7 * Math.max(...texts.map((one) => one.length))), right: width - 16, top: 6, bottom: height - 44 };
        const at = scale(0, 1, box.left, box.right);
        axes(svg, box, { ticks: ticks(0, 1, Math.max(2, (box.right - box.left) / 55)), at, show: (one) => show(100 * one) }, { ticks: [], at: () => 0, show: String }, ["right answers (%)", ""]);
        names.forEach((one, place) => {
          const line = box.top + 18 + 34 * place;
          svg.append(add(words(box.left - 6, line + 4, texts[place], { "text-anchor": "end" }), [title(one)]));
          pair.forEach((run, which) => {
            const found = run[key][one];
            if (!found || !found[1]) return;
            const kind = which ? "b" : "a", height = line + (which ? 6 : -6), [low, high] = wilson(found[0], found[1]);
            const text = `${kind.toUpperCase()}, ${one}: ${found[0]} of ${found[1]} right, ${percent(found[0] / found[1])} %, 95 % interval ${percent(low)} to ${percent(high)} %`;
            svg.append(s("line", { class: `bar stroke-${kind}`, x1: at(low), x2: at(high), y1: height, y2: height }, title(text)), mark(kind, at(found[0] / found[1]), height, 4.5, text));
          });
        });
      });
    }
  }
  function diff() {
    const holder = byId("diff"), [a, b] = [data.runs[state.a], data.runs[state.b]];
    if (!a || !b) return nothing(holder, "There are no two finished runs.");
    const keys = data.keys.filter((key) => JSON.stringify(value(a, key)) !== JSON.stringify(value(b, key)));
    if (!keys.length) return nothing(holder, a === b ? "A and B are the same run." : "Their settings are equal.");
    holder.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, ["key", "A", "B"].map((one) => h("th", { scope: "col", class: "text" }, one)))),
      h("tbody", {}, keys.map((key) => h("tr", {}, h("th", { scope: "row", class: "text" }, key), [a, b].map((run) => h("td", { class: "text long" }, show(value(run, key)))))))));
  }
  function returned(gold, predicted) {
    return h("details", {}, h("summary", {}, "what both return"), h("div", { class: "returned" },
      h("div", {}, h("p", { class: "note" }, "gold"), h("pre", {}, gold)),
      h("div", {}, h("p", { class: "note" }, "predicted"), h("pre", {}, predicted || "(nothing: it failed)"))));
  }
  const WANTED = { differ: (p, q) => p !== q, a: (p, q) => p > q, b: (p, q) => p < q, neither: (p, q) => p + q === 0, both: (p, q) => p + q === 2 };
  function questions() {
    const holder = byId("questions"), note = byId("questions-note"), of = group(), more = byId("more");
    const [a, b] = [data.runs[state.a], data.runs[state.b]];
    holder.replaceChildren();
    more.hidden = true;
    byId("two-summary").textContent = "";
    if (!a || !b) return void (note.textContent = "There are no two finished runs.");
    if (!a.bits || !b.bits || a.asked !== b.asked || a.asked !== of.asked) return void (note.textContent = "Their verdicts on the same questions are not at hand (predictions.csv is missing, or asks others).");
    const table = [0, 0, 0, 0], found = [], wanted = WANTED[byId("which").value];
    for (let i = 0; i < a.bits.length; i++) {
      if (a.bits[i] === "-" || b.bits[i] === "-") continue;
      const [p, q] = [Number(a.bits[i]), Number(b.bits[i])];
      table[2 * p + q]++;
      if (wanted(p, q)) found.push(i);
    }
    byId("two-summary").textContent = `Both right ${table[3]}, only A ${table[2]}, only B ${table[1]}, neither ${table[0]}, of ${table[0] + table[1] + table[2] + table[3]} questions. `
      + "No test is made between two runs that were picked by hand; the table of runs has the tests against the leader.";
    const answers = [of.answers[state.a], of.answers[state.b]];
    note.textContent = `${found.length} questions.` + (answers.every(Boolean) ? "" : ` The SQL is in this page for the best ${of.with_texts} runs of a group only; for the others see predictions.csv in the run's folder.`);
    if (of.without_rows) note.textContent += ` What wrong answers return is in this page for the best ${of.with_rows} runs of a group only; ${of.without_rows} more have it in predictions.csv.`;
    const dd = (text) => h("dd", {}, h("pre", {}, text || "(empty)"));
    for (const i of found.slice(0, state.questions)) {
      const [row, database, question, gold] = of.questions[i];
      const parts = [h("dt", {}, "gold"), dd(gold)];
      ["a", "b"].forEach((kind, place) => {
        const answer = answers[place]?.[i], right = (place ? b : a).bits[i] === "1";
        parts.push(h("dt", {}, h("span", { class: `mark ${kind}` }, kind.toUpperCase()), right ? " right" : " wrong"),
          answer ? h("dd", {}, h("pre", {}, of.texts[answer[0]] || "(empty)"), h("span", { class: "note" }, of.texts[answer[1]]), answer.length > 2 && returned(...answer.slice(2).map((one) => of.texts[one])))
            : h("dd", { class: "note" }, "not in this page"));
      });
      holder.append(h("article", { class: "question" }, h("p", { class: "asked" }, question), h("p", { class: "note" }, `row ${row}${database ? `, database ${database}` : ""}`), h("dl", {}, parts)));
    }
    more.hidden = found.length <= state.questions;
    more.textContent = `Show more (${found.length - state.questions} left)`;
  }

  // ---- together ----------------------------------------------------------------------------

  function charts() {
    parallel(); effects(); heat(); curves(); cost(); kinds();
  }
  function redraw() {
    heatKeys();
    runTable(); pooledTable(); legends(); charts(); diff(); questions();
  }
  let waiting = null;
  function soon(action) {
    clearTimeout(waiting);
    waiting = setTimeout(action, 120);
  }
  byId("cost-key").replaceChildren(...data.costs.map((cost) => h("option", { value: cost.key }, cost.title)));
  byId("filter").addEventListener("input", (event) => { state.text = event.target.value.trim(); soon(redraw); });
  byId("clear").addEventListener("click", () => {
    state.text = byId("filter").value = "";
    state.values.clear();
    valueFilters();
    redraw();
  });
  for (const id of ["heat-row", "heat-column"]) byId(id).addEventListener("change", heat);
  byId("cost-key").addEventListener("change", cost);
  byId("which").addEventListener("change", () => { state.questions = FIRST_QUESTIONS; questions(); });
  byId("more").addEventListener("click", () => { state.questions += MORE_QUESTIONS; questions(); });
  for (const which of ["a", "b"]) byId(`run-${which}`).addEventListener("change", (event) => pick(which, data.runs[Number(event.target.value)]));
  dark.addEventListener("change", () => soon(charts));
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;  // a phone's address bar that hides is no new width
    width = window.innerWidth;
    soon(charts);
  });

  head();
  unfinished();
  if (data.groups.length) choose(0);
  requestAnimationFrame(() => requestAnimationFrame(() => { document.documentElement.dataset.drawn = Math.round(performance.now()); }));
})();
