/* Which hosts are shown, in which order, and which one is open. The address keeps it, so that it can be passed on. */

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

/* The tests that a host must pass for a query such as: a -b kernel:6.1 model:"AMD EPYC" */
function tests(query) {
  const found = query.matchAll(/(-?)(?:([\w-]+):)?(?:"((?:[^"\\]|\\.)*)"?|(\S+))/gs);
  return [...found].map(([whole, minus, key, inQuotes, bare]) => {
    const quoted = inQuotes?.replace(/\\(.)/gs, "$1");
    const one = byKey.get((key || "").toLowerCase());
    const wanted = (one || !key ? quoted ?? bare ?? "" : whole.slice(minus.length)).toLowerCase();
    let test = (host) => words(host).includes(wanted);
    if (one) {
      const value = (host) => one.value(host).toLowerCase();
      const exact = one.check || quoted !== undefined;
      test = exact ? (host) => value(host) === wanted : (host) => value(host).includes(wanted);
    }
    return minus ? (host) => !test(host) : test;
  });
}

/* The part of a query for one value of a column. */
function token(key, value) {
  const isWord = byKey.get(key).check && /^[\w.+-]+$/.test(value);
  return `${key}:${isWord ? value : `"${value.replace(/["\\]/g, "\\$&")}"`}`;
}

function ask(query) {
  state.query = query.trim();
  $("query").value = state.query;
  save();
  show();
}

/* Adds a part to the query, or removes it where it is in it. */
function toggle(part) {
  ask(state.query.includes(part) ? state.query.replace(part, "").replace(/\s+/g, " ") : `${state.query} ${part}`);
}

/* Sorts by a column: upwards, then downwards, then as the hosts came. */
function sortBy(one) {
  const again = state.sort === one.key;
  state.sort = again && state.down ? "" : one.key;
  state.down = again && !state.down;
  save();
  show();
}
