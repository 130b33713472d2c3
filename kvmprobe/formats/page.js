"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const SVG = document.querySelector("svg").namespaceURI;
  const MARKS = { P: "pass", F: "fail", W: "warn", S: "skip", U: "unknown", "-": "none" };
  const WORST = "FUWPS-"; // the order of a check's column
  const VERDICTS = ["failed", "inconclusive", "not applicable", "confirmed"];
  const PHASES = ["before", "created", "closed"];
  const CHUNK = 100; // rows that are made at a time
  const PRINTED = 2000;
  const numbers = new Intl.NumberFormat("en");
  const number = (n) => numbers.format(n);
  const many = (n, what) => `${number(n)} ${what}${n === 1 ? "" : "s"}`;
  const kind = (status) => (status === "not applicable" ? "neither" : status || "odd");

  /* All that evidence says becomes text, never markup: this is the only way in which elements are made. */
  function make(tag, attributes, ...children) {
    const drawn = ["svg", "use", "rect", "text", "title"].includes(tag);
    const element = drawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "click") element.addEventListener("click", value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }
  const symbol = (mark) => make("svg", { "aria-hidden": "true" }, make("use", { href: `#${mark}` }));

  /* Rows */

  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const hosts = data.hosts.map(([name, taken, file, profile, told, odd], index) => {
    const [status, reason, kernel, model, microcode, version, cpus, lockdown, parameters, marks] = data.profiles[profile];
    const [summary, hint, messages, registers] = data.told[told];
    return { index, name, taken, file, status, reason, kernel, model, microcode, version, cpus, lockdown, parameters, marks,
      odd: odd ? "odd" : "", summary: data.strings[summary], hint: data.strings[hint], messages, registers };
  });
  const named = new Map();
  for (const host of hosts) named.set(host.name, (named.get(host.name) || 0) + 1);
  for (const host of hosts) host.id = named.get(host.name) > 1 ? `${host.name} ${host.file}` : host.name;
  const text = (title, field, more) => ({ key: field, title, value: (host) => String(host[field]), ...more });
  const checks = data.checks
    .map(([id, title, of], index) => ({ key: id, title, of, index, check: true, value: (host) => MARKS[host.marks[index]] }))
    .filter((column) => hosts.some((host) => host.marks[column.index] !== "-"));
  const columns = [
    text("Host", "name", { key: "host", class: "name" }),
    text("Verdict", "status", { key: "verdict", rank: (host) => VERDICTS.indexOf(host.status) }),
    text("Reason", "reason", { class: "reason" }),
    ...checks,
    text("Kernel", "kernel", { class: "long" }),
    text("CPU model", "model", { class: "long" }),
    text("CPUs", "cpus", { rank: (host) => host.cpus }),
    text("Microcode", "microcode", { class: "long" }),
    text("Taken", "taken"),
  ];
  const hidden = [text("kvmprobe", "version", { key: "version" }), text("Odd", "odd"), text("File", "file"), text("Lockdown", "lockdown"),
    { key: "parameters", title: "Parameters", value: (host) => host.parameters.join(" ") }];
  const byKey = new Map([...columns, ...hidden].map((column) => [column.key, column]));
  checks.forEach((column) => { column.rank = (host) => WORST.indexOf(host.marks[column.index]); });

  function words(host) {
    host.words ??= [...columns.filter((column) => !column.check), ...hidden].map((column) => column.value(host))
      .concat(host.summary).join("\n").toLowerCase();
    return host.words;
  }

  /* What is asked for: kept in the address, so that it can be passed on */

  const state = { query: "", sort: "", down: false, open: "" };

  function load() {
    const given = new URLSearchParams(location.hash.slice(1));
    state.query = given.get("q") || "";
    state.sort = byKey.has(given.get("sort")) ? given.get("sort") : "";
    state.down = given.get("order") === "down";
    state.open = given.get("open") || "";
    $("query").value = state.query;
  }

  function save() {
    const kept = new URLSearchParams();
    if (state.query) kept.set("q", state.query);
    if (state.sort) kept.set("sort", state.sort);
    if (state.sort && state.down) kept.set("order", "down");
    if (state.open) kept.set("open", state.open);
    history.replaceState(null, "", `#${kept}`);
  }

  /* "a -b kernel:6.1 model:'AMD EPYC'" → tests that a host must all pass */
  function tests(query) {
    const found = query.matchAll(/(-?)(?:([\w-]+):)?(?:"((?:[^"\\]|\\.)*)"?|(\S+))/gs);
    return [...found].map(([whole, minus, key, inQuotes, bare]) => {
      const quoted = inQuotes?.replace(/\\(.)/gs, "$1");
      const column = byKey.get((key || "").toLowerCase());
      const wanted = (column || !key ? quoted ?? bare ?? "" : whole.slice(minus.length)).toLowerCase();
      let test = (host) => words(host).includes(wanted);
      if (column) {
        const exact = column.check || quoted !== undefined;
        test = exact ? (host) => column.value(host).toLowerCase() === wanted : (host) => column.value(host).toLowerCase().includes(wanted);
      }
      return minus ? (host) => !test(host) : test;
    });
  }

  function token(key, value) {
    return `${key}:${/^[\w.+-]+$/.test(value) && byKey.get(key).check ? value : `"${value.replace(/["\\]/g, "\\$&")}"`}`;
  }

  function ask(query) {
    state.query = query.trim();
    $("query").value = state.query;
    save();
    show();
  }

  /* The same click a second time takes the filter away again. */
  function toggle(part) {
    ask(state.query.includes(part) ? state.query.replace(part, "").replace(/\s+/g, " ") : `${state.query} ${part}`);
  }

  /* The table */

  const body = document.querySelector("#table > tbody");
  const head = document.querySelector("#table > thead");
  let rows = [];
  let made = 0;

  function show() {
    const all = tests(state.query);
    rows = all.length ? hosts.filter((host) => all.every((test) => test(host))) : hosts.slice();
    const column = byKey.get(state.sort);
    if (column) {
      const way = state.down ? -1 : 1;
      const compare = column.rank ? (a, b) => column.rank(a) - column.rank(b) : (a, b) => collator.compare(column.value(a), column.value(b));
      rows.sort((a, b) => way * compare(a, b) || a.index - b.index);
    }
    for (const cell of head.querySelectorAll("th")) {
      if (cell.dataset.key === state.sort) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    for (const button of document.querySelectorAll("[data-token]")) {
      button.setAttribute("aria-pressed", String(state.query.includes(button.dataset.token)));
    }
    for (const column of checks) {
      const wrong = rows.filter((host) => host.marks[column.index] === "F").length;
      column.button.textContent = wrong ? number(wrong) : "·";
      column.button.disabled = !wrong;
      column.button.setAttribute("aria-label", `${many(wrong, "host")} with ${column.title} failed: show them`);
    }
    $("status").textContent = rows.length === hosts.length ? many(hosts.length, "host") : `${number(rows.length)} of ${many(hosts.length, "host")}`;
    body.replaceChildren();
    made = 0;
    more(CHUNK);
    const open = state.open && rows.findIndex((host) => host.id === state.open);
    if (state.open && open >= 0) {
      if (open >= made) more(open + 1 - made);
      expand(body.querySelectorAll("tr.host")[open].querySelector("button"), rows[open]);
    }
  }

  function more(count) {
    body.append(...rows.slice(made, made + count).map(row));
    made = Math.min(made + count, rows.length);
    $("more").hidden = made >= rows.length;
    $("more").textContent = `Show more (${number(rows.length - made)} left)`;
    if (!rows.length) body.append(make("tr", {}, make("td", { colspan: columns.length }, "No host is like that.")));
  }

  function row(host) {
    return make("tr", { class: "host" }, ...columns.map((column) => {
      const value = column.value(host);
      if (column.check) return checkCell(host, column, value);
      if (column.key === "host") {
        const button = make("button", { type: "button", "aria-expanded": "false", title: host.name, click: () => flip(button, host) },
          symbol("T"), make("span", { class: "label" }, host.name || "(no name)"));
        if (host.odd) button.append(make("span", { class: "mark-odd" }, "odd"));
        return make("th", { scope: "row", class: "name" }, button);
      }
      if (column.key === "verdict") return make("td", {}, make("span", { class: `badge b-${kind(host.status)}` }, host.status));
      return make("td", { class: column.class || null, title: column.class ? value : null }, value);
    }));
  }

  function checkCell(host, column, value) {
    const mark = host.marks[column.index];
    if (mark === "-") return make("td", { class: "check" }, make("span", { class: "unseen" }, "none"));
    const message = data.strings[host.messages[column.index]] || "";
    return make("td", { class: "check", title: `${column.title}: ${value}${message ? `\n${message}` : ""}` },
      make("span", { class: `cell c-${mark}` }, symbol(mark), make("span", { class: "unseen" }, value)));
  }

  function flip(button, host) {
    const opened = button.getAttribute("aria-expanded") === "true";
    body.querySelectorAll("tr.open").forEach((other) => other.remove());
    body.querySelectorAll('[aria-expanded="true"]').forEach((other) => other.setAttribute("aria-expanded", "false"));
    state.open = opened ? "" : host.id;
    save();
    if (!opened) expand(button, host);
  }

  /* One host */

  function expand(button, host) {
    button.setAttribute("aria-expanded", "true");
    const id = `detail-${host.index}`;
    button.setAttribute("aria-controls", id);
    button.closest("tr").after(make("tr", { class: "open", id }, make("td", { colspan: columns.length }, detail(host))));
    fit();
  }

  function detail(host) {
    const facts = [["Kernel", host.kernel], ["CPU", `${host.model}, ${many(host.cpus, "CPU")} online`], ["Microcode", host.microcode], ["Lockdown", host.lockdown],
      ["Parameters", host.parameters.join(", ") || "unknown"], ["Taken", host.taken], ["kvmprobe", host.version], ["File", host.file]];
    return make("div", { class: "detail" },
      make("div", {},
        make("div", {},
          make("p", { class: "said" }, make("span", { class: `badge b-${kind(host.status)}` }, host.status), ` ${host.reason}`),
          make("p", {}, host.summary), make("p", { class: "todo" }, host.hint)),
        make("div", {}, make("h3", {}, "Checks, in the kernel's order"), make("ul", { class: "steps" }, ...steps(host)))),
      make("div", {},
        make("div", {}, make("h3", {}, "Registers before, while and after a VM was there"), ...pictures(host)),
        make("div", {}, make("h3", {}, "Host"), make("dl", { class: "facts" },
          ...facts.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])))));
  }

  function steps(host) {
    return checks.filter((column) => host.marks[column.index] !== "-").map((column) => {
      const mark = host.marks[column.index];
      return make("li", {}, make("span", { class: `cell c-${mark}` }, symbol(mark), make("span", { class: "unseen" }, MARKS[mark])),
        make("span", { class: "what", title: column.of }, column.title), make("span", { class: "message" }, data.strings[host.messages[column.index]] || ""));
    });
  }

  /* A register's values → what a cell shows: [class, sign, meaning] */
  const OFF = (bit) => ["off", "0", `${bit} is 0`];
  const bitOf = (name, bit, set) => (value) => ((BigInt(value) >> BigInt(bit)) & 1n ? [set, "1", `${name} is 1`] : OFF(name));
  const REGISTERS = [
    ["EFER", "SVME", bitOf("SVME", 12, "on")],
    ["VM_CR", "SVMDIS", bitOf("SVMDIS", 4, "bad")],
    ["VM_HSAVE_PA", "", (value) => value === "page" ? ["on", "P", "a page of its own"] : BigInt(value) ? ["bad", "!", "a page that another CPU has, too"] : ["off", "0", "no page"]],
  ];
  function cell(read, value) {
    if (value === null) return ["none", "", "unknown: it was not read"];
    if (value[0] === "!") return ["lost", "?", `could not be read: ${value.slice(1)}`];
    return read(value);
  }
  const shown = (value) => (value === null ? "unknown" : value === "page" ? "a page each" : value.replace("!", ""));

  function cpusOf(list) {
    return list.split(",").flatMap((part) => {
      const [first, last = first] = part.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
  }

  function listOf(cpus) {
    const ranges = [];
    for (const cpu of cpus.sort((a, b) => a - b)) {
      const last = ranges[ranges.length - 1];
      if (last && last[1] === cpu - 1) last[1] = cpu;
      else ranges.push([cpu, cpu]);
    }
    return ranges.map(([first, last]) => (first === last ? first : `${first}-${last}`)).join(",");
  }

  function pictures(host) {
    const groups = data.registers[host.registers];
    if (!groups.length) return [make("p", {}, "No registers were read.")];
    const byCpu = groups.flatMap((values) => cpusOf(values[0]).map((cpu) => ({ cpu, values }))).sort((a, b) => a.cpu - b.cpu);
    return [...REGISTERS.map((register, index) => picture(register, index, byCpu)), key(), values(groups)];
  }

  function picture([name, bit, read], index, byCpu) {
    const wide = Math.max(0.5, Math.min(18, Math.floor(540 / byCpu.length) || 540 / byCpu.length));
    const gap = wide >= 5 ? 1.5 : 0;
    const strip = make("svg", { class: "strip", width: byCpu.length * wide, height: 68, viewBox: `0 0 ${byCpu.length * wide} 68`, preserveAspectRatio: "xMinYMin", role: "img", "aria-label": told(name, bit, index, byCpu, read) });
    PHASES.forEach((phase, line) => {
      const at = (place) => byCpu[place].values[1 + index * 3 + line];
      for (let first = 0, last; first < byCpu.length; first = last) {
        for (last = first + 1; !gap && last < byCpu.length && at(last) === at(first);) last += 1; // too narrow to be told apart
        const [look, sign, means] = cell(read, at(first));
        const place = { x: first * wide, y: line * 18, width: (last - first) * wide - gap, height: 16, rx: gap ? 2.5 : 0 };
        const name = byCpu[first].cpu + (last - first > 1 ? `-${byCpu[last - 1].cpu}` : "");
        const title = make("title", {}, `cpu${name}, ${phase}: ${shown(at(first))} (${means})`);
        strip.append(make("rect", { class: `r-${look}`, ...place }, title));
        if (look === "lost") strip.append(make("rect", { class: "r-lost-over", ...place }));
        if (wide >= 11) strip.append(make("text", { class: `t-${look}`, x: place.x + place.width / 2, y: place.y + 11.5 }, sign));
      }
    });
    const every = Math.ceil((7 * String(byCpu[byCpu.length - 1].cpu).length + 4) / wide); // so that numbers do not touch
    byCpu.forEach(({ cpu }, place) => {
      if (place % every === 0) strip.append(make("text", { class: "tick", x: place * wide + (wide - gap) / 2, y: 64 }, String(cpu)));
    });
    return make("figure", { class: "register" }, make("figcaption", {}, bit ? `${name}.${bit}` : name, make("span", {}, " by CPU")),
      make("ul", { class: "phases", "aria-hidden": "true" }, ...PHASES.map((phase) => make("li", {}, phase))), strip);
  }

  function told(name, bit, index, byCpu, read) {
    const parts = PHASES.map((phase, line) => {
      const numbers = new Map();
      byCpu.forEach(({ values }) => {
        const means = cell(read, values[1 + index * 3 + line])[2];
        numbers.set(means, (numbers.get(means) || 0) + 1);
      });
      return `${phase}: ${[...numbers].map(([means, count]) => `${means} on ${many(count, "CPU")}`).join(", ")}`;
    });
    return `${name}${bit ? `.${bit}` : ""} ${parts.join("; ")}`;
  }

  function key() {
    const looks = [["on", "1", "set; P: a page of its own"], ["off", "0", "clear"], ["bad", "1", "SVMDIS set, or a page shared"], ["lost", "?", "could not be read"], ["none", "", "not read"]];
    return make("p", { class: "key" }, ...looks.map(([look, sign, means]) => {
      const box = { class: `r-${look}`, x: 1, y: 1, width: 14, height: 14, rx: 2.5 };
      const drawing = make("svg", { width: 16, height: 16, "aria-hidden": "true" }, make("rect", box));
      if (look === "lost") drawing.append(make("rect", { ...box, class: "r-lost-over" }));
      drawing.append(make("text", { class: `t-${look}`, x: 8, y: 11.5 }, sign));
      return make("span", {}, drawing, means);
    }));
  }

  function values(groups) {
    const rows = REGISTERS.flatMap(([name], index) => {
      const byRow = new Map();
      groups.forEach((group) => {
        const line = [0, 1, 2].map((phase) => shown(group[1 + index * 3 + phase])).join(" → ");
        byRow.set(line, (byRow.get(line) || []).concat(cpusOf(group[0])));
      });
      return [...byRow].map(([line, cpus]) => [name, `cpu${listOf(cpus)}`, line]);
    });
    const few = rows.slice(0, 60);
    const list = few.map((line) => make("tr", {}, make("th", { scope: "row" }, line[0]), make("td", { class: "mono" }, line[1]), make("td", { class: "mono" }, line[2])));
    if (rows.length > few.length) list.push(make("tr", {}, make("td", { colspan: 3 }, `and ${number(rows.length - few.length)} more kinds of CPUs`)));
    return make("table", { class: "values" }, make("caption", { class: "unseen" }, "Values before, created and closed"), make("tbody", {}, ...list));
  }

  /* What stands above the table */

  function facet(key, value, count, total) {
    const known = value !== "";
    const part = known ? token(key, value) : "";
    const track = make("span", { class: "track" }, make("i"));
    track.firstChild.style.width = `${(100 * count) / total}%`;
    return make("button", { type: "button", class: "value", disabled: !known, "data-token": part || null, "aria-pressed": "false", title: key === "reason" && known ? data.reasons[value]?.[1] : null, click: () => toggle(part) },
      make("span", { class: "name" }, known ? value : "others"), make("span", {}, number(count)), track);
  }

  function top() {
    const statuses = data.counts.status;
    document.title = `kvmprobe: ${data.total === 1 ? hosts[0]?.name : many(data.total, "host")}`;
    $("title").textContent = data.total === 1 && hosts.length ? hosts[0].name : many(data.total, "host");
    const [first, last] = data.taken || ["", ""];
    $("subtitle").textContent = first === last ? `taken ${first}` : `taken ${first} to ${last}`;
    for (const verdict of VERDICTS.slice().reverse().filter((verdict) => statuses[verdict])) {
      const piece = make("i", { class: `v-${kind(verdict)}` });
      piece.style.flex = `${statuses[verdict]} 1 0`;
      $("bar").append(piece);
      const share = ((100 * statuses[verdict]) / data.total).toFixed(1).replace(".0", "");
      const part = token("verdict", verdict);
      $("verdicts").append(make("button", { type: "button", "data-token": part, "aria-pressed": "false", click: () => toggle(part) },
        make("i", { class: `v-${kind(verdict)}` }), make("b", {}, number(statuses[verdict])), make("span", {}, `${verdict}, ${share} %`)));
    }
    $("notes").append(...data.notes.map((note) => make("p", {}, note)));
    const titles = { reason: "Reason", kernel: "Kernel", model: "CPU model", microcode: "Microcode", version: "Made by kvmprobe" };
    for (const [key, title] of Object.entries(titles)) {
      const values = Object.entries(data.counts[key]);
      if (key !== "version" || values.length > 1) {
        const list = make("div", {}, make("h2", {}, title), ...values.slice(0, 8).map(([value, count]) => facet(key, value, count, data.total)));
        if (values.length > 8) {
          const rest = make("button", { type: "button", class: "who", click: () => rest.replaceWith(...values.slice(8).map(([value, count]) => facet(key, value, count, data.total))) }, `${number(values.length - 8)} more`);
          list.append(rest);
        }
        $("counts").append(list);
      }
    }
    for (const id of ["bar", "verdicts", "counts", "tools", "query-help"]) $(id).hidden = data.total <= 1; // of one host all is below
    $("odd").hidden = !data.odd.length;
    const FEW = 6;
    $("odd-list").append(...data.odd.slice(0, FEW).map(odd));
    if (data.odd.length > FEW) {
      const rest = make("button", { type: "button", class: "rest who", click: () => rest.replaceWith(...data.odd.slice(FEW).map(odd)) }, `${number(data.odd.length - FEW)} more kinds`);
      $("odd-list").append(rest);
    }
    $("bad").hidden = !data.bad.length;
    $("bad-list").append(...data.bad.map(([file, why]) => make("li", {}, make("span", { class: "mono" }, file), `: ${why}`)));
    $("footer").textContent = `kvmprobe ${data.version}. Nothing on this page is loaded from anywhere.`;
    $("keys").append(...[...byKey.keys()].flatMap((key, index) => [index ? ", " : "", make("code", {}, key)]));
    $("legend").append(...Object.entries(MARKS).filter(([mark]) => mark !== "-").map(([mark, name]) =>
      make("li", {}, make("span", { class: `cell c-${mark}` }, symbol(mark)), name)));
  }

  function odd(one) {
    const names = one.names.slice(0, 12).flatMap((name, index) => [index ? ", " : "",
      make("button", { type: "button", class: "who", click: () => { state.open = name; ask(token("host", name)); $("scroll").scrollIntoView({ block: "nearest" }); } }, name)]);
    const rest = one.number - Math.min(12, one.names.length);
    if (rest > 0) names.push(` and ${number(rest)} more`);
    return make("div", { class: "odd" }, make("span", { class: `badge b-${kind(one.status)}` }, one.status || "odd"), make("div", {}, ...names),
      make("div", {}, ...one.differences.map(([what, value, usual, count]) =>
        make("p", {}, `${what}: `, make("b", {}, value), ` (usual: ${usual}, on ${many(count, "host")})`)),
        ...(one.summary ? [make("p", {}, one.summary)] : []),
        ...(one.hint ? [make("details", {}, make("summary", {}, "What to do"), make("p", {}, one.hint))] : [])),
      make("p", {}, `of ${many(one.size, "host")} with ${one.model}, Linux ${one.kernel}`));
  }

  function header() {
    head.append(make("tr", {}, ...columns.map((column) => {
      const sort = make("button", { type: "button", class: "sort", title: column.check ? `${column.key}: ${column.of}` : null, click: () => order(column) }, column.title);
      if (!column.check) return make("th", { scope: "col", class: column.class || null, "data-key": column.key }, sort);
      column.button = make("button", { type: "button", class: "wrong", click: () => toggle(token(column.key, "fail")) });
      return make("th", { scope: "col", class: "check", "data-key": column.key }, sort, column.button);
    })));
  }

  /* Once up, twice down, three times as it was */
  function order(column) {
    const again = state.sort === column.key;
    state.sort = again && state.down ? "" : column.key;
    state.down = again && !state.down;
    save();
    show();
  }

  /* Light and dark */

  const THEMES = ["auto", "light", "dark"];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let theme = "auto";
  try { theme = THEMES.includes(localStorage.kvmprobeTheme) ? localStorage.kvmprobeTheme : "auto"; } catch { /* not kept */ }
  function paint() {
    document.documentElement.dataset.theme = theme === "dark" || (theme === "auto" && dark.matches) ? "dark" : "light";
    $("theme").textContent = `Theme: ${theme}`;
  }
  $("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try { localStorage.kvmprobeTheme = theme; } catch { /* not kept */ }
    paint();
  });
  dark.addEventListener("change", paint);
  paint();

  function fit() { $("scroll").style.setProperty("--inner", `${$("scroll").clientWidth}px`); }

  let waiting = 0;
  $("query").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { state.query = $("query").value.trim(); save(); show(); }, hosts.length > 500 ? 120 : 0);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== $("query")) { event.preventDefault(); $("query").focus(); }
    if (event.key === "Escape" && state.query) ask("");
  });
  $("more").addEventListener("click", () => more(CHUNK));
  new IntersectionObserver((seen) => { if (seen.some((entry) => entry.isIntersecting) && made < rows.length) more(CHUNK); }, { root: $("scroll"), rootMargin: "600px" }).observe($("more"));
  addEventListener("resize", fit);
  addEventListener("hashchange", () => { load(); show(); });
  addEventListener("beforeprint", () => { if (made < PRINTED) more(PRINTED - made); });

  top();
  header();
  load();
  if (hosts.length === 1) state.open = hosts[0].name;
  show();
  fit();
})();
