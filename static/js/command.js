// A command's output while it runs, and the box to run one: its output below it, its history by the
// arrow keys. Without this module a command has a page of its own, which shows its end.

const MOST = 1_500_000;
const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][^]|[^[\]()])/g;
const OPEN = /\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]{0,4096}\x1b?|[()])?$/;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;

/** One stream of a command, shown without what only a terminal understands. */
class Stream {
  /** @param {HTMLElement} section @param {"stdout" | "stderr"} name */
  constructor(section, name) {
    this.section = section;
    this.name = name;
    this.held = "";
    this.pending = "";
    this.size = 0;
    this.dropped = false;
    this.timer = 0;
  }

  /** Its element, made when the first of it comes. */
  get pre() {
    let pre = this.section.querySelector(`#${this.name}`);
    if (pre) return pre;
    this.section.querySelector(".nothing")?.remove();
    const head = document.createElement("h2");
    head.className = "stream";
    head.textContent = this.name === "stdout" ? "Output" : "Errors";
    pre = document.createElement("pre");
    pre.className = this.name === "stdout" ? "output" : "output err";
    pre.id = this.name;
    pre.tabIndex = 0;
    const errors = this.name === "stdout" && this.section.querySelector("#stderr");
    if (errors) errors.previousElementSibling.before(head, pre);
    else this.section.append(head, pre);
    return pre;
  }

  push(text) {
    text = this.held + text;
    this.held = OPEN.exec(text)?.[0] ?? "";
    text = text.slice(0, text.length - this.held.length);
    this.pending += text.replace(ESCAPES, "").replace(CONTROLS, "");
    if (this.pending.length > MOST) {
      this.pending = this.pending.slice(-MOST);
      this.dropped = true;
    }
    this.timer ||= setTimeout(() => this.show(), 40);
  }

  /** All that waits, at once: one change of the page for many pieces. */
  show() {
    clearTimeout(this.timer);
    this.timer = 0;
    if (!this.pending) return;
    const pre = this.pre;
    const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 24;
    pre.append(this.pending);
    this.size += this.pending.length;
    this.pending = "";
    while (this.size > MOST && pre.childNodes.length > 1) {
      this.size -= pre.firstChild.data.length;
      pre.firstChild.remove();
      this.dropped = true;
    }
    if (atEnd) pre.scrollTop = pre.scrollHeight;
  }
}

/** Follows a command into its section until it is over. */
function follow(section) {
  section.dataset.followed = "";
  const id = section.dataset.commandId;
  const streams = {};
  let over = false;
  let wait = 500;

  const connect = () => {
    const address = new URL(`/ws/jobs/${id}`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    socket.addEventListener("open", () => {
      wait = 500;
      section.dataset.streaming = "";
      // It begins with the first byte again.
      for (const name of ["stdout", "stderr"]) {
        const old = section.querySelector(`#${name}`);
        old?.previousElementSibling.remove();
        old?.remove();
        streams[name] = new Stream(section, name);
      }
    });
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "output") streams[message.stream].push(message.chunk);
      else if (message.type === "started") head(section);
      else if (message.type === "finished") {
        over = true;
        for (const stream of Object.values(streams)) stream.show();
        finish(section, streams);
      }
    });
    socket.addEventListener("close", () => {
      // Until it is heard again, the page looks by itself.
      delete section.dataset.streaming;
      // Over, or gone from the page: then nobody sees it any more.
      if (over || !section.isConnected) return;
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, 30_000);
    });
  };
  connect();
}

/** The command's part of its page, as it is now. */
async function fresh(section) {
  const answer = await fetch(`/commands/${section.dataset.commandId}`, {
    headers: { accept: "text/html", "hx-request": "true" },
  });
  if (!answer.ok || answer.redirected) return null;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return page.getElementById("command-view");
}

/** Brings its badge and its buttons up to date. */
async function head(section) {
  const now = await fresh(section).catch(() => null);
  if (!now || !section.isConnected || section.dataset.status === now.dataset.status) return;
  section.dataset.status = now.dataset.status;
  for (const part of [".command-head", ".run-facts"]) {
    const [old, next] = [section.querySelector(part), now.querySelector(part)];
    if (old && next) old.replaceWith(next);
  }
  window.htmx?.process(section);
}

