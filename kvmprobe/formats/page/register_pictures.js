/* A host's registers as pictures: a square for each CPU in each of three phases, and the values as a table. */

const PHASES = ["before", "created", "closed"];
const MOST_SQUARES = 1024; // in a line; with more CPUs each square stands for several
const LONGEST_LIST = 60; // characters of a list of CPUs

/* What a square shows of a value: [class, sign, meaning]. */
const OFF = (bit) => ["off", "0", `${bit} is 0`];
const bitOf = (name, bit, set) => (value) => ((BigInt(value) >> BigInt(bit)) & 1n ? [set, "1", `${name} is 1`] : OFF(name));

function pageOf(value) {
  if (value === "page") return ["on", "P", "a page of its own"];
  return BigInt(value) ? ["bad", "!", "the same page as another CPU"] : ["off", "0", "no page"];
}

/* [register, bit, how a value is read], in the order of data.registers. */
const REGISTERS = [
  ["EFER", "SVME", bitOf("SVME", 12, "on")],
  ["VM_CR", "SVMDIS", bitOf("SVMDIS", 4, "bad")],
  ["VM_HSAVE_PA", "", pageOf],
];

function square(read, value) {
  if (value === null) return ["none", "", "unknown: it was not read"];
  if (value[0] === "!") return ["lost", "?", `could not be read: ${value.slice(1)}`];
  return read(value);
}

const valueText = (value) => (value === null ? "unknown" : value === "page" ? "a page each" : value.replace("!", ""));

/* "0-2,8" as numbers, and back. */
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
  const list = ranges.map(([first, last]) => (first === last ? first : `${first}-${last}`)).join(",");
  if (list.length <= LONGEST_LIST) return list;
  return `${list.slice(0, list.lastIndexOf(",", LONGEST_LIST))},... (${counted(cpus.length, "CPU")})`;
}

/* The CPUs that share a square. */
function squares(byCpu) {
  const each = Math.ceil(byCpu.length / MOST_SQUARES);
  return Array.from({ length: Math.ceil(byCpu.length / each) }, (_, index) => byCpu.slice(index * each, (index + 1) * each));
}

/* For each square the value that it shows: of several values the one that the fewest CPUs have, so no outlier is lost. */
function shownValues(places, column) {
  const numbers = new Map();
  for (const { values } of places.flat()) numbers.set(values[column], (numbers.get(values[column]) || 0) + 1);
  return places.map((cpus) => cpus.map(({ values }) => values[column])
    .reduce((rarest, value) => (numbers.get(value) < numbers.get(rarest) ? value : rarest)));
}

function pictures(host) {
  const groups = data.registers[host.registers];
  if (!groups.length) return [make("p", {}, "No registers were read.")];
  const byCpu = groups.flatMap((values) => cpusOf(values[0]).map((cpu) => ({ cpu, values }))).sort((a, b) => a.cpu - b.cpu);
  return [...REGISTERS.map((register, index) => picture(register, index, byCpu)), legend(), valueTable(groups)];
}

