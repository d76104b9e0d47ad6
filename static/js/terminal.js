// The terminal page: an xterm on a line to a shell, and what surrounds it (shells, text size, copy
// and paste, full screen, dropped files, a row of keys for phones).

const root = document.getElementById("terminal");
const { container, csrf } = root.dataset;
const el = (id) => document.getElementById(id);
const screen = el("term-screen");
const note = el("term-note");
const MAX_UPLOAD = 10 * 1024 * 1024;

allowStyles(root.dataset.nonce);
const [{ Terminal }, { FitAddon }, { Line }] = await Promise.all(
  [root.dataset.xterm, root.dataset.fit, root.dataset.line].map((address) => import(address)),
);

/** What can be kept in this browser, or not, in a private window. */
const stored = {
  get(store, key) { try { return store.getItem(key); } catch { return null; } },
  set(store, key, value) { try { store.setItem(key, value); } catch { /* then not */ } },
};

/** The page's policy takes only styles that carry its nonce; xterm makes some of its own. */
function allowStyles(nonce) {
  const { createElement } = Document.prototype;
  Document.prototype.createElement = function (name, options) {
    const made = createElement.call(this, name, options);
    if (String(name).toLowerCase() === "style") made.nonce = nonce;
    return made;
  };
  // Colours of single cells come as attributes, which no nonce allows; as properties they may.
  const { setAttribute } = Element.prototype;
  Element.prototype.setAttribute = function (name, value) {
    if (name === "style" && this instanceof HTMLElement) this.style.cssText = value;
    else setAttribute.call(this, name, value);
  };
}

// Colours: those of the stylesheet, which follow the page's.
const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
function colours() {
  const probe = document.createElement("i");
  probe.hidden = true;
  root.append(probe);
  const read = (name) => {
    probe.style.color = `var(--term-${name})`;
    return getComputedStyle(probe).color;
  };
  const theme = { background: read("bg"), foreground: read("fg"), cursor: read("cursor"), cursorAccent: read("bg"), selectionBackground: read("select") };
  for (const name of NAMES) {
    theme[name] = read(name);
    theme[`bright${name[0].toUpperCase()}${name.slice(1)}`] = read(`bright-${name}`);
  }
  probe.remove();
  return theme;
}

const SIZES = [10, 11, 12, 13, 14, 15, 16, 18, 20, 24, 28];
const small = window.matchMedia("(max-width: 44rem)").matches;
let size = Number(stored.get(localStorage, "terminal-size")) || (small ? 12 : 14);

const term = new Terminal({
  fontSize: size,
  fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono").trim() || "monospace",
  theme: colours(),
  scrollback: 5000,
  macOptionIsMeta: true,
  rightClickSelectsWord: false,
});
const fitting = new FitAddon();
term.loadAddon(fitting);
term.open(el("term-xterm"));
// For tests, and for the curious at the console.
root.term = term;

const recolour = () => { term.options.theme = colours(); };
new MutationObserver(recolour).observe(document.documentElement, { attributeFilter: ["data-theme"] });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

// Size: as many characters as fit here; the shell and its other viewers hear of it.
let line = null;
function fit() {
  if (screen.clientHeight < 20) return;
  const wanted = fitting.proposeDimensions();
  if (!wanted || Number.isNaN(wanted.cols)) return;
  const cols = Math.min(Math.max(wanted.cols, 2), 1000);
  const rows = Math.min(Math.max(wanted.rows, 1), 1000);
  term.resize(cols, rows);
  line?.say({ type: "resize", cols, rows });
}
let fitTimer = 0;
new ResizeObserver(() => {
  clearTimeout(fitTimer);
  fitTimer = setTimeout(fit, 60);
}).observe(screen);
// What a phone's keyboard leaves.
window.visualViewport?.addEventListener("resize", () => {
  root.style.setProperty("--seen", `${window.visualViewport.height}px`);
});

function state(text, tone) {
  const place = el("term-state");
  place.textContent = text;
  place.dataset.tone = tone;
}

