// The page: what is shown in which state, and what the controls do.

import * as api from "./api.js";
import { Marks, Mask, confidenceOf, difference } from "./cells.js";
import { Pictures, fileOptions, pixelOptions } from "./pictures.js";
import { Stage } from "./stage.js";
import { confidence as told, count, duration, percent, sentence, size } from "./words.js";

const $ = (id) => document.getElementById(id);
const KEPT = "realsrt.options";
const touch = matchMedia("(hover: none) and (pointer: coarse)").matches;
const narrow = () => innerWidth <= 900;
document.body.classList.toggle("touch", touch);

const pictures = new Pictures();
const stage = new Stage({ one: $("view-one"), two: $("view-two"), divider: $("divider"), before: $("tag-before"), after: $("tag-after") });
let facts = { formats: [], suffixes: [], max_pixels: 0, max_bytes: 0, denoise: true };
let marks = null; // of the version that is shown
let tiles = {}; // job → which → what the service says of its tiles
let confidence = null; // {id, values, canvas}
let trust = { key: "" }; // of a version and a level: {key, mask, words}
let chosen = null; // {id, box, list, kept, shown}: candidates of the shown version
let seed = 1;
const markLayer = Object.assign(document.createElement("canvas"), { className: "layer marks" });
let sureLayer = null;

// ---- options

const RANGES = ["strength", "fidelity", "denoise"];

function options() {
  const number = (id) => Number($(id).value);
  return {
    outscale: number("outscale"),
    strength: number("strength"),
    denoise: $("denoise-kind").value === "auto" ? "auto" : number("denoise"),
    fidelity: number("fidelity"),
    steps: $("steps-count").value === "" ? null : number("steps-count"),
    color_fix: $("color_fix").value || null,
    alpha: $("alpha").value,
    ext: $("ext").value,
    quality: $("quality").value ? number("quality") : null,
    strip: $("strip").checked,
    no_provenance: $("no_provenance").checked,
  };
}

function setOptions(kept) {
  for (const id of ["outscale", "strength", "fidelity", "steps-count", "color_fix", "alpha", "ext", "quality"]) {
    const name = id === "steps-count" ? "steps" : id;
    if (name in kept) $(id).value = kept[name] ?? "";
    if ($(id).value === "" && $(id).tagName === "SELECT") $(id).selectedIndex = 0;
  }
  if (typeof kept.denoise === "number") {
    $("denoise").value = kept.denoise;
    $("denoise-kind").value = "set";
  }
  $("strip").checked = Boolean(kept.strip);
  $("no_provenance").checked = Boolean(kept.no_provenance);
}

function jobOptions(picture) {
  // Strength is laid on afterwards, where the service keeps the result in memory.
  return { ...options(), strength: picture.large ? options().strength : 1 };
}

function wantedFile(picture) {
  const wanted = fileOptions(options());
  return picture.large ? { ...wanted, strength: shownJob(picture).options.strength } : wanted;
}

// What was refused for what it is, is refused again; 408, 429 and a lost cookie pass, and 422 may be of the options.
const retriable = (picture) => picture.state === "failed" && picture.file && ![400, 413, 415].includes(picture.refused);

const shownJob = (picture) => pictures.jobs.get(picture?.version) ?? null;

// ---- showing

let drawing = false;
function changed() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    render();
  });
}

function render() {
  const picture = pictures.selected;
  const state = picture ? picture.state : "empty";
  document.body.dataset.state = state;
  for (const element of document.querySelectorAll("[data-when]")) element.hidden = !element.dataset.when.split(" ").includes(state);
  renderOptions(picture);
  renderFilm();
  renderTrust(picture);
  if (!picture) {
    $("wrong").hidden = true;
    say("");
    return;
  }
  renderAct(picture);
  renderRegenerate(picture);
  showPicture(picture).catch((problem) => wrong(problem.message));
}

function time(list) {
  // How long it will take to upscale these, as a part of a button's words.
  const known = list.map((picture) => pictures.estimate(picture, options()));
  return known.every((seconds) => seconds !== null) ? ` · ${duration(known.reduce((a, b) => a + b, 0))}` : "";
}

