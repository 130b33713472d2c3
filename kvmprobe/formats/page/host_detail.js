/* One host in full, below its row. */

/* Opens a host, or closes it, and closes any other. */
function flip(button, host) {
  const opened = button.getAttribute("aria-expanded") === "true";
  body.querySelectorAll("tr.open").forEach((other) => other.remove());
  body.querySelectorAll('[aria-expanded="true"]').forEach((other) => other.setAttribute("aria-expanded", "false"));
  state.open = opened ? "" : host.id;
  save();
  if (!opened) expand(button, host);
}

function expand(button, host) {
  button.setAttribute("aria-expanded", "true");
  const id = `detail-${host.index}`;
  button.setAttribute("aria-controls", id);
  button.closest("tr").after(make("tr", { class: "open", id }, make("td", { colspan: columns.length }, detail(host))));
  fit();
}

function detail(host) {
  return make("div", { class: "detail" },
    make("div", {},
      make("div", {},
        make("p", { class: "verdict" }, make("span", { class: `badge b-${kind(host.status)}` }, host.status), ` ${host.reason}`),
        make("p", {}, host.summary),
        make("p", { class: "todo" }, host.hint)),
      make("div", {}, make("h3", {}, "Checks, in the kernel's order"), make("ul", { class: "steps" }, ...steps(host))),
      ...requirements(host), ...features()),
    make("div", {},
      make("div", {}, make("h3", {}, "Registers before KVM_CREATE_VM, after it, and with the VM closed"), ...pictures(host)),
      make("div", {}, make("h3", {}, "Host"), facts(host))));
}

function steps(host) {
  return checks.filter((check) => host.marks[check.index] !== "-").map((check) => make("li", {},
    badge(host.marks[check.index]),
    make("span", { class: "what", title: check.of }, check.title),
    make("span", { class: "message" }, data.strings[host.messages[check.index]] || "")));
}

/* What --require asked, where it was given: its messages come after those of the checks. */
function requirements(host) {
  if (!host.requirements.length) return [];
  const answers = host.requirements.map(([name, status], index) => make("li", {},
    badge({ met: "P", "not-met": "F", unknown: "U" }[status]),
    make("span", { class: "what" }, name),
    make("span", { class: "message" }, data.strings[host.messages[data.checks.length + index]] || "")));
  return [make("div", {}, make("h3", {}, "Requirements"), make("ul", { class: "steps" }, ...answers))];
}

/* What kvm_amd made of each feature, on the page of one host. */
function features() {
  if (!data.features.length) return [];
  const [titles, ...rows] = data.features;
  const cells = (kind, values) => make("tr", {}, ...values.map((value) => make(kind, {}, value)));
  return [make("div", {}, make("h3", {}, "Features of kvm_amd, in its own order (offered: to guests; ?: unknown)"),
    make("table", { class: "values features" }, make("thead", {}, cells("th", titles)), make("tbody", {}, ...rows.map((row) => cells("td", row)))))];
}

function facts(host) {
  const known = [
    ["Kernel", host.kernel],
    ["CPU", `${host.model}, ${host.cpus === null ? "number of CPUs unknown" : `${counted(host.cpus, "CPU")} online`}`],
    ["Microcode", host.microcode],
    ["Lockdown", host.lockdown],
    ["SEV", host.sev],
    ["Parameters", host.parameters.join(", ") || "unknown"],
    ["Taken", host.taken],
    ["kvmprobe", host.version],
    ["File", host.file],
  ].filter(([, value]) => value);
  return make("dl", { class: "facts" }, ...known.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

/* The detail is as wide as the table's window, not as the table. */
function fit() { $("scroll").style.setProperty("--inner", `${$("scroll").clientWidth}px`); }
