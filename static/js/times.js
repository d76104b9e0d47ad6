// Relative times grow old; this says them anew, as the server would (say.rs).

const UNITS = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];

function relative(seconds) {
  const distance = Math.abs(seconds);
  if (distance < 10) return "just now";
  const [size, unit] = UNITS.find(([s]) => distance >= s);
  const count = Math.floor(distance / size);
  const text = `${count} ${unit}${count === 1 ? "" : "s"}`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

function span(seconds) {
  if (seconds < 60) return `${seconds} s`;
  const [large, small, a, b] = seconds < 3600 ? [60, 1, "min", "s"]
    : seconds < 86400 ? [3600, 60, "h", "min"] : [86400, 3600, "d", "h"];
  const rest = Math.floor((seconds % large) / small);
  return `${Math.floor(seconds / large)} ${a}${rest ? ` ${rest} ${b}` : ""}`;
}

function refresh() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const seconds = Math.floor((Date.now() - Date.parse(time.dateTime)) / 1000);
    const isSpan = "span" in time.dataset;
    if (!isSpan && Math.abs(seconds) >= 31 * 86400) continue;
    const text = isSpan ? span(Math.max(0, seconds)) : relative(seconds);
    if (time.textContent !== text) time.textContent = text;
  }
}

setInterval(() => { if (!document.hidden) refresh(); }, 1000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
