/* The data of the page, and the one way in which its elements are made. */

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const SVG = document.querySelector("svg").namespaceURI;
const ARROW = "\u2192";

/* A check's status by its mark, and the order of the marks in a sorted column. */
const MARKS = { P: "pass", F: "fail", W: "warn", S: "skip", U: "unknown", "-": "none" };
const WORST_FIRST = "FUWPS-";

/* The statuses of a verdict, the worst first. */
const VERDICTS = ["failed", "inconclusive", "not applicable", "usable", "confirmed"];

const numbers = new Intl.NumberFormat("en");
const number = (n) => numbers.format(n);
const counted = (n, what) => `${number(n)} ${what}${n === 1 ? "" : "s"}`;

/* The part of a class name that stands for a verdict's status. */
const kind = (status) => (status === "not applicable" ? "neither" : status || "outlier");

/* An element with attributes and children. Evidence becomes text, never markup: no other function makes elements. */
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

/* The drawing of a mark: one of the symbols in page.html. */
const symbol = (mark) => make("svg", { "aria-hidden": "true" }, make("use", { href: `#${mark}` }));
