// Buttons that copy: `data-copy` holds the text, `data-copy-from` the id of the element that does.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (!button) return;
  const source = button.dataset.copyFrom && document.getElementById(button.dataset.copyFrom);
  const text = source ? source.textContent : button.dataset.copy;
  if (!(await copied(text, source))) return;
  button.classList.add("copied");
  const label = button.getAttribute("aria-label");
  button.setAttribute("aria-label", "Copied");
  setTimeout(() => {
    button.classList.remove("copied");
    if (label) button.setAttribute("aria-label", label);
    else button.removeAttribute("aria-label");
  }, 1400);
});

/** Copies by the clipboard, or, where a page without TLS has none, by a selection. */
async function copied(text, source) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.className = "sr";
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    if (!done && source) document.getSelection().selectAllChildren(source);
    return done;
  }
}
