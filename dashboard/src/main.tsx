import { render } from 'preact';
import './styles/index.css';
import './theme';
import { App } from './app';
import { listen } from './keys';

const root = document.getElementById('app');
if (root) render(<App />, root);
listen();
