// The keyboard: `/` filters, `n` makes a new one, `g` and a letter goes to a place, `j` and `k`
// walk the rows, `s` and `r` act on the row (or the page's box), `?` lists them, Escape closes.

const places = { c: "/", i: "/images", a: "/activity", t: "/tokens", p: "/profile" };
const help = document.getElementById("help");
let going = 0;

const isTyping = (el) => el.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(el.tagName)
  && !["radio", "checkbox", "button"].includes(el.type);

function walk(by) {
  const links = [...document.querySelectorAll("main .row-link")];
  if (links.length === 0) return;
  const here = links.indexOf(document.activeElement.closest?.("tr, li")?.querySelector(".row-link"));
  links[Math.min(links.length - 1, Math.max(0, here === -1 ? 0 : here + by))].focus();
}

/** The button for a key: in the row that has the focus, else in the page's head. */
function act(key) {
  const row = document.activeElement.closest?.("[data-box-id]") ?? document.getElementById("box-head");
  row?.querySelector(`button[data-key="${key}"]`)?.click();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape") {
    const menu = document.querySelector("details.menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    } else if (isTyping(event.target)) event.target.blur();
    return;
  }
  if (isTyping(event.target) || help?.open) return;
  if (Date.now() - going < 1200 && places[event.key]) {
    going = 0;
    location.assign(places[event.key]);
    event.preventDefault();
    return;
  }
  switch (event.key) {
    case "/": {
      const filter = document.querySelector("#q, #command");
      if (!filter) return;
      filter.focus();
      filter.select();
      break;
    }
    case "n": location.assign("/containers/new"); break;
    case "g": going = Date.now(); break;
    case "j": walk(1); break;
    case "k": walk(-1); break;
    case "s": case "r": act(event.key); break;
    case "?": help?.showModal(); break;
    default: return;
  }
  event.preventDefault();
});

document.querySelector("[data-help]")?.addEventListener("click", () => help.showModal());
help?.addEventListener("click", (event) => { if (event.target === help) help.close(); });
