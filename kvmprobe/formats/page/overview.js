/* What stands above the table: counts by verdict and by value, outliers, files that could not be read. */

const FEW_VALUES = 8;
const FEW_OUTLIERS = 6;
const FEW_NAMES = 12;
const COUNTS = { reason: "Reason", kernel: "Kernel", model: "CPU model", microcode: "Microcode", version: "Made by kvmprobe" };

function showOverview() {
  showTitle();
  showVerdicts();
  $("notes").append(...data.notes.map((note) => make("p", {}, note)));
  showCounts();
  // The table has all of a single host.
  for (const id of ["bar", "verdicts", "counts", "tools", "query-help"]) $(id).hidden = data.total <= 1;
  $("outliers").hidden = !data.outliers.length;
  $("outlier-list").append(...firstAndMore(data.outliers.map(outlier), FEW_OUTLIERS, "more groups", "rest who"));
  $("bad").hidden = !data.bad.length;
  $("bad-list").append(...data.bad.map(([file, why]) => make("li", {}, make("span", { class: "mono" }, file), `: ${why}`)));
  $("footer").textContent = `kvmprobe ${data.version}. This page loads nothing from anywhere.`;
  $("keys").append(...[...byKey.keys()].flatMap((key, index) => [index ? ", " : "", make("code", {}, key)]));
  $("legend").append(...Object.entries(MARKS).filter(([mark]) => mark !== "-").map(([mark, name]) =>
    make("li", {}, make("span", { class: `cell c-${mark}` }, symbol(mark)), name)));
}

function showTitle() {
  const title = data.total === 1 && hosts.length ? hosts[0].name : counted(data.total, "host");
  document.title = `kvmprobe: ${title}`;
  $("title").textContent = title;
  const [first, last] = data.taken || ["", ""];
  $("subtitle").textContent = first === last ? `taken ${first}` : `taken ${first} to ${last}`;
}

function showVerdicts() {
  const counts = data.counts.status;
  for (const verdict of VERDICTS.slice().reverse().filter((one) => counts[one])) {
    const piece = make("i", { class: `v-${kind(verdict)}` });
    piece.style.flex = `${counts[verdict]} 1 0`;
    $("bar").append(piece);
    const share = ((100 * counts[verdict]) / data.total).toFixed(1).replace(".0", "");
    const part = token("verdict", verdict);
    $("verdicts").append(
      make("button", { type: "button", "data-token": part, "aria-pressed": "false", click: () => toggle(part) },
        make("i", { class: `v-${kind(verdict)}` }),
        make("b", {}, number(counts[verdict])),
        make("span", {}, `${verdict}, ${share} %`)));
  }
}

function showCounts() {
  for (const [key, title] of Object.entries(COUNTS)) {
    const values = Object.entries(data.counts[key]).map(([value, count]) => valueButton(key, value, count));
    if (key === "version" && values.length <= 1) continue;
    $("counts").append(make("div", {}, make("h2", {}, title), ...firstAndMore(values, FEW_VALUES, "more", "who")));
  }
}

/* A value and how many hosts have it; a click filters by it. The value "" is all others. */
function valueButton(key, value, count) {
  const part = value ? token(key, value) : "";
  const track = make("span", { class: "track" }, make("i"));
  track.firstChild.style.width = `${(100 * count) / data.total}%`;
  const title = key === "reason" && value ? data.reasons[value]?.[1] : null;
  const click = () => toggle(part);
  return make("button",
    { type: "button", class: "value", disabled: !value, "data-token": part || null, "aria-pressed": "false", title, click },
    make("span", { class: "name" }, value || "others"), make("span", {}, number(count)), track);
}

/* The first `few` elements, and a button that is replaced by the others. */
function firstAndMore(elements, few, what, look) {
  if (elements.length <= few) return elements;
  const rest = elements.slice(few);
  const button = make("button", { type: "button", class: look, click: () => button.replaceWith(...rest) },
    `${number(rest.length)} ${what}`);
  return [...elements.slice(0, few), button];
}

/* A group of outliers: which hosts, and in what they differ from the usual. */
function outlier(group) {
  const open = (name) => {
    state.open = name;
    ask(token("host", name));
    $("scroll").scrollIntoView({ block: "nearest" });
  };
  const names = group.names.slice(0, FEW_NAMES).flatMap((name, index) =>
    [index ? ", " : "", make("button", { type: "button", class: "who", click: () => open(name) }, name)]);
  const rest = group.number - Math.min(FEW_NAMES, group.names.length);
  if (rest > 0) names.push(` and ${number(rest)} more`);
  const differences = group.differences.map(([what, value, usual, count]) =>
    make("p", {}, `${what}: `, make("b", {}, value), ` (usual: ${usual}, on ${counted(count, "host")})`));
  // A text is true of its own hosts only: they are named unless it is that of all hosts of the group.
  for (const [count, whose, summary, hint] of group.texts) {
    differences.push(make("p", {}, count < group.number ? `${whose}: ${summary}` : summary));
    if (hint) differences.push(make("details", {}, make("summary", {}, "What to do"), make("p", {}, hint)));
  }
  return make("div", { class: "outlier" },
    make("span", { class: `badge b-${kind(group.status)}` }, group.status || "outlier"),
    make("div", {}, ...names),
    make("div", {}, ...differences),
    make("p", {}, `of ${counted(group.size, "host")} with ${group.model}, Linux ${group.kernel}`));
}
