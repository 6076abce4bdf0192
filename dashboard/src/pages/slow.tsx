// Subscribers that are slow to acknowledge.
import * as api from '../api';
import { ago, exact } from '../format';
import { Button } from '../parts/button';
import { sure } from '../parts/dialog';
import { Page, Panel } from '../parts/page';
import { Empty, Fetched } from '../parts/state';
import { Table } from '../parts/table';
import { attempt } from '../parts/toast';
import { usePoll } from '../poll';
import { go, href } from '../router';

export function SlowSubscribers() {
  const found = usePoll(api.slow, 3000);
  const forget = async (): Promise<void> => {
    if (!(await sure('Forget the list?', 'It fills again with the next slow deliveries.', 'Forget it'))) return;
    await attempt('The list is empty', api.forgetSlow);
    found.refresh();
  };
  return (
    <Page title="Slow subscribers" tools={<Button needs="operator" onClick={() => void forget()}>Forget the list</Button>}>
      <p class="lead">The slowest deliveries: from the arrival of a message to its acknowledgement by the subscriber. The threshold is slow_subscribers.threshold_ms.</p>
      <Panel>
        <Fetched of={found}>
          {(rows) =>
            rows.length === 0 ? (
              <Empty title="Nobody is slow">Every subscriber acknowledges within the threshold. A client that does not acknowledge at all is found among the <a href="#/drops">drops</a>.</Empty>
            ) : (
              <Table
                label="Slow subscribers"
                rows={[...rows].sort((a, b) => b.timespan - a.timespan)}
                rowKey={(row) => `${row.clientid} ${row.topic}`}
                onOpen={(row) => go(href('clients', row.clientid))}
                columns={[
                  { title: 'Client', cell: (row) => <a href={href('clients', row.clientid)}>{row.clientid}</a> },
                  { title: 'Topic', kind: 'cut', cell: (row) => <code>{row.topic}</code> },
                  { title: 'Took', kind: 'num', cell: (row) => `${exact(row.timespan)} ms` },
                  { title: 'When', cell: (row) => <span class="soft">{ago(row.last_update_time)}</span> },
                ]}
              />
            )
          }
        </Fetched>
      </Panel>
    </Page>
  );
}
