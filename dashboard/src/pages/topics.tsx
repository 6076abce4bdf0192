// Topic filters that somebody subscribes to.
import * as api from '../api';
import { ListOf } from '../parts/list';
import { Page, Panel, Search } from '../parts/page';
import { Empty } from '../parts/state';
import { place, setQuery } from '../router';

export function Topics() {
  const text = place.value.query.get('q') ?? '';
  return (
    <Page title="Topics" tools={<Search label="Exactly this topic or filter" value={text} onInput={(next) => setQuery('q', next)} />}>
      <p class="lead">What is subscribed to, each once. A message goes to the clients of every filter that matches its topic.</p>
      <Panel>
        <ListOf
          label="Topics"
          fetch={api.topics}
          query={{ topic: text }}
          rowKey={(row) => row.topic}
          onOpen={(row) => location.assign(`#/subscriptions?by=topic&q=${encodeURIComponent(row.topic)}`)}
          empty={text ? <Empty title="Nobody subscribes to that">Ask who would get a message to it: <a href={`#/subscriptions?by=match_topic&q=${encodeURIComponent(text)}`}>subscriptions that match</a>.</Empty> : <Empty title="Nobody subscribes yet">With the first subscription its filter is listed here.</Empty>}
          columns={() => [
            { title: 'Filter', cell: (row) => <code>{row.topic}</code> },
            { title: 'Node', cell: (row) => <span class="soft">{row.node}</span> },
            { title: '', kind: 'acts', cell: (row) => <a href={`#/subscriptions?by=topic&q=${encodeURIComponent(row.topic)}`}>Subscribers</a> },
          ]}
        />
      </Panel>
    </Page>
  );
}
