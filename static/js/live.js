// Keeps pages true without a reload: swaps by htmx, toasts, the tab's title and icon, the delete
// form's button. Without this module the pages work by forms and links alone.

const toasts = document.getElementById("toasts");

/** Shows a message with its mark. A failure stays until someone dismisses it. */
function toast(text, { bad = false, mark = null } = {}) {
  if (!toasts) return;
  const box = document.createElement("div");
  box.className = "toast";
  box.setAttribute("role", bad ? "alert" : "status");
  if (bad) box.dataset.tone = "bad";
  if (mark) box.append(mark.cloneNode(true));
  const line = document.createElement("p");
  line.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "icon-button small";
  close.setAttribute("aria-label", "Dismiss");
  close.innerHTML = '<svg class="icon" aria-hidden="true"><use href="#i-cross"/></svg>';
  close.addEventListener("click", () => box.remove());
  box.append(line, close);
  toasts.append(box);
  // A failure gives way to another failure only.
  while (toasts.children.length > 4) {
    const quiet = [...toasts.children].find((one) => one !== box && one.dataset.tone !== "bad");
    if (!quiet && !bad) break;
    (quiet ?? toasts.firstElementChild).remove();
  }
  if (!bad) setTimeout(() => box.remove(), 6000);
}

/** The boxes on the page, by id: state, hostname and mark. */
function boxes() {
  const found = new Map();
  for (const el of document.querySelectorAll("[data-box-id]")) {
    const { boxId, state, hostname } = el.dataset;
    found.set(boxId, { state, hostname, mark: el.querySelector(".mark") });
  }
  return found;
}

let known = boxes();
/** Every box that was on the page since it was opened, as it was last. */
const met = new Map(known);

/** Tells of every box that came to be otherwise than it was. */
function tell() {
  const now = boxes();
  for (const [id, { state, hostname, mark }] of now) {
    const before = known.get(id);
    if (!before || before.state === state) continue;
    if (document.getElementById("box-head")?.dataset.boxId === id) refreshTab();
    if (state === "failed") toast(`${hostname} failed`, { bad: true, mark });
    else if (state === "running" || state === "stopped") toast(`${hostname} is ${state}`, { mark });
  }
  for (const [id, shown] of now) met.set(id, shown);
  known = now;
}

// A box that is no longer listed may only be filtered out: that it is gone is heard (js/events.js).
document.addEventListener("hzel", ({ detail }) => {
  if (detail.type !== "container.deleted" || !met.has(detail.id)) return;
  const { mark } = met.get(detail.id);
  met.delete(detail.id);
  toast(`${detail.hostname} is deleted`, { mark });
});

/** Whether a tab is to stay as it is: it keeps itself true, or someone types into it, has typed
    something, or sends files. */
function isInUse(tab) {
  if (tab.querySelector("input:focus, textarea:focus, [data-keep], .transfer:not([data-tone])")) return true;
  return [...tab.querySelectorAll("input, textarea")].some((field) => (
    field.type === "checkbox" || field.type === "radio"
      ? field.checked !== field.defaultChecked
      : field.value !== field.defaultValue));
}

/** What a tab shows depends on the state: it is fetched anew, unless it is in use. */
async function refreshTab() {
  const tab = document.getElementById("tab");
  if (!tab || isInUse(tab)) return;
  try {
    const answer = await fetch(location.href, {
      headers: { accept: "text/html", ...(away() && { "x-hzel-poll": "1" }) },
    });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("tab");
    // It was not in use before; that was a moment ago.
    if (!fresh || !tab.isConnected || isInUse(tab)) return;
    tab.replaceWith(document.adoptNode(fresh));
    htmx.process(document.getElementById("tab"));
    armDeletes();
    sparks();
  } catch { /* the next change tries again */ }
}

/** The tab shows the state of the box that the page is about. */
function dress() {
  const head = document.querySelector("[data-icon][data-title]");
  if (!head) return;
  document.title = head.dataset.title;
  const icon = document.getElementById("icon");
  if (icon && icon.getAttribute("href") !== head.dataset.icon) icon.href = head.dataset.icon;
}

/** Output that is read at its end stays at its end. */
const atEnd = new Map();
function rememberEnds(root) {
  for (const pre of root.querySelectorAll("pre.output")) {
    atEnd.set(pre.id || "output", pre.scrollHeight - pre.scrollTop - pre.clientHeight < 24);
  }
}
function follow(root) {
  for (const pre of root.querySelectorAll("[data-follow] pre.output")) {
    if (atEnd.get(pre.id || "output") !== false) pre.scrollTop = pre.scrollHeight;
  }
}
follow(document);

const polls = (detail) => detail.requestConfig?.triggeringEvent === undefined
  || detail.requestConfig.triggeringEvent === null
  || detail.requestConfig.triggeringEvent.type === "changed";

// A page that looks by itself while nobody is there does not keep the session alive.
const PRESENT = 60_000;
let lastSeen = performance.now();
for (const sign of ["pointermove", "pointerdown", "keydown", "wheel", "touchstart"]) {
  document.addEventListener(sign, () => { lastSeen = performance.now(); }, { passive: true });
}
const away = () => performance.now() - lastSeen > PRESENT;
document.body.addEventListener("htmx:configRequest", ({ detail }) => {
  const form = detail.elt.tagName === "FORM";
  if (away() && !form && polls({ requestConfig: detail })) detail.headers["x-hzel-poll"] = "1";
});

