// Keeps updates coming: over the WebSocket, and by asking while there is none.

const RETRY_MS = 500;
const RETRY_MS_MAX = 30000;
const POLL_MS = 2000;
const POLL_MS_MAX = 30000;
const ANSWER_MS_MAX = 10000;
// A connection that is half open never closes by itself.
const SILENCE_MS_MAX = 15000;

export class Link {
  // on_update(message); on_state("live" | "polling" | "lost", words)
  constructor({ on_update, on_state }) {
    this.on_update = on_update;
    this.on_state = on_state;
    this.retry_ms = RETRY_MS;
    this.poll_ms = POLL_MS;
    this.heard_at = 0;
    this.gap_ms = 0;
    this.polling = null;
    this.retrying = null;
    setInterval(() => this.#check_silence(), SILENCE_MS_MAX / 3);
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => this.#hurry());
  }

  connect() {
    this.retrying = null;
    const url = new URL("ws/live-updates", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.socket = socket;
    this.heard_at = performance.now();
    socket.onmessage = (event) => this.#hear(event.data);
    socket.onclose = () => {
      if (this.socket === socket) this.#lose();
    };
  }

  #hear(text) {
    const message = JSON.parse(text);
    if (message.type !== "metrics_update") return;
    const now = performance.now();
    this.gap_ms = now - this.heard_at;
    this.heard_at = now;
    this.retry_ms = RETRY_MS;
    clearTimeout(this.polling);
    this.polling = null;
    this.on_state("live", "live");
    this.on_update(message);
  }

  #lose() {
    this.socket = null;
    // Not all at the same moment, when a server that many watch comes back.
    const wait_ms = this.retry_ms * (0.5 + Math.random() / 2);
    this.retry_ms = Math.min(this.retry_ms * 2, RETRY_MS_MAX);
    this.retrying = setTimeout(() => this.connect(), wait_ms);
    if (this.polling === null) {
      this.on_state("lost", "reconnecting; this is what was last seen");
      this.poll_ms = POLL_MS;
      this.polling = setTimeout(() => this.#poll(), POLL_MS);
    }
  }

  async #poll() {
    try {
      const answer = await fetch(new URL("live", location.href), {
        cache: "no-store",
        signal: AbortSignal.timeout(ANSWER_MS_MAX),
      });
      if (!answer.ok) throw new Error(answer.statusText);
      const message = await answer.json();
      if (this.polling === null) return; // The WebSocket came back meanwhile.
      this.poll_ms = POLL_MS;
      this.on_state("polling", "polling: no WebSocket gets through");
      this.on_update(message);
    } catch {
      if (this.polling === null) return;
      this.poll_ms = Math.min(this.poll_ms * 2, POLL_MS_MAX);
      this.on_state("lost", "server gone; this is what was last seen");
    }
    this.polling = setTimeout(() => this.#poll(), this.poll_ms);
  }

  #check_silence() {
    const silent_ms = performance.now() - this.heard_at;
    if (this.socket && silent_ms > Math.max(SILENCE_MS_MAX, 3 * this.gap_ms)) {
      const socket = this.socket;
      this.#lose();
      socket.close();
    }
  }

  // Somebody looks, or the network is back: no reason to wait any longer.
  #hurry() {
    if (document.hidden || this.retrying === null) return;
    clearTimeout(this.retrying);
    this.retry_ms = RETRY_MS;
    this.connect();
  }
}
