// What happens on the server, as it happens: the page looks again when something on it changed. While
// this cannot be heard, the page looks by itself every few seconds.

const LONGEST = 30_000;
/** How long a part of the page is believed, in milliseconds, when no event says otherwise. */
const BELIEVED = 15_000;
/** When each part was last asked for, by its id. */
const askedAt = new Map();
/** What was being asked for as a look came. */
const underWay = new Set();
let wait = 500;
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

/** Several at once are one look. What is on its way already may be older than what happened. */
function look() {
  clearTimeout(due);
  due = setTimeout(() => {
    for (const elt of document.querySelectorAll("[hx-get].htmx-request")) underWay.add(elt);
    window.htmx?.trigger(document.body, "changed");
  }, 60);
}

// htmx asks again for such a part once its answer is there, but not for one that the answer replaced;
// and a form's answer, such as that of the filter, is about another part than itself.
document.addEventListener("htmx:afterRequest", ({ detail }) => {
  const elt = detail.requestConfig?.elt ?? detail.elt;
  if (underWay.delete(elt) && (!elt.isConnected || elt.tagName === "FORM")) look();
});

function connect() {
  const address = new URL("/ws/events", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.addEventListener("open", () => {
    wait = 500;
    document.documentElement.dataset.events = "open";
    // What happened since the page was made, or since events were last heard, was told to nobody.
    look();
  });
  socket.addEventListener("message", ({ data }) => {
    const event = JSON.parse(data);
    document.dispatchEvent(new CustomEvent("hzel", { detail: event }));
    if (concerns(event)) look();
  });
  socket.addEventListener("close", ({ code }) => {
    delete document.documentElement.dataset.events;
    // The session ended, or may see other things now: the page says what is next. Any other end, such
    // as that of a server that cannot ask its database, is none of the session's.
    if (code === 1008) location.reload();
    else setTimeout(connect, wait + Math.random() * wait);
    wait = Math.min(wait * 2, LONGEST);
  });
}

// Where nothing is live, nothing is listened for.
if (document.querySelector("[data-live], [data-box-id]")) connect();

// What events tell of need not be asked for again and again while they are heard; only measurements
// must. Listened for at the document, after everybody at the body who may put a look off: an event
// is heard once, so what was put off, or failed on the way, is asked for at the next tick.
document.addEventListener("htmx:beforeRequest", (event) => {
  const { elt, requestConfig } = event.detail;
  if (event.defaultPrevented) {
    askedAt.delete(elt.id);
    return;
  }
  const by = requestConfig?.triggeringEvent;
  const asked = by?.type === "changed" || elt.tagName === "FORM";
  const heard = document.documentElement.dataset.events === "open";
  const fresh = performance.now() - (askedAt.get(elt.id) ?? -Infinity) < BELIEVED;
  if (heard && fresh && !asked && !by && elt.matches("[data-by-event]")) event.preventDefault();
  else askedAt.set(elt.id, performance.now());
});
for (const failure of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(failure, ({ detail }) => askedAt.delete(detail.elt.id));
}
