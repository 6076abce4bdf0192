// One number with its name, its recent past, and where it leads.
import type { Tone } from './page';

function Spark({ values }: { values: readonly (number | null)[] }) {
  const known = values.filter((value): value is number => value !== null);
  if (known.length < 2) return <svg class="spark" aria-hidden="true" />;
  const high = Math.max(...known, 1e-9);
  const step = 100 / (known.length - 1);
  const points = known.map((value, i) => `${(i * step).toFixed(2)},${(21 - (value / high) * 19).toFixed(2)}`);
  return (
    <svg class="spark" viewBox="0 0 100 22" preserveAspectRatio="none" aria-hidden="true">
      <polyline points={points.join(' ')} fill="none" stroke="var(--accent)" stroke-width="1.3" vector-effect="non-scaling-stroke" />
    </svg>
  );
}

interface Props {
  name: string;
  value: string;
  unit?: string;
  note?: string;
  href?: string;
  tone?: Tone;
  past?: readonly (number | null)[];
}

export function Figure({ name, value, unit, note, href, tone, past }: Props) {
  const content = (
    <>
      <div class="name">{name}</div>
      <div class="value">
        {value}
        {unit && <small>{unit}</small>}
      </div>
      {note && (
        <div class="note" title={note}>
          {note}
        </div>
      )}
      {past && <Spark values={past} />}
    </>
  );
  const classes = `figure ${tone ?? ''}`;
  return href ? (
    <a class={classes} href={href}>
      {content}
    </a>
  ) : (
    <div class={classes}>{content}</div>
  );
}