function renderAct(picture) {
  const wanted = options();
  const job = shownJob(picture);
  $("name").textContent = picture.name;
  const [width, height] = [picture.width, picture.height];
  const made = pictures.jobs.get(picture.pending) ?? job; // what is shown, or will be
  const factor = made?.options.outscale ?? wanted.outscale;
  const sized = (times) => size(...[width, height].map((side) => Math.max(1, Math.round(side * times))));
  $("sizes").textContent = width ? `${size(width, height)} → ${made ? size(made.out_width, made.out_height) : sized(factor)} (×${factor})` : "";
  const sure = job?.confidence != null ? `Mean confidence ${told(job.confidence)} of 1` : "";
  const took = job?.seconds ? `Computed in ${job.seconds < 10 ? job.seconds.toFixed(1) : Math.round(job.seconds)} s` : "";
  $("go").textContent = `Upscale ×${wanted.outscale}${time([picture])}`;
  $("made").hidden = !picture.version;
  $("undo").disabled = picture.busy || picture.at <= 0;
  $("redo").disabled = picture.busy || picture.at >= picture.versions.length - 1;
  $("undo").parentElement.hidden = picture.versions.length < 2;
  $("retry").hidden = !retriable(picture);
  $("wrong").hidden = !picture.error;
  $("wrong").textContent = picture.error ? sentence(picture.error) : "";
  if (picture.busy) renderWorking(picture);
  if (exporting) say(exporting);
  else if (picture.state === "done") say([took, sure, ...(job?.notices ?? [])].filter(Boolean).map(sentence).join(". "));
  else if (picture.state === "ready" && picture.width * picture.height > facts.max_pixels) say("This picture has more pixels than this service takes.");
  else say("");
  const again = job && picture.state === "done" && JSON.stringify(pixelOptions(job.options)) !== JSON.stringify(pixelOptions(wanted));
  $("again").hidden = !again;
  const other = wanted.outscale === job?.options.outscale ? "" : ` ×${wanted.outscale}`;
  $("again").textContent = `Upscale again${other} with these options${time([picture])}`;
}

function renderWorking(picture) {
  const { state, progress, ahead, eta } = picture;
  // Where one clicked.
  const home = picture.kind === "regenerate" ? $("regenerate") : picture.kind === "upscale" && picture.version ? $("options") : $("act");
  if ($("working").parentElement !== home) home.insertBefore($("working"), home.id === "act" ? $("said") : null);
  const bar = $("bar");
  if (state === "queued" || (state === "running" && !progress)) bar.removeAttribute("value");
  else bar.value = progress;
  const left = eta && picture.kind !== "pick" ? `, ${duration(eta)} left` : "";
  const doing = { upscale: "Upscaling", regenerate: "Regenerating", pick: "Keeping this candidate" }[picture.kind] ?? "Working";
  const words = {
    sending: picture.full ? "The service is busy; this picture waits to be sent" : `Sending, ${percent(progress)}`,
    queued: ahead ? `Waiting, ${count(ahead, "picture")} before this one${left}` : `Waiting to begin${left}`,
    running: `${doing}, ${percent(progress)}${left}`,
  };
  $("working-words").textContent = words[state];
}

function say(text) {
  if ($("said").textContent !== text) $("said").textContent = text;
}

function wrong(text) {
  if (pictures.selected) {
    pictures.selected.error = text;
    changed();
  } else {
    $("limits").textContent = sentence(text);
  }
}

function renderOptions(picture) {
  for (const id of RANGES) $(`${id}-value`).textContent = percent($(id).value);
  $("options-set").disabled = Boolean(picture?.busy);
  const auto = $("denoise-kind").value === "auto";
  $("denoise").hidden = auto;
  $("denoise-value").hidden = auto;
  const lossy = ["jpg", "webp", "avif"];
  const ext = $("ext").value === "auto" ? shownJob(picture)?.format ?? "jpg" : $("ext").value;
  $("quality").closest("label").hidden = !lossy.includes(ext);
  const fixed = picture?.state === "done" && picture.large;
  $("strength").disabled = fixed;
  $("strength-hint").textContent = fixed
    ? "This picture is large: upscale it again for another strength."
    : "How much of the result shows over a plain enlargement. Less looks less processed.";
  const strength = picture?.state === "done" && !picture.large ? Number($("strength").value) : 1;
  if (stage.strength !== strength) stage.setStrength(strength);
}

