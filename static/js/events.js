// What happens on the server, as it happens: the page looks again when something on it changed. While
// this cannot be heard, the page looks by itself every few seconds.

const LONGEST = 30_000;
let wait = 500;
let missed = false;
let due = 0;

/** Whether an event is about something that this page shows. */
function concerns(event) {
  if (event.type === "resync") return true;
  if (event.type.startsWith("image.")) {
    return document.getElementById("images") !== null;
  }
  if (event.type.startsWith("command.")) {
    return document.getElementById("runs") !== null
      && document.querySelector(`[data-box-id="${CSS.escape(event.container_id)}"]`) !== null;
  }
  return document.getElementById("boxes") !== null
    || document.querySelector(`[data-box-id="${CSS.escape(event.id)}"]`) !== null;
}

/** Several at once are one look. */
function look() {
  clearTimeout(due);
  due = setTimeout(() => window.htmx?.trigger(document.body, "changed"), 60);
}

function connect() {
  const address = new URL("/ws/events", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.addEventListener("open", () => {
    wait = 500;
    document.documentElement.dataset.events = "open";
    if (missed) look();
    missed = false;
  });
  socket.addEventListener("message", ({ data }) => {
    const event = JSON.parse(data);
    document.dispatchEvent(new CustomEvent("hzel", { detail: event }));
    if (concerns(event)) look();
  });
  socket.addEventListener("close", ({ code }) => {
    delete document.documentElement.dataset.events;
    missed = true;
    // The session ended, or may see other things now: the page says what is next.
    if (code === 1008) location.reload();
    else setTimeout(connect, wait + Math.random() * wait);
    wait = Math.min(wait * 2, LONGEST);
  });
}

// Where nothing is live, nothing is listened for.
if (document.querySelector("[data-live], [data-box-id]")) connect();

// What events tell of need not be asked for while they are heard; only measurements must.
document.body.addEventListener("htmx:beforeRequest", (event) => {
  const by = event.detail.requestConfig?.triggeringEvent;
  const asked = by?.type === "changed" || event.detail.elt.tagName === "FORM";
  const heard = document.documentElement.dataset.events === "open";
  if (heard && !asked && !by && event.detail.elt.matches("[data-by-event]")) event.preventDefault();
});