document.body.addEventListener("htmx:beforeRequest", (event) => {
  const { elt } = event.detail;
  if (elt.tagName !== "FORM" && polls(event.detail)) {
    // Nobody looks, or someone has a menu of it open or text of it selected: not now.
    const selected = document.getSelection();
    const changed = event.detail.requestConfig?.triggeringEvent?.type === "changed";
    const busy = document.hidden || elt.querySelector("details.menu[open]")
      || (!changed && (elt.matches("[aria-busy]") || elt.querySelector("[aria-busy]")))
      || (selected && !selected.isCollapsed && elt.contains(selected.anchorNode));
    if (busy) event.preventDefault();
    return;
  }
  if (elt.dataset.act) {
    // At once on the page; the truth follows.
    for (const button of elt.parentElement.querySelectorAll("button")) button.disabled = true;
    const row = document.querySelector(`[data-box-id="${CSS.escape(elt.dataset.box)}"]`);
    const word = row?.querySelector(".state-word");
    const verb = { start: "starting", stop: "stopping", restart: "restarting" }[elt.dataset.act];
    if (word && verb) word.textContent = `${verb}…`;
    row?.setAttribute("aria-busy", "true");
  }
});

/** Whether an answer says anything else than what is shown. How long ago something was does not
    count: the page says that anew by itself. */
function differs(target, answer) {
  const fresh = new DOMParser().parseFromString(answer, "text/html").getElementById(target.id);
  if (!fresh) return true;
  const shown = target.cloneNode(true);
  for (const root of [fresh, shown]) {
    root.classList.remove("htmx-request", "htmx-settling", "htmx-swapping", "htmx-added");
    if (!root.classList.length) root.removeAttribute("class");
    for (const time of root.querySelectorAll("time")) time.textContent = "";
  }
  return !fresh.isEqualNode(shown);
}

// What has not changed is not swapped: marks keep breathing, focus and selection stay.
document.body.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr, requestConfig } = event.detail;
  if (requestConfig.verb === "get" && xhr.status === 200 && target?.id) {
    if (!differs(target, xhr.responseText)) event.detail.shouldSwap = false;
  }
  // The session ended: what came back is the page to sign in at, not a part of this one.
  if (new URL(xhr.responseURL, location.href).pathname === "/login") {
    event.detail.shouldSwap = false;
    location.reload();
    return;
  }
  // A part is never replaced by an error page.
  if (xhr.status >= 400) event.detail.shouldSwap = false;
  if (event.detail.shouldSwap && target) rememberEnds(target);
});

document.body.addEventListener("htmx:afterSettle", () => {
  tell();
  dress();
  follow(document);
});

/** The sentence of an error page, or of an error in JSON. */
function reason(xhr) {
  try {
    return JSON.parse(xhr.responseText).error.message;
  } catch {
    const page = new DOMParser().parseFromString(xhr.responseText, "text/html");
    return page.querySelector("[data-error-message]")?.textContent;
  }
}

document.body.addEventListener("htmx:responseError", (event) => {
  const { xhr, elt } = event.detail;
  if (xhr.status === 401) location.reload();
  else if (xhr.status === 404 && elt.id === "box-head") {
    location.assign(`/?deleted=${encodeURIComponent(elt.dataset.hostname)}`);
  } else if (elt.tagName === "FORM") {
    toast(reason(xhr) ?? "That did not work", { bad: true });
    htmx.trigger(document.body, "changed");
  }
});

document.body.addEventListener("htmx:sendError", (event) => {
  if (event.detail.elt.tagName !== "FORM") return;
  toast("The server cannot be reached", { bad: true });
  for (const row of document.querySelectorAll("[aria-busy]")) row.removeAttribute("aria-busy");
});

// When the tab comes to the front again, look at once.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) htmx.trigger(document.body, "changed");
});

// Deleting wants the name typed: until it is, the button rests. The server asks all the same.
function armDeletes() {
  for (const form of document.querySelectorAll("form[data-confirm]")) {
    const field = form.querySelector("[name=confirm]");
    const button = form.querySelector("button");
    const check = () => { button.disabled = field.value !== form.dataset.confirm; };
    field.addEventListener("input", check);
    check();
  }
}
armDeletes();

// A form that is on its way is not sent twice.
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button || event.defaultPrevented || event.target.method === "dialog") return;
  setTimeout(() => {
    // Whoever heard of it after this sends it in another way, or not at all.
    if (event.defaultPrevented) return;
    button.disabled = true;
    if (button.dataset.busy) button.textContent = button.dataset.busy;
  });
});
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

// Menus close when one looks elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// What was measured since the page was opened, as a line: nothing older is known here.
const series = new Map();
const MOST = 60;
function sparks() {
  for (const stat of document.querySelectorAll("[data-spark]")) {
    const points = series.get(stat.dataset.spark) ?? [];
    const reading = stat.closest("section");
    if (reading !== sparks.last) {
      points.push(Number(stat.dataset.value));
      if (points.length > MOST) points.shift();
      series.set(stat.dataset.spark, points);
    }
    if (points.length < 3) continue;
    const most = Math.max(...points, 50);
    const step = 100 / (points.length - 1);
    const line = points.map((v, n) => `${(n * step).toFixed(1)} ${(30 - (v / most) * 28).toFixed(1)}`);
    const draw = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    draw.setAttribute("class", "spark");
    draw.setAttribute("viewBox", "0 0 100 30");
    draw.setAttribute("preserveAspectRatio", "none");
    draw.setAttribute("aria-hidden", "true");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", `M${line.join("L")}`);
    draw.append(path);
    stat.append(draw);
  }
  sparks.last = document.getElementById("usage");
}
document.body.addEventListener("htmx:afterSettle", (event) => {
  if (event.target.id === "usage") sparks();
});
sparks();
