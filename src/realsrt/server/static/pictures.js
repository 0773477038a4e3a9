// The pictures on the page, and their way through the service. What the service has outlives a reload of the page.

import * as api from "./api.js";

const KEPT = "realsrt.pictures";
const LARGE = 1_000_000; // input pixels above which the service keeps nothing in memory: no steps, no regenerating
const FINAL = ["done", "failed", "cancelled", "expired"];
const AT_ONCE = 2; // uploads
const REMOVED = "the service has removed this picture; send it again";

// A picture's state: ready → sending → queued → running → done | failed. `versions` are finished jobs, `at` the one that
// is shown; `pending` is a job on its way to becoming the next version.
class Picture {
  constructor(fields) {
    Object.assign(this, { file: null, url: null, width: 0, height: 0, versions: [], at: -1, pending: null, kind: "" });
    Object.assign(this, { state: "ready", progress: 0, eta: null, ahead: 0, error: "", step: null, shownSteps: {} });
    Object.assign(this, { exports: {}, ...fields });
  }

  get version() {
    return this.versions[this.at] ?? null;
  }

  get large() {
    return this.width * this.height > LARGE;
  }

  get busy() {
    return ["sending", "queued", "running"].includes(this.state);
  }

  kept() {
    const { key, name, width, height, versions, at, pending, kind } = this;
    return { key, name, width, height, versions, at, pending, kind };
  }
}

export class Pictures extends EventTarget {
  constructor() {
    super();
    this.list = [];
    this.jobs = new Map(); // by id, as last heard
    this.selected = null;
    this.facts = { pace: null, steps: 1, window: 64 }; // what the service says of itself
    this._heard = null; // [id, function to stop listening, function that says whether it was ended by the service]
    this._sending = 0;
    this._waiting = [];
    setInterval(() => this._look(), 1500);
  }

  changed() {
    const kept = this.list.filter((picture) => picture.version || picture.pending).map((picture) => picture.kept());
    try {
      localStorage.setItem(KEPT, JSON.stringify({ list: kept, selected: this.selected?.key }));
    } catch {
      // a browser that keeps nothing
    }
    this.dispatchEvent(new Event("change"));
  }

  async restore() {
    // Returns how many pictures the service has removed meanwhile.
    let kept = null;
    let gone = 0;
    try {
      kept = JSON.parse(localStorage.getItem(KEPT) ?? "null");
    } catch {
      // nothing that can be read
    }
    for (const fields of kept?.list ?? []) {
      const picture = new Picture(fields);
      const known = await Promise.all(picture.versions.map((id) => this._known(id)));
      const shown = picture.version;
      picture.versions = picture.versions.filter((_, i) => known[i]?.state === "done");
      picture.at = Math.max(picture.versions.indexOf(shown), Math.min(picture.at, picture.versions.length - 1));
      const pending = picture.pending && (await this._known(picture.pending));
      if (picture.pending && !pending) picture.state = "queued"; // no answer now: asked again later
      else if (pending && !["cancelled", "expired"].includes(pending.state)) this._heardOf(picture, pending);
      else picture.pending = null;
      if (!picture.pending && picture.state !== "failed") picture.state = picture.version ? "done" : "gone";
      if (picture.state === "gone") gone += 1;
      else this.list.push(picture);
    }
    this.select(this.list.find((picture) => picture.key === kept?.selected) ?? this.list[0] ?? null);
    return gone;
  }

  async _known(id) {
    // What the service does not have, or has not for this visitor, is as if it had been removed.
    try {
      return await this.refresh(id);
    } catch (problem) {
      return [401, 404].includes(problem.status) ? { id, state: "expired", gone: true } : null;
    }
  }

  async refresh(id) {
    const found = await api.job(id);
    this.jobs.set(id, found);
    return found;
  }

  add(files) {
    const added = files.map((file) => {
      const picture = new Picture({ key: crypto.getRandomValues(new Uint32Array(2)).join("-"), name: file.name, file });
      picture.url = URL.createObjectURL(file);
      const image = new Image();
      image.onload = () => {
        picture.width = image.naturalWidth;
        picture.height = image.naturalHeight;
        this.changed();
      };
      image.onerror = () => {
        picture.undecodable = true;
        this.changed();
      };
      image.src = picture.url;
      return picture;
    });
    this.list.push(...added);
    this.select(added[0] ?? this.selected);
  }

