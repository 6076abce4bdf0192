// How messages flow: from topics and events through rules to actions and their connectors.
import * as api from '../api';
import { count } from '../format';
import { Page, Panel } from '../parts/page';
import { Empty, Fetched } from '../parts/state';
import { usePoll } from '../poll';
import { href } from '../router';
import { actionName } from './rules';

interface Node {
  key: string;
  title: string;
  sub: string;
  column: number;
  tone: '' | 'bad' | 'warn';
  href: string;
}
interface Edge {
  from: string;
  to: string;
  amount: number;
  bad: boolean;
}

const COLUMNS = ['Topics and events', 'Rules', 'Actions', 'Systems'];
const WIDTH = 1120;
const BOX = 214;
const HEIGHT = 40;
const GAP = 14;
const TOP = 30;

function graph(rules: readonly api.Rule[], actions: readonly api.Action[]): { nodes: Node[]; edges: Edge[] } {
  const nodes = new Map<string, Node>();
  const edges: Edge[] = [];
  const put = (node: Node): void => {
    if (!nodes.has(node.key)) nodes.set(node.key, node);
  };
  const states = new Map(actions.map((action) => [action.name, action]));
  for (const rule of rules) {
    const failing = rule.metrics['failed.exception'] > 0;
    put({ key: `r ${rule.id}`, title: rule.name, sub: rule.enable ? `${count(rule.metrics.matched)} matched, ${count(rule.metrics.passed)} passed` : 'off', column: 1, tone: failing ? 'warn' : '', href: href('rules', rule.id) });
    for (const from of rule.from) {
      put({ key: `f ${from}`, title: from, sub: from.startsWith('$events/') ? 'event' : from.startsWith('$sources/') ? 'source' : 'topic', column: 0, tone: '', href: from.startsWith('$') ? '#/rules' : `#/topics?q=${encodeURIComponent(from)}` });
      edges.push({ from: `f ${from}`, to: `r ${rule.id}`, amount: rule.metrics.matched / rule.from.length, bad: false });
    }
    for (const action of rule.actions) {
      const name = actionName(action);
      const state = states.get(name);
      const bad = state?.status === 'disconnected' || state?.status === 'retrying';
      const sub = state ? `${state.status}${state.ledger.pending > 0 ? `, ${count(state.ledger.pending)} wait` : ''}${state.dead_letters > 0 ? `, ${state.dead_letters} dead` : ''}` : 'function of the rule';
      put({ key: `a ${name}`, title: name, sub, column: 2, tone: bad ? 'bad' : state && (state.dead_letters > 0 || state.status === 'paused') ? 'warn' : '', href: state ? href('actions', name) : href('rules', rule.id) });
      edges.push({ from: `r ${rule.id}`, to: `a ${name}`, amount: rule.metrics['actions.success'] / rule.actions.length, bad });
      if (state) {
        put({ key: `c ${state.connector}`, title: state.connector, sub: state.type, column: 3, tone: bad ? 'bad' : '', href: '#/connectors' });
        if (!edges.some((edge) => edge.from === `a ${name}` && edge.to === `c ${state.connector}`)) edges.push({ from: `a ${name}`, to: `c ${state.connector}`, amount: state.ledger.delivered, bad });
      }
    }
  }
  return { nodes: [...nodes.values()], edges };
}

const cut = (text: string, length = 30): string => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

function Picture({ rules, actions }: { rules: readonly api.Rule[]; actions: readonly api.Action[] }) {
  const { nodes, edges } = graph(rules, actions);
  const columns = COLUMNS.map((_, column) => nodes.filter((node) => node.column === column));
  const rows = Math.max(...columns.map((column) => column.length));
  const height = TOP + rows * (HEIGHT + GAP) + 4;
  const places = new Map<string, { x: number; y: number }>();
  columns.forEach((column, i) => {
    const offset = TOP + ((rows - column.length) * (HEIGHT + GAP)) / 2;
    column.forEach((node, row) => places.set(node.key, { x: 2 + (i * (WIDTH - BOX - 4)) / (COLUMNS.length - 1), y: offset + row * (HEIGHT + GAP) }));
  });
  const most = Math.max(1, ...edges.map((edge) => edge.amount));
  return (
    <svg class="flow" viewBox={`0 0 ${WIDTH} ${height}`} style={{ maxHeight: `${height * 1.25}px` }} role="img" aria-label="Topics, rules, actions and systems, and what flows between them">
      {COLUMNS.map((title, i) => (
        <text key={title} class="col" x={2 + (i * (WIDTH - BOX - 4)) / (COLUMNS.length - 1)} y={14}>{title}</text>
      ))}
      {edges.map((edge) => {
        const a = places.get(edge.from);
        const b = places.get(edge.to);
        if (!a || !b) return null;
        const [x1, y1, x2, y2] = [a.x + BOX, a.y + HEIGHT / 2, b.x, b.y + HEIGHT / 2];
        const bend = (x2 - x1) / 2;
        const width = edge.amount > 0 ? 1.2 + 4 * (Math.log10(edge.amount + 1) / Math.log10(most + 1)) : 1;
        return <path key={`${edge.from} ${edge.to}`} class={`edge ${edge.bad ? 'bad' : edge.amount > 0 ? 'live' : ''}`} d={`M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`} stroke-width={width} stroke-dasharray={edge.bad ? '5 4' : undefined} />;
      })}
      {nodes.map((node) => {
        const at = places.get(node.key);
        if (!at) return null;
        return (
          <a key={node.key} href={node.href} aria-label={`${node.title}: ${node.sub}`}>
            <title>{`${node.title}\n${node.sub}`}</title>
            <g class={`node ${node.tone}`} transform={`translate(${at.x},${at.y})`}>
              <rect width={BOX} height={HEIGHT} rx={5} />
              <text x={10} y={17}>{cut(node.title)}</text>
              <text class="sub" x={10} y={32}>{cut(node.sub, 36)}</text>
            </g>
          </a>
        );
      })}
    </svg>
  );
}

export function Flow() {
  const found = usePoll(async (signal) => {
    const [rules, actions] = await Promise.all([api.rules(signal), api.actions(signal)]);
    return { rules: rules.data, actions };
  }, 3000);
  return (
    <Page title="Flow" tools={<a class="btn" href="#/rules">Rules</a>}>
      <p class="lead">What each rule reads and where its rows go. Lines are the thicker the more has gone along them since the start; dashed red ones lead to a sink that does not take what comes.</p>
      <Panel body>
        <Fetched of={found}>{({ rules, actions }) => (rules.length === 0 ? <Empty title="No rules yet">With the first rule this page shows what it reads and where it leads.</Empty> : <Picture rules={rules} actions={actions} />)}</Fetched>
      </Panel>
    </Page>
  );
}
