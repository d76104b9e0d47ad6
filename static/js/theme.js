// Light, dark, or as the system: applied at once, kept in a cookie that the server reads, so that
// the next page has it from its first byte. Without this module the form asks the server.

const YEAR = 365 * 24 * 3600;

function apply(theme) {
  document.documentElement.dataset.theme = theme;
  document.querySelector('meta[name="color-scheme"]').content = theme === "system" ? "light dark" : theme;
  for (const button of document.querySelectorAll("[data-theme-form] button")) {
    button.setAttribute("aria-pressed", String(button.value === theme));
  }
}

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-theme-form]") || !event.submitter) return;
  event.preventDefault();
  const theme = event.submitter.value;
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `theme=${theme}; Path=/; Max-Age=${YEAR}; SameSite=Lax${secure}`;
  apply(theme);
  // Other tabs hear of it.
  try { localStorage.setItem("theme", theme); } catch { /* private windows may refuse */ }
});

window.addEventListener("storage", (event) => {
  if (event.key === "theme" && event.newValue) apply(event.newValue);
});
