"use strict";
// Shows all samples of a page: a list of which only the visible rows exist, and the chosen sample.
// The data are compressed blocks in the page, or files of the server (python -m runner.view).
// Texts of models and data sets become text nodes, never markup.
(() => {
  const ROOT = document.getElementById("browser");
  const ROW = matchMedia("(max-width: 60rem)").matches ? 50 : 32; // as in browser.css
  const AHEAD = 12; // rows beyond the visible ones
  const KEPT = 40e6; // characters of unpacked blocks that are kept
  const DIFFED = 4e6; // cells of the table that finds the words two answers share
  const BIG = 2e5; // characters of an answer from which words are not compared
  const TEXTS = JSON.parse(ROOT.dataset.texts); // in the page's language

  // A text with its placeholders filled.
  const say = (name, given = {}) =>
    TEXTS[name].replace(/\{(\w+)\}/g, (_, placeholder) => String(given[placeholder]));

  if (!("DecompressionStream" in window)) {
    ROOT.textContent = say("old");
    return;
  }

  // ---- Data

  const cache = new Map(); // name of a block → promise of its value, the least recently used first
  const sizes = new Map();

  async function unpacked(name) {
    const held = document.getElementById(`block-${name}`);
    let bytes;
    if (held) {
      const text = atob(held.textContent);
      bytes = new Uint8Array(text.length);
      for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    } else {
      const reply = await fetch(`${ROOT.dataset.blocks}/${name}`);
      if (reply.status === 404) throw new Error(say("other_run"));
      if (!reply.ok) throw new Error(say("answered", { status: reply.status }));
      bytes = new Uint8Array(await reply.arrayBuffer());
    }
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const text = await new Response(stream).text();
    sizes.set(name, text.length);
    return JSON.parse(text);
  }

  function block(name) {
    let value = cache.get(name);
    if (value) cache.delete(name);
    else {
      value = unpacked(name);
      value.catch(() => cache.get(name) === value && cache.delete(name)); // to be asked for again
    }
    cache.set(name, value);
    let total = 0;
    for (const each of cache.keys()) total += sizes.get(each) ?? 0;
    for (const each of cache.keys()) {
      if (total < KEPT || each === name) break;
      total -= sizes.get(each) ?? 0;
      cache.delete(each);
    }
    return value;
  }

  let data, values, tasks, count, unseen, keys, placeOf, several;

  function holding(starts, place) {
    let low = 0;
    for (let high = starts.length; high - low > 1; ) {
      const middle = (low + high) >> 1;
      if (starts[middle] <= place) low = middle;
      else high = middle;
    }
    return low;
  }

  async function detailOf(place) {
    const number = holding(data.texts, place);
    return (await block(`texts-${number}`))[place - data.texts[number]];
  }

  async function addressOf(picture) {
    const number = holding(data.images, picture);
    return (await block(`images-${number}`))[picture - data.images[number]];
  }

  const visible = (text) =>
    String(text).replace(unseen, (found) => {
      const code = found.codePointAt(0);
      if (code < 0x20) return String.fromCharCode(0x2400 + code);
      return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
    });

  function nameOf(place) {
    const name = `${tasks[values.task[place]]} #${values.doc[place]}`;
    return several ? say("repeated", { name, number: values.repeat[place] + 1 }) : name;
  }

  // What is shown of a flag, or of the name at a place of a choice.
  const flagged = (flag) => flag.label || flag.name;
  const picked = (choice, at) => choice.labels[at] ?? choice.names[at];

  // ---- Elements

  function element(tag, given = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(given)) {
      if (value === undefined || value === false) continue;
      if (name === "class") made.className = value;
      else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((each) => each !== null && each !== undefined));
    return made;
  }

  // ---- State: what the address holds after #

  const state = { sample: null, only: new Set(), by: {}, q: "", sort: "", down: false };
  let shown = new Int32Array(0); // places of the listed samples, in order
  let chosen = -1; // index in `shown`
  let matches = null; // of the search: a byte per sample
  let missing = ""; // the address's sample, if this page does not have it
  let searching = 0;

  function address(place) {
    const given = new URLSearchParams();
    if (place !== null) given.set("sample", keys[place]);
    if (state.only.size) given.set("only", [...state.only].join(","));
    for (const [key, name] of Object.entries(state.by)) given.set(key, name);
    if (state.q) given.set("q", state.q);
    if (state.sort) given.set("sort", (state.down ? "-" : "") + state.sort);
    return `#${given.toString().replaceAll("%2F", "/")}`;
  }

  function remember() {
    try {
      history.replaceState(null, "", address(state.sample));
    } catch {
      // an address that the browser does not let a page change
    }
  }

  function recall() {
    const given = new URLSearchParams(location.hash.slice(1));
    const ours = ["sample", "only", "q", "sort", ...data.listing.choices.map((each) => each.key)];
    if (!ours.some((name) => given.has(name))) return false;
    const flags = data.listing.flags.map((each) => each.name);
    state.only = new Set((given.get("only") ?? "").split(",").filter((name) => flags.includes(name)));
    state.by = {};
    for (const { key, names } of data.listing.choices)
      if (names.includes(given.get(key))) state.by[key] = given.get(key);
    state.q = given.get("q") ?? "";
    const sort = given.get("sort") ?? "";
    state.down = sort.startsWith("-");
    state.sort = sort.replace(/^-/, "");
    if (state.sort !== "sample" && !data.listing.columns.some((each) => each.key === state.sort))
      state.sort = "";
    state.sample = placeOf.get(given.get("sample")) ?? null;
    missing = state.sample === null ? (given.get("sample") ?? "") : "";
    return true;
  }

  // ---- The list

  let list, spacer, tally, panel, search, toggles, selects, headings;

  function filtered() {
    const { flags, choices } = data.listing;
    const bits = flags.reduce((all, each, at) => all | (state.only.has(each.name) ? 1 << at : 0), 0);
    const by = choices
      .filter(({ key }) => key in state.by)
      .map(({ key, names }) => [values[key], names.indexOf(state.by[key])]);
    const found = [];
    for (let place = 0; place < count; place++) {
      if ((values.flags[place] & bits) !== bits) continue;
      if (matches && !matches[place]) continue;
      if (by.every(([column, wanted]) => column[place] === wanted)) found.push(place);
    }
    return found;
  }

  function sorted(found) {
    if (!state.sort) return found;
    const sign = state.down ? -1 : 1;
    const choice = data.listing.choices.find((each) => each.key === state.sort);
    const column = state.sort === "sample" ? null : values[state.sort];
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    const key = choice ? (place) => choice.names[column[place]] : (place) => column[place];
    const order = (a, b) => {
      if (!column) {
        const name = compare(tasks[values.task[a]], tasks[values.task[b]]);
        return sign * (name || values.doc[a] - values.doc[b] || values.repeat[a] - values.repeat[b]);
      }
      const [one, other] = [key(a), key(b)];
      if (one === null || other === null) return (one === null) - (other === null) || a - b;
      return sign * (typeof one === "string" ? compare(one, other) : one - other) || a - b;
    };
    return found.sort(order);
  }

  function refresh() {
    shown = Int32Array.from(sorted(filtered()));
    spacer.style.height = `${shown.length * ROW}px`;
    list.setAttribute("aria-rowcount", shown.length);
    chosen = state.sample === null ? -1 : shown.indexOf(state.sample);
    total();
    for (const [name, button] of toggles) {
      button.setAttribute("aria-pressed", state.only.has(name));
      button.hidden = button.dataset.count === "0" && !state.only.has(name); // an address may have it
    }
    for (const [key, select] of selects) select.value = state.by[key] ?? "";
    for (const [key, heading] of headings) {
      const here = key === state.sort;
      heading.setAttribute("aria-sort", !here ? "none" : state.down ? "descending" : "ascending");
    }
    draw();
  }

  function total() {
    const [own, all] = [shown.length, count].map((each) => each.toLocaleString("en"));
    const number = own === all ? all : say("part", { listed: own, total: all });
    tally.textContent = say(missing ? "lost" : "tally", { count: number, sample: visible(missing) });
  }

  function textOf(column, place) {
    const value = values[column.key][place];
    if (value === null || value === undefined) return "";
    const choice = data.listing.choices.find((each) => each.key === column.key);
    if (choice) return picked(choice, value);
    if (column.digits === null) return visible(value);
    return Number.isInteger(value) ? String(value) : value.toFixed(column.digits);
  }

  function rowOf(at) {
    const place = shown[at];
    const { columns, flags } = data.listing;
    const cells = columns.map((column) => {
      const right = column.right ? values[column.right][place] : null;
      const kind = right === null ? "" : right ? " good" : " bad";
      const name = `${column.digits === null ? "" : "n"}${kind}${column.wide ? " wide" : ""}`;
      return element("span", { role: "gridcell", class: name }, textOf(column, place));
    });
    const marks = flags
      .filter((each, bit) => each.shown && values.flags[place] & (1 << bit))
      .map((each) => element("i", { title: each.meaning }, flagged(each)));
    const made = element(
      "div",
      { role: "row", id: `row-${place}`, "aria-rowindex": at + 1, "aria-selected": String(at === chosen) },
      element("span", { role: "gridcell", class: "name" }, visible(nameOf(place)), ...marks),
      ...cells,
    );
    made.style.top = `${at * ROW}px`;
    made.dataset.at = at;
    return made;
  }

  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - AHEAD);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + AHEAD);
    const rows = [];
    for (let at = first; at < last; at++) rows.push(rowOf(at));
    if (!shown.length) rows.push(element("p", { class: "soft empty" }, say("none")));
    spacer.replaceChildren(...rows);
    if (chosen >= first && chosen < last) list.setAttribute("aria-activedescendant", `row-${shown[chosen]}`);
    else list.removeAttribute("aria-activedescendant");
    limitSteps();
  }

  // The buttons of the panel end with the list.
  function limitSteps() {
    for (const button of panel.querySelectorAll("[data-by]"))
      button.disabled = button.dataset.by < 0 ? chosen <= 0 : chosen >= shown.length - 1;
  }

  function reveal() {
    const top = chosen * ROW;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight)
      list.scrollTop = top + ROW - list.clientHeight;
  }

  function choose(at, quiet = false) {
    if (!shown.length) return;
    chosen = Math.max(0, Math.min(shown.length - 1, at));
    state.sample = shown[chosen];
    reveal();
    draw();
    if (missing) {
      missing = "";
      total();
    }
    if (!quiet) remember();
    display(state.sample);
  }

  function changed() {
    refresh();
    list.scrollTop = 0;
    if (chosen >= 0) reveal();
    draw();
    remember();
    if (chosen < 0 && shown.length) choose(0);
    else if (chosen >= 0 && panel.dataset.sample !== keys[state.sample]) display(state.sample);
  }

  // ---- Search in all texts

  function* strings(detail) {
    yield detail.prompt;
    yield detail.target;
    if (detail.second_prompt) yield detail.second_prompt;
    for (const side of detail.sides)
      if (side) {
        yield* side.responses;
        yield* side.reasoning;
        yield* Object.values(side.parsed);
      }
  }

  // Finds the samples with the text that is searched for. False if a later search replaced this one.
  async function look() {
    const mine = ++searching;
    const wanted = state.q.toLowerCase();
    if (!wanted) {
      matches = null;
      return true;
    }
    const found = new Uint8Array(count);
    for (let place = 0; place < count; place++)
      if (nameOf(place).toLowerCase().includes(wanted)) found[place] = 1;
    matches = found;
    let drawn = performance.now();
    for (let number = 0; number < data.texts.length; number++) {
      const details = await block(`texts-${number}`);
      if (mine !== searching) return false;
      const start = data.texts[number];
      details.forEach((detail, at) => {
        if (found[start + at]) return;
        for (const text of strings(detail))
          if (text.toLowerCase().includes(wanted)) {
            found[start + at] = 1;
            break;
          }
      });
      if (performance.now() - drawn > 250) {
        refresh();
        const percent = Math.round((100 * number) / data.texts.length);
        tally.textContent = say("searching", { tally: tally.textContent, percent });
        drawn = performance.now();
      }
    }
    return true;
  }

  // ---- The chosen sample

  function words(text) {
    return text.match(/\s+|[^\s]+/g) ?? [];
  }

  // For each word of both texts whether it is in the other as well, in the same order.
  function shared(one, other) {
    const own = [new Uint8Array(one.length), new Uint8Array(other.length)];
    let start = 0;
    while (start < one.length && start < other.length && one[start] === other[start]) {
      own[0][start] = own[1][start] = 1;
      start++;
    }
    let [a, b] = [one.length, other.length];
    while (a > start && b > start && one[a - 1] === other[b - 1]) own[0][--a] = own[1][--b] = 1;
    const [height, width] = [a - start, b - start];
    if (height * width > DIFFED || !height || !width) return own;
    const line = width + 1;
    const longest = new Uint16Array((height + 1) * line);
    for (let i = height - 1; i >= 0; i--)
      for (let j = width - 1; j >= 0; j--)
        longest[i * line + j] =
          one[start + i] === other[start + j]
            ? longest[(i + 1) * line + j + 1] + 1
            : Math.max(longest[(i + 1) * line + j], longest[i * line + j + 1]);
    for (let i = 0, j = 0; i < height && j < width; )
      if (one[start + i] === other[start + j]) own[0][start + i++] = own[1][start + j++] = 1;
      else if (longest[(i + 1) * line + j] >= longest[i * line + j + 1]) i++;
      else j++;
    return own;
  }

  function marked(pieces, same) {
    const made = [];
    for (let start = 0; start < pieces.length; ) {
      let end = start;
      while (end < pieces.length && same[end] === same[start]) end++;
      const text = visible(pieces.slice(start, end).join(""));
      made.push(same[start] ? text : element("mark", {}, text));
      start = end;
    }
    return made;
  }

  // The texts of both sides, with the words that only one of them has marked.
  function compared(first, second) {
    if (first === undefined || second === undefined || first === second) return null;
    if (first.length + second.length > BIG) return null;
    const pieces = [words(first), words(second)];
    const same = shared(...pieces);
    return pieces.map((each, at) => marked(each, same[at]));
  }

  const text = (content, kind = "") =>
    element("pre", { dir: "auto", class: kind, tabindex: 0 }, ...(Array.isArray(content) ? content : [visible(content)]));

  const label = (said) => element("div", { class: "small soft" }, said);

  function pictures(digests) {
    if (!digests.length) return null;
    const made = digests.map((digest, at) => {
      const [picture, width, height] = data.places[digest] ?? [-1, 0, 0];
      const size = width ? `${width}×${height}` : "";
      if (picture < 0)
        return element("span", { class: "small soft" }, say(size ? "image_left_out" : "image_lost", { digest: digest.slice(0, 12), size }));
      const small = width <= 128 && height <= 128;
      const image = element("img", {
        class: small ? "tiny" : undefined,
        width: Math.round(width * Math.min(width <= 192 ? 2 : 1, 384 / width, 240 / height)),
        alt: say("image", { number: at + 1, count: digests.length, width, height }),
      });
      addressOf(picture).then((found) => (image.src = found), failed);
      return element("figure", {}, image, element("figcaption", {}, size));
    });
    return element("div", { class: "pictures" }, ...made);
  }

  function reasoningOf(side) {
    return side.reasoning.map((each) =>
      element(
        "details",
        {},
        element("summary", {}, say("reasoning", { count: each.length.toLocaleString("en") })),
        text(each),
      ),
    );
  }

  function choicesOf(side, first) {
    const best = side.choices.indexOf(Math.max(...side.choices));
    const rows = side.choices.map((value, at) =>
      element(
        "tr",
        { class: at === best ? "best" : undefined },
        element("th", { scope: "row" }, side.numbered ? say("choice", { number: at }) : say("choice_unknown")),
        element("td", { class: "n" }, `${value.toFixed(3)}${at === best ? " ◂" : ""}`),
      ),
    );
    return element("table", { class: "choices" }, element("caption", { class: "small soft" }, first), element("tbody", {}, ...rows));
  }

  function sideOf(side, letter, texts) {
    if (!side) return element("div", { class: "side" }, element("b", { class: "letter" }, letter), " ", label(say("not_asked")));
    const scores = Object.entries(side.scores).map(([name, value]) => `${visible(name)} ${value === null ? say("not_finite") : Number(value.toPrecision(6))}`);
    const kind = side.right === null ? "" : side.right ? "right" : "wrong";
    const responses = side.responses.map((each, at) => [
      side.responses.length > 1 ? label(say("answer", { number: at + 1, count: side.responses.length })) : null,
      text(at === 0 && texts ? texts : each, "answer"),
    ]);
    const parsed = Object.entries(side.parsed).map(([name, value]) =>
      element("div", { class: "small" }, `${name ? say("parsed_by", { filter: visible(name) }) : say("parsed")} `, element("code", { dir: "auto" }, visible(value) || say("nothing"))),
    );
    return element(
      "div",
      { class: `side ${kind}` },
      element(
        "div",
        { class: "small" },
        letter ? element("b", { class: "letter" }, letter) : null,
        letter ? " " : `${say("score")} `,
        element("strong", {}, scores.join(", ") || say("no_score")),
        element("span", { class: "soft" }, side.facts.map((each) => ` · ${visible(each)}`).join("")),
      ),
      ...reasoningOf(side),
      side.choices.length ? choicesOf(side, say("choices")) : null,
      ...responses.flat(),
      ...parsed,
    );
  }

  function fill(...children) {
    panel.style.minHeight = "";
    panel.replaceChildren(...children);
  }

  function display(place) {
    show(place).catch((error) => {
      if (place === state.sample) fill(element("p", { class: "soft empty" }, say("error", { message: error.message })));
      throw error;
    });
  }

  async function show(place) {
    // The texts of another sample must not stand beside this one's row.
    const within = panel.contains(document.activeElement);
    panel.style.minHeight = `${panel.offsetHeight}px`; // a narrow page would jump
    panel.replaceChildren();
    delete panel.dataset.sample;
    if (within) panel.focus({ preventScroll: true }); // what had the focus is gone
    const detail = await detailOf(place);
    if (place !== state.sample) return;
    const link = element("a", { href: address(place), title: say("address") }, say("link"));
    const flags = data.listing.flags
      .filter((each, bit) => values.flags[place] & (1 << bit))
      .map((each) => element("i", { title: each.meaning }, flagged(each)));
    const step = (by, said, sign) =>
      element("button", { type: "button", "aria-label": said, title: said, "data-by": by, onclick: () => choose(chosen + by) }, sign);
    const { letters } = data.listing;
    const [first, second] = detail.sides;
    const both = first && second ? compared(first.responses[0], second.responses[0]) : null;
    const prompts = [text(detail.prompt, "prompt")];
    if (detail.second_prompt !== null) prompts.push(label(say("prompt_of", { run: letters[1] })), text(detail.second_prompt, "prompt"));
    fill(
      element(
        "header",
        {},
        element("h3", {}, visible(nameOf(place))),
        element("span", { class: "flags" }, ...flags),
        element("span", { class: "steps" }, link, step(-1, say("previous"), "↑"), step(1, say("next"), "↓")),
      ),
      ...detail.facts.map((each) => label(visible(each))),
      pictures(detail.images) ?? "",
      label(detail.second_prompt === null ? say("prompt") : say("prompt_of", { run: letters[0] })),
      ...prompts,
      detail.second_images.length ? label(say("images_of", { run: letters[1] })) : "",
      pictures(detail.second_images) ?? "",
      element("div", { class: "target" }, `${say("target")} `, element("code", { dir: "auto" }, visible(detail.target))),
      element("div", { class: `sides n${letters.length}` }, ...letters.map((letter, at) => sideOf(detail.sides[at], letter, both?.[at]))),
    );
    limitSteps();
    panel.scrollTop = 0;
    // A question is at the end of its prompt, after the examples.
    for (const each of panel.querySelectorAll("pre.prompt")) each.scrollTop = each.scrollHeight;
    panel.dataset.sample = keys[place];
  }

  // ---- Keys

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (event.key === "Escape" && panel.parentElement.contains(event.target)) return list.focus();
    if (typing) {
      if (event.target === search && (event.key === "Enter" || event.key === "Escape")) list.focus();
      return;
    }
    const within = list.contains(event.target);
    const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
    const steps = { j: 1, k: -1 };
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key === "/") search.focus();
    else if (event.key in steps) choose(chosen + steps[event.key]);
    else if (within && event.key in moves) choose(chosen + moves[event.key]);
    else if (within && event.key === "Enter") panel.focus();
    else return;
    event.preventDefault();
  }

  // ---- Start

  function build() {
    const { columns, choices, flags } = data.listing;
    let timer;
    search = element("input", {
      type: "search",
      placeholder: say("search"),
      "aria-label": say("search"),
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          state.q = search.value.trim();
          look().then((ended) => ended && changed()).catch(failed);
        }, 200);
      },
    });
    toggles = new Map();
    selects = new Map();
    headings = new Map();
    const bits = flags.map((_, bit) => values.flags.reduce((sum, own) => sum + ((own >> bit) & 1), 0));
    flags.forEach((flag, bit) => {
      const flip = () => {
        if (!state.only.delete(flag.name)) state.only.add(flag.name);
        changed();
      };
      const number = element("span", { class: "soft" }, ` ${bits[bit].toLocaleString("en")}`);
      const button = element("button", { type: "button", title: flag.meaning, "data-count": bits[bit], onclick: flip }, flagged(flag), number);
      toggles.set(flag.name, button);
    });
    for (const choice of choices) {
      const { key, label: said, names } = choice;
      if (names.length < 2) continue;
      const options = names.map((name, at) => element("option", { value: name }, visible(picked(choice, at))));
      const pick = (event) => {
        if (event.target.value) state.by[key] = event.target.value;
        else delete state.by[key];
        changed();
      };
      selects.set(key, element("select", { "aria-label": said, onchange: pick }, element("option", { value: "" }, say("any", { name: said })), ...options));
    }
    for (const { key, label: said, digits, wide } of [{ key: "sample", label: say("sample"), digits: null }, ...columns]) {
      const sort = () => {
        if (state.sort !== key) [state.sort, state.down] = [key, false];
        else if (!state.down) state.down = true;
        else [state.sort, state.down] = ["", false];
        changed();
      };
      const kind = `${digits === null ? "" : "n"}${wide ? " wide" : ""}`;
      headings.set(key, element("span", { role: "columnheader", class: kind }, element("button", { type: "button", onclick: sort }, said)));
    }
    tally = element("span", { class: "small soft tally", role: "status" });
    spacer = element("div", { class: "spacer", role: "rowgroup" });
    list = element("div", { class: "list", role: "grid", tabindex: 0, "aria-label": say("samples") }, spacer);
    panel = element("article", { class: "panel", tabindex: -1, "aria-label": say("chosen") });
    let frame = 0;
    list.addEventListener("scroll", () => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(draw);
    });
    list.addEventListener("click", (event) => {
      const row = event.target.closest("[role=row]");
      if (row) choose(Number(row.dataset.at));
    });
    new ResizeObserver(draw).observe(list);
    const template = ["minmax(9rem, 1.3fr)", ...columns.map((each) => each.size)].join(" ");
    const narrow = ["minmax(0, 1fr)", ...columns.filter((each) => !each.wide).map((each) => each.size)].join(" ");
    ROOT.style.setProperty("--columns", template);
    ROOT.style.setProperty("--narrow", narrow);
    ROOT.style.setProperty("--row", `${ROW}px`);
    ROOT.replaceChildren(
      element("div", { class: "tools" }, search, ...selects.values(), element("span", { class: "toggles", role: "group", "aria-label": say("only") }, ...toggles.values()), tally),
      element("div", { class: "panes" }, element("div", { class: "table" }, element("div", { class: "head", role: "row" }, ...headings.values()), list), panel),
    );
    ROOT.addEventListener("keydown", pressed);
  }

  function failed(error) {
    (tally ?? ROOT).textContent = say("error", { message: error.message });
    throw error;
  }

  async function start() {
    data = await block("index");
    ({ values, tasks } = data.listing);
    count = values.doc.length;
    unseen = new RegExp(JSON.parse(data.unseen), "gu");
    several = values.repeat.some((each) => each > 0);
    keys = [];
    placeOf = new Map();
    for (let place = 0; place < count; place++) {
      const repeat = several ? `/${values.repeat[place]}` : "";
      let key = `${tasks[values.task[place]]}/${values.doc[place]}${repeat}`;
      // A task can be asked for two groups.
      for (let n = 2; placeOf.has(key); n++) key = `${key.split("~")[0]}~${n}`;
      placeOf.set(key, place);
      keys.push(key);
    }
    build();
    const follow = async () => {
      search.value = state.q;
      matches = null;
      refresh();
      const linked = state.sample;
      if (linked !== null) display(linked); // even if the filters leave it out
      if (!(await look())) return;
      // Another sample may have been chosen meanwhile.
      if (state.sample !== linked) return changed();
      refresh();
      if (missing) {
        fill();
        delete panel.dataset.sample;
      } else if (linked === null && shown.length) choose(0, true);
      else if (chosen >= 0) {
        reveal();
        draw();
      }
    };
    const arrive = (first) => {
      const given = recall();
      // Links within the page, such as #samples, leave the list as it is.
      if (given || first) follow().catch(failed);
      if (given) ROOT.parentElement.scrollIntoView();
    };
    arrive(true);
    addEventListener("hashchange", () => arrive(false));
    ROOT.dataset.ready = "";
  }

  start().catch(failed);
})();
