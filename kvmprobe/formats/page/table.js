/* The table of hosts. Rows are made in chunks, when they come into view. */

const CHUNK = 100;
const PRINTED = 2000; // rows, at most
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const body = document.querySelector("#table > tbody");
const head = document.querySelector("#table > thead");
let rows = []; // the hosts that match the query, in their order
let made = 0; // of them, those that have a row

function showHeader() {
  head.append(make("tr", {}, ...columns.map((one) => {
    const title = one.check ? `${one.key}: ${one.of}` : null;
    const sort = make("button", { type: "button", class: "sort", title, click: () => sortBy(one) }, one.title);
    if (!one.check) return make("th", { scope: "col", class: one.class || null, "data-key": one.key }, sort);
    one.button = make("button", { type: "button", class: "wrong", click: () => toggle(token(one.key, "fail")) });
    return make("th", { scope: "col", class: "check", "data-key": one.key }, sort, one.button);
  })));
}

/* Shows what the state asks for. */
function show() {
  const all = tests(state.query);
  rows = all.length ? hosts.filter((host) => all.every((test) => test(host))) : hosts.slice();
  sortRows();
  showState();
  body.replaceChildren();
  made = 0;
  more(CHUNK);
  const open = state.open ? rows.findIndex((host) => host.id === state.open) : -1;
  if (open >= 0) {
    if (open >= made) more(open + 1 - made);
    expand(body.querySelectorAll("tr.host")[open].querySelector("button"), rows[open]);
  }
}

function sortRows() {
  const one = byKey.get(state.sort);
  if (!one) return;
  const way = state.down ? -1 : 1;
  const compare = one.rank ? (a, b) => one.rank(a) - one.rank(b) : (a, b) => collator.compare(one.value(a), one.value(b));
  rows.sort((a, b) => way * compare(a, b) || a.index - b.index);
}

/* What the header and the buttons show of the state. */
function showState() {
  for (const cell of head.querySelectorAll("th")) {
    if (cell.dataset.key === state.sort) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
  for (const button of document.querySelectorAll("[data-token]")) {
    button.setAttribute("aria-pressed", String(state.query.includes(button.dataset.token)));
  }
  for (const check of checks) {
    const wrong = rows.filter((host) => host.marks[check.index] === "F").length;
    check.button.textContent = wrong ? number(wrong) : "\u00b7";
    check.button.disabled = !wrong;
    check.button.setAttribute("aria-label", `${counted(wrong, "host")} with ${check.title} failed: show them`);
  }
  const total = counted(hosts.length, "host");
  $("status").textContent = rows.length === hosts.length ? total : `${number(rows.length)} of ${total}`;
}

function more(count) {
  body.append(...rows.slice(made, made + count).map(row));
  made = Math.min(made + count, rows.length);
  $("more").hidden = made >= rows.length;
  $("more").textContent = `Show more (${number(rows.length - made)} left)`;
  if (!rows.length) body.append(make("tr", {}, make("td", { colspan: columns.length }, "No host matches.")));
}

function row(host) {
  return make("tr", { class: "host" }, ...columns.map((one) => {
    const value = one.value(host);
    if (one.check) return checkCell(host, one, value);
    if (one.key === "host") return make("th", { scope: "row", class: "name" }, nameButton(host));
    if (one.key === "verdict") return make("td", {}, make("span", { class: `badge b-${kind(value)}` }, value));
    return make("td", { class: one.class || null, title: one.class ? value : null }, value);
  }));
}

function nameButton(host) {
  const click = () => flip(button, host);
  const button = make("button", { type: "button", "aria-expanded": "false", title: host.name, click },
    symbol("T"), make("span", { class: "label" }, host.name || "(no name)"));
  if (host.outlier) button.append(make("span", { class: "mark-outlier" }, "outlier"));
  return button;
}

function checkCell(host, check, value) {
  const mark = host.marks[check.index];
  if (mark === "-") return make("td", { class: "check" }, make("span", { class: "unseen" }, "none"));
  const message = data.strings[host.messages[check.index]] || "";
  const title = `${check.title}: ${value}${message ? `\n${message}` : ""}`;
  return make("td", { class: "check", title }, badge(mark));
}

/* A check's status as a coloured square with its symbol, and as a word for those who do not see it. */
function badge(mark) {
  return make("span", { class: `cell c-${mark}` }, symbol(mark), make("span", { class: "unseen" }, MARKS[mark]));
}
