// The page's own behaviour: deep links to tabs, light and dark, copying, questions to begin with, the page beside the
// chat, a conversation that follows its end, and the session that a reload keeps.
(() => {
  const TABS = ["chat", "needle", "explain", "model"];
  const button = (name) => document.querySelector(`#tab-${name}-button`);

  const isDark = () => document.body.classList.contains("dark");
  const remembered = () => { try { return localStorage.getItem("dca-theme"); } catch { return null; } };
  const setDark = (dark) => {
    document.body.classList.toggle("dark", dark);
    try { localStorage.setItem("dca-theme", dark ? "dark" : "light"); } catch { /* private window */ }
  };

  const openLinkedTab = () => {
    const wanted = new URLSearchParams(location.search).get("tab") || location.hash.slice(1);
    if (TABS.includes(wanted)) button(wanted)?.click();
  };
  const rememberTab = (name) => {
    const url = new URL(location.href);
    url.searchParams.set("tab", name);
    url.hash = "";
    history.replaceState(history.state, "", url);
  };

  const copy = async (text) => {
    try { return await navigator.clipboard.writeText(text); } catch { /* not a secure page */ }
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };

  // Which session this tab has. A tab that was duplicated has the storage of the other, and must not take its session
  // from it: the server gives one that is still in use to a reload alone.
  const storedToken = () => { try { return sessionStorage.getItem("dca-token") ?? ""; } catch { return ""; } };
  const keepToken = (token) => { try { sessionStorage.setItem("dca-token", token); } catch { /* private window */ } };
  window.dcaToken = () => {
    const [entry] = performance.getEntriesByType("navigation");
    return storedToken() && `${entry?.type ?? "navigate"} ${storedToken()}`;
  };
  const followToken = () => {
    const box = document.querySelector("#token textarea, #token input");
    if (box?.value && box.value !== storedToken()) keepToken(box.value);
  };
  setInterval(followToken, 500);

  let opener = null; // what opened the page beside the chat, and gets the focus back
  const closePage = () => {
    const cross = document.querySelector(".dh-viewer .dh-cross");
    cross?.click();
    return Boolean(cross);
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && closePage()) event.preventDefault();
    // Gradio's radios are each a group of their own to the browser, whose arrow keys then do nothing.
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const radio = step && event.target.closest?.("input[type=radio]");
    if (!radio) return;
    const group = [...radio.closest("fieldset, .block, .wrap").querySelectorAll("input[type=radio]")];
    const next = group[(group.indexOf(radio) + step + group.length) % group.length];
    event.preventDefault();
    next.click();
    next.focus();
  });

  const writeQuestion = (text) => {
    const box = document.querySelector("#question textarea");
    if (!box) return;
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    box.focus();
  };

  const followConversation = () => {
    const box = document.querySelector("#conversation");
    if (!box) return false;
    let atEnd = true;
    box.addEventListener("scroll", () => { atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 80; });
    new MutationObserver(() => { if (atEnd) box.scrollTop = box.scrollHeight; })
      .observe(box, { childList: true, subtree: true, characterData: true });
    return true;
  };

  // A finished answer is spoken: what Gradio draws anew is no live region that a screen reader follows.
  const speakAnswers = () => {
    const region = Object.assign(document.createElement("div"), { className: "dh-hidden", id: "spoken" });
    region.setAttribute("aria-live", "polite");
    document.querySelector(".gradio-container").append(region);
    let spoken = "";
    new MutationObserver(() => {
      const texts = [...document.querySelectorAll("#past .dh-turn:last-child .dh-answer")]
        .map((answer) => answer.querySelector(".dh-text, .dh-notice, .dh-stopped")?.textContent ?? "");
      const said = texts.join(". ");
      if (said && said !== spoken) region.textContent = `Answer: ${said}`;
      spoken = said;
    }).observe(document.querySelector("#past"), { childList: true, subtree: true });
  };

  document.addEventListener("click", (event) => {
    const found = event.target.closest(
      "[data-copy], [data-link], [data-question], [data-press], [data-act], [data-fold], .dh-zoom, #theme-toggle, [role=tab]");
    if (!found) return;
    if (found.dataset.press) return document.getElementById(found.dataset.press)?.click();
    if (found.dataset.fold) {
      found.setAttribute("aria-expanded", document.getElementById(found.dataset.fold).classList.toggle("dh-open"));
      return;
    }
    if (["cite", "look", "page"].includes(found.dataset.act)) {
      if (!found.closest(".dh-viewer")) opener = `[data-act=${found.dataset.act}][data-value="${CSS.escape(found.dataset.value)}"]`;
      return;
    }
    if (found.dataset.act === "close") {
      setTimeout(() => opener && document.querySelector(opener)?.focus(), 300);
      return;
    }
    if (found.classList.contains("dh-zoom")) {
      const large = found.closest(".dh-viewer").classList.toggle("dh-large");
      found.setAttribute("aria-pressed", large);
      found.textContent = large ? "−" : "+";
      return;
    }
    if (found.id === "theme-toggle") return setDark(!isDark());
    if (found.dataset.question !== undefined) return writeQuestion(found.dataset.question);
    const copied = found.dataset.copy ?? (found.dataset.link && new URL(found.dataset.link, location.href).href);
    if (copied !== undefined) {
      const label = found.textContent;
      copy(copied).then(() => {
        found.textContent = "Copied";
        setTimeout(() => { found.textContent = label; }, 1500);
      });
      return;
    }
    const name = TABS.find((tab) => found.id === `tab-${tab}-button`);
    if (name) rememberTab(name);
  });

  // A tab's contents are there only once it is open.
  const followLink = () => {
    const follow = document.getElementById("needle-follow");
    setTimeout(follow ? () => follow.click() : followLink, follow ? 300 : 100);
  };

  const start = () => {
    if (!button("chat") || !document.querySelector("#past") || !followConversation()) return void setTimeout(start, 100);
    if (remembered() && !new URLSearchParams(location.search).has("__theme")) setDark(remembered() === "dark");
    openLinkedTab();
    speakAnswers();
    const asked = new URLSearchParams(location.search);
    if (asked.get("tab") === "needle" && asked.has("lengths")) followLink();
  };
  start();
})();