function renderFilm() {
  const list = pictures.list;
  $("film").hidden = list.length < 2;
  if (list.length < 2) return;
  const words = { ready: "ready", sending: "sending", queued: "waiting", running: "working", done: "done", failed: "failed" };
  const rows = $("film-list");
  while (rows.children.length > list.length) rows.lastElementChild.remove();
  list.forEach((picture, i) => {
    let row = rows.children[i];
    if (!row) {
      row = document.createElement("li");
      row.innerHTML = '<button type="button"><span class="thumb"></span><span class="label"></span><progress max="1"></progress><span class="what"></span></button>';
      rows.append(row);
    }
    const button = row.firstElementChild;
    button.onclick = () => pictures.select(picture);
    button.className = picture.state;
    if (picture === pictures.selected && button.getAttribute("aria-pressed") !== "true") row.scrollIntoView({ block: "nearest", inline: "nearest" });
    button.setAttribute("aria-pressed", String(picture === pictures.selected));
    button.querySelector(".label").textContent = picture.name;
    button.title = picture.error ? `${picture.name}: ${picture.error}` : picture.name;
    button.querySelector(".what").textContent = picture.error && picture.state === "failed" ? picture.error.replace(`${picture.name}: `, "") : words[picture.state];
    const progress = button.querySelector("progress");
    progress.hidden = !picture.busy;
    progress.setAttribute("aria-label", `${picture.name}: progress`);
    if (picture.state === "queued") progress.removeAttribute("value");
    else progress.value = picture.progress;
    thumb(button.querySelector(".thumb"), picture);
  });
  const ready = list.filter((picture) => picture.state === "ready");
  $("go-all").hidden = ready.length < 2;
  $("go-all").textContent = `Upscale all ${ready.length}${time(ready)}`;
  const of = (...states) => list.filter((picture) => states.includes(picture.state)).length;
  const [done, failed, busy] = [of("done"), of("failed"), of("sending", "queued", "running")];
  const parts = [count(list.length, "picture"), done && `${done} done`, busy && `${busy} to go`, failed && `${failed} failed`];
  const text = parts.filter(Boolean).join(" · ");
  if ($("film-said").textContent !== text) $("film-said").textContent = text;
  $("cancel-all").hidden = busy < 2;
  $("retry-failed").hidden = !list.some(retriable);
  $("zip").hidden = done < 2;
  $("remove-all").hidden = busy > 0;
}

async function thumb(place, picture) {
  const key = picture.version ?? picture.url ?? picture.key;
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  const fallback = picture.name.split(".").pop().toUpperCase().slice(0, 5);
  let url = picture.undecodable ? null : picture.url;
  if (picture.version) {
    const found = await tilesOf(picture.version, "after").catch(() => null);
    url = found && api.tileUrl(picture.version, "after", 0, 0, 0, found.suffix);
  }
  if (place.dataset.key !== key) return;
  if (!url) place.textContent = fallback;
  else {
    const image = new Image();
    image.alt = "";
    image.loading = "lazy";
    image.onerror = () => place.replaceChildren(fallback);
    image.src = url;
    place.replaceChildren(image);
  }
}

async function tilesOf(id, which) {
  tiles[id] ??= {};
  tiles[id][which] ??= api.tiles(id, which);
  try {
    return await tiles[id][which];
  } catch (problem) {
    delete tiles[id][which];
    throw problem;
  }
}

async function tiled(id, which) {
  return { key: `${id} ${which}`, tiles: await tilesOf(id, which), id, which };
}

let looking = "";
async function showPicture(picture) {
  const job = shownJob(picture);
  const step = stepShown(picture, job);
  const stamp = [picture.key, picture.version, picture.pending, step?.id, step?.step, picture.width, picture.url].join();
  const nothing = Boolean(picture.undecodable && !picture.version && !step);
  $("viewer").classList.toggle("nothing", nothing);
  $("no-preview").hidden = !nothing;
  $("no-preview").textContent = picture.error ? sentence(picture.error) : "This browser cannot show the file itself; if it is an image, it will once it is upscaled.";
  renderSteps(picture, job);
  if (looking === stamp) return;
  looking = stamp;
  const first = picture.versions[0];
  let before = null;
  if (first) before = await tiled(first, "before");
  else if (picture.url && !picture.undecodable) before = { key: picture.url, url: picture.url };
  let after = null;
  if (step) after = { key: `${step.id} step ${step.step}`, url: api.stepUrl(step.id, step.step) };
  else if (picture.version) after = await tiled(picture.version, "after");
  if (looking !== stamp) return;
  const scale = job ? null : options().outscale;
  const width = job ? job.out_width : Math.round(picture.width * scale);
  const height = job ? job.out_height : Math.round(picture.height * scale);
  if (!width) return;
  await stage.open({ key: picture.key, width, height }, before, after);
  if (looking === stamp) await showVersion(picture, job);
}

