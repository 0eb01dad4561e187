// What the reader chooses, and what the page shows of it. `draw` is called once, when the page has a size.

const byId = (id) => document.getElementById(id);
const SECONDS_A_STEP = 0.05;
const SECONDS_A_STEP_REDUCED = 0.4; // with reduced motion
const QUIET = 500; // milliseconds without a change before the result is read aloud

// A number with the digits that the runner prints.
function exact(value) {
  if (!Number.isFinite(value)) return brief(value);
  const size = Math.abs(value);
  const text = value === 0 || (size >= 1e-4 && size < 1e9) ? value.toFixed(10) : value.toExponential(9);
  return text.replace('-', '−').replace('e−', 'e-');
}

const vector = (values) => (values.length === 1 ? exact(values[0]) : `(${values.map(exact).join(', ')})`);

async function draw(about) {
  const runs = new Runs(about);
  const range = decades(runs);
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const reduced = matchMedia('(prefers-reduced-motion: reduce)');
  const state = {
    language: (navigator.language || 'en').toLowerCase().startsWith('zh') ? 'zh' : 'en',
    rate: about.own_rate,
    momentum: about.own_momentum,
    slot: runs.kept - 1,
    timer: 0,
    isPredicting: false,
    guesses: new Map(), // by run
  };
  const say = (key) => WORDS[state.language][key];
  const tell = (key, values) => filled(say(key), values);
  const run = () => runs.index(state.rate, state.momentum);
  const isHidden = (one) => state.isPredicting && !state.guesses.has(one);
  const hasMomenta = runs.momenta.length > 1;

  // The entry that is shown: never after the run's end, and always one whose step before is kept.
  function slot() {
    if (isHidden(run())) return 0;
    const most = Math.min(state.slot, runs.end(run()));
    return most === runs.end(run()) ? most : runs.stops.findLast((one) => one <= most);
  }

  function command() {
    const steps = about.can_cut && slot() > 0 ? runs.step(run(), slot()) : about.total;
    return `${about.commands[state.momentum]} lr=${about.rate_texts[state.rate]} steps=${steps}`;
  }

  function showWords() {
    document.documentElement.lang = state.language;
    document.title = `${about.objective}: ${say('heading')}`;
    for (const element of document.querySelectorAll('[data-word]')) element.textContent = say(element.dataset.word);
    for (const name of ['again', 'back', 'on']) setButton(name, say(name));
    byId('language').textContent = say('other');
    byId('language').lang = state.language === 'en' ? 'zh' : 'en';
    byId('momentum-name').textContent = say(about.momentum_key === 'optimizer.betas' ? 'beta' : 'momentum');
    byId('map-heading').textContent = say(hasMomenta ? 'map' : 'mapOne');
    byId('map').setAttribute('aria-label', say('mapLabel'));
    byId('curvature').textContent = about.bounds.some((one) => one !== null)
      ? `${tell('curvature', { start: brief(about.curvature[0]), end: brief(about.curvature[1]) })} ${say('beyond')}` : '';
    byId('noisy').textContent = about.is_noisy ? say('noisy') : '';
    showLegend();
    byId('guesses').replaceChildren(...say('regions').map((name, region) => {
      const button = document.createElement('button');
      button.textContent = name;
      button.onclick = () => guess(region);
      return button;
    }));
  }

  // On a narrow screen only the signs of these buttons are shown.
  function setButton(name, word) {
    const shown = byId(name).querySelector('.word');
    if (shown.textContent === word) return;
    shown.textContent = word;
    byId(name).title = word;
  }

  function showLegend() {
    byId('legend').replaceChildren(...say('regions').map((name, region) => {
      const [item, sign, text] = ['li', 'canvas', 'span'].map((tag) => document.createElement(tag));
      text.textContent = tell('meaning', { name, meaning: say('regionHelp')[region] });
      sign.setAttribute('aria-hidden', 'true');
      item.append(sign, text);
      requestAnimationFrame(() => drawCell(prepared(sign).pen, region, 11, 9, 20, 18));
      return item;
    }));
  }

  // What the run did, in a sentence.
  function sentence() {
    if (isHidden(run())) return say('hidden');
    const region = runs.region(run());
    const values = { n: about.lasts[run()].toLocaleString(), end: brief(runs.loss(run(), runs.end(run())), 6) };
    if (region === DIVERGING && about.outcomes[run()] === 'DIVERGED') return tell('overflow', values);
    return filled(say('said')[region], values);
  }

  function showMoves(now) {
    const names = ['forward-text', 'loss-now', 'gradient-now', 'update-text', 'weight-now', 'update-rest'];
    const texts = Object.fromEntries(names.map((name) => [name, '']));
    byId('moves-heading').textContent = now === 0 ? say('movesStart') : tell('moves', { k: runs.step(run(), now).toLocaleString() });
    if (now > 0) {
      const [before, after, gradient] = [runs.weight(run(), now - 1), runs.weight(run(), now), runs.gradient(run(), now)];
      texts['forward-text'] = tell('is', { w: before.map(exact).join(', ') });
      texts['loss-now'] = exact(runs.loss(run(), now));
      texts['gradient-now'] = vector(gradient);
      texts['weight-now'] = vector(after);
      texts['update-text'] = updateText(before, after, gradient, now);
      if (about.updates[state.momentum] === 'ball') texts['update-rest'] = tell('ballKeeps', { m: brief(runs.momenta[state.momentum]) });
    } else {
      texts['weight-now'] = vector(runs.weight(run(), 0));
    }
    for (const name of names) byId(name).textContent = texts[name];
    const thinned = runs.kept < about.total + 1
      ? tell('thinned', { first: (about.steps[runs.stops.findIndex((one, place) => one !== place) - 1] ?? 0).toLocaleString(), n: about.total.toLocaleString() }) : '';
    byId('moves-note').textContent = [about.in_plane ? say('planeNumbers') : '', thinned].join(' ').trim();
  }

  function updateText(before, after, gradient, now) {
    const lr = brief(runs.rateAt(run(), now), 10);
    const kind = about.updates[state.momentum];
    if (kind === 'plain') return tell('plainUpdate', { w: vector(before), lr, g: vector(gradient) });
    if (kind === 'ball') return tell('ballUpdate', { w: vector(before), lr });
    const change = after.map((one, axis) => one - before[axis]);
    if (change.length > 1) return tell('otherUpdate', { w: vector(before), sign: '+', change: vector(change) });
    const sign = change[0] < 0 ? '−' : '+';
    return tell('otherUpdate', { w: vector(before), sign, change: exact(Math.abs(change[0])) });
  }

  function showBorder() {
    if ([...runs.rates.keys()].some((one) => isHidden(runs.index(one, state.momentum)))) {
      byId('border').textContent = say('hidden');
      return;
    }
    const [border, bound, momentum] = [about.borders[state.momentum], about.bounds[state.momentum], runs.momenta[state.momentum]];
    const values = { m: brief(momentum), low: border && brief(border[0]), high: border && brief(border[1]) };
    const measured = border ? tell(momentum === null ? 'borderPlain' : 'border', values) : say('noBorder');
    const theory = bound === null ? '' : tell(momentum ? 'boundBall' : 'bound', { bound: brief(bound) });
    byId('border').textContent = `${measured} ${theory}`;
  }

  function showQuestion() {
    const [right, all] = [[...state.guesses].filter(([one, region]) => runs.region(one) === region).length, state.guesses.size];
    const isAsking = isHidden(run());
    const momentum = runs.momenta[state.momentum];
    const values = { lr: about.rate_texts[state.rate], m: brief(momentum), n: about.total.toLocaleString() };
    const names = say('regions');
    if (!state.isPredicting) byId('question').textContent = say('predictHelp');
    else if (isAsking) byId('question').textContent = tell(momentum === null ? 'questionPlain' : 'question', values);
    else {
      const [guessed, region] = [state.guesses.get(run()), runs.region(run())];
      byId('question').textContent = guessed === region ? tell('right', { region: names[region] })
        : tell('wrong', { guess: names[guessed], region: names[region] });
    }
    for (const button of byId('guesses').children) button.disabled = !isAsking;
    byId('guesses').hidden = !state.isPredicting;
    byId('stop').hidden = !state.isPredicting;
    byId('begin').textContent = say(state.isPredicting ? 'another' : 'begin');
    byId('score').textContent = state.isPredicting && all > 0 ? tell('score', { right, all }) : '';
  }

  function showFigures(now) {
    const { level, hasLeft } = drawField(byId('field'), runs, run(), now, say);
    const zoom = level > 0 ? tell('zoomed', { n: brief(about.zoom ** level) }) : '';
    const title = say(runs.size === 1 ? 'field1' : 'field2');
    const note = [title, about.in_plane ? tell('plane', { n: about.dimension }) : '', zoom, hasLeft ? say('left') : ''];
    byId('field-note').textContent = note.filter((one) => one !== '').join(' ');
    byId('field').setAttribute('aria-label', byId('field-note').textContent);
    const lossKey = range === null ? 'loss' : about.maximizes ? 'lossBelow' : about.is_known ? 'lossAbove' : 'lossBest';
    byId('loss-note').textContent = tell(lossKey, { lowest: brief(about.lowest, 6) });
    byId('loss').setAttribute('aria-label', `${byId('loss-note').textContent}. ${sentence()}`);
    if (isHidden(run())) drawQuestionMark(byId('loss'));
    else drawLoss(byId('loss'), runs, run(), now, range, say);
    const known = `${state.isPredicting} ${state.guesses.size}`;
    drawStrip(byId('strip'), runs, state.momentum, isHidden, known);
    drawMap(byId('map'), runs, state, isHidden, known, say);
  }

  function drawQuestionMark(canvas) {
    const { pen, width, height } = prepared(canvas);
    pen.strokeStyle = colour('line');
    pen.strokeRect(0.5, 0.5, width - 1, height - 1);
    pen.fillStyle = colour('soft');
    [pen.font, pen.textAlign, pen.textBaseline] = ['3rem system-ui, sans-serif', 'center', 'middle'];
    pen.fillText('?', width / 2, height / 2);
  }

  let lastSaid = 0;
  function show() {
    const now = slot();
    const stops = runs.stops.filter((one) => one <= runs.end(run()));
    byId('rate').value = state.rate;
    byId('rate-shown').textContent = about.rate_texts[state.rate];
    byId('rate').setAttribute('aria-valuetext', about.rate_texts[state.rate]);
    byId('momentum').value = state.momentum;
    byId('step').max = stops.length - 1;
    byId('step').value = stops.indexOf(now);
    const steps = tell('of', { k: runs.step(run(), now).toLocaleString(), n: about.total.toLocaleString() });
    byId('step-shown').textContent = steps;
    byId('step').setAttribute('aria-valuetext', steps);
    for (const id of ['step', 'back', 'on', 'play', 'again']) byId(id).disabled = isHidden(run());
    setButton('play', say(state.timer ? 'pause' : 'play'));
    byId('play').querySelector('.sign').textContent = state.timer ? '❚❚' : '▶▶';
    byId('play').setAttribute('aria-pressed', String(state.timer !== 0));
    byId('said').textContent = sentence();
    clearTimeout(lastSaid);
    lastSaid = setTimeout(() => { byId('live').textContent = byId('said').textContent; }, QUIET);
    showMoves(now);
    showBorder();
    showQuestion();
    byId('command').textContent = command();
    showFigures(now);
  }

  // Input events may come faster than the screen shows them.
  let isAwaited = false;
  function showSoon() {
    if (isAwaited) return;
    isAwaited = true;
    requestAnimationFrame(() => {
      isAwaited = false;
      show();
    });
  }

  function choose(rate, momentum) {
    state.rate = Math.max(0, Math.min(runs.rates.length - 1, rate));
    state.momentum = Math.max(0, Math.min(runs.momenta.length - 1, momentum));
    showSoon();
  }

  function pause() {
    clearInterval(state.timer);
    state.timer = 0;
  }

  function stepBy(count) {
    const stops = runs.stops.filter((one) => one <= runs.end(run()));
    const place = stops.indexOf(slot()) + count;
    state.slot = stops[Math.max(0, Math.min(stops.length - 1, place))];
    if (place >= stops.length - 1) pause();
    showSoon();
  }

  function play() {
    if (state.timer) {
      pause();
    } else if (!isHidden(run())) {
      if (slot() === runs.end(run())) state.slot = 0;
      state.timer = setInterval(() => stepBy(1), 1000 * (reduced.matches ? SECONDS_A_STEP_REDUCED : SECONDS_A_STEP));
    }
    showSoon();
  }

  function guess(region) {
    state.guesses.set(run(), region);
    state.slot = runs.kept - 1;
    showSoon();
    byId('begin').focus();
  }

  // Chooses a run that has not been guessed yet: first a region, then a run of it, so that none is rare.
  function ask() {
    pause();
    state.isPredicting = true;
    const left = [...Array(runs.count).keys()].filter((one) => !state.guesses.has(one));
    const regions = [...new Set(left.map((one) => runs.region(one)))];
    const wanted = regions[Math.floor(Math.random() * regions.length)];
    const among = left.filter((one) => runs.region(one) === wanted);
    const chosen = among[Math.floor(Math.random() * among.length)] ?? run();
    choose(chosen % runs.rates.length, Math.floor(chosen / runs.rates.length));
    byId('guesses').hidden = false;
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText(byId('command').textContent);
      byId('copy').textContent = say('copied');
    } catch {
      getSelection().selectAllChildren(byId('command'));
      byId('copy').textContent = document.execCommand('copy') ? say('copied') : say('copyFailed');
    }
    setTimeout(() => { byId('copy').textContent = say('copy'); }, 1500);
  }

  function chooseOnMap(event) {
    const [layout, place] = [mapLayout(byId('map'), runs), byId('map').getBoundingClientRect()];
    choose(layout.column(event.clientX - place.left), layout.row(event.clientY - place.top));
  }

  function onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const isOnMap = event.target === byId('map');
    if (!isOnMap && event.target.closest('input, select, button, summary, a')) return;
    const moves = isOnMap ? {
      ArrowLeft: () => choose(state.rate - 1, state.momentum),
      ArrowRight: () => choose(state.rate + 1, state.momentum),
      ArrowUp: () => choose(state.rate, state.momentum + 1),
      ArrowDown: () => choose(state.rate, state.momentum - 1),
    } : {
      ArrowLeft: () => stepBy(-1),
      ArrowRight: () => stepBy(1),
      ArrowUp: () => choose(state.rate + 1, state.momentum),
      ArrowDown: () => choose(state.rate - 1, state.momentum),
      ' ': play,
      Home: () => stepBy(-runs.kept),
      End: () => stepBy(runs.kept),
    };
    if (!(event.key in moves)) return;
    if (isHidden(run()) && !isOnMap && !event.key.startsWith('Arrow')) return;
    event.preventDefault();
    moves[event.key]();
  }

  byId('objective').textContent = about.objective;
  byId('rule').textContent = about.rule;
  byId('rate').max = runs.rates.length - 1;
  byId('momentum').append(...runs.momenta.map((value, place) => new Option(brief(value), place)));
  byId('momentum-line').hidden = !hasMomenta;
  byId('map').style.height = hasMomenta ? '' : '5rem';
  byId('rate').oninput = () => choose(Number(byId('rate').value), state.momentum);
  byId('momentum').onchange = () => choose(state.rate, Number(byId('momentum').value));
  byId('step').oninput = () => {
    pause();
    state.slot = runs.stops.filter((one) => one <= runs.end(run()))[Number(byId('step').value)];
    showSoon();
  };
  byId('back').onclick = () => { pause(); stepBy(-1); };
  byId('on').onclick = () => { pause(); stepBy(1); };
  byId('again').onclick = () => { pause(); stepBy(-runs.kept); };
  byId('play').onclick = play;
  byId('begin').onclick = ask;
  byId('stop').onclick = () => { state.isPredicting = false; showSoon(); };
  byId('copy').onclick = copy;
  byId('map').onpointerdown = chooseOnMap;
  byId('map').onpointermove = (event) => { if (event.buttons === 1) chooseOnMap(event); };
  byId('language').onclick = () => {
    state.language = state.language === 'en' ? 'zh' : 'en';
    showWords();
    show();
  };
  addEventListener('keydown', onKey);
  dark.onchange = () => { forgetColours(); showLegend(); show(); };
  new ResizeObserver(showSoon).observe(document.documentElement);
  showWords();
  show();
}
