/* The keyboard, the window, and the first view of the page. */

let waiting = 0;
$("query").addEventListener("input", () => {
  clearTimeout(waiting);
  const filter = () => { state.query = $("query").value.trim(); save(); show(); };
  waiting = setTimeout(filter, hosts.length > 500 ? 120 : 0);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== $("query")) { event.preventDefault(); $("query").focus(); }
  if (event.key === "Escape" && state.query) ask("");
});
$("more").addEventListener("click", () => more(CHUNK));
new IntersectionObserver((seen) => {
  if (seen.some((entry) => entry.isIntersecting) && made < rows.length) more(CHUNK);
}, { root: $("scroll"), rootMargin: "600px" }).observe($("more"));
addEventListener("resize", fit);
addEventListener("hashchange", () => { load(); show(); });
addEventListener("beforeprint", () => { if (made < PRINTED) more(PRINTED - made); });

showTheme();
showOverview();
showHeader();
load();
if (hosts.length === 1) state.open = hosts[0].name;
show();
fit();
