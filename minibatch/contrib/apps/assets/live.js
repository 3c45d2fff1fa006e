// The live page: figures come as server-sent events, windows are asked for while somebody looks at them.
import {Chart, SPAN} from './charts.js';

const AT = document.body.dataset.at;
const POLL = 3000, RECENT = 2000;
const SERIES = ['appended', 'committed', 'backlog'];
const $ = (selector, root = document) => root.querySelector(selector);
const whole = new Intl.NumberFormat('en');
const one = new Intl.NumberFormat('en', {maximumFractionDigits: 1});
const cards = new Map();
let acts = false, tells = true, token = sessionStorage.getItem('minibatch-token') || '', first = true, last = null;

// -- how things are written

const count = (value) => value == null ? '–' : whole.format(value);
const rate = (value) => value == null ? '–' : one.format(value);
function seconds(value) {
  if (value == null) return '–';
  if (value === 0) return '0 s';
  if (value < 1) return value < 0.01 ? `${(value * 1000).toFixed(1)} ms` : `${Math.round(value * 1000)} ms`;
  if (value < 120) return `${one.format(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return `${one.format(value / 3600)} h`;
}
const clock = (iso) => iso ? new Date(iso).toLocaleTimeString() : '–';

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text != null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Write only what has changed: a screen reader's place, a selection and the focus stay. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function say(text, bad = false) {
  $('#said').className = bad ? 'bad' : '';
  $('#said').textContent = text;
}

/** Let *parent* have one child for each item, in their order; those that are there are kept. */
function reconcile(parent, items, key, create, update) {
  const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let after = null;
  for (const item of items) {
    const name = String(key(item));
    let child = there.get(name);
    if (child) there.delete(name);
    else {
      child = create(item);
      child.dataset.key = name;
    }
    update(child, item);
    const next = after ? after.nextSibling : parent.firstChild;
    if (child !== next) parent.insertBefore(child, next);
    after = child;
  }
  for (const child of there.values()) child.remove();
}

function cells(row, texts) {
  while (row.children.length < texts.length) row.append(make(row.children.length ? 'td' : 'th'));
  row.firstChild.scope = 'row';
  texts.forEach((text, at) => write(row.children[at], text));
}

// -- a stream

class Card {
  constructor(name, history) {
    this.name = name;
    this.element = $('#card').content.firstElementChild.cloneNode(true);
    this.element.dataset.stream = name;
    $('h2', this.element).textContent = name;
    this.recall(history);
    this.rates = new Chart($('.rates', this.element), [
      {label: 'appended', stroke: '--in'}, {label: 'committed', stroke: '--out', dash: [6, 3]}]);
    this.backlog = new Chart($('.backlog', this.element), [{label: 'backlog', stroke: '--in'}]);
    for (const details of [this.part('windows'), this.part('dead')]) {
      details.addEventListener('toggle', () => details.open && this.refresh());
    }
    $('.redrive-all', this.element).addEventListener('click', () => {
      const ids = [...$('ul', this.part('dead')).children].map((each) => each.dataset.key);
      this.act('redrive', ids);
    });
  }

  /** Take the last minutes as the server knows them. */
  recall(history) {
    this.past = [history?.at ?? [], ...SERIES.map((each) => history?.[each] ?? [])];
  }

  part(name) { return $(`details.${name}`, this.element); }

  show(at, figures) {
    const values = {...figures, ...figures.latency, 'rate-appended': figures.rates.appended,
      'rate-committed': figures.rates.committed};
    for (const place of this.element.querySelectorAll('[data-figure]')) {
      const name = place.dataset.figure, value = values[name];
      const form = /^p\d\d$|^lag$/.test(name) ? seconds : name.startsWith('rate-') ? rate : count;
      write(place, form(value));
      place.dataset.value = value ?? '';
      place.classList.toggle('bad', name === 'dead' && value > 0);
    }
    this.badges(figures);
    if (at > (this.past[0].at(-1) ?? 0)) {
      [at, figures.rates.appended, figures.rates.committed, figures.backlog].forEach((value, column) =>
        this.past[column].push(value));
      while (this.past[0][0] < at - SPAN) this.past.forEach((column) => column.shift());
    }
    this.draw(figures);
    this.consumers(figures);
    write($('.count', this.part('dead')), count(figures.dead));
  }

  badges(figures) {
    const alive = figures.consumers.length, parts = [
      [alive ? `${alive} consumer${alive > 1 ? 's' : ''}` : 'no consumer', !alive && figures.backlog > 0]];
    if (figures.lost.length) parts.push([`${figures.lost.length} lost in the last hour`, true]);
    if (figures.dead) parts.push([`${count(figures.dead)} dead window${figures.dead > 1 ? 's' : ''}`, true]);
    reconcile($('.badges', this.element), parts, (each) => parts.indexOf(each), () => make('span'), (span, [text, bad]) => {
      write(span, (span.dataset.key === '0' ? '' : ' · ') + text);
      span.className = bad ? 'bad' : '';
    });
  }

  draw(figures) {
    const [at, appended, committed, backlog] = this.past;
    this.rates.show([at, appended, committed]);
    this.backlog.show([at, backlog]);
    const most = (column) => Math.max(0, ...column.filter((each) => each != null));
    $('.rates', this.element).setAttribute('aria-label', `Messages a second in the last five minutes: appended ${
      rate(figures.rates.appended)} now, ${rate(most(appended))} at the most; committed ${
      rate(figures.rates.committed)} now, ${rate(most(committed))} at the most`);
    $('.backlog', this.element).setAttribute('aria-label', `Backlog in the last five minutes: ${
      figures.counted ? '' : 'about '}${count(figures.backlog)} messages now, ${count(most(backlog))} at the most`);
  }

  consumers(figures) {
    const details = this.part('consumers'), all = [
      ...figures.consumers, ...figures.lost.map((each) => ({...each, lost: true}))];
    write($('.count', details), count(figures.consumers.length));
    $('.empty', details).hidden = figures.consumers.length > 0;
    $('.scroll', details).hidden = !all.length;
    reconcile($('tbody', details), all, (each) => each.id, () => make('tr'), (row, each) => {
      row.className = each.lost ? 'lost' : '';
      cells(row, [String(each.host), String(each.pid), count(each.workers), each.lost ? '–' : rate(each.rate),
        clock(each.started), `${seconds(each.silent)} ago${each.lost ? ', lost' : ''}`]);
    });
  }

  async refresh() {
    if (!this.part('windows').open && !this.part('dead').open) return;
    const answer = await ask(`windows?stream=${encodeURIComponent(this.name)}`);
    if (!answer) return;
    this.windows(answer.windows);
    this.dead(answer.dead);
  }

  windows(windows) {
    const details = this.part('windows');
    $('.empty', details).hidden = windows.length > 0;
    $('.scroll', details).hidden = !windows.length;
    reconcile($('tbody', details), windows, (each) => each.id, (each) => {
      const row = make('tr'), head = make('th', null, {scope: 'row'});
      head.append(this.opener(each.id));
      row.append(head, ...Array.from({length: 4}, () => make('td')));
      return row;
    }, (row, each) => [each.state, count(each.n), count(each.attempt), clock(each.created)].forEach(
      (text, at) => write(row.children[at + 1], text)));
  }

  opener(id) {
    if (!tells) return make('span', id);
    const button = make('button', id, {type: 'button', class: 'link', 'aria-haspopup': 'dialog'});
    button.addEventListener('click', () => this.open(id));
    return button;
  }

  dead(windows) {
    const details = this.part('dead');
    $('.empty', details).hidden = windows.length > 0;
    $('.acts', details).hidden = !acts || windows.length < 2;
    reconcile($('ul', details), windows, (each) => each.id, (each) => this.deadWindow(each), (item, each) => {
      write($('.facts', item), ` · ${count(each.n)} message${each.n === 1 ? '' : 's'}, ${count(each.attempt)} attempt${
        each.attempt === 1 ? '' : 's'}, cut at ${clock(each.created)}${each.failed ? `, failed at ${clock(each.failed)}` : ''}`);
      $('.acts', item).hidden = !acts;
    });
  }

  deadWindow(each) {
    const item = make('li'), title = make('div'), buttons = make('p', null, {class: 'acts'});
    title.append(this.opener(each.id), make('span', '', {class: 'facts'}));
    item.append(title);
    if (each.error) item.append(make('p', each.error, {class: 'error'}));
    if (each.traceback) {
      const details = make('details');
      details.append(make('summary', 'Traceback'), make('pre', each.traceback, {tabindex: '0'}));
      item.append(details);
    }
    for (const [verb, label] of [['redrive', 'Redrive'], ['drop', 'Drop']]) {
      const button = make('button', label, {type: 'button', 'aria-label': `${label} window ${each.id}`});
      if (verb === 'drop') button.className = 'danger';
      button.addEventListener('click', () => this.act(verb, [each.id]));
      buttons.append(button);
    }
    item.append(buttons);
    return item;
  }

  async act(verb, ids) {
    if (!token) {
      say('Give the token first: it is asked for at the top of the page.', true);
      $('#token').focus();
      return;
    }
    if (verb === 'drop' && !confirm(`Drop window ${ids.join(', ')} and its messages for good?`)) return;
    const answer = await ask(verb, {method: 'POST', body: JSON.stringify({stream: this.name, windows: ids}),
      headers: {'Content-Type': 'application/json', Authorization: `Bearer ${token}`}});
    if (!answer) return;
    const n = answer.redriven ?? answer.dropped, done = verb === 'drop' ? 'dropped' : 'redriven';
    say(n ? `${n} window${n > 1 ? 's' : ''} of ${this.name} ${done}.` : 'It was not dead any more; nothing has changed.');
    this.refresh();
    $('summary', this.part('dead')).focus();
  }

  async open(id) {
    const found = await ask(`window?stream=${encodeURIComponent(this.name)}&id=${encodeURIComponent(id)}`);
    if (!found) return;
    const dialog = $('#window');
    $('h2', dialog).textContent = `Window ${found.id}`;
    $('.facts', dialog).textContent = [found.state, `${count(found.n)} messages`, found.key && `key ${found.key}`,
      `from ${clock(found.start)} to ${clock(found.end)}`, `attempt ${found.attempt}`,
      found.messages.length < found.n && `the first ${found.messages.length} are shown`].filter(Boolean).join(' · ');
    $('.messages', dialog).replaceChildren(...found.messages.map((text) => {
      const item = make('li');
      item.append(make('code', text));
      return item;
    }));
    dialog.showModal();
  }
}

// -- asking

async function ask(what, options) {
  try {
    const answer = await fetch(AT + what, options);
    const content = await answer.json();
    if (answer.ok) return content;
    if (answer.status === 401) {
      token = '';
      sessionStorage.removeItem('minibatch-token');
      lock();
    }
    say(answer.status === 401 ? 'This token is not valid; nothing was changed.' : content.error, true);
  } catch {
    say('The app does not answer; it is asked again.', true);
  }
  return null;
}

function connection(state, text) {
  $('#connection').dataset.state = state;
  write($('#connection .text'), text);
}

/** Show what came. */
function show(event, history = {}) {
  if (!event) return;
  last = event;
  const names = Object.keys(event.streams);
  write($('#when'), `at ${new Date(event.at * 1000).toLocaleTimeString()}`);
  $('#none').hidden = names.length > 0 || Boolean(event.error);
  $('#more').hidden = !event.more;
  write($('#more'), event.more ? `and ${count(event.more)} more streams, which are not shown` : '');
  troubles(event);
  for (const [name, card] of cards) {
    if (!(name in event.streams)) {
      card.element.remove();
      cards.delete(name);
    }
  }
  for (const name of names) {
    if (!cards.has(name)) cards.set(name, new Card(name, history[name]));
  }
  reconcile($('#streams'), names, (name) => name, (name) => cards.get(name).element, (_, name) => {
    cards.get(name).show(event.at, event.streams[name]);
  });
  reconcile($('#summary tbody'), names, (name) => name, (name) => {
    const row = make('tr'), head = make('th', null, {scope: 'row'}), button = make('button', name, {
      type: 'button', class: 'link'});
    button.addEventListener('click', () => {
      $('h2', cards.get(name).element).focus();
      cards.get(name).element.scrollIntoView({block: 'start'});
    });
    head.append(button);
    row.append(head, ...Array.from({length: 7}, () => make('td')));
    return row;
  }, (row, name) => {
    const each = event.streams[name];
    [rate(each.rates.appended), rate(each.rates.committed), (each.counted ? '' : '≈ ') + count(each.backlog), seconds(each.lag),
      seconds(each.latency.p99), count(each.dead), count(each.consumers.length)].forEach(
      (text, at) => write(row.children[at + 1], text));
  });
  document.body.dataset.event = String(event.at);
  if (first && names.length) {
    first = false;
    performance.mark('figures');
  }
}

function troubles(event) {
  const found = event.error ? [`No word from MongoDB: ${event.error}. The figures are the last ones that were seen.`] : [];
  for (const each of event.consumers) {
    if (each.state === 'running' || (each.state === 'starting' && !each.error)) continue;
    found.push(`Consumer ${each.name} is ${each.state}, restarted ${each.restarts} times${
      each.error ? `; the last time it ended with: ${each.error}` : ''}`);
  }
  $('#troubles').hidden = !found.length;
  reconcile($('#troubles ul'), found, (each) => each, (each) => make('li', each), () => {});
}

let source = null, polling = false;
function listen() {
  if (source) return;
  source = new EventSource(AT + 'events');
  source.onopen = () => connection('live', 'live');
  source.onmessage = (message) => {
    connection('live', 'live');
    show(JSON.parse(message.data));
  };
  source.onerror = () => {
    connection('lost', 'not connected');
    if (source.readyState !== EventSource.CLOSED || polling) return; // it tries again by itself
    polling = true;
    poll(); // too many pages listen, or something between here and the app takes no events
  };
}

async function poll() {
  try {
    const state = await (await fetch(AT + 'state')).json();
    connection('live', `every ${POLL / 1000} s`);
    show(state.event);
  } catch {
    connection('lost', 'not connected');
  }
  setTimeout(poll, POLL);
}

// -- the token

function lock() {
  $('#unlock').hidden = !acts || Boolean(token);
  $('#read-only').hidden = acts && !token;
  write($('#read-only'), acts ? 'unlocked: you may redrive and drop' : 'read only');
}

$('#unlock').addEventListener('submit', (submit) => {
  submit.preventDefault();
  token = $('#token').value.trim();
  if (!token) return;
  sessionStorage.setItem('minibatch-token', token);
  $('#token').value = '';
  lock();
  say('Unlocked: dead windows can be redriven and dropped.');
});

setInterval(() => {
  if (document.visibilityState === 'visible') cards.forEach((card) => card.refresh());
}, RECENT);

/** Begin with the last minutes, then go on with what comes. */
async function begin() {
  const state = await ask('state');
  if (state) {
    acts = state.acts;
    tells = state.data;
    for (const [name, card] of cards) card.recall(state.history[name]);
    show(state.event, state.history);
  }
  lock();
  if (!polling && document.visibilityState === 'visible') listen();
}

// A page that nobody sees does not listen: a browser has few connections to one server, for all its tabs.
document.addEventListener('visibilitychange', () => {
  if (polling) return;
  source?.close();
  source = null;
  if (document.visibilityState === 'visible') begin();
});

await begin();
