// Draws a view (see view.rs): that of a replay is in the page; that of a live stack is fetched repeatedly.
// Every value of a view goes into text nodes.
"use strict";
(() => {
  const METRICS = ["hard_bounce", "complaint", "delay", "block"];
  const METRIC_NAMES = { hard_bounce: "hard bounces", complaint: "complaints", delay: "delays", block: "blocks" };
  const STATES = ["open", "throttled", "probing"];
  // The public word for a state; without a gate, a reduced quota holds nothing back. A test compares it with `StateName::word`.
  const SHOWN = { closed: "sending", throttled: "slowed", open: "stopped", probing: "testing" };
  const shown = (name) => (name === "throttled" && !view.gate ? "warned" : SHOWN[name] || name);
  const BY_PERSON = { open: "stopped by a person", closed: "bypassed by a person", shadow: "put in shadow by a person" };
  const SHOWN_DIAGNOSES = 25;

  const $ = (id) => document.getElementById(id);
  let view = null;
  let chosen = { key: null, metric: "hard_bounce", hours: 0, ramp: null };
  let charts = [];
  let printing = false;

  // --- words and numbers

  const whole = (n) => Math.round(n).toLocaleString("en-US");
  const percent = (share) => {
    if (share === null || share === undefined) return "no data";
    const p = share * 100;
    if (p === 0) return "0 %";
    const digits = p >= 10 ? 0 : p >= 1 ? 1 : p >= 0.1 ? 2 : 3;
    return `${Number(p.toFixed(digits))} %`;
  };
  const two = (n) => String(n).padStart(2, "0");
  const clock = (ms) => {
    const d = new Date(ms);
    return `${d.getUTCFullYear()}-${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())} ${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
  };
  const timeOf = (at) => (at ? at.replace("T", " ").replace(/(\.\d+)?Z$/, "") : "");
  const keyName = (k) => (k.isp ? `${k.subject} @ ${k.isp}` : k.subject);
  const plural = (n, word) => `${whole(n)} ${word}${n === 1 ? "" : "s"}`;
  const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

  const el = (name, properties, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(properties || {})) {
      if (value === undefined || value === null || value === false) continue;
      if (key === "class") node.className = value;
      else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
    return node;
  };
  const fill = (id, ...children) => $(id).replaceChildren(...children.flat(Infinity));
  const table = (label, note, heads, rows) => [
    note ? el("p", { class: "hint" }, note) : null,
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
      el("table", { "aria-label": label },
        el("thead", {}, el("tr", {}, heads.map(([text, number]) => el("th", { scope: "col", class: number ? "number" : null }, text)))),
        el("tbody", {}, rows)))].filter((node) => node !== null);
  const number = (text, more) => el("td", { class: `number ${more || ""}`.trim() }, text);
  const state = (name, factor) =>
    el("span", { class: `state ${name}` }, name === "throttled" && factor !== null && view.gate ? `${shown(name)} to ${percent(factor)}` : shown(name));

  const hasSwitch = (key) => key.isp === null && (key.subject === "account" || /^(configuration-set|tenant):/.test(key.subject) && key.subject !== "configuration-set:(none)");
  // Without a gate, a subject without a switch at SES is evidence only: it is not stopped or resumed, except by a person's command.
  const isEvidence = (key) => !view.gate && key.isp === null && !hasSwitch(key) && key.hold === "none";

  // Subjects that share all their mail are shown once if their breakers are in the same state.
  const isEcho = (key) => {
    const first = view.same_mail.find((group) => group.includes(key.subject))?.[0];
    if (!first || first === key.subject) return false;
    const twin = view.keys.find((other) => other.subject === first && other.isp === key.isp);
    // A subject without a switch has no state of its own if a configuration set has the same mail.
    if (twin !== undefined && isEvidence({ ...key, isp: null })) return true;
    return twin !== undefined && twin.state === key.state && twin.factor === key.factor && twin.hold === key.hold;
  };
  const twins = (key) => (key.isp ? [] : (view.same_mail.find((group) => group[0] === key.subject) || []).slice(1)
    .filter((subject) => view.keys.some((other) => other.subject === subject && other.isp === null && isEcho(other))));
  const named = (key, text) => [text, twins(key).map((subject) => el("div", { class: "hint" }, `the same mail: ${subject}`))];

  const linesOf = (metric) => view.lines.find((lines) => lines.metric === metric);
  const isJudged = (key, metric) => key.isp !== null || linesOf(metric).over_all;

  // --- where it stands

  const drawHead = () => {
    document.title = `${view.title} · ses-breaker`;
    $("title").textContent = view.kind === "live" ? `ses-breaker: ${view.title}` : "ses-breaker: what the breakers would have done";
    const g = view.grid;
    const from = clock(g.from * 60000);
    const to = clock((g.from + g.step * g.bins) * 60000);
    const shadow = view.shadow ? ", in shadow: decisions are only reported" : "";
    $("about").textContent = `${view.kind === "live" ? "" : `${view.title} · `}mail of ${from} to ${to} UTC · ${view.policy}${shadow}`;
    $("read").textContent = view.read;
    const sections = [...document.querySelectorAll("main section")].filter((section) => !section.hidden);
    fill("sections", sections.map((section) => el("a", { href: `#${section.id}` }, section.querySelector("h2").textContent)));
  };

  const drawNow = () => {
    const unsettled = view.keys.filter((key) => key.state !== "closed");
    const overridden = view.keys.filter((key) => key.hold !== "none").length;
    const listed = view.keys.filter((key) => key.state !== "closed" || key.hold !== "none");
    const counts = ["open", "probing", "throttled", "in trouble"].map((name) => [unsettled.filter((key) => key.state === name).length, shown(name)])
      .filter(([count]) => count > 0).map(([count, word]) => `${whole(count)} ${word}`);
    const tense = view.kind === "live" ? "" : " at the end";
    const opened = view.transitions.filter((t) => t.to === "open" && t.from !== "open" && !isDuplicate(t)).length;
    let verdict = unsettled.length === 0
      ? `Everything is sending${tense}.`
      : `${counts.join(", ")}${tense}.`;
    verdict += opened ? ` In this time, a breaker stopped sending ${opened === 1 ? "once" : `${whole(opened)} times`}.` : " In this time, nothing was stopped.";
    if (overridden) verdict += ` ${plural(overridden, "breaker")} under a command of a person.`;
    if ($("verdict").textContent !== verdict) $("verdict").textContent = verdict;
    fill("warnings", view.warnings.map((text) => el("p", { class: "warning" }, text)));

    const outcomes = ["delivered", "hard_bounces", "soft_bounces", "undetermined", "refused_bounces"].reduce((sum, kind) => sum + (view.whole[kind] || 0), 0);
    const sent = Math.max(view.whole.sent || 0, outcomes);
    const tile = (name, value, more) => el("div", {}, el("dt", {}, name), el("dd", {}, value, more ? el("small", {}, more) : null));
    const rate = (metric) => {
      const r = view.whole_rates[metric];
      return tile(METRIC_NAMES[metric], percent(r && r.rate), r && r.rate !== null
        ? `${whole(r.bad)} of ${whole(r.population)}; limit ${percent(linesOf(metric).limit)}` : "no denominator");
    };
    fill("tiles",
      tile("mail accepted", whole(sent), `${whole(view.whole.delivered || 0)} delivered${outcomes > (view.whole.sent || 0) ? `; only ${whole(view.whole.sent || 0)} Send events` : ""}`),
      METRICS.map(rate),
      view.after_pause === null ? [] : tile("while its set was stopped", whole(view.after_pause), "would not have been sent"),
      tile("never tried", whole(view.whole.suppressed || 0), "on a suppression list"));

    if (listed.length === 0) return fill("breakers");
    const rows = listed.filter((key) => view.kind === "live" || !isEcho(key)).map((key) => el("tr", {},
      el("th", { scope: "row" }, view.kind === "live" ? keyName(key) : named(key, keyName(key))),
      el("td", {}, state(key.state, key.factor), key.hold !== "none" ? ` (${BY_PERSON[key.hold]})` : ""),
      el("td", { class: "time" }, timeOf(key.since)),
      el("td", { class: "time" }, key.until ? timeOf(key.until) : key.state === "open" ? "a person resumes it" : ""),
      el("td", { class: "why" }, lastReason(key)),
      el("td", { class: view.kind === "live" ? "act" : null }, view.kind === "live" ? buttons(key) : el("code", {}, explainCommand(key)))));
    fill("breakers", table("Breakers that are not sending, or under a command of a person", null,
      [["breaker"], ["state"], ["since"], ["decided again"], ["why"], [view.kind === "live" ? "act" : "see more"]], rows));
  };

  const lastReason = (key) => {
    const last = view.transitions.findLast((t) => t.subject === key.subject && t.isp === key.isp && t.from !== t.to);
    return last ? last.reason : "";
  };
  const commandOf = (verb, key, more) =>
    ["ses-breaker", verb, key.subject, ...(key.isp ? ["--isp", key.isp] : []), ...(more || []), ...view.arguments].map(quoted).join(" ");
  const explainCommand = (key) => {
    if (view.kind === "live") return commandOf("explain", key);
    const last = view.transitions.findLast((t) => t.subject === key.subject && t.isp === key.isp);
    const at = timeOf(last ? last.at : new Date(view.now).toISOString());
    return ["replay", "explain", ...view.arguments, "--at", at, "--subject", key.subject, ...(key.isp ? ["--isp", key.isp] : [])].map(quoted).join(" ");
  };

  const drawKeys = () => {
    const cell = (key, metric) => {
      const rate = key.rates[metric];
      const lines = linesOf(metric);
      if (!rate || rate.rate === null) return number("no data", "none");
      // The rate of a few mails may be chance: it is marked only if the harm is beyond chance.
      const sure = (rate.bad - Math.sqrt(rate.bad)) / Math.max(rate.population, 1);
      const warn = Math.min(...lines.ratios.filter(([level]) => level === "warn").map(([, line]) => line), lines.limit);
      const mark = sure >= lines.limit ? "over" : sure >= warn ? "near" : "";
      const words = mark === "over" ? " ▲" : mark === "near" ? " △" : "";
      return number(`${percent(rate.rate)}${words}`, mark);
    };
    const live = view.kind === "live";
    const rows = view.keys.filter((key) => !isEcho(key) && !(key.isp && isEcho({ ...key, ...view.keys.find((k) => k.subject === key.subject && k.isp === null) })))
      .map((key) => el("tr", { class: key.isp ? "part" : null },
      el("th", { scope: "row" }, key.isp || named(key, key.subject)),
      el("td", {}, isEvidence(key) ? "no switch" : state(key.state, key.factor), key.hold === "none" ? null : ` (${BY_PERSON[key.hold]})`),
      number(whole(key.counters.sent || 0)), number(whole(key.counters.delivered || 0)),
      METRICS.map((metric) => cell(key, metric)),
      number(whole(key.trips)),
      live ? el("td", {}, key.isp || isEvidence(key) ? "" : el("button", { type: "button", "data-focus": `act ${keyName(key)}`, "aria-label": `Act on ${keyName(key)}`, onclick: () => ask(wordFor(key), key) }, `${WORDS[wordFor(key)][0]}…`)) : null));
    const limits = view.lines.map((lines) => `${METRIC_NAMES[lines.metric]} ${percent(lines.limit)}`).join(", ");
    fill("keys-table",
      table("Rates of each key", `Limits: ${limits}. ▲ above the limit, △ above the warn line, each beyond chance.`,
        [["mail of"], ["breaker"], ["sent", 1], ["delivered", 1], ...METRICS.map((metric) => [METRIC_NAMES[metric], 1]), ["trips", 1], ...(live ? [["act"]] : [])], rows),
      view.keys_left_out ? el("p", { class: "hint" }, `${plural(view.keys_left_out, "key")} with less mail left out.`) : []);
  };

  // --- over time

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    if (printing) {
      return { ink: "#000", faint: "#444", rule: "#ccc", bar: "#999", lines: ["#0550ae", "#b3261e", "#7a4f01", "#57606a"],
        bands: { open: "rgba(179,38,30,.2)", throttled: "rgba(191,135,0,.2)", probing: "rgba(5,80,174,.15)" }, ground: "#fff" };
    }
    return { ink: of("--ink"), faint: of("--faint"), rule: of("--rule"), bar: of("--bar"), ground: of("--ground"),
      lines: [1, 2, 3, 4].map((n) => of(`--line-${n}`)),
      bands: { open: of("--band-open"), throttled: of("--band-throttled"), probing: of("--band-probing") } };
  };

  const selectedKey = () => view.keys.find((key) => keyName(key) === chosen.key) || view.keys[0];

  // Times in which the key's breaker was not closed: [from, to, state] in seconds.
  const bandsOf = (key) => {
    const bands = ownBands(key);
    if (key.isp === null || key.subject === "account") return bands;
    // A stop of its subject as a whole, or of its ISP for all senders, stops this key, too.
    const stands = (subject, isp) => view.keys.find((other) => other.subject === subject && other.isp === isp) || { subject, isp, state: "closed" };
    return [...bands, ...ownBands(stands(key.subject, null)), ...ownBands(stands("account", key.isp))];
  };
  const ownBands = (key) => {
    const bands = [];
    let since = null;
    for (const t of view.transitions) {
      if (t.subject !== key.subject || t.isp !== key.isp || t.from === t.to) continue;
      const at = Date.parse(t.at) / 1000;
      if (STATES.includes(t.from)) bands.push([since === null ? view.grid.from * 60 : since, at, t.from]);
      since = at;
    }
    const now = view.now / 1000;
    if (STATES.includes(key.state)) bands.push([since !== null ? since : key.since ? Date.parse(key.since) / 1000 : view.grid.from * 60, now, key.state]);
    return bands;
  };

  const range = () => {
    const from = view.grid.from * 60;
    const to = Math.max((view.grid.from + view.grid.step * view.grid.bins) * 60, Math.min(view.now / 1000, (view.grid.from + view.grid.step * view.grid.bins) * 60 + 86400));
    return chosen.hours ? [Math.max(from, to - chosen.hours * 3600), to] : [from, to];
  };

  const syncing = { busy: false };
  const chart = (host, caption, more, series, data, options) => {
    const ink = colours();
    const holder = el("div", {});
    const label = `${caption} ${more}`.trim();
    const figure = el("figure", {}, el("figcaption", {}, caption, " ", el("span", {}, more)), holder);
    host.append(figure);
    const axis = { stroke: ink.faint, grid: { stroke: ink.rule, width: 1 }, ticks: { stroke: ink.rule, width: 1 }, font: "12px system-ui, sans-serif" };
    const width = () => Math.max(280, Math.min(host.clientWidth || 700, printing ? 700 : 4000));
    const plot = new uPlot({
      width: width(), height: options.height || 190,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: {
        sync: { key: options.sync || null, scales: ["x", null] }, drag: { x: true, y: false },
        // A step holds until the next point.
        dataIdx: (u, series, nearest, x) => (options.stepped && u.data[0][nearest] > x ? Math.max(0, nearest - 1) : nearest),
      },
      scales: { x: { time: true, range: (u, min, max) => (min === null ? options.range : [min, max]) }, y: { range: (u, min, max) => [0, Math.max(max || 0, options.least || 0) * 1.08 || 1] } },
      axes: [{ ...axis, space: 70, values: [[86400 * 28, "{YYYY}-{MM}", null, null, null, null, null, null, 1], [86400, "{MM}-{DD}", "\n{YYYY}", null, null, null, null, null, 1],
        [3600, "{HH}:{mm}", "\n{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1], [60, "{HH}:{mm}", "\n{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
      { ...axis, size: 62, values: (u, ticks) => ticks.map(options.value) }],
      series: [{ label: "time", value: (u, seconds) => (seconds === null ? "–" : clock(seconds * 1000)) },
        ...series.map((one) => ({ points: { show: false }, spanGaps: false, value: (u, y) => (y === null || y === undefined ? "–" : options.value(y)), ...one }))],
      hooks: {
        drawClear: [(u) => {
          for (const [from, to, name] of options.bands || []) {
            const left = Math.max(u.bbox.left, u.valToPos(from, "x", true));
            const right = Math.min(u.bbox.left + u.bbox.width, u.valToPos(to, "x", true));
            if (right <= left) continue;
            u.ctx.fillStyle = colours().bands[name];
            u.ctx.fillRect(left, u.bbox.top, Math.max(right - left, 2), u.bbox.height);
          }
        }],
        setScale: [(u, scale) => {
          if (scale !== "x" || syncing.busy || !options.sync) return;
          syncing.busy = true;
          for (const other of charts) if (other.plot !== u && other.sync === options.sync) other.plot.setScale("x", { min: u.scales.x.min, max: u.scales.x.max });
          syncing.busy = false;
        }],
      },
    }, data, holder);
    // An image for screen readers; the same numbers are in the table below.
    plot.root.setAttribute("role", "img");
    plot.root.setAttribute("aria-label", label);
    plot.setScale("x", { min: options.range[0], max: options.range[1] });
    charts.push({ plot, host, width, sync: options.sync });
  };

  const rolled = (bad, population, window) => {
    const out = new Array(population.length).fill(null);
    let b = 0, p = 0;
    for (let i = 0; i < population.length; i++) {
      b += bad[i] || 0; p += population[i] || 0;
      if (i >= window) { b -= bad[i - window] || 0; p -= population[i - window] || 0; }
      if (p > 0 && population[i] > 0) out[i] = b / p;
    }
    return out;
  };

  const drawCourse = () => {
    charts = charts.filter((known) => { if (known.host.id !== "charts") return true; known.plot.destroy(); return false; });
    fill("charts");
    const key = selectedKey();
    $("course").hidden = !key;
    if (!key) return;
    const metric = chosen.metric;
    const index = METRICS.indexOf(metric);
    const lines = linesOf(metric);
    const g = view.grid;
    const at = Array.from({ length: g.bins }, (_, bin) => (g.from + bin * g.step) * 60);
    const zeros = new Array(g.bins).fill(0);
    const or = (list) => (list.length ? list : zeros);
    const mails = or(key.course.mails), population = or(key.course.population[index]), bad = or(key.course.bad[index]);
    const bands = bandsOf(key);
    const ink = colours();
    const common = { range: range(), bands, sync: "course" };
    const bin = g.step === 1 ? "minute" : g.step < 60 ? `${g.step} minutes` : g.step === 60 ? "hour" : "day";
    const host = $("charts");
    const name = keyName(key);

    const rates = population.map((all, i) => (all > 0 ? bad[i] / all : null));
    const has = rates.some((rate) => rate !== null);
    const window = g.step === 60 ? 24 : g.step === 1440 ? 7 : 12;
    const flat = (value) => at.map(() => value);
    const warns = lines.ratios.slice(0, 2);
    const peak = rates.reduce((most, rate, i) => (rate !== null && (most === null || rate > rates[most]) ? i : most), null);
    const most = peak === null ? "no data" : `highest ${percent(rates[peak])} at ${clock(at[peak] * 1000)}`;
    chart(host, `Rate of ${METRIC_NAMES[metric]} per ${bin}, ${name}:`, has ? `${most}; limit ${percent(lines.limit)}` : "no data", [
      { label: `each ${bin}`, stroke: ink.lines[0], width: 1, points: { show: true, size: 4, fill: ink.lines[0] } },
      { label: g.step === 60 ? "over a day" : g.step === 1440 ? "over a week" : `over ${window * g.step} minutes`, stroke: ink.ink, width: 2 },
      { label: "limit", stroke: ink.lines[1], width: 2, dash: [8, 4] },
      ...warns.map(([level, line], i) => ({ label: `ratio rule: ${level}`, stroke: ink.lines[2 + i], width: 1, dash: [2, 3] })),
    ], [at, rates, rolled(bad, population, window), flat(lines.limit), ...warns.map(([, line]) => flat(line))], { ...common, value: percent, least: lines.limit * 1.2 });

    const track = (key.evidence[metric] || []);
    if (isJudged(key, metric) && (lines.throttle !== null || lines.pause !== null)) {
      const points = [[range()[0] * 1000, null], ...track, [Math.max(view.now, track.length ? track[track.length - 1][0] : 0), track.length ? track[track.length - 1][1] : 0]];
      if (points.length > 2) points[0] = [Math.min(points[0][0], points[1][0]), 0];
      else points[0][1] = 0;
      const x = points.map(([ms]) => ms / 1000);
      const highest = track.reduce((most, [, nats]) => Math.max(most, nats), 0);
      const level = (value) => x.map(() => value);
      const stepped = uPlot.paths.stepped({ align: 1 });
      const thresholds = [["throttle", lines.throttle, ink.lines[2]], ["pause", lines.pause, ink.lines[1]]].filter(([, value]) => value !== null);
      chart(host, `Evidence about ${METRIC_NAMES[metric]}, ${name}:`,
        `highest ${highest.toFixed(1)} nats; ${thresholds.map(([word, value]) => `${word} at ${value}`).join(", ")}`, [
          { label: "evidence (CUSUM)", stroke: ink.lines[0], width: 2, paths: stepped, fill: ink.bands.probing },
          ...thresholds.map(([word, , stroke]) => ({ label: `${word} threshold`, stroke, width: 2, dash: [8, 4] })),
        ], [x, points.map(([, nats]) => nats), ...thresholds.map(([, value]) => level(value))],
        { ...common, stepped: true, value: (nats) => `${Number(nats.toFixed(1))}`, least: Math.max(...thresholds.map(([, value]) => value)) });
    } else {
      host.append(el("p", { class: "hint" }, `${METRIC_NAMES[metric]} are judged at each ISP separately: choose one of its ISPs to see the evidence.`));
    }

    const total = mails.reduce((sum, count) => sum + count, 0);
    chart(host, `Mail accepted per ${bin}, ${name}:`, `${whole(total)} in all`, [
      { label: "mail", stroke: ink.bar, fill: ink.bar, paths: uPlot.paths.bars({ size: [0.9, 60], align: 1 }) },
    ], [at, mails], { ...common, value: whole, height: 130 });

    const swatch = (name) => { const box = el("span", { class: "key-band" }); box.style.background = ink.bands[name]; return box; };
    fill("bands", "Shaded: ", STATES.map((name) => [swatch(name), shown(name)]));

    const withMail = at.map((seconds, i) => i).filter((i) => mails[i] > 0 || bad[i] > 0);
    const rows = withMail.slice(-400).map((i) => el("tr", {}, el("th", { scope: "row" }, clock(at[i] * 1000)), number(whole(mails[i])), number(whole(bad[i])), number(whole(population[i])), number(percent(rates[i]))));
    fill("numbers-table", table("Numbers of the charts", `${name}, per ${bin}${withMail.length > 400 ? "; the last 400 with mail" : ""}`,
      [["from"], ["mail", 1], [METRIC_NAMES[metric], 1], ["of", 1], ["rate", 1]], rows));
  };

  const drawMap = () => {
    const key = selectedKey();
    const parts = key ? view.keys.filter((other) => other.subject === key.subject && other.isp !== null) : [];
    $("map").hidden = parts.length === 0;
    if (parts.length === 0) return;
    const index = METRICS.indexOf(chosen.metric);
    const limit = linesOf(chosen.metric).limit;
    const g = view.grid;
    const ink = colours();
    const dark = !printing && matchMedia("(prefers-color-scheme: dark)").matches;
    // Up to the limit in blue, beyond it in red; for dark and light backgrounds.
    const colour = (share) => {
      if (share >= 1) return `hsl(4 75% ${Math.max(dark ? 40 : 30, (dark ? 62 : 58) - Math.min(share - 1, 3) * 8)}%)`;
      return dark ? `hsl(212 55% ${16 + share * 44}%)` : `hsl(212 60% ${94 - share * 44}%)`;
    };
    const few = 20;
    const wide = Math.max(3, Math.floor(((printing ? 600 : $("heat").clientWidth || 700) - 130) / g.bins));
    let worst = null;
    const rows = parts.map((part) => {
      const canvas = el("canvas", { role: "img" });
      const scale = window.devicePixelRatio || 1;
      canvas.width = Math.min(16000, g.bins * wide * scale);
      canvas.height = 22 * scale;
      canvas.style.width = `${g.bins * wide}px`;
      const pen = canvas.getContext("2d");
      pen.scale(canvas.width / (g.bins * wide), scale);
      let above = 0, highest = null;
      const population = part.course.population[index], bad = part.course.bad[index];
      for (let bin = 0; bin < g.bins; bin++) {
        const all = population[bin] || 0;
        if (all === 0) continue;
        const rate = (bad[bin] || 0) / all;
        pen.fillStyle = colour(rate / limit);
        // Too few mails for a rate: a thin mark.
        if (all < few) pen.fillRect(bin * wide, 15, Math.max(wide - 1, 1), 6); else pen.fillRect(bin * wide, 1, Math.max(wide - 1, 1), 20);
        if (all >= few && rate > limit) above++;
        if (all >= few && (highest === null || rate > highest.rate)) highest = { rate, at: (g.from + bin * g.step) * 60000, isp: part.isp };
      }
      if (highest && (worst === null || highest.rate > worst.rate)) worst = highest;
      canvas.setAttribute("aria-label", `${part.isp}: ${highest ? `highest ${percent(highest.rate)} at ${clock(highest.at)}, ${plural(above, "bin")} above the limit` : "too little mail, or no data"}`);
      canvas.addEventListener("mousemove", (event) => {
        const bin = Math.min(g.bins - 1, Math.floor(event.offsetX / wide));
        const all = population[bin] || 0;
        canvas.title = `${part.isp} ${clock((g.from + bin * g.step) * 60000)}: ${all ? `${percent((bad[bin] || 0) / all)}, ${whole(bad[bin] || 0)} of ${whole(all)}` : "no data"}`;
      });
      return [el("span", {}, part.isp), canvas];
    });
    const swatch = (share, text) => { const box = el("span"); box.style.background = colour(share); return [box, text]; };
    fill("heat",
      el("p", {}, `${METRIC_NAMES[chosen.metric]} of ${key.subject} at each ISP. `, worst && worst.rate === 0 ? "None." : worst ? `Highest: ${worst.isp}, ${percent(worst.rate)} at ${clock(worst.at)}.` : "Too little mail for a rate."),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Heat map, scrolls sideways" }, el("div", { class: "heat" }, rows)),
      el("p", { class: "hint swatches" }, swatch(0, "none"), swatch(0.5, "half the limit"), swatch(0.99, `limit (${percent(limit)})`), swatch(1.5, "above"), swatch(4, "far above"), ` · thin marks: fewer than ${few} mails`));
  };

  // Equal transitions of the same mail are shown once.
  const isDuplicate = (t) => {
    const first = view.same_mail.find((group) => group.includes(t.subject))?.[0];
    return first !== undefined && first !== t.subject
      && view.transitions.some((o) => o.subject === first && o.at === t.at && o.isp === t.isp && o.to === t.to && o.reason === t.reason);
  };

  const drawMoves = () => {
    const rows = view.transitions.filter((t) => !isDuplicate(t)).map((t) => {
      const group = view.same_mail.find((names) => names[0] === t.subject);
      const key = { subject: t.subject, isp: t.isp };
      return el("tr", {},
        el("td", { class: "time" }, timeOf(t.at)),
        el("td", {}, t.from === t.to ? el("span", { class: t.level ? "near" : "" }, t.level || "news") : [`${shown(t.from)} → `, state(t.to, null)], t.shadow ? " (shadow)" : ""),
        el("th", { scope: "row" }, keyName(key), group ? el("div", { class: "hint" }, group.slice(1).join(", ")) : null),
        el("td", { class: "why" }, t.reason),
        number(t.rate === null ? "" : percent(t.rate)));
    });
    fill("moves-table", rows.length === 0 ? el("p", {}, "No breaker moved, and there were no warnings.")
      : table("What breakers did", view.moves_left_out ? `The latest; ${whole(view.moves_left_out)} earlier ones are left out.` : null, [["when"], ["what"], ["breaker"], ["why"], ["rate", 1]], rows));
    $("stops").hidden = view.stopped.length === 0;
    fill("stops-table", table("Mail while stopped", "Counted by when SES accepted it. Breakers of the same mail, and of a subject and its ISPs, overlap: these do not add up.",
      [["breaker"], ["from"], ["until"], ["accepted", 1], ["with an outcome", 1], ["bounced hard", 1], ["complaints", 1], ["blocks", 1]],
      view.stopped.map((s) => el("tr", {}, el("th", { scope: "row" }, keyName(s)), el("td", { class: "time" }, timeOf(s.from)), el("td", { class: "time" }, s.until ? timeOf(s.until) : "the end"),
        [s.sent, s.attempts, s.hard_bounces, s.complaints, s.blocks].map((n) => number(whole(n)))))));
    $("controls").hidden = view.controls.length === 0;
    fill("controls-table", table("Controls", null, [["when"], ["what"], ["of"], ["why"]], view.controls.map((c) => el("tr", {},
      el("td", { class: "time" }, timeOf(c.at)), el("td", {}, c.control.replaceAll("_", " "), c.factor !== undefined ? ` ${percent(c.factor)}` : ""),
      el("th", { scope: "row" }, keyName({ subject: c.target, isp: c.isp })), el("td", {}, c.reason)))));
  };

  const drawQuotas = () => {
    $("quotas").hidden = view.quotas.length === 0;
    charts = charts.filter((known) => { if (known.host.id !== "ramp-chart") return true; known.plot.destroy(); return false; });
    fill("ramp-chart");
    if (view.quotas.length === 0) return;
    const ramps = [...new Set(view.quotas.map((q) => `${q.set} @ ${q.isp}`))];
    if (!ramps.includes(chosen.ramp)) chosen.ramp = ramps[0];
    $("quota-choice").hidden = view.kind === "live";
    fill("ramp", ramps.map((name) => el("option", { value: name, selected: name === chosen.ramp }, name)));
    const days = view.quotas.filter((q) => `${q.set} @ ${q.isp}` === chosen.ramp);
    const at = days.map((q) => Date.parse(`${q.day}T00:00:00Z`) / 1000);
    const ink = colours();
    if (days.length > 1) {
      chart($("ramp-chart"), `Quota of each day, ${chosen.ramp}:`, `${whole(days[days.length - 1].quota)} on ${days[days.length - 1].day}`, [
        { label: "quota", stroke: ink.lines[0], width: 2, paths: uPlot.paths.stepped({ align: 1 }) },
        { label: "asked for", stroke: ink.lines[2], width: 1, dash: [4, 3], points: { show: true, size: 4 } },
        { label: "granted", stroke: ink.bar, fill: ink.bar, paths: uPlot.paths.bars({ size: [0.5, 40], align: 1 }) },
      ], [at, days.map((q) => q.quota), days.map((q) => q.asked), days.map((q) => q.granted)], { range: [at[0], at[at.length - 1] + 86400], value: whole });
    }
    const shown = view.kind === "live" ? view.quotas : days.slice(-60);
    const rows = shown.map((q) => el("tr", {}, view.kind === "live" ? el("th", { scope: "row" }, `${q.set} @ ${q.isp}`) : null, view.kind === "live" ? el("td", { class: "time" }, q.day) : el("th", { scope: "row" }, q.day), number(whole(q.quota)), number(q.asked === null ? "" : whole(q.asked)), number(whole(q.granted)), el("td", {}, q.step), el("td", {}, q.reason)));
    fill("quotas-table", table("Quotas by day", view.kind === "live" ? null : days.length > 60 ? `${chosen.ramp}, the last 60 days` : chosen.ramp, [...(view.kind === "live" ? [["ramp"]] : []), ["day"], ["quota", 1], ["asked for", 1], ["granted", 1], ["step"], ["why"]], rows));
  };

  const drawDiagnoses = () => {
    $("diagnoses").hidden = view.diagnoses.length === 0;
    const rows = view.diagnoses.map((d) => el("tr", {},
      el("th", { scope: "row" }, d.subject.replace(/^configuration-set:/, "")), el("td", {}, d.isp), el("td", {}, d.kind.replaceAll("_", " ")),
      el("td", {}, d.words), el("td", {}, d.status || "–"), el("td", {}, d.refusal ? el("span", { class: "near" }, `refuses the sender: ${d.refusal}`) : ""),
      number(whole(d.count)), el("td", { class: "time" }, clock(d.from * 60000)), el("td", { class: "time" }, clock(d.to * 60000)), el("td", { class: "id" }, el("code", {}, d.example))));
    const heads = [["configuration set"], ["ISP"], ["what"], ["SES says"], ["status"], ["meaning"], ["mails", 1], ["mail from"], ["to"], ["an example's message id"]];
    const more = rows.splice(SHOWN_DIAGNOSES);
    fill("diagnoses-table", table("Diagnoses", `Classes of answers: SES's words, the enhanced status code, and whether it refuses the sender. ${view.diagnoses_left_out ? `${whole(view.diagnoses_left_out)} units of rarer classes are left out.` : ""}`,
      heads, rows),
      more.length ? el("details", {}, el("summary", {}, plural(more.length, "rarer class").replace("classs", "classes")), table("Rarer diagnoses", null, heads, more)) : []);
  };

  const drawChoice = () => {
    const names = view.keys.map(keyName);
    if (!names.includes(chosen.key)) {
      const worst = view.keys.find((key) => key.state !== "closed") || view.keys.find((key) => view.transitions.some((t) => t.subject === key.subject && t.isp === key.isp && t.to === "open"));
      chosen.key = worst ? keyName(worst) : names[0] || null;
      const about = view.transitions.findLast((t) => worst && t.subject === worst.subject && t.isp === worst.isp && t.metric);
      if (about) chosen.metric = about.metric;
    }
    fill("key", view.keys.map((key) => el("option", { value: keyName(key), selected: keyName(key) === chosen.key }, (key.isp ? "\u00a0\u00a0" : "") + keyName(key))));
    fill("metric", METRICS.map((metric) => el("option", { value: metric, selected: metric === chosen.metric }, METRIC_NAMES[metric])));
  };

  // Every part by itself: one that fails must not take the others along.
  const draw = () => {
    const focused = document.activeElement?.dataset?.focus;
    drawChoice();
    for (const part of [drawNow, drawKeys, drawCourse, drawMap, drawMoves, drawQuotas, drawDiagnoses, drawHead]) {
      try { part(); } catch (error) { console.error(part.name, error); }
    }
    if (focused) document.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
  };
  const drawPictures = () => { if (view) { drawCourse(); drawMap(); drawQuotas(); } };

  $("key").addEventListener("change", (event) => { chosen.key = event.target.value; drawCourse(); drawMap(); });
  $("metric").addEventListener("change", (event) => { chosen.metric = event.target.value; drawCourse(); drawMap(); });
  $("stretch").addEventListener("change", (event) => { chosen.hours = Number(event.target.value); drawCourse(); });
  $("ramp").addEventListener("change", (event) => { chosen.ramp = event.target.value; drawQuotas(); });
  for (const id of ["choice", "quota-choice"]) $(id).addEventListener("submit", (event) => event.preventDefault());
  let resized = 0;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(drawPictures, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPictures);
  addEventListener("beforeprint", () => { printing = true; drawPictures(); });
  addEventListener("afterprint", () => { printing = false; drawPictures(); });

  // --- live: what people say

  const WORDS = {
    stop: ["Stop", "No more mail is accepted until a person resumes it."],
    resume: ["Resume", "Sending resumes. Only mail that SES accepts from now on is judged."],
    bypass: ["Bypass", "Sending goes on, whatever the verdicts: they are reported and nothing is done, until it is released."],
    shadow: ["Shadow", "Sending resumes. The breaker goes on deciding and reports, and nothing is done, until it is released."],
    release: ["Release", "It is left to its breaker again. If a person had stopped it, sending resumes."],
  };
  const wordFor = (key) => (key.hold !== "none" ? "release" : key.state === "closed" || key.state === "throttled" ? "stop" : "resume");
  const buttons = (key) => {
    const words = key.hold !== "none" ? ["release"] : key.state === "open" || key.state === "probing" ? ["resume", "bypass", "shadow"] : ["stop", "bypass", "shadow"];
    return words.map((word) => el("button", { type: "button", "data-focus": `${word} ${keyName(key)}`, "aria-label": `${WORDS[word][0]} ${keyName(key)}`, onclick: () => ask(word, key) }, `${WORDS[word][0]}…`));
  };
  let asked = null;
  const ask = (word, key) => {
    asked = { word, key, from: document.activeElement?.dataset?.focus };
    const [title, what] = WORDS[word];
    $("say-title").textContent = `${title}: ${keyName(key)}?`;
    $("say-what").textContent = word === "stop" && !hasSwitch(key) ? "SES has no switch for it: the gate grants it nothing, and mail that is sent without asking the gate goes out." : what;
    $("say-yes").textContent = title;
    $("say-reason").value = "";
    $("say-error").hidden = true;
    tellCommand();
    $("say").showModal();
    $("say-reason").focus();
  };
  const tellCommand = () => {
    const verb = asked.word;
    $("say-command").textContent = commandOf(verb, asked.key, ["--reason", $("say-reason").value || "…"]);
  };
  $("say-reason").addEventListener("input", tellCommand);
  $("say-no").addEventListener("click", () => $("say").close());
  $("say-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    $("say-yes").disabled = true;
    const { word, key, from } = asked;
    try {
      const answer = await fetch("say", {
        method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify({ word, subject: key.subject, isp: key.isp, reason: $("say-reason").value }),
      });
      const body = await answer.json();
      if (!answer.ok) throw new Error(body.error || `the program answered ${answer.status}`);
      $("say").close();
      $("said").textContent = body.said;
      $("said").className = body.done ? "" : "warning";
      $("said").hidden = false;
      await refresh();
      if (from) document.querySelector(`[data-focus="${CSS.escape(from)}"]`)?.focus();
    } catch (error) {
      $("say-error").textContent = `Not done: ${error.message}`;
      $("say-error").hidden = false;
    } finally {
      $("say-yes").disabled = false;
    }
  });

  // --- live: what is new

  const fresh = (text, isBad) => { const line = $("fresh"); line.hidden = false; line.textContent = text; line.className = isBad ? "warning" : ""; };
  let heard = 0;
  let last = "";
  const refresh = async () => {
    try {
      const answer = await fetch("view.json", { cache: "no-store" });
      const text = await answer.text();
      if (!answer.ok) {
        let why = `the program answered ${answer.status}`;
        try { why = JSON.parse(text).error || why; } catch { /* not JSON: the status has to do */ }
        throw new Error(why);
      }
      heard = Date.now();
      if (text !== last) { last = text; view = JSON.parse(text); if (!$("say").open) draw(); else last = ""; }
      fresh(`As of ${clock(view.now)} UTC; looked at again every ${view.refresh_seconds} seconds.`, false);
    } catch (error) {
      const since = heard ? ` What is shown is of ${clock(view.now)} UTC.` : "";
      fresh(`The stack cannot be read: ${error.message}.${since}`, true);
    }
  };

  const stored = $("view");
  if (stored) {
    view = JSON.parse(stored.textContent);
    draw();
  } else {
    const again = () => setTimeout(async () => {
      if (!document.hidden) await refresh();
      again();
    }, (view ? view.refresh_seconds : 10) * 1000);
    refresh().then(again);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  }
})();