function stepShown(picture, job) {
  // Of the job under way, or of the version that is shown.
  if (picture.pending || !job) return picture.step;
  const step = picture.shownSteps[job.id];
  return step === undefined || step >= steps(job) ? null : { id: job.id, step };
}

const steps = (job) => job.options.steps ?? facts.steps;

function renderSteps(picture, job) {
  const available = Boolean(job) && !picture.pending && !picture.large && !job.regenerated.length && steps(job) > 0 && picture.state === "done";
  $("steps").hidden = !available && !(picture.pending && picture.step);
  $("viewer").classList.toggle("stepping", !$("steps").hidden);
  if ($("steps").hidden) return;
  const most = available ? steps(job) : picture.step.of;
  const now = available ? (picture.shownSteps[job.id] ?? most) : picture.step.step;
  $("step").min = facts.base ? 0 : 1;
  $("step").max = most;
  $("step").value = now;
  $("step").disabled = !available;
  $("step-name").textContent = now === 0 ? "base picture" : now >= most && available ? "result" : `after step ${now} of ${most}`;
}

// What belongs to a version: its confidence, marks and candidates.
let versionShown = null;
async function showVersion(picture, job) {
  const id = job?.id ?? null;
  if (versionShown === id) return;
  versionShown = id;
  marks = job ? new Marks(job.out_width, job.out_height) : null;
  confidence = null;
  $("unsure").setAttribute("aria-pressed", "false");
  drawMarks();
  await stage.candidate(null);
  chosen = null;
  if (job?.confidence != null) {
    confidence = await confidenceOf(api.cellsUrl(id)).catch(() => null);
    if (versionShown !== id) return;
  }
  const last = job?.regenerated.at(-1);
  if (last && last.candidates > 1) {
    const found = await api.candidates(id).catch(() => null);
    if (found && versionShown === id) chosen = { id, box: found.box, list: found.candidates, kept: last.pick, shown: last.pick };
  }
  showSure();
  changed();
  if (chosen && narrow()) requestAnimationFrame(() => $("choices").scrollIntoView({ block: "nearest" }));
}

function showSure() {
  const on = $("sure").getAttribute("aria-pressed") === "true" && Boolean(confidence);
  $("legend").hidden = !on;
  if (sureLayer && sureLayer !== confidence?.canvas) stage.layer(sureLayer, false);
  sureLayer = confidence?.canvas ?? null;
  if (!sureLayer) return;
  Object.assign(sureLayer, { className: "layer", ofResult: true });
  sureLayer.style.opacity = $("sure-opacity").value;
  stage.layer(sureLayer, on);
}

// ---- trust

function renderTrust(picture) {
  // A line around what can be trusted, of the version that is shown.
  const job = shownJob(picture);
  const level = $("trust").value;
  $("trust-field").hidden = !facts.trust;
  const key = level && job && versionShown === job.id ? `${job.id} ${level}` : "";
  if (trust.key !== key) {
    trust = { key, mask: null, words: "" };
    if (key) promised(job, level).then((found) => trust.key === key && changed(Object.assign(trust, found)));
  }
  const not = stage.strength < 1 ? "strength below 100 %" : key && stepShown(picture, job) ? "step before the result" : "";
  stage.outline((!not && trust.mask) || null);
  const words = key && not ? `Nothing is promised for a ${not}.` : trust.words ?? "";
  if ($("promise").textContent !== words) $("promise").textContent = words;
}

async function promised(job, level) {
  try {
    const { cells, share, error, about } = await api.trust(job.id, level);
    const left = job.regenerated.length ? ", without what was regenerated," : "";
    if (!share) return { words: `No part of this picture${left} can be promised so much.` };
    const words =
      `Within the line (${percent(share)} of this picture${left}) the mean error is at most ${Math.ceil(error * 10) / 10} of 255 levels ` +
      `in ${percent(level)} of pictures like those calibrated on (${about}): nothing is promised for other kinds, for this one alone, for a single pixel, or for a level chosen by how its line looks.`;
    return { mask: new Mask(cells, job.out_width, job.out_height), words };
  } catch (problem) {
    return { words: `Nothing is promised for this result: ${problem.message.split(";")[0]}.` };
  }
}

