/* The hosts as objects, and the columns that show them. */

const hosts = data.hosts.map(([name, taken, file, profile, details, outlier], index) => {
  const [
    status, reason, kernel, model, microcode, version, cpus, lockdown, parameters, marks, requirements, sev,
  ] = data.profiles[profile];
  const [summary, hint, messages, registers] = data.details[details];
  return {
    index, name, taken, file, status, reason, kernel, model, microcode, version, cpus, lockdown, parameters, marks,
    requirements, sev,
    outlier: outlier ? "yes" : "",
    summary: data.strings[summary],
    hint: data.strings[hint],
    messages,
    registers,
  };
});

/* A host's `id` distinguishes several reports of the same name. */
const withName = new Map();
for (const host of hosts) withName.set(host.name, (withName.get(host.name) || 0) + 1);
for (const host of hosts) host.id = withName.get(host.name) > 1 ? `${host.name} ${host.file}` : host.name;

/* A column: `key` (for queries), `title`, `value` (its text of a host), and `rank` where text does not sort it. */
const column = (title, field, more) => ({ key: field, title, value: (host) => String(host[field] ?? "unknown"), ...more });

const checks = data.checks
  .map(([id, title, of], index) => ({
    key: id, title, of, index, check: true,
    value: (host) => MARKS[host.marks[index]],
    rank: (host) => WORST_FIRST.indexOf(host.marks[index]),
  }))
  .filter((check) => hosts.some((host) => host.marks[check.index] !== "-"));

const columns = [
  column("Host", "name", { key: "host", class: "name" }),
  column("Verdict", "status", { key: "verdict", rank: (host) => VERDICTS.indexOf(host.status) }),
  column("Reason", "reason", { class: "reason" }),
  ...checks,
  column("Kernel", "kernel", { class: "long" }),
  column("CPU model", "model", { class: "long" }),
  column("CPUs", "cpus", { rank: (host) => host.cpus }),
  column("Microcode", "microcode", { class: "long" }),
  column("Taken", "taken"),
];

/* Columns for queries alone. */
const hidden = [
  column("kvmprobe", "version", { key: "version" }),
  column("Outlier", "outlier"),
  column("File", "file"),
  column("Lockdown", "lockdown"),
  {
    key: "requirements", title: "Requirements",
    value: (host) => host.requirements.map(([name, status]) => `${name} ${status}`).join("; "),
  },
  column("SEV", "sev"),
  { key: "parameters", title: "Parameters", value: (host) => host.parameters.join(" ") },
];

const byKey = new Map([...columns, ...hidden].map((one) => [one.key, one]));

/* All text of a host in which a word of a query is searched. */
function words(host) {
  host.words ??= [...columns.filter((one) => !one.check), ...hidden].map((one) => one.value(host))
    .concat(host.summary).join("\n").toLowerCase();
  return host.words;
}