/** It is over: its end is shown; what was followed stays where the record has less of it. */
async function finish(section, streams) {
  const now = await fresh(section).catch(() => null);
  if (!now || !section.isConnected) return;
  const title = document.querySelector("title");
  const word = now.querySelector(".run-facts .badge")?.textContent.trim();
  if (title && word && section.closest("#live-run") === null) {
    document.title = document.title.replace(/^\S+( out)?(?= · )/, word);
  }
  for (const [name, stream] of Object.entries(streams)) {
    const [shown, recorded] = [section.querySelector(`#${name}`), now.querySelector(`#${name}`)];
    if (!shown) continue;
    const whole = !stream.dropped && (recorded?.textContent.length ?? 0) <= shown.textContent.length;
    if (recorded && whole) {
      const place = shown.scrollTop;
      recorded.replaceWith(shown);
      requestAnimationFrame(() => { shown.scrollTop = place; });
    }
  }
  section.replaceWith(now);
  window.htmx?.process(now);
}

/** Begins to follow what runs on the page. */
function attach() {
  const open = ":is([data-status=queued], [data-status=running])";
  for (const section of document.querySelectorAll(`#command-view${open}:not([data-followed])`)) {
    follow(section);
  }
}
attach();
document.body.addEventListener("htmx:afterSettle", attach);

// What is followed is not fetched again and again.
document.body.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.elt.matches("#command-view[data-streaming]")) event.preventDefault();
});

/** What there is to say of a try, at the form that runs commands: the list is renewed, this stays. */
function tell(text) {
  document.getElementById("form-problem")?.remove();
  if (!text) return;
  const line = document.createElement("p");
  line.className = "problem";
  line.id = "form-problem";
  line.setAttribute("role", "alert");
  line.textContent = text;
  document.getElementById("run-command")?.prepend(line);
}

/** The list shows what is so. */
function lookAgain() {
  window.htmx?.trigger(document.body, "changed");
}

const UNKNOWN = "It is not known whether it ran; look at the list";

/** The command runs: its text is of the past, unless another was typed meanwhile. */
function ranIt(sent) {
  back = 0;
  if (sent === undefined) return;
  ran.push(sent);
  const field = document.getElementById("command");
  if (!field) return;
  if (field.value === sent) field.value = "";
  field.form.querySelectorAll(".field-error").forEach((error) => error.remove());
}

// On the box's own page a command runs in place. It is sent once: where no answer comes, or one that
// leaves it open, the server may have taken it.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!document.getElementById("live-run") || !form.matches("[data-run]")) return;
  event.preventDefault();
  const button = form.querySelector("button:not([type])");
  if (button.disabled) return;
  button.disabled = true;
  const sent = form.querySelector("#command")?.value;
  tell("");
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { accept: "text/html" },
    });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const section = answer.redirected && page.getElementById("command-view");
    const tab = page.getElementById("tab");
    if (answer.redirected && new URL(answer.url).pathname.startsWith("/commands/")) {
      ranIt(sent);
      // The page may have changed since it was sent.
      const place = document.getElementById("live-run");
      if (section && place) {
        place.replaceChildren(section);
        window.htmx?.process(section);
        attach();
        place.scrollIntoView({ block: "nearest" });
      } else {
        lookAgain();
      }
    } else if (answer.redirected) {
      location.reload();
    } else if (tab) {
      // The form with what is wrong in it, and with what was typed since it was sent.
      const present = document.getElementById("command")?.value;
      document.getElementById("tab").replaceWith(tab);
      window.htmx?.process(tab);
      const field = document.getElementById("command");
      if (field && present !== undefined && present !== (sent ?? "")) field.value = present;
      tab.querySelector("[autofocus]")?.focus();
    } else {
      const refused = answer.status >= 400 && answer.status < 500;
      const reason = page.querySelector("[data-error-message]")?.textContent;
      tell(refused ? (reason ?? "It was refused and did not run") : UNKNOWN);
      lookAgain();
    }
  } catch {
    tell(UNKNOWN);
    lookAgain();
  } finally {
    button.disabled = false;
  }
}, true);

// Earlier commands by the arrow keys, the latest first.
const ran = [];
let back = 0;
let typed = "";
document.addEventListener("keydown", (event) => {
  const field = event.target;
  if (field.id !== "command" || event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
  if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
  const listed = [...document.querySelectorAll("#runs .run-command")].map((el) => el.textContent);
  const all = [...new Set([...ran.toReversed(), ...listed])];
  if (back === 0) typed = field.value;
  back = Math.max(0, Math.min(all.length, back + (event.key === "ArrowUp" ? 1 : -1)));
  field.value = back === 0 ? typed : all[back - 1];
  event.preventDefault();
});
