// Messages that are kept: retained ones, and ones that are due later.
import { useState } from 'preact/hooks';
import * as api from '../api';
import { ago, duration, payloadText, time } from '../format';
import { Button } from '../parts/button';
import { Dialog, sure } from '../parts/dialog';
import { ListOf } from '../parts/list';
import { Details, Page, Panel, Search, Tabs } from '../parts/page';
import { Empty, Fetched } from '../parts/state';
import { attempt } from '../parts/toast';
import { usePoll } from '../poll';
import { href, place, setQuery } from '../router';

async function forget(topic: string): Promise<boolean> {
  const yes = await sure('Remove the retained message?', <>New subscribers of <code>{topic}</code> get nothing any more until somebody publishes there with RETAIN.</>, 'Remove');
  return yes && attempt('The retained message is removed', () => api.removeRetained(topic));
}

function Message({ topic, onClose }: { topic: string; onClose: () => void }) {
  const found = usePoll((signal) => api.retainedOne(topic, signal), 0, [topic]);
  return (
    <Dialog title={topic} wide onClose={onClose} footer={<><span class="grow"><Button kind="danger" needs="operator" onClick={() => void forget(topic).then((done) => done && onClose())}>Remove</Button></span><Button onClick={onClose}>Close</Button></>}>
      <Fetched of={found}>
        {(message) => (
          <>
            <Details of={[['QoS', message.qos], ['Published', `${time(message.publish_at)} (${ago(message.publish_at)})`], ['By', message.from_clientid ?? '–'], ['User', message.from_username ?? '–']]} />
            <pre class="code">{payloadText(message.payload ?? '')}</pre>
          </>
        )}
      </Fetched>
    </Dialog>
  );
}

function RetainedList({ text }: { text: string }) {
  const [shown, setShown] = useState<string>();
  const [round, setRound] = useState(0);
  return (
    <Panel>
      <ListOf
        key={round}
        label="Retained messages"
        fetch={api.retained}
        query={{ topic: text }}
        rowKey={(row) => row.topic}
        onOpen={(row) => setShown(row.topic)}
        empty={text ? <Empty title="No retained message fits">The search is a topic filter: plant/+/info, plant/#.</Empty> : <Empty title="No retained messages">A message that is published with RETAIN is kept here, and every new subscriber of its topic gets it.</Empty>}
        columns={(list) => [
          { title: 'Topic', kind: 'cut', cell: (row) => <code title={row.topic}>{row.topic}</code> },
          { title: 'QoS', kind: 'num', cell: (row) => row.qos },
          { title: 'Published', cell: (row) => <span title={time(row.publish_at)}>{ago(row.publish_at)}</span> },
          { title: 'By', kind: 'cut', cell: (row) => (row.from_clientid ? <a href={href('clients', row.from_clientid)}>{row.from_clientid}</a> : '–') },
          { title: '', kind: 'acts', cell: (row) => <><Button small onClick={() => setShown(row.topic)}>Show</Button><Button small kind="danger" needs="operator" onClick={() => void forget(row.topic).then((done) => done && list.refresh())}>Remove</Button></> },
        ]}
      />
      {shown !== undefined && <Message topic={shown} onClose={() => { setShown(undefined); setRound((n) => n + 1); }} />}
    </Panel>
  );
}

function DelayedList() {
  const cancel = async (message: api.Delayed, refresh: () => void): Promise<void> => {
    if (!(await sure('Cancel this message?', <>It would have been published to <code>{message.topic}</code> {time(message.expected_at)}. Its publisher is not told.</>, 'Cancel the message'))) return;
    if (await attempt('The message is cancelled', () => api.removeDelayed(message.msgid))) refresh();
  };
  return (
    <Panel>
      <ListOf
        label="Delayed messages"
        fetch={api.delayed}
        query={{}}
        rowKey={(row) => row.msgid}
        empty={<Empty title="No message waits for its time"><p>Publish to <code>$delayed/60/some/topic</code>, and the message goes to <code>some/topic</code> a minute later, also after a restart.</p></Empty>}
        columns={(list) => [
          { title: 'Topic', kind: 'cut', cell: (row) => <code>{row.topic}</code> },
          { title: 'QoS', kind: 'num', cell: (row) => row.qos },
          { title: 'Due in', kind: 'num', cell: (row) => duration(row.delayed_remaining) },
          { title: 'At', cell: (row) => time(row.expected_at) },
          { title: 'By', kind: 'cut', cell: (row) => (row.from_clientid ? <a href={href('clients', row.from_clientid)}>{row.from_clientid}</a> : '–') },
          { title: '', kind: 'acts', cell: (row) => <Button small kind="danger" needs="operator" onClick={() => void cancel(row, list.refresh)}>Cancel</Button> },
        ]}
      />
    </Panel>
  );
}

export function RetainedAndDelayed() {
  const { query } = place.value;
  const delayed = query.get('tab') === 'delayed';
  const text = query.get('q') ?? '';
  return (
    <Page title="Retained and delayed" tools={delayed ? undefined : <Search label="Topic filter, such as plant/#" value={text} onInput={(next) => setQuery('q', next)} />}>
      <Tabs value={delayed ? 'delayed' : 'retained'} onChange={(next) => setQuery('tab', next === 'delayed' ? next : '')} of={[['retained', 'Retained'], ['delayed', 'Delayed']]} />
      {delayed ? <DelayedList /> : <RetainedList text={text} />}
    </Page>
  );
}
