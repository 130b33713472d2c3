/* Light and dark: as the system prefers, or as the button chose, which this browser remembers where it may. */

const THEMES = ["auto", "light", "dark"];
const dark = matchMedia("(prefers-color-scheme: dark)");
let theme = "auto";
try { theme = THEMES.includes(localStorage.kvmprobeTheme) ? localStorage.kvmprobeTheme : "auto"; } catch { /* not allowed */ }

function showTheme() {
  document.documentElement.dataset.theme = theme === "dark" || (theme === "auto" && dark.matches) ? "dark" : "light";
  $("theme").textContent = `Theme: ${theme}`;
}

$("theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  try { localStorage.kvmprobeTheme = theme; } catch { /* not allowed */ }
  showTheme();
});
dark.addEventListener("change", showTheme);