/** Covers the screen with a sentence and what can be done. */
function cover(text, ...actions) {
  el("term-note-text").textContent = text;
  el("term-note-buttons").replaceChildren(...actions.map(({ label, id, primary, act }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.id = id;
    button.className = primary ? "button primary" : "button";
    button.textContent = label;
    button.addEventListener("click", act);
    return button;
  }));
  note.hidden = false;
  if (root.contains(document.activeElement)) el("term-note-buttons").firstElementChild?.focus();
}

// The shell of this tab: the one it had before a reload, the one of the address, one that nobody
// looks at, or a new one.
const tabKey = `terminal:${container}`;
const asked = new URLSearchParams(location.search).get("session");
let session = asked || stored.get(sessionStorage, tabKey);

async function shells() {
  const answer = await fetch(`/api/v1/containers/${container}/terminals`, { headers: { accept: "application/json" } });
  if (!answer.ok) throw new Error(String(answer.status));
  return (await answer.json()).data.filter((shell) => shell.session);
}

/** A name that no open shell has. */
function freeName(open) {
  const taken = new Set(open.map((shell) => shell.session));
  for (let n = 1; ; n += 1) if (!taken.has(`shell-${n}`)) return `shell-${n}`;
}

let replaying = false;
function connect(name) {
  line?.close();
  session = name;
  // A window of its own has it in its address.
  if (!root.classList.contains("bare")) stored.set(sessionStorage, tabKey, name);
  el("term-name").textContent = name;
  note.hidden = true;
  state("Connecting…", "wait");
  root.dataset.state = "connecting";
  line = new Line(container, name, {
    opened(fresh, replay) {
      if (fresh) term.reset();
      // What programs asked the terminal before is not answered again.
      replaying = replay > 0;
      if (replaying) leaveReplay(replay);
      if (unsent.length) state(notSent(unsent.splice(0)), "bad");
      else state("Connected", "ok");
      root.dataset.state = "connected";
      fit();
      if (!note.hidden) note.hidden = true;
    },
    output(bytes, done) {
      pending -= bytes.length;
      const last = replaying && pending <= 0;
      term.write(bytes, () => {
        if (last) replaying = false;
        done();
      });
    },
    message: told,
    dropped(attempt) {
      state(navigator.onLine ? `Reconnecting…${attempt > 2 ? ` (attempt ${attempt})` : ""}` : "Offline; reconnecting…", "warn");
      root.dataset.state = "reconnecting";
    },
    ended,
  });
}
let pending = 0;
function leaveReplay(bytes) { pending = bytes; }

function told(message) {
  switch (message.type) {
    case "resized":
      if (message.cols !== term.cols || message.rows !== term.rows) term.resize(message.cols, message.rows);
      break;
    case "file_uploaded":
      state(`Uploaded ${message.path}`, "ok");
      break;
    case "file_upload_error":
      state(`${message.path}: ${message.message}`, "bad");
      break;
    case "error":
      state(message.message, "bad");
      break;
  }
}

function ended(reason, over) {
  root.dataset.state = "ended";
  if (reason === "The container stopped") return stopped();
  state(reason, over ? "quiet" : "bad");
  const again = { label: over ? "New shell" : "Try again", id: "term-again", primary: true, act: reopen };
  const signIn = { label: "Sign in", id: "term-sign-in", primary: true, act: () => location.reload() };
  cover(reason, reason === "The session has ended" ? signIn : again);
}

function reopen() {
  connect(session);
  term.focus();
}

// A container that does not run: offer to start it, and see when someone else does.
let watching = 0;
function stopped() {
  root.dataset.state = "stopped";
  state("Stopped", "quiet");
  const start = { label: "Start", id: "term-start", primary: true, act: startBox };
  cover("The container stopped", ...(root.dataset.mayStart === "true" ? [start] : []));
  clearInterval(watching);
  watching = setInterval(async () => {
    if (document.hidden) return;
    try {
      const box = await (await fetch(`/api/v1/containers/${container}`)).json();
      if (box.data?.state === "running") started();
    } catch { /* the next look */ }
  }, 2500);
}