  select(picture) {
    this.selected = picture;
    this._listen();
    this.changed();
  }

  async remove(picture) {
    this.cancel(picture);
    this.list = this.list.filter((other) => other !== picture);
    if (picture.url) URL.revokeObjectURL(picture.url);
    if (this.selected === picture) this.select(this.list[0] ?? null);
    this.changed();
    await Promise.allSettled([...picture.versions, ...Object.values(picture.exports)].map(api.remove));
  }

  start(picture, options) {
    Object.assign(picture, { state: "sending", progress: 0, error: "", kind: "upscale", sent: false });
    picture.abort = new AbortController();
    this._waiting.push([picture, options]);
    this._send();
    this.changed();
  }

  async _send() {
    if (this._sending >= AT_ONCE || !this._waiting.length) return;
    this._sending += 1;
    const [picture, options] = this._waiting.shift();
    try {
      const { id } = await this._patiently(picture, () =>
        api.upload(picture.file, asQuery(options), {
          onProgress: (share) => {
            picture.progress = share;
            this.changed();
          },
          signal: picture.abort.signal,
        }),
      );
      if (picture.abort.signal.aborted) await api.remove(id);
      else await this._begin(picture, id);
    } catch (problem) {
      if (problem.name !== "AbortError") this._failed(picture, problem);
    } finally {
      this._sending -= 1;
      this._send();
    }
  }

  async _patiently(picture, work) {
    // While the queue is full: wait as told, and try again.
    for (;;) {
      picture.abort.signal.throwIfAborted();
      try {
        return await work();
      } catch (problem) {
        if (problem.status !== 429) throw problem;
        picture.full = true;
        this.changed();
        await new Promise((resolve) => setTimeout(resolve, 1000 * Math.max(1, Math.min(30, problem.after))));
        picture.full = false;
      }
    }
  }

  async follow(picture, kind, work) {
    // A new job made of a finished one: regenerated, picked, or with other options.
    Object.assign(picture, { state: "queued", progress: 0, error: "", kind, abort: new AbortController() });
    this.changed();
    try {
      const { id } = await this._patiently(picture, work);
      await this._begin(picture, id);
    } catch (problem) {
      if (problem.name !== "AbortError") this._failed(picture, problem);
    }
  }

  async _begin(picture, id) {
    picture.pending = id;
    this._heardOf(picture, await this.refresh(id));
    this._listen();
    this.changed();
  }

  _heardOf(picture, job) {
    this.jobs.set(job.id, job);
    if (job.id !== picture.pending) return;
    picture.width ||= job.width;
    picture.height ||= job.height;
    if (job.state === "done") {
      // A pick takes the place of what it was picked from; anything else ends what could be redone.
      const first = picture.kind === "pick" ? picture.at : picture.at + 1;
      for (const id of picture.versions.splice(first)) api.remove(id).catch(() => {});
      picture.versions.push(job.id);
      picture.at = picture.versions.length - 1;
      Object.assign(picture, { pending: null, state: "done", step: null });
      this.dispatchEvent(new CustomEvent("finished", { detail: picture }));
    } else if (job.state === "failed") {
      picture.pending = null;
      this._failed(picture, new api.Refused(job.error ?? "it failed"));
    } else if (job.gone) {
      this._lost(picture);
    } else if (FINAL.includes(job.state)) {
      picture.pending = null;
      picture.state = picture.version ? "done" : picture.file ? "ready" : "failed";
      if (picture.state === "failed") picture.error = "it was cancelled; add the picture again";
    } else {
      Object.assign(picture, { state: job.state, progress: job.progress, eta: job.eta_seconds, ahead: job.ahead ?? 0 });
    }
  }

  _failed(picture, problem) {
    picture.error = problem.message;
    picture.refused = problem.status;
    picture.state = picture.version ? "done" : "failed";
    this.changed();
  }

  _lost(picture) {
    // The service has none of its files any more: it was stopped, or their time was up.
    Object.assign(picture, { versions: [], at: -1, pending: null, step: null, exports: {}, error: REMOVED });
    picture.state = picture.file ? "ready" : "failed";
    api.visit().catch(() => {}); // should the service not know this visitor any more
    this.changed();
  }

