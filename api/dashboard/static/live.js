// Keeps a page fresh: the server renders the part marked data-live, this module fetches it again when the
// job's event stream says that something happened, or every so often where there is no stream.

const SHORTEST_PAUSE = 700;

const main = document.querySelector("main");
const place = document.querySelector("[data-live]");

/** Put the freshly rendered part in place, keeping the keyboard's focus and the log at its end. */
function show(html) {
  const focused = place.contains(document.activeElement);
  if (focused && document.activeElement.matches("button, a")) return;
  const open = new Set([...place.querySelectorAll("details[open]")].map((item) => item.id));
  place.innerHTML = html;
  for (const item of place.querySelectorAll("details")) item.open = open.has(item.id);
  followLog();
}

/** Show the end of the log. */
function followLog() {
  for (const log of document.querySelectorAll("[data-tail]")) log.scrollTop = log.scrollHeight;
}

/** Fetch the part and show it; a failure leaves the page as it is until the next time. */
async function refresh() {
  try {
    const answer = await fetch(main.dataset.refresh, { headers: { Accept: "text/html" } });
    if (answer.ok) show(await answer.text());
  } catch {
    return;
  }
}

/** Return a function that calls `action` soon, and at most once per pause. */
function throttled(action) {
  let timer = null;
  return () => {
    timer ??= setTimeout(() => {
      timer = null;
      action();
    }, SHORTEST_PAUSE);
  };
}

function followStream(address) {
  const source = new EventSource(address);
  const changed = throttled(refresh);
  source.addEventListener("status", changed);
  source.addEventListener("progress", changed);
  source.addEventListener("end", () => {
    source.close();
    location.reload();
  });
}

function poll(milliseconds) {
  setInterval(() => {
    if (!document.hidden) refresh();
  }, milliseconds);
}

followLog();
if (main.dataset.stream) followStream(main.dataset.stream);
else if (main.dataset.every) poll(Number(main.dataset.every));