// ---- regenerating

const HINTS = {
  move: touch ? "Drag moves the picture; two fingers zoom." : "Drag moves the picture; the wheel zooms.",
  brush: "Paint over what looks wrong. Only the marked squares change.",
  box: "Draw a box around what looks wrong.",
  erase: "Take marks away.",
};

function renderRegenerate(picture) {
  const job = shownJob(picture);
  if (!job) $("regenerate").hidden = true;
  $("regenerate-set").disabled = picture.busy;
  const not = !job ? "" : picture.large
    ? "Parts of large pictures cannot be regenerated: that would keep all of them in memory."
    : steps(job) === 0 ? "With 0 steps there is nothing to regenerate." : "";
  $("regenerate-not").hidden = !not;
  $("regenerate-not").textContent = not;
  $("regenerate-can").hidden = Boolean(not);
  for (const button of $("marking").children) button.setAttribute("aria-pressed", String(button.dataset.tool === stage.tool));
  const share = marks?.unsure ? marks.count / marks.painted.length : null;
  $("tool-hint").textContent = share === null ? HINTS[stage.tool] : share ? `${share < 0.005 ? "Under 1 %" : percent(share)} of the picture is marked.` : "No place is that unsure: raise the limit.";
  $("brush-field").hidden = !["brush", "erase"].includes(stage.tool);
  $("below-field").hidden = $("unsure").getAttribute("aria-pressed") !== "true";
  $("below-value").textContent = told($("below").value);
  $("unsure").disabled = !confidence;
  const variety = Number($("variety").value);
  $("variety-value").textContent = variety < 0.4 ? "subtle" : variety < 0.8 ? "medium" : "bold";
  $("candidates-value").textContent = $("candidates").value;
  $("clear").disabled = $("regenerate-go").disabled = !marks?.any;
  const seconds = job && marks?.any ? pictures.estimateEdit(picture, job, marks.bounds(), Number($("candidates").value)) : null;
  $("regenerate-go").textContent = `${marks?.any ? "Regenerate" : "Mark a part first"}${seconds === null ? "" : ` · ${duration(seconds)}`}`;
  $("regenerate-go").hidden = picture.busy && picture.kind === "regenerate";
  renderCandidates();
}

function said({ denoise = 0, share = 0 }) {
  // How a candidate is restored, against the picture before.
  const noise = denoise > 0.15 ? "smoother" : denoise < -0.15 ? "rougher" : "";
  const edges = share > 0.1 ? "crisper" : share < -0.1 ? "softer" : "";
  return [noise, edges].filter(Boolean).join(", ");
}

function renderCandidates() {
  // They stay while one of them is being kept.
  const picture = pictures.selected;
  const open = picture?.state === "done" || (picture?.busy && picture.kind === "pick");
  $("choices").hidden = !(open && chosen && chosen.id === picture.version);
  if (!chosen) return;
  const list = $("candidate-list");
  const key = `${chosen.id} ${chosen.list.length}`;
  if (list.dataset.key !== key) {
    list.dataset.key = key;
    list.replaceChildren(
      ...chosen.list.map((candidate, i) => {
        const button = document.createElement("button");
        const image = new Image();
        image.alt = "";
        image.src = api.candidateUrl(chosen.id, i + 1);
        const label = document.createElement("span");
        label.textContent = `${i + 1} · ${told(candidate.score)}`;
        const how = document.createElement("small");
        how.textContent = said(candidate);
        button.type = "button";
        button.append(image, label, " ", how);
        button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && lookAt(i + 1));
        button.addEventListener("focus", () => lookAt(i + 1));
        button.addEventListener("pointerleave", () => lookAt(chosen?.kept));
        button.addEventListener("blur", () => lookAt(chosen?.kept));
        button.addEventListener("click", () => keep(i + 1));
        return button;
      }),
    );
  }
  [...list.children].forEach((button, i) => {
    const kept = i + 1 === chosen.kept;
    button.setAttribute("aria-pressed", String(kept));
  });
}

async function lookAt(number) {
  // A candidate in its place on the picture, or how it differs from the one kept.
  if (!chosen || !number) return;
  chosen.shown = number;
  const { id, box, kept } = chosen;
  const differs = $("difference").getAttribute("aria-pressed") === "true";
  const url = api.candidateUrl(id, number);
  if (differs) {
    const made = await difference(url, api.candidateUrl(id, kept));
    if (chosen?.shown === number) await stage.candidate({ key: `${url} differs`, url: made, box });
  } else {
    await stage.candidate(number === kept ? null : { key: url, url, box });
  }
}

