// Who are you?
import { useEffect, useRef, useState } from 'preact/hooks';
import * as api from '../api';
import { Logo } from '../parts/logo';
import { message } from '../parts/state';
import { begin, loginNote } from '../session';

export function Login() {
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const name = useRef<HTMLInputElement>(null);
  const password = useRef<HTMLInputElement>(null);
  useEffect(() => {
    document.title = 'Log in – Hookline';
    name.current?.focus();
  }, []);
  const enter = async (): Promise<void> => {
    const given = name.current?.value ?? '';
    setBusy(true);
    setProblem('');
    try {
      const { token, role } = await api.login(given, password.current?.value ?? '');
      begin({ token, role, name: given });
    } catch (error) {
      setProblem(message(error));
      setBusy(false);
      password.current?.select();
    }
  };
  return (
    <main class="login">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!busy) void enter();
        }}
      >
        <div class="brand">
          <Logo /> Hookline
        </div>
        {loginNote.value && <div class="note-box">{loginNote.value}</div>}
        <label class="field">
          <span>Name</span>
          <input class="input" ref={name} name="username" autocomplete="username" required />
        </label>
        <label class="field">
          <span>Password</span>
          <input class="input" ref={password} name="password" type="password" autocomplete="current-password" required />
        </label>
        {problem && (
          <div class="note-box bad" role="alert">
            {problem}
          </div>
        )}
        <button type="submit" class="btn primary" aria-disabled={busy ? 'true' : undefined}>
          {busy ? 'Logging in' : 'Log in'}
        </button>
        <small class="dim">
          The first start prints the password of admin. Another one: <code>hookline ctl admins set NAME</code>
        </small>
      </form>
    </main>
  );
}
