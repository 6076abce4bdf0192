// Buttons, and buttons that a role may not press.
import type { ComponentChildren } from 'preact';
import type { Role } from '../api';
import { refusal } from '../session';

interface Props {
  onClick?: () => void;
  children: ComponentChildren;
  kind?: 'plain' | 'primary' | 'danger';
  small?: boolean;
  needs?: Role;
  /** Why it is off. */
  off?: string;
  submit?: boolean;
  label?: string;
}

export function Button({ onClick, children, kind = 'plain', small, needs, off, submit, label }: Props) {
  const reason = (needs && refusal(needs)) ?? off;
  const classes = ['btn', kind === 'plain' ? '' : kind, small ? 'small' : ''].filter(Boolean).join(' ');
  return (
    <button
      type={submit ? 'submit' : 'button'}
      class={classes}
      aria-disabled={reason ? 'true' : undefined}
      title={reason}
      aria-label={label}
      onClick={(event) => {
        event.stopPropagation();
        if (reason) event.preventDefault();
        else onClick?.();
      }}
    >
      {children}
    </button>
  );
}