  cancel(picture) {
    picture.abort?.abort();
    this._waiting = this._waiting.filter(([other]) => other !== picture);
    const pending = picture.pending;
    picture.pending = null;
    if (picture.busy) picture.state = picture.version ? "done" : picture.file ? "ready" : "failed";
    if (picture.state === "failed" && !picture.error) picture.error = "it was cancelled; add the picture again";
    picture.step = null;
    this._listen();
    this.changed();
    if (pending) api.remove(pending).catch(() => {});
  }

  undo(picture, by) {
    picture.at = Math.max(0, Math.min(picture.versions.length - 1, picture.at + by));
    picture.error = "";
    this.changed();
  }

  async exported(picture, options, tell) {
    // The id of a job whose file is the shown version with these options of the file.
    const job = await this._known(picture.version);
    if (job?.state === "expired") {
      this._lost(picture);
      throw new api.Refused(REMOVED);
    }
    if (!job) throw new api.Refused(api.NO_ANSWER);
    const key = JSON.stringify([picture.version, options]);
    if (sameFile(job.options, options)) return job.id;
    if (picture.exports[key]) return picture.exports[key];
    const { id } = await api.upscale(job.id, given({ ...job.options, ...options }));
    for (;;) {
      const made = await api.job(id);
      if (made.state === "done") break;
      if (FINAL.includes(made.state)) throw new api.Refused(made.error ?? "the file could not be written");
      tell(made);
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
    picture.exports[key] = id;
    return id;
  }

  estimate(picture, options) {
    // Seconds to upscale it, if the service knows its own pace already.
    const { pace, steps, window } = this.facts;
    if (!pace || !picture.width) return null;
    return pace[options.steps ?? steps] * Math.max(picture.width, window) * Math.max(picture.height, window);
  }

  estimateEdit(picture, job, { x0, y0, x1, y1 }, candidates) {
    // Seconds to regenerate inside a box of the result: of all that see it, without the base image.
    const { pace, steps, window } = this.facts;
    if (!pace) return null;
    const scale = job.out_width / picture.width;
    const seen = ((x1 - x0) / scale + window) * ((y1 - y0) / scale + window);
    return (pace[job.options.steps ?? steps] - pace[0]) * Math.min(picture.width * picture.height, seen) * candidates;
  }

  _listen() {
    // Events of the picture that is looked at; of others the state is asked for now and then.
    const wanted = this.selected?.pending ?? null;
    if (this._heard?.[0] === wanted) return;
    this._heard?.[1]();
    this._heard = null;
    if (!wanted) return;
    const picture = this.selected;
    const [stop, ended] = api.listen(wanted, {
      onState: (job) => {
        this._heardOf(picture, job);
        this._listen();
        this.changed();
      },
      onProgress: ({ progress, eta_seconds: eta }) => {
        if (picture.pending !== wanted || picture.state !== "running") return;
        Object.assign(picture, { progress, eta });
        this.changed();
      },
      onPreview: ({ step, of }) => {
        if (picture.pending !== wanted) return;
        if (step < of) Object.assign(picture, { step: { id: wanted, step, of } });
        this.changed();
      },
    });
    this._heard = [wanted, stop, ended];
  }

  async _look() {
    const open = this.list.filter((picture) => picture.pending && (picture.pending !== this._heard?.[0] || this._heard[2]()));
    for (const picture of open.slice(0, 3)) {
      const job = await this._known(picture.pending);
      if (job && job.id === picture.pending) {
        this._heardOf(picture, job);
        this.changed();
      }
    }
  }
}

const FILE = { ext: "auto", quality: null, strip: false, no_provenance: false, strength: 1 };

export const fileOptions = (options) => Object.fromEntries(Object.keys(FILE).map((name) => [name, options[name] ?? FILE[name]]));

export const pixelOptions = (options) =>
  Object.fromEntries(
    ["outscale", "denoise", "fidelity", "steps", "color_fix", "alpha"].map((name) => [name, options[name] ?? null]),
  );

const sameFile = (one, other) => JSON.stringify(fileOptions(one)) === JSON.stringify(fileOptions(other));

const given = (options) => Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null && value !== undefined));

const asQuery = (options) => given(options);
