// Lines over time, by uPlot. One canvas for each chart; data is replaced, not drawn anew.
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { colour, theme } from '../theme';

export interface Series {
  name: string;
  values: readonly (number | null)[];
  /** The name of a colour of the design. */
  colour: string;
}

interface Props {
  label: string;
  /** Milliseconds since 1970. */
  times: readonly number[];
  series: readonly Series[];
  format: (value: number) => string;
  height?: number;
  /** Whole numbers only. */
  whole?: boolean;
  /** What to say while there is nothing. */
  empty?: string;
}

const WHOLE = [1, 2, 5].flatMap((n) => [n, n * 10, n * 100, n * 1e3, n * 1e4, n * 1e5, n * 1e6, n * 1e7, n * 1e8]).sort((a, b) => a - b);
/** Steps between times: seconds to a day. */
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400];
const FONT = '11px "IBM Plex Sans Variable", sans-serif';

function options(props: Props, width: number): uPlot.Options {
  const axis = { stroke: colour('ink-3'), font: FONT, ticks: { show: false }, grid: { stroke: colour('line'), width: 1 } };
  return {
    width,
    height: props.height ?? 170,
    padding: [10, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, sync: { key: 'time' } },
    scales: { y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.12 : 10] } },
    axes: [
      { ...axis, grid: { show: false }, size: 24, space: 70, incrs: SECONDS, values: (_u, ticks) => ticks.map((tick) => new Date(tick * 1000).toTimeString().slice(0, 8)) },
      { ...axis, size: 52, space: 34, ...(props.whole && { incrs: WHOLE }), values: (_u, ticks) => ticks.map((tick) => props.format(tick)) },
    ],
    series: [
      {},
      ...props.series.map(
        (series, i): uPlot.Series => ({
          label: series.name,
          stroke: colour(series.colour),
          width: 1.6,
          spanGaps: true,
          fill: i === 0 && props.series.length <= 2 ? `color-mix(in srgb, ${colour(series.colour)} 12%, transparent)` : undefined,
          points: { show: false },
        }),
      ),
    ],
  };
}

function data(props: Props): uPlot.AlignedData {
  return [props.times.map((time) => time / 1000), ...props.series.map((series) => [...series.values])];
}

export function Chart(props: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const legend = useRef<HTMLDivElement>(null);
  const { label, times, series, height = 170, empty = 'Waiting for the second sample' } = props;
  const ready = times.length > 1;
  const shape = `${theme.value} ${series.map((one) => one.name + one.colour).join()} ${ready}`;
  const latest = useRef(props);
  latest.current = props;

  useEffect(() => {
    const box = holder.current;
    if (!box || !ready) return undefined;
    const show = (u: uPlot): void => {
      const at = u.cursor.idx ?? (u.data[0]?.length ?? 1) - 1;
      legend.current?.querySelectorAll('b').forEach((cell, i) => {
        const value = u.data[i + 1]?.[at];
        cell.textContent = value === null || value === undefined ? '–' : latest.current.format(value);
      });
    };
    const settings = options(latest.current, box.clientWidth - 16);
    const drawn = new uPlot({ ...settings, hooks: { setCursor: [show], setData: [show], ready: [show] } }, data(latest.current), box);
    plot.current = drawn;
    const sizes = new ResizeObserver(() => drawn.setSize({ width: box.clientWidth - 16, height }));
    sizes.observe(box);
    return () => {
      sizes.disconnect();
      drawn.destroy();
      plot.current = null;
    };
  }, [shape]);

  useEffect(() => {
    plot.current?.setData(data(latest.current));
  }, [times, series]);

  if (!ready || series.length === 0) {
    return (
      <div class="chart-void" style={{ height: `${height + 40}px` }}>
        {empty}
      </div>
    );
  }
  return (
    <>
      <div class="chart" ref={holder} role="img" aria-label={`${label}: ${series.map((one) => `${one.name} ${props.format(one.values.at(-1) ?? 0)}`).join(', ')}`} style={{ minHeight: `${height + 14}px` }} />
      <div class="legend" ref={legend}>
        {series.map((one) => (
          <span key={one.name}>
            <i style={{ background: `var(--${one.colour})` }} />
            {one.name}
            <b />
          </span>
        ))}
      </div>
    </>
  );
}

export const PALETTE = ['series-1', 'series-2', 'series-3', 'series-4', 'series-5', 'series-6'] as const;
