// What was set up, put into files, and taken over from them: a part of the settings.
import { useRef, useState } from 'preact/hooks';
import * as api from '../api';
import { bytes, exact, time } from '../format';
import { Button } from '../parts/button';
import { Dialog, sure } from '../parts/dialog';
import { Details, Panel } from '../parts/page';
import { Empty, Fetched, message } from '../parts/state';
import { Table } from '../parts/table';
import { attempt } from '../parts/toast';
import { usePoll } from '../poll';

const PARTS: readonly (readonly [string, string])[] = [
  ['configuration', 'Configuration'], ['admins', 'Dashboard users'], ['users', 'Users'], ['permissions', 'Permissions'], ['bans', 'Bans'],
  ['paused', 'Paused actions'], ['retained', 'Retained messages'],
];

const title = (part: string): string => PARTS.find(([id]) => id === part)?.[1] ?? part;

function Result({ of, onClose }: { of: api.Imported; onClose: () => void }) {
  const applied = of.configuration?.applied;
  return (
    <Dialog title={`${of.filename} is imported`} wide onClose={onClose} footer={<Button onClick={onClose}>Close</Button>}>
      <div class="stack">
        <p>Of {of.node}, Hookline {of.version}, {time(of.created_at)}.</p>
        <Details of={PARTS.filter(([part]) => of.imported[part] !== undefined).map(([part, name]) => [name, exact(of.imported[part] ?? 0)] as const)} />
        {applied && applied.failed.length > 0 && <div class="note-box bad" role="alert">Not started: {applied.failed.join(', ')}</div>}
        {applied && applied.restart.length > 0 && <div class="note-box">After a restart holds: {applied.restart.join(', ')}</div>}
        {of.skipped_count > 0 && (
          <div class="note-box">
            <b>{exact(of.skipped_count)} skipped</b>
            <ul style={{ paddingLeft: '18px' }}>
              {of.skipped.slice(0, 50).map((one, i) => <li key={i}>{title(one.part)}: <code class="break">{one.what}</code>: {one.reason}</li>)}
            </ul>
          </div>
        )}
      </div>
    </Dialog>
  );
}

export function Exports({ onImported }: { onImported: () => void }) {
  const found = usePoll(api.exports, 5000);
  const [busy, setBusy] = useState('');
  const [result, setResult] = useState<api.Imported>();
  const [refused, setRefused] = useState('');
  const chooser = useRef<HTMLInputElement>(null);
  const off = busy || undefined;
  const during = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    setBusy(what);
    setRefused('');
    await work();
    setBusy('');
    found.refresh();
  };
  const make = (): Promise<void> => during('An export is being made', () => attempt('The export is made', api.makeExport));
  const bring = (file: File): Promise<void> => during('A file is on its way', () => attempt(`${file.name} is here`, () => api.bringExport(file)));
  const take = async ({ filename }: api.ExportFile): Promise<void> => {
    const question = 'Its configuration takes the place of the present one, but for the node. Users, permissions, bans and retained messages come to those that are there, or in their place. Dashboard users get the passwords that they had there, you perhaps among them.';
    if (!(await sure(`Import ${filename}?`, question, 'Import'))) return;
    await during('An import is under way', async () => {
      try {
        setResult(await api.importExport(filename));
        onImported();
      } catch (error) {
        setRefused(message(error));
      }
    });
  };
  const save = async ({ filename }: api.ExportFile): Promise<void> => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(await api.exportFile(filename));
    link.download = filename;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const remove = async ({ filename }: api.ExportFile): Promise<void> => {
    if (!(await sure(`Remove ${filename}?`, 'The file goes. Nothing else changes.', 'Remove'))) return;
    await attempt(`${filename} is removed`, () => api.removeExport(filename));
    found.refresh();
  };
  return (
    <Panel
      title="Exports"
      tools={
        <>
          <input
            ref={chooser}
            type="file"
            accept=".gz"
            hidden
            aria-label="A file of an export"
            onChange={(event) => {
              const file = event.currentTarget.files?.[0];
              event.currentTarget.value = '';
              if (file) void bring(file);
            }}
          />
          <Button small needs="administrator" off={off} onClick={() => chooser.current?.click()}>Upload a file</Button>
          <Button small kind="primary" needs="administrator" off={off} onClick={() => void make()}>Export</Button>
        </>
      }
    >
      {refused && <div class="note-box bad" role="alert" style={{ margin: '12px' }}>{refused.charAt(0).toUpperCase() + refused.slice(1)}</div>}
      <Fetched of={found}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title="No export">
              An export holds the configuration, users, permissions, bans, paused actions and retained messages, for another broker. There are secrets in it. Sessions and
              what waits for them are not in it: a backup of the store has those.
            </Empty>
          ) : (
            <Table
              label="Exports"
              rows={rows}
              rowKey={(row) => row.filename}
              columns={[
                { title: 'File', cell: (row) => <code>{row.filename}</code> },
                { title: 'Since', cell: (row) => time(row.created_at) },
                { title: 'Size', kind: 'num', cell: (row) => bytes(row.size) },
                {
                  title: '',
                  kind: 'acts',
                  cell: (row) => (
                    <>
                      <Button small needs="administrator" onClick={() => void attempt('The file is saved', () => save(row))}>Download</Button>
                      <Button small needs="administrator" off={off} onClick={() => void take(row)}>Import</Button>
                      <Button small kind="danger" needs="administrator" onClick={() => void remove(row)}>Remove</Button>
                    </>
                  ),
                },
              ]}
            />
          )
        }
      </Fetched>
      {result && <Result of={result} onClose={() => setResult(undefined)} />}
    </Panel>
  );
}