async function keep(number) {
  const picture = pictures.selected;
  if (!chosen || !picture || picture.busy || number === chosen.kept) return;
  const { id } = chosen;
  chosen.kept = number;
  renderCandidates();
  await lookAt(number);
  await pictures.follow(picture, "pick", () => api.pick(id, number));
}

function drawMarks() {
  if (!marks) {
    stage.layer(markLayer, false);
    return;
  }
  marks.draw(markLayer, [255, 40, 170, 255]);
  stage.layer(markLayer, marks.any);
  changed();
}

let before = null;
stage.addEventListener("paint", ({ detail: { kind, from, to, start } }) => {
  if (!marks || pictures.selected?.busy) return;
  if (kind === "down") before = marks.painted.slice();
  if (stage.tool === "box" || kind === "cancel") marks.painted.set(before);
  if (kind === "cancel") {
    drawMarks();
    return;
  }
  if (stage.tool === "box") marks.box(start, to);
  else if (kind !== "up") {
    marks.stroke(kind === "down" ? to : from, to, stage.brushRadius, stage.tool === "brush" ? 1 : 2);
  }
  drawMarks();
});

function setTool(tool) {
  stage.setTool(tool);
  changed();
}

function markUnsure() {
  if (!marks || !confidence) return;
  if ($("unsure").getAttribute("aria-pressed") === "true") marks.below(confidence.values, Number($("below").value));
  else marks.unsure = null;
  drawMarks();
}

function regenerate() {
  const picture = pictures.selected;
  if (!picture || picture.state !== "done" || !marks?.any) return;
  const cells = marks.runs();
  const candidates = Number($("candidates").value);
  const variety = Number($("variety").value);
  const edit = { cells, candidates, seed: seed++, variety };
  const id = picture.version;
  setTool("move");
  pictures.follow(picture, "regenerate", () => api.regenerate(id, edit));
}

// ---- files in and out

function take(list) {
  const files = [...list].filter((file) => !file.name.startsWith(".") && file.size > 0 && looksLikePicture(file));
  if (!files.length) {
    wrong(list.length ? "there is no picture among these files" : "nothing was chosen");
    return;
  }
  pictures.add(files);
  $("go").focus({ preventScroll: true });
}

const looksLikePicture = (file) => file.type.startsWith("image/") || facts.suffixes.includes(file.name.split(".").pop().toLowerCase());

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!some.length) break;
        for (const child of some) await walk(child);
      }
    }
  };
  for (const entry of entries) await walk(entry);
  return found.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
}

let exporting = "";
async function download() {
  const picture = pictures.selected;
  if (!picture?.version || exporting) return;
  try {
    exporting = "Writing the file";
    changed();
    const id = await pictures.exported(picture, wantedFile(picture), (job) => {
      exporting = job.progress ? `Writing the file, ${percent(job.progress)}` : "Writing the file";
      changed();
    });
    leave(api.resultUrl(id));
  } catch (problem) {
    wrong(problem.message);
  } finally {
    exporting = "";
    changed();
  }
}

async function zip() {
  const done = pictures.list.filter((picture) => picture.version && picture.state === "done");
  const ids = [];
  try {
    for (const picture of done) {
      exporting = `Writing the files, ${ids.length} of ${done.length}`;
      $("film-said").textContent = exporting;
      ids.push(await pictures.exported(picture, wantedFile(picture), () => {}));
    }
    leave(api.archiveUrl(ids));
  } catch (problem) {
    wrong(problem.message);
  } finally {
    exporting = "";
    changed();
  }
}

function leave(url) {
  const link = document.createElement("a");
  link.href = url;
  link.download = "";
  document.body.append(link);
  link.click();
  link.remove();
}

function start(list) {
  for (const picture of list) pictures.start(picture, jobOptions(picture));
}

// ---- controls

function press(button, on = button.getAttribute("aria-pressed") !== "true") {
  button.setAttribute("aria-pressed", String(on));
  return on;
}

const on = (id, kind, call) => $(id).addEventListener(kind, call);
const current = () => pictures.selected;

