// What the page asks the service for. All of it is of this origin.

const JOBS = "/v1/jobs";

export class Refused extends Error {
  constructor(detail, status = 0, after = 0) {
    super(detail);
    this.status = status;
    this.after = after;
  }
}

export const NO_ANSWER = "the service does not answer; is it still running?";

async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused(NO_ANSWER);
  }
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw refusal(answer.status, said.detail, answer.headers.get("Retry-After"));
  return said;
}

const refusal = (status, detail, after) =>
  new Refused(detail || `the service answered ${status}`, status, Number(after) || 0);

export const visit = () => call("POST", "/v1/visit");
export const facts = () => call("GET", "/v1/page");
export const job = (id) => call("GET", `${JOBS}/${id}`);
export const remove = (id) => call("DELETE", `${JOBS}/${id}`);
export const upscale = (id, options) => call("POST", `${JOBS}/${id}/upscale`, options);
export const regenerate = (id, edit) => call("POST", `${JOBS}/${id}/regenerate`, edit);
export const pick = (id, candidate) => call("POST", `${JOBS}/${id}/pick`, { candidate });
export const tiles = (id, which) => call("GET", `${JOBS}/${id}/tiles/${which}`);
export const trust = (id, level) => call("GET", `${JOBS}/${id}/trust?level=${level}`);
export const candidates = (id) => call("GET", `${JOBS}/${id}/candidates`);

export const tileUrl = (id, which, level, x, y, suffix) => `${JOBS}/${id}/tiles/${which}/${level}/${x}_${y}${suffix}`;
export const stepUrl = (id, step) => `${JOBS}/${id}/steps/${step}`;
export const cellsUrl = (id) => `${JOBS}/${id}/cells`;
export const candidateUrl = (id, number) => `${JOBS}/${id}/candidates/${number}`;
export const resultUrl = (id) => `${JOBS}/${id}/result`;
export const archiveUrl = (ids) => "/v1/archive.zip?" + new URLSearchParams(ids.map((id) => ["id", id]));

export function upload(file, options, { onProgress, signal }) {
  // fetch does not say how much of a body has been sent; XMLHttpRequest does.
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const query = new URLSearchParams({ filename: file.name.slice(-255), ...options });
    request.open("POST", `${JOBS}?${query}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(new Refused(NO_ANSWER));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onload = () => {
      let said = {};
      try {
        said = JSON.parse(request.responseText);
      } catch {
        // a proxy's own page, say
      }
      if (request.status === 202) resolve(said);
      else reject(refusal(request.status, said.detail, request.getResponseHeader("Retry-After")));
    };
    signal.addEventListener("abort", () => request.abort());
    if (signal.aborted) reject(new DOMException("cancelled", "AbortError"));
    else request.send(file);
  });
}

export function listen(id, { onState, onProgress, onPreview }) {
  // Until the job has ended; the browser connects again by itself. Returns functions: to end it, and whether it has.
  const source = new EventSource(`${JOBS}/${id}/events`);
  source.addEventListener("state", (event) => {
    const said = JSON.parse(event.data);
    if (["done", "failed", "cancelled", "expired"].includes(said.state)) source.close();
    onState(said);
  });
  source.addEventListener("progress", (event) => onProgress(JSON.parse(event.data)));
  source.addEventListener("preview", (event) => onPreview(JSON.parse(event.data)));
  return [() => source.close(), () => source.readyState === EventSource.CLOSED];
}
