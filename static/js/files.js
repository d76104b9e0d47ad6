// Uploads by dropping or choosing files: each with its progress, several after each other, and the
// list anew when they are done. Without this module the form sends them itself.

/** How many are sent at once; more would only share the same line. */
const AT_ONCE = 2;

let waiting = [];
let running = 0;

const place = () => document.getElementById("files");

/** `1.5 MiB`, as the server says it (say.rs). */
function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const text = unit === 0 || value >= 100 ? Math.floor(value) : (Math.floor(value * 10) / 10);
  return `${text} ${units[unit]}`;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** A row that tells how far a file is. */
function row(file) {
  const line = element("li", "transfer");
  const name = element("span", "transfer-name", file.name);
  const bar = element("progress");
  bar.max = Math.max(file.size, 1);
  bar.value = 0;
  bar.setAttribute("aria-label", `Upload of ${file.name}`);
  const said = element("span", "transfer-said", "waiting");
  const button = element("button", "icon-button small");
  button.type = "button";
  button.setAttribute("aria-label", `Cancel the upload of ${file.name}`);
  button.innerHTML = '<svg class="icon" aria-hidden="true"><use href="#i-cross"/></svg>';
  line.append(name, bar, said, button);
  document.getElementById("transfers").append(line);
  const end = (tone, text) => {
    line.dataset.tone = tone;
    said.textContent = text;
    if (tone === "bad") {
      bar.remove();
      line.setAttribute("role", "alert");
    }
    button.setAttribute("aria-label", "Dismiss");
    button.onclick = () => line.remove();
    if (tone === "ok") setTimeout(() => line.remove(), 8000);
  };
  return { bar, said, button, end };
}

/** What went wrong, in the server's words. */
function reason(request) {
  try {
    return JSON.parse(request.responseText).error.message;
  } catch {
    return request.status ? `The server answered ${request.status}` : "The connection was lost";
  }
}

function send({ file, view, container, path, token }) {
  running += 1;
  const request = new XMLHttpRequest();
  const target = `${path === "/" ? "" : path}/${file.name}`;
  request.open("PUT", `/api/v1/containers/${container}/files?path=${encodeURIComponent(target)}`);
  request.setRequestHeader("x-csrf-token", token);
  request.setRequestHeader("content-type", "application/octet-stream");
  request.upload.onprogress = ({ loaded }) => {
    view.bar.value = loaded;
    const part = file.size ? Math.floor((loaded / file.size) * 100) : 100;
    view.said.textContent = `${size(loaded)} · ${part} %`;
  };
  const over = (tone, text) => {
    view.end(tone, text);
    running -= 1;
    next();
  };
  request.onload = () => {
    if (request.status === 200) over("ok", `${size(file.size)} uploaded`);
    else over("bad", reason(request));
  };
  // A folder is dropped like a file, and cannot be read.
  request.onerror = () => over("bad", file.size % 4096 === 0 && !file.type
    ? "It could not be read or the connection was lost; folders cannot be uploaded" : reason(request));
  request.onabort = () => over("quiet", "cancelled");
  view.button.onclick = () => request.abort();
  request.send(file);
}

function next() {
  while (running < AT_ONCE && waiting.length) send(waiting.shift());
  if (!running && !waiting.length) refresh();
}

/** Whether the list is to stay as it is, for someone has a menu of it open. */
const isHeld = () => Boolean(place()?.querySelector("table.files details.menu[open]"));
/** Whether the list stayed though it is old. */
let isOld = false;
document.addEventListener("toggle", () => { if (isOld && !isHeld()) refresh(); }, true);

/** The list as it is now. What stands before it stays: what is told of uploads, and a new folder
    that is being named. */
async function refresh() {
  isOld = isHeld();
  if (isOld) return;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("#files > #transfers");
    const told = place()?.querySelector(":scope > #transfers");
    if (!fresh || !told) return;
    isOld = isHeld();
    if (isOld) return;
    const focused = document.activeElement?.closest("tr[data-name]")?.dataset.name;
    while (told.nextSibling) told.nextSibling.remove();
    while (fresh.nextSibling) place().append(document.adoptNode(fresh.nextSibling));
    if (focused !== undefined) {
      place().querySelector(`tr[data-name="${CSS.escape(focused)}"] .row-link`)?.focus();
    }
  } catch { /* the list is as old as before; a reload shows it */ }
}

function upload(files) {
  const { container, path } = place().dataset;
  const form = document.getElementById("upload");
  const token = form.querySelector("[name=csrf_token]").value;
  const limit = Number(form.dataset.limit);
  for (const file of files) {
    const view = row(file);
    if (file.size > limit) {
      // As the server says it; it would be sent for nothing.
      view.end("bad", `The request body must not be larger than ${limit} bytes`);
      continue;
    }
    const job = { file, view, container, path, token };
    view.button.onclick = () => {
      waiting = waiting.filter((other) => other !== job);
      view.end("quiet", "cancelled");
    };
    waiting.push(job);
  }
  next();
}

document.body.classList.add("uploads");

// The list is replaced now and then, so what happens in it is heard further out.
document.addEventListener("submit", (event) => {
  if (event.target.id !== "upload") return;
  event.preventDefault();
  const field = event.target.elements.namedItem("file");
  upload([...field.files]);
  field.value = "";
});
document.addEventListener("change", (event) => {
  if (event.target.id !== "file" || !event.target.files.length) return;
  upload([...event.target.files]);
  event.target.value = "";
});

const carries = (event) => event.dataTransfer?.types.includes("Files") && place()?.hasAttribute("data-drop");
let depth = 0;
const mark = (change) => {
  depth = Math.max(0, depth + change);
  place()?.classList.toggle("dropping", depth > 0);
};
document.addEventListener("dragenter", (event) => { if (carries(event)) mark(1); });
document.addEventListener("dragleave", (event) => { if (carries(event)) mark(-1); });
document.addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
document.addEventListener("drop", (event) => {
  if (!carries(event)) return;
  event.preventDefault();
  mark(-depth);
  upload([...event.dataTransfer.files]);
});

// An upload ends with its page.
window.addEventListener("beforeunload", (event) => { if (running) event.preventDefault(); });