function picture([name, bit, read], index, byCpu) {
  const places = squares(byCpu);
  const wide = Math.max(0.5, Math.min(18, Math.floor(540 / places.length) || 540 / places.length));
  const gap = wide >= 5 ? 1.5 : 0;
  const width = places.length * wide;
  const strip = make("svg", {
    class: "strip", width, height: 68, viewBox: `0 0 ${width} 68`, preserveAspectRatio: "xMinYMin", role: "img",
    "aria-label": description(name, bit, index, byCpu, read),
  });
  PHASES.forEach((phase, line) => {
    const shown = shownValues(places, 1 + index * 3 + line);
    const at = (place) => shown[place];
    for (let first = 0, last; first < places.length; first = last) {
      // Equal neighbours that are too narrow to be distinguished share a rectangle.
      for (last = first + 1; !gap && last < places.length && at(last) === at(first);) last += 1;
      const [look, sign, means] = square(read, at(first));
      const place = { x: first * wide, y: line * 18, width: (last - first) * wide - gap, height: 16, rx: gap ? 2.5 : 0 };
      const [from, to] = [places[first][0].cpu, places[last - 1][places[last - 1].length - 1].cpu];
      const cpus = from === to ? from : `${from}-${to}`;
      strip.append(make("rect", { class: `r-${look}`, ...place },
        make("title", {}, `cpu${cpus}, ${phase}: ${valueText(at(first))} (${means})`)));
      if (look === "lost") strip.append(make("rect", { class: "r-lost-over", ...place }));
      if (wide >= 11) strip.append(make("text", { class: `t-${look}`, x: place.x + place.width / 2, y: place.y + 11.5 }, sign));
    }
  });
  strip.append(...ticks(places, wide, gap));
  return make("figure", { class: "register" },
    make("figcaption", {}, bit ? `${name}.${bit}` : name, make("span", {}, " by CPU")),
    make("ul", { class: "phases", "aria-hidden": "true" }, ...PHASES.map((phase) => make("li", {}, phase))),
    strip);
}

/* The numbers of the CPUs, of as many as fit. */
function ticks(places, wide, gap) {
  const digits = String(places[places.length - 1][0].cpu).length;
  const every = Math.ceil((7 * digits + 4) / wide);
  return places.map(([{ cpu }], place) => [cpu, place]).filter(([, place]) => place % every === 0)
    .map(([cpu, place]) => make("text", { class: "tick", x: place * wide + (wide - gap) / 2, y: 64 }, String(cpu)));
}

/* The picture in words. */
function description(name, bit, index, byCpu, read) {
  const parts = PHASES.map((phase, line) => {
    const cpus = new Map();
    byCpu.forEach(({ values }) => {
      const means = square(read, values[1 + index * 3 + line])[2];
      cpus.set(means, (cpus.get(means) || 0) + 1);
    });
    return `${phase}: ${[...cpus].map(([means, count]) => `${means} on ${counted(count, "CPU")}`).join(", ")}`;
  });
  return `${name}${bit ? `.${bit}` : ""} ${parts.join("; ")}`;
}

function legend() {
  const looks = [
    ["on", "1", "set; P: a page of its own"],
    ["off", "0", "clear"],
    ["bad", "1", "SVMDIS set, or a page shared"],
    ["lost", "?", "could not be read"],
    ["none", "", "not read"],
  ];
  return make("p", { class: "key" }, ...looks.map(([look, sign, means]) => {
    const box = { class: `r-${look}`, x: 1, y: 1, width: 14, height: 14, rx: 2.5 };
    const drawing = make("svg", { width: 16, height: 16, "aria-hidden": "true" }, make("rect", box));
    if (look === "lost") drawing.append(make("rect", { ...box, class: "r-lost-over" }));
    drawing.append(make("text", { class: `t-${look}`, x: 8, y: 11.5 }, sign));
    return make("span", {}, drawing, means);
  }));
}

/* The values in three phases, a row for each group of equal CPUs. */
function valueTable(groups) {
  const rows = REGISTERS.flatMap(([name], index) => {
    const byRow = new Map();
    groups.forEach((group) => {
      const line = [0, 1, 2].map((phase) => valueText(group[1 + index * 3 + phase])).join(` ${ARROW} `);
      byRow.set(line, (byRow.get(line) || []).concat(cpusOf(group[0])));
    });
    return [...byRow].map(([line, cpus]) => [name, `cpu${listOf(cpus)}`, line]);
  });
  const few = rows.slice(0, 60);
  const list = few.map(([name, cpus, line]) => make("tr", {},
    make("th", { scope: "row" }, name), make("td", { class: "mono" }, cpus), make("td", { class: "mono" }, line)));
  const rest = rows.length - few.length;
  if (rest) list.push(make("tr", {}, make("td", { colspan: 3 }, `and ${counted(rest, "more group")} of CPUs`)));
  return make("table", { class: "values" },
    make("caption", { class: "unseen" }, "Values before, created and closed"), make("tbody", {}, ...list));
}