function started() {
  clearInterval(watching);
  window.htmx?.trigger(document.body, "changed");
  if (root.dataset.state === "stopped") connect(session);
}

async function startBox(event) {
  event.target.disabled = true;
  el("term-note-text").textContent = "Starting…";
  try {
    const answer = await fetch(`/api/v1/containers/${container}/start`, { method: "POST", headers: { "x-csrf-token": csrf, accept: "application/json" } });
    const { data, error } = await answer.json();
    if (data?.state === "running") {
      started();
      term.focus();
      return;
    }
    el("term-note-text").textContent = error?.message ?? data?.state_reason ?? "It did not start";
  } catch {
    el("term-note-text").textContent = "The server cannot be reached";
  }
  event.target.disabled = false;
}

// Typing.
let control = false;
const controlKey = root.querySelector('[data-key-name="Control"]');
function setControl(on) {
  control = on;
  controlKey.setAttribute("aria-pressed", String(on));
}
term.onData((data) => {
  if (replaying) return;
  let text = data;
  if (control && data.length === 1) {
    const code = data.toUpperCase().charCodeAt(0);
    if (code >= 0x40 && code < 0x60) text = String.fromCharCode(code & 0x1f);
    setControl(false);
  }
  line?.type(text);
});
term.onBinary((data) => { if (!replaying) line?.raw(data); });

const ARROWS = { ArrowUp: "A", ArrowDown: "B", ArrowRight: "C", ArrowLeft: "D" };
for (const button of root.querySelectorAll("[data-key-name]")) {
  // The keyboard of a phone stays as it is.
  button.addEventListener("pointerdown", (event) => event.preventDefault());
  button.addEventListener("click", () => {
    const key = button.dataset.keyName;
    if (key === "Control") setControl(!control);
    else if (key === "Escape") line?.type("\x1b");
    else if (key === "Tab") line?.type("\t");
    else line?.type((term.modes.applicationCursorKeysMode ? "\x1bO" : "\x1b[") + ARROWS[key]);
    term.focus();
  });
}

// Copy and paste.
async function copy() {
  const text = term.getSelection();
  if (!text) return state("Select something first", "quiet");
  try {
    await navigator.clipboard.writeText(text);
    state("Copied", "ok");
  } catch {
    document.execCommand("copy");
  }
  term.focus();
}
async function paste() {
  try {
    term.paste(await navigator.clipboard.readText());
  } catch {
    state("Paste with Ctrl+Shift+V", "quiet");
  }
  term.focus();
}
term.attachCustomKeyEventHandler((event) => {
  if (event.type === "keydown" && event.ctrlKey && event.shiftKey && event.code === "KeyC") {
    event.preventDefault();
    copy();
    return false;
  }
  // The browser's own paste.
  return !(event.ctrlKey && event.shiftKey && event.code === "KeyV");
});

function resizeText(by) {
  const at = SIZES.findIndex((known) => known >= size);
  size = SIZES[Math.min(Math.max((at === -1 ? SIZES.length - 1 : at) + by, 0), SIZES.length - 1)];
  stored.set(localStorage, "terminal-size", String(size));
  term.options.fontSize = size;
  fit();
  term.focus();
}

const tools = {
  smaller: () => resizeText(-1),
  larger: () => resizeText(1),
  copy,
  paste,
  full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else root.requestFullscreen?.().catch(() => state("This browser has no full screen here", "quiet"));
    term.focus();
  },
  window() {
    const query = new URLSearchParams({ bare: "1", session });
    window.open(`/containers/${container}/terminal?${query}`, "_blank", "popup,width=960,height=640");
  },
};
for (const button of root.querySelectorAll("[data-term]")) {
  button.addEventListener("click", () => tools[button.dataset.term]());
}