on("choose", "click", (event) => {
  event.stopPropagation();
  $("files").click();
});
on("choose-folder", "click", (event) => {
  event.stopPropagation();
  $("folder").click();
});
on("drop", "click", () => $("files").click());
on("add", "click", () => $("files").click());
for (const id of ["files", "folder"]) {
  on(id, "change", () => {
    take($(id).files);
    $(id).value = "";
  });
}
on("go", "click", () => start([current()]));
on("go-all", "click", () => start(pictures.list.filter((picture) => picture.state === "ready")));
on("retry", "click", () => start([current()]));
on("retry-failed", "click", () => start(pictures.list.filter(retriable)));
on("cancel", "click", () => {
  pictures.cancel(current());
  say("Cancelled");
});
on("cancel-all", "click", () => pictures.list.filter((picture) => picture.busy).forEach((picture) => pictures.cancel(picture)));
on("remove", "click", () => pictures.remove(current()));
on("remove-all", "click", () => [...pictures.list].forEach((picture) => pictures.remove(picture)));
on("download", "click", download);
on("zip", "click", zip);
on("undo", "click", () => pictures.undo(current(), -1));
on("redo", "click", () => pictures.undo(current(), 1));
on("again", "click", () => {
  const picture = current();
  const id = picture.version;
  const wanted = Object.fromEntries(Object.entries(jobOptions(picture)).filter(([, value]) => value !== null));
  pictures.follow(picture, "upscale", () => api.upscale(id, wanted));
});
on("fit", "click", () => stage.fit());
on("zoom100", "click", () => stage.zoomTo(1));
on("zoom200", "click", () => stage.zoomTo(2));
on("sure", "click", () => {
  press($("sure"));
  showSure();
});
on("sure-opacity", "input", showSure);
on("trust", "change", changed);
on("step", "input", () => {
  const picture = current();
  picture.shownSteps[picture.version] = Number($("step").value);
  changed();
});
for (const button of $("modes").children) {
  button.addEventListener("click", () => {
    for (const other of $("modes").children) press(other, other === button);
    stage.setMode(button.dataset.mode);
  });
}
for (const button of $("marking").children) button.addEventListener("click", () => setTool(button.dataset.tool));
on("unsure", "click", () => {
  // At first the least sure tenth.
  if (press($("unsure")) && confidence) $("below").value = Math.floor((confidence.values.toSorted()[Math.floor(confidence.values.length / 10)] / 255) * 100 + 1) / 100;
  markUnsure();
});
on("below", "input", markUnsure);
on("clear", "click", () => {
  marks?.clear();
  press($("unsure"), false);
  drawMarks();
});
on("brush", "input", () => (stage.brush = Number($("brush").value)));
for (const id of ["variety", "candidates"]) on(id, "input", changed);
on("regenerate-go", "click", regenerate);
on("difference", "click", () => {
  press($("difference"));
  const other = chosen?.list.findIndex((_, i) => i + 1 !== chosen.kept) + 1;
  lookAt(chosen?.shown !== chosen?.kept ? chosen?.shown : $("difference").getAttribute("aria-pressed") === "true" ? other : chosen?.kept);
});
on("options", "input", () => {
  try {
    localStorage.setItem(KEPT, JSON.stringify(options()));
  } catch {
    // a browser that keeps nothing
  }
  looking = "";
  changed();
});

const hold = (held) => (event) => {
  if (held) event.target.setPointerCapture?.(event.pointerId);
  stage.hold(held);
};
on("hold", "pointerdown", hold(true));
for (const kind of ["pointerup", "pointercancel", "blur"]) on("hold", kind, hold(false));
on("hold", "keydown", (event) => ["Enter", " "].includes(event.key) && stage.hold(true));
on("hold", "keyup", () => stage.hold(false));
on("hold", "contextmenu", (event) => event.preventDefault());

stage.addEventListener("zoom", () => {
  const zoom = stage.zoom;
  $("zoom").value = zoom ? percent(zoom) : "";
});

let over = 0;
addEventListener("dragenter", (event) => {
  event.preventDefault();
  over += 1;
  document.body.classList.add("over");
});
addEventListener("dragleave", () => {
  over -= 1;
  if (over <= 0) document.body.classList.remove("over");
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", async (event) => {
  event.preventDefault();
  over = 0;
  document.body.classList.remove("over");
  take(await dropped(event.dataTransfer));
});
addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files));
addEventListener("beforeunload", (event) => {
  // What has not been sent would be lost; one picture is soon dropped again.
  const unsent = pictures.list.filter((picture) => picture.state === "ready").length;
  if (unsent > 1 || pictures.list.some((picture) => picture.state === "sending")) event.preventDefault();
});

