// The line to a shell: a WebSocket that is opened again when it drops, and goes on where the output
// left off. It knows nothing of the page.

/** Waits between attempts, in milliseconds. */
const WAITS = [300, 1000, 2000, 4000, 8000, 10000];
/** The server lets so much go unacknowledged, and more. */
const ACK_EVERY = 32 * 1024;
const encoder = new TextEncoder();

/**
 * @typedef {object} Events
 * @property {(fresh: boolean, replay: number) => void} opened  connected; `fresh` when what was
 *   shown so far is another shell's, or has a gap; `replay` old bytes follow
 * @property {(bytes: Uint8Array, done: () => void) => void} output  call `done` when it is drawn
 * @property {(message: object) => void} message  anything else that the server says
 * @property {(attempt: number) => void} dropped  will be tried again
 * @property {(reason: string, over: boolean) => void} ended  will not; `over` when the shell is
 */
export class Line {
  /** @param {string} container @param {string} session @param {Events} events */
  constructor(container, session, events) {
    this.container = container;
    this.session = session;
    this.events = events;
    this.shell = null;
    this.offset = 0;
    this.attempt = 0;
    this.online = () => { if (this.timer) this.open(); };
    window.addEventListener("online", this.online);
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.timer = null;
    const query = new URLSearchParams({ session: this.session, binary: "1", acks: "1" });
    if (this.shell) {
      query.set("since", String(this.offset));
      query.set("shell", this.shell);
    }
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/terminal/${this.container}?${query}`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.seen = 0;
    let over = false;
    socket.addEventListener("message", ({ data }) => {
      if (socket !== this.socket) return;
      if (typeof data === "string") {
        const message = JSON.parse(data);
        if (message.type === "opened") this.begin(message);
        else if (message.type === "closed") over = true;
        else this.events.message(message);
        return;
      }
      const bytes = new Uint8Array(data);
      this.offset += bytes.length;
      const upTo = this.offset;
      this.events.output(bytes, () => this.drawn(socket, upTo));
    });
    socket.addEventListener("close", ({ code, reason }) => {
      if (socket !== this.socket) return;
      this.socket = null;
      // 1001: the server restarts. 1008: it has said why not. 1011: it cannot tell for now.
      if (code === 1008) this.end(reason || "The terminal was closed", false);
      else if (over && code !== 1001) this.end(reason || "The shell ended", true);
      else this.retry();
    });
  }

  begin({ terminal_id: shell, offset, replay }) {
    const fresh = this.shell !== shell || this.offset !== offset;
    this.shell = shell;
    this.offset = offset;
    this.seen = offset;
    this.attempt = 0;
    this.events.opened(fresh, replay);
  }

  drawn(socket, offset) {
    if (socket !== this.socket || offset - this.seen < ACK_EVERY) return;
    this.seen = offset;
    this.say({ type: "seen", offset });
  }

  async retry() {
    const attempt = this.attempt;
    this.attempt += 1;
    this.events.dropped(this.attempt);
    // The browser does not tell why an upgrade was refused; the API does.
    if (attempt > 0 && (await this.refused())) return;
    if (this.over) return;
    const wait = WAITS[Math.min(attempt, WAITS.length - 1)];
    this.timer = setTimeout(() => this.open(), wait * (0.75 + Math.random() / 2));
  }

  async refused() {
    try {
      const answer = await fetch(`/api/v1/containers/${this.container}/terminals`, { headers: { accept: "application/json" } });
      if (answer.ok) {
        const box = await (await fetch(`/api/v1/containers/${this.container}`)).json();
        if (box.data?.state && box.data.state !== "running") {
          this.end("The container stopped", true);
          return true;
        }
        return false;
      }
      if (answer.status >= 500 || answer.status === 429) return false;
      const { error } = await answer.json();
      this.end(answer.status === 401 ? "The session has ended" : error.message, false);
      return true;
    } catch {
      return false;
    }
  }

  end(reason, over) {
    this.close();
    this.events.ended(reason, over);
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  /** Whether it was sent. @param {object} message */
  say(message) {
    if (!this.isOpen) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  /** Types text. @param {string} text */
  type(text) {
    if (this.isOpen) this.socket.send(encoder.encode(text));
  }

  /** Sends raw bytes, given as a string of bytes. @param {string} bytes */
  raw(bytes) {
    if (this.isOpen) this.socket.send(Uint8Array.from(bytes, (c) => c.charCodeAt(0)));
  }

  /** Leaves; the shell stays. */
  close() {
    this.over = true;
    clearTimeout(this.timer);
    this.timer = null;
    window.removeEventListener("online", this.online);
    const { socket } = this;
    this.socket = null;
    socket?.close();
  }
}