// The shells of this box that are open.
const menu = el("term-shells");
async function listShells() {
  let open;
  try {
    open = await shells();
  } catch {
    return;
  }
  const name = el("term-new-name");
  if (!name.value || name.dataset.proposed === name.value) {
    name.value = freeName(open);
    name.dataset.proposed = name.value;
    // Whoever wants another name types over it.
    if (name.offsetParent) name.select();
  }
  el("term-list").replaceChildren(...open.map((shell) => {
    const row = document.createElement("li");
    const here = shell.session === session;
    const attach = document.createElement("button");
    attach.type = "button";
    attach.className = "term-attach";
    if (here) attach.setAttribute("aria-current", "true");
    const label = document.createElement("span");
    label.className = "mono";
    label.textContent = shell.session;
    const who = document.createElement("span");
    who.className = "muted";
    const others = shell.viewers - (here && line?.isOpen ? 1 : 0);
    who.textContent = [here ? "here" : "", others > 0 ? `open in ${others} ${here ? "other" : ""} place${others > 1 ? "s" : ""}`.replace("  ", " ") : here ? "" : "nobody looks"].filter(Boolean).join(", ");
    attach.append(label, who);
    attach.addEventListener("click", () => {
      menu.open = false;
      connect(shell.session);
      term.focus();
    });
    const end = document.createElement("button");
    end.type = "button";
    end.className = "button quiet";
    end.textContent = "End";
    end.setAttribute("aria-label", `End ${shell.session}`);
    end.addEventListener("click", async () => {
      end.disabled = true;
      await fetch(`/api/v1/containers/${container}/terminals/${encodeURIComponent(shell.session)}`, { method: "DELETE", headers: { "x-csrf-token": csrf } }).catch(() => {});
      setTimeout(listShells, 150);
    });
    row.append(attach, end);
    return row;
  }));
}
menu.addEventListener("toggle", () => { if (menu.open) listShells(); });
// The page's own script does this too, where there is one.
document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
menu.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  menu.open = false;
  term.focus();
});
el("term-new").addEventListener("submit", (event) => {
  event.preventDefault();
  menu.open = false;
  connect(el("term-new-name").value);
  term.focus();
});

// Files dropped on the terminal go to root's home.
let dragging = 0;
const isFiles = (event) => event.dataTransfer?.types.includes("Files");
screen.addEventListener("dragenter", (event) => {
  if (!isFiles(event)) return;
  dragging += 1;
  screen.classList.add("dropping");
});
screen.addEventListener("dragleave", (event) => {
  if (isFiles(event) && (dragging -= 1) <= 0) screen.classList.remove("dropping");
});
screen.addEventListener("dragover", (event) => { if (isFiles(event)) event.preventDefault(); });
screen.addEventListener("drop", async (event) => {
  if (!isFiles(event)) return;
  event.preventDefault();
  dragging = 0;
  screen.classList.remove("dropping");
  for (const file of event.dataTransfer.files) await upload(file);
});

/** What was dropped while the line was down; it is told again when the line is there. */
const unsent = [];
function notSent(names) {
  return `Not sent, for the terminal was not connected: ${names.join(", ")}`;
}
function drop(file) {
  unsent.push(file.name);
  state(notSent(unsent), "bad");
}

async function upload(file) {
  if (file.size > MAX_UPLOAD) return state(`${file.name} is larger than 10 MiB: use Files`, "bad");
  if (!line?.isOpen) return drop(file);
  state(`Uploading ${file.name}…`, "wait");
  const data = await new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(String(reader.result).split(",", 2)[1] ?? "");
    reader.onerror = () => done(null);
    reader.readAsDataURL(file);
  });
  if (data === null) return state(`${file.name} cannot be read`, "bad");
  if (!line?.say({ type: "file_upload", path: `/root/${file.name}`, data })) drop(file);
}

// And begin.
if (root.dataset.running === "true") {
  if (!session) {
    const open = await shells().catch(() => []);
    session = open.findLast((shell) => shell.viewers === 0)?.session ?? freeName(open);
  }
  connect(session);
  term.focus();
} else {
  session ??= "shell-1";
  el("term-name").textContent = session;
  stopped();
  el("term-note-text").textContent = "The container does not run";
}