// ---- keys

on("help", "click", () => $("keys").showModal());
on("keys-on", "change", () => localStorage.setItem("realsrt.keys", $("keys-on").checked ? "on" : "off"));

const visible = (id) => $(id).offsetParent !== null && !$(id).disabled;
const KEYS = {
  f: "fit", z: "zoom100", x: "zoom200", c: "sure", u: "unsure", g: "regenerate-go", d: "download", "?": "help",
};
const TOOLS = { v: "move", b: "brush", r: "box", e: "erase" };

addEventListener("keydown", (event) => {
  if (!$("keys-on").checked || $("keys").open || event.altKey) return;
  const typing = event.target.matches("input:not([type=range]):not([type=checkbox]), select, textarea");
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ((event.ctrlKey || event.metaKey) && (key === "z" || key === "y")) {
    const id = key === "y" || event.shiftKey ? "redo" : "undo";
    if (visible(id)) $(id).click();
    event.preventDefault();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey) return;
  if (KEYS[key] && visible(KEYS[key])) $(KEYS[key]).click();
  else if (TOOLS[key] && visible("marking")) setTool(TOOLS[key]);
  else if (key === "t" && visible("trust")) {
    $("trust").selectedIndex = ($("trust").selectedIndex + 1) % $("trust").length;
    changed();
  } else if (/^[1-6]$/.test(key) && chosen?.list[key - 1]) $("candidate-list").children[key - 1].focus();
  else if ((key === "," || key === ".") && pictures.list.length > 1) {
    const at = pictures.list.indexOf(current()) + (key === "." ? 1 : -1);
    pictures.select(pictures.list.at(at % pictures.list.length));
  } else if ((key === "+" || key === "=" || key === "-") && !event.target.closest(".openseadragon-container")) stage.zoomBy(key === "-" ? 0.8 : 1.25);
  else if ((key === "h" || (key === " " && !event.target.matches("button, summary, input"))) && visible("hold")) stage.hold(true);
  else if (key === "Enter" && event.target === document.body && visible("go")) $("go").click();
  else return;
  if (key !== "Enter" || event.target === document.body) event.preventDefault();
});
addEventListener("keyup", (event) => [" ", "h", "H"].includes(event.key) && stage.hold(false));

// ---- beginning

pictures.addEventListener("change", changed);
pictures.addEventListener("finished", ({ detail: picture }) => {
  learn();
  // A candidate that is kept was chosen while looking at the picture.
  if (picture === current() && narrow() && picture.kind !== "pick") $("stage").scrollIntoView({ behavior: "smooth", block: "start" });
});

async function begin() {
  if (localStorage.getItem("realsrt.keys") === "off") $("keys-on").checked = false;
  await api.visit();
  facts = pictures.facts = await api.facts();
  for (const ext of facts.formats) $("ext").append(new Option(ext.toUpperCase().replace("JPG", "JPEG").replace("TIF", "TIFF"), ext));
  $("files").accept = ["image/*", ...facts.suffixes].join(",.");
  $("denoise-kind").closest("label").hidden = !facts.denoise;
  const days = facts.keep >= 48 ? Math.round(facts.keep / 24) : null;
  const until = `after ${count(days ?? facts.keep, days ? "day" : "hour")}${facts.temporary ? " or when the service is stopped" : ""}`;
  const megabytes = Math.round(facts.max_bytes / 1e6);
  $("limits").textContent = `Up to ${Math.round(facts.max_pixels / 1e6) || facts.max_pixels / 1e6} megapixels and ${megabytes} MB each. Pictures stay on this service, are seen by you only, and are removed ${until}.`;
  try {
    setOptions(JSON.parse(localStorage.getItem(KEPT) ?? "{}"));
  } catch {
    // nothing that can be read
  }
  const gone = await pictures.restore();
  if (gone) $("limits").prepend(`The service has removed ${count(gone, "picture")} that you had here. `);
  document.body.dataset.begun = "true";
  render();
  while (!facts.pace) {
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await learn();
  }
}

async function learn() {
  // How fast the service is, as it knows by now.
  facts = pictures.facts = await api.facts().catch(() => facts);
  changed();
}

begin().catch((problem) => {
  render();
  wrong(problem.message);
});