// The pictures of positions: drawn from the data that the server sends; no distance is worked out here.
(() => {
  const NAMES = { a: "same chunk", s: "chunk before", i: "further back" };
  const colour = (element, name) => getComputedStyle(element).getPropertyValue(`--dh-${name}`).trim();

  const paint = (picture, canvas, data, at) => {
    const side = canvas.dataset.side, rows = data[side], n = data.length;
    const size = canvas.clientWidth, ratio = window.devicePixelRatio || 1;
    if (!size) return;
    canvas.width = canvas.height = Math.round(size * ratio);
    const g = canvas.getContext("2d");
    g.scale(ratio, ratio);
    const cell = size / n, gap = cell > 9 ? 1 : 0;
    const fills = { a: colour(picture, "intra"), s: colour(picture, "successive"), i: colour(picture, "inter"), u: colour(picture, "unseen") };
    const ink = colour(picture, "ink");
    g.textAlign = "center";
    g.textBaseline = "middle";
    g.font = `${Math.min(12, cell * 0.46)}px system-ui, sans-serif`;
    for (let i = 0; i < n; i++) for (let j = 0; j <= i; j++) {
      const distance = rows.distance[i][j];
      const unseen = distance >= data.trained;
      const x = j * cell, y = i * cell;
      const strength = unseen ? 0.9 : 1 - 0.7 * Math.min(1, distance / data.trained);
      g.globalAlpha = strength;
      g.fillStyle = unseen ? fills.u : fills[rows.relation[i][j]];
      g.fillRect(x, y, cell - gap, cell - gap);
      g.globalAlpha = 1;
      if (unseen && cell > 5) {
        g.strokeStyle = colour(picture, "card");
        g.beginPath();
        g.moveTo(x, y + cell - gap);
        g.lineTo(x + cell - gap, y);
        g.stroke();
      } else if (cell >= 17) {
        g.fillStyle = strength < 0.62 ? ink : rows.relation[i][j] === "s" ? "#10202b" : "#ffffff";
        g.fillText(distance, x + (cell - gap) / 2, y + (cell - gap) / 2);
      }
    }
    g.strokeStyle = colour(picture, "soft");
    g.setLineDash([3, 3]);
    if (side === "dca") for (let p = data.chunk; p < n; p += data.chunk) {
      g.beginPath(); g.moveTo(0, p * cell); g.lineTo(p * cell, p * cell); g.lineTo(p * cell, size); g.stroke();
    }
    g.setLineDash([]);
    if (at && at.j <= at.i) {
      g.lineWidth = 2;
      g.strokeStyle = colour(picture, "ink");
      g.strokeRect(at.j * cell, at.i * cell, cell - gap, cell - gap);
    }
  };

  const say = (picture, data, at) => {
    for (const line of picture.querySelectorAll("[data-says]")) {
      const side = line.dataset.says;
      if (!at || at.j > at.i) { line.textContent = at ? `query ${at.i} does not see key ${at.j}: it comes later` : "Point at a cell"; continue; }
      const distance = data[side].distance[at.i][at.j];
      const more = distance >= data.trained ? "never met in training" : side === "dca" ? NAMES[data.dca.relation[at.i][at.j]] : "as in training";
      line.textContent = `query ${at.i} sees key ${at.j} at distance ${distance}: ${more}`;
    }
  };

  window.dcaDrawPictures = (element) => {
    const picture = element.querySelector("[data-picture]");
    if (!picture) return;
    const data = JSON.parse(picture.dataset.picture);
    const canvases = [...picture.querySelectorAll("canvas")];
    let at = picture.dcaAt ?? null;
    const show = () => { picture.dcaAt = at; canvases.forEach((c) => paint(picture, c, data, at)); say(picture, data, at); };
    for (const canvas of canvases) {
      const limit = (value) => Math.max(0, Math.min(data.length - 1, value));
      canvas.onpointermove = canvas.onpointerdown = (event) => {
        const cell = canvas.clientWidth / data.length;
        at = { i: limit(Math.floor(event.offsetY / cell)), j: limit(Math.floor(event.offsetX / cell)) };
        show();
      };
      canvas.onkeydown = (event) => {
        const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (!step) return;
        event.preventDefault();
        at = at ? { i: limit(at.i + step[0]), j: limit(at.j + step[1]) } : { i: data.length - 1, j: 0 };
        show();
      };
    }
    show();
  };
  new MutationObserver(() => document.querySelectorAll("#picture").forEach(window.dcaDrawPictures))
    .observe(document.documentElement, { subtree: true, attributes: true, attributeFilter: ["class"], childList: false });
})();
